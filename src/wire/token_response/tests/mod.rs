//! The response of a token endpoint: reading and rewriting.

mod parsing;
mod properties;
mod rewriting;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{TokenResponse, TokenResponseError, is_refresh_token_type};
use crate::clock::CENTURY;
use crate::wire::disclosure::Withheld;

const LIFETIME: Duration = Duration::from_millis(77_900);

fn parse(body: &str) -> Result<TokenResponse, TokenResponseError> {
    TokenResponse::parse(Bytes::copy_from_slice(body.as_bytes()))
}

fn response(body: &str) -> TokenResponse {
    parse(body).unwrap_or_else(|error| panic!("{error:?}: {body}"))
}
