//! The rules for client metadata. They are pure: no store, no network.

mod allowed;
mod authentication;
mod metadata;
mod name;
mod pattern;
mod redirect;

pub(super) use self::allowed::AllowedRedirects;
pub(super) use self::authentication::has_secret;
pub(crate) use self::authentication::{AUTH_METHODS, Origin};
pub(crate) use self::metadata::{GRANT_TYPES, InvalidMetadata, Metadata, RESPONSE_TYPES, Rules};
pub(crate) use self::name::visible;
pub(super) use self::pattern::RedirectPattern;
pub(super) use self::redirect::{RedirectUri, same};
