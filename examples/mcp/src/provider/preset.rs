//! The presets of `--provider`: properties of well-known providers that are not in their discovery
//! documents.

use super::credential::AuthMethod;
use crate::users::ClaimNames;

/// The properties of a provider. The flags and the discovery document replace them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// The issuer, if all users have the same.
    pub(crate) issuer: Option<&'static str>,
    /// The form of the issuer, if `--issuer` must name one.
    pub(crate) issuer_form: Option<&'static str>,
    pub(crate) authorization_endpoint: Option<&'static str>,
    pub(crate) token_endpoint: Option<&'static str>,
    pub(crate) revocation_endpoint: Option<&'static str>,
    pub(crate) userinfo_endpoint: Option<&'static str>,
    /// The method of client authentication with a secret.
    pub(crate) auth_method: Option<AuthMethod>,
    pub(crate) authorization_params: &'static [(&'static str, &'static str)],
    /// The default of `--scope`.
    pub(crate) scope: Option<&'static str>,
    /// Scopes that are requested in addition to `openid`, whatever `--scope` says, because they
    /// show the id of a user.
    pub(crate) id_scopes: &'static [&'static str],
    /// Scopes that are requested in addition to `email`, because they show the address of a user.
    pub(crate) email_scopes: &'static [&'static str],
    /// Scopes by other names, and the names in requests.
    pub(crate) scope_aliases: &'static [(&'static str, &'static str)],
    pub(crate) claims: ClaimNames,
    /// Whether the provider does not say to which groups a user belongs.
    pub(crate) has_no_groups: bool,
    /// Whether the addresses of a user are at `/emails` below the userinfo endpoint.
    pub(crate) lists_emails: bool,
    /// The beginnings of issuers whose accounts are open to the public. An empty text stands for
    /// every issuer, and for a provider without one.
    pub(crate) public: &'static [&'static str],
}

/// The issuer of Google.
pub(super) const GOOGLE: &str = "https://accounts.google.com";

/// The fields that a preset does not set.
pub(super) const NONE: Preset = Preset {
    name: "",
    issuer: None,
    issuer_form: None,
    authorization_endpoint: None,
    token_endpoint: None,
    revocation_endpoint: None,
    userinfo_endpoint: None,
    auth_method: None,
    authorization_params: &[],
    scope: None,
    id_scopes: &[],
    email_scopes: &[],
    scope_aliases: &[],
    claims: ClaimNames::STANDARD,
    has_no_groups: false,
    lists_emails: false,
    public: &[],
};

/// The presets, each described by a page of `providers/`.
pub(crate) const PRESETS: [Preset; 9] = [
    Preset {
        name: "github",
        authorization_endpoint: Some("https://github.com/login/oauth/authorize"),
        token_endpoint: Some("https://github.com/login/oauth/access_token"),
        userinfo_endpoint: Some("https://api.github.com/user"),
        auth_method: Some(AuthMethod::Post),
        scope: Some("read:user user:email"),
        email_scopes: &["user:email"],
        claims: ClaimNames {
            id: "id",
            login: Some("login"),
            ..ClaimNames::STANDARD
        },
        has_no_groups: true,
        lists_emails: true,
        public: &[""],
        ..NONE
    },
    Preset {
        name: "google",
        issuer: Some(GOOGLE),
        // Without both there is no refresh token, or only at the first log-in of a user.
        authorization_params: &[("access_type", "offline"), ("prompt", "consent")],
        scope: Some("openid email profile"),
        scope_aliases: &[
            ("https://www.googleapis.com/auth/userinfo.email", "email"),
            (
                "https://www.googleapis.com/auth/userinfo.profile",
                "profile",
            ),
        ],
        claims: ClaimNames {
            hosted_domain: Some("hd"),
            ..ClaimNames::STANDARD
        },
        has_no_groups: true,
        public: &[""],
        ..NONE
    },
    Preset {
        name: "entra",
        issuer_form: Some("https://login.microsoftonline.com/TENANT/v2.0"),
        scope: Some("openid profile email offline_access"),
        id_scopes: &["profile"],
        claims: ClaimNames {
            // `sub` differs from application to application.
            id: "oid",
            ..ClaimNames::STANDARD
        },
        public: &[
            "https://login.microsoftonline.com/common/",
            "https://login.microsoftonline.com/organizations/",
            "https://login.microsoftonline.com/consumers/",
        ],
        ..NONE
    },
    Preset {
        name: "auth0",
        issuer_form: Some("https://TENANT.REGION.auth0.com/"),
        scope: Some("openid profile email offline_access"),
        ..NONE
    },
    Preset {
        name: "okta",
        issuer_form: Some("https://ORG.okta.com/oauth2/default"),
        scope: Some("openid profile email offline_access"),
        ..NONE
    },
    Preset {
        name: "keycloak",
        issuer_form: Some("https://HOST/realms/REALM"),
        scope: Some("openid profile email"),
        ..NONE
    },
    Preset {
        name: "cognito",
        issuer_form: Some("https://cognito-idp.REGION.amazonaws.com/POOL"),
        scope: Some("openid profile email"),
        claims: ClaimNames {
            groups: "cognito:groups",
            ..ClaimNames::STANDARD
        },
        ..NONE
    },
    Preset {
        name: "gitlab",
        issuer: Some("https://gitlab.com"),
        scope: Some("openid profile email"),
        claims: ClaimNames {
            groups: "groups_direct",
            ..ClaimNames::STANDARD
        },
        public: &["https://gitlab.com"],
        ..NONE
    },
    Preset {
        name: "discord",
        authorization_endpoint: Some("https://discord.com/oauth2/authorize"),
        token_endpoint: Some("https://discord.com/api/oauth2/token"),
        revocation_endpoint: Some("https://discord.com/api/oauth2/token/revoke"),
        userinfo_endpoint: Some("https://discord.com/api/users/@me"),
        scope: Some("identify email"),
        id_scopes: &["identify"],
        email_scopes: &["email"],
        claims: ClaimNames {
            id: "id",
            login: Some("username"),
            email_verified: "verified",
            ..ClaimNames::STANDARD
        },
        has_no_groups: true,
        public: &[""],
        ..NONE
    },
];

impl Preset {
    /// Returns the preset of `--provider`.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }
}
