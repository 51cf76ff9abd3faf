use serde_json::value::RawValue;

use crate::wire::json;

/// A member of a token response that the layer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    AccessToken,
    RefreshToken,
    Error,
    Scope,
    ExpiresIn,
    RefreshExpiresIn,
    RefreshTokenExpiresIn,
    RefreshTokenTimeout,
    AuthorizationExpiresIn,
    IssuedTokenType,
    IdToken,
    Resource,
}

impl Name {
    const ALL: [Self; 12] = [
        Self::AccessToken,
        Self::RefreshToken,
        Self::Error,
        Self::Scope,
        Self::ExpiresIn,
        Self::RefreshExpiresIn,
        Self::RefreshTokenExpiresIn,
        Self::RefreshTokenTimeout,
        Self::AuthorizationExpiresIn,
        Self::IssuedTokenType,
        Self::IdToken,
        Self::Resource,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::Error => "error",
            Self::Scope => "scope",
            Self::ExpiresIn => "expires_in",
            Self::RefreshExpiresIn => "refresh_expires_in",
            Self::RefreshTokenExpiresIn => "refresh_token_expires_in",
            Self::RefreshTokenTimeout => "refresh_token_timeout",
            Self::AuthorizationExpiresIn => "authorization_expires_in",
            Self::IssuedTokenType => "issued_token_type",
            Self::IdToken => "id_token",
            Self::Resource => "resource",
        }
    }

    pub(super) fn of(name: &RawValue) -> Option<Self> {
        let name = json::string(name)?;
        Self::ALL.into_iter().find(|known| known.as_str() == &*name)
    }

    /// Returns whether a response with two such members is refused. If there are two ID tokens, the
    /// layer reads neither.
    pub(super) const fn must_be_unique(self) -> bool {
        !matches!(self, Self::IdToken)
    }

    /// Returns whether the layer reads the value as a string.
    pub(super) const fn is_text(self) -> bool {
        matches!(
            self,
            Self::AccessToken
                | Self::RefreshToken
                | Self::Error
                | Self::Scope
                | Self::IssuedTokenType
                | Self::IdToken
        )
    }

    /// Returns whether the value is the lifetime of the refresh token: the member of
    /// draft-ietf-oauth-refresh-token-expiration, or one of the two that servers used before it.
    pub(super) const fn is_refresh_lifetime(self) -> bool {
        matches!(
            self,
            Self::RefreshExpiresIn | Self::RefreshTokenExpiresIn | Self::RefreshTokenTimeout
        )
    }

    /// Returns whether the value describes the refresh token: the token itself, its lifetime, or
    /// that of the user's authorization.
    pub(super) const fn is_of_grant(self) -> bool {
        matches!(self, Self::RefreshToken | Self::AuthorizationExpiresIn)
            || self.is_refresh_lifetime()
    }

    /// Returns whether the value is a lifetime: seconds from the time of the response.
    pub(super) const fn is_lifetime(self) -> bool {
        matches!(self, Self::ExpiresIn | Self::AuthorizationExpiresIn) || self.is_refresh_lifetime()
    }
}
