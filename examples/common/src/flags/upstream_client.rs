use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use tower_oauth_refresh::{ClientCredentials, ClientId};

/// The method by which a client authenticates at the upstream (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientAuth {
    #[value(name = "client_secret_basic")]
    Basic,
    #[value(name = "client_secret_post")]
    Post,
}

/// The flags for the credentials of the server's own requests to the upstream.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sessions")]
pub struct UpstreamClientFlags {
    /// Client ID of the confidential client for whose sessions this server itself refreshes
    /// (--upstream-refresh) and revokes (--upstream-revocation); needs --upstream-client-secret
    /// [default: none; only for sessions of public clients]
    ///
    /// This server authenticates these requests as this client.
    #[arg(long, value_name = "ID")]
    upstream_client_id: Option<ClientId>,

    /// Secret of --upstream-client-id; set it in the environment to keep it out of process lists
    #[arg(long, value_name = "SECRET", hide_env_values = true)]
    upstream_client_secret: Option<ClientSecret>,

    /// Method by which --upstream-client-id authenticates [default: client_secret_basic]
    #[arg(long, value_enum)]
    upstream_client_auth: Option<ClientAuth>,
}

impl UpstreamClientFlags {
    /// Checks the rules that concern more than one flag. `is_used` says whether the server sends
    /// requests of its own.
    pub fn check(&self, is_used: bool) -> Result<(), String> {
        match (&self.upstream_client_id, &self.upstream_client_secret) {
            (Some(_), None) => Err("--upstream-client-id needs --upstream-client-secret".into()),
            (None, Some(_)) => Err("--upstream-client-secret needs --upstream-client-id".into()),
            (Some(_), Some(_)) if !is_used => {
                Err("--upstream-client-id needs --upstream-refresh or --upstream-revocation".into())
            }
            (None, None) if self.upstream_client_auth.is_some() => {
                Err("--upstream-client-auth needs --upstream-client-id".into())
            }
            _ => Ok(()),
        }
    }

    pub fn credentials(&self) -> ClientCredentials {
        let (Some(id), Some(ClientSecret(secret))) =
            (&self.upstream_client_id, &self.upstream_client_secret)
        else {
            return ClientCredentials::public();
        };
        match self.upstream_client_auth.unwrap_or(ClientAuth::Basic) {
            ClientAuth::Basic => ClientCredentials::basic(id.clone(), secret),
            ClientAuth::Post => ClientCredentials::post(id.clone(), secret),
        }
    }
}

/// A client secret, which `Debug` does not show.
#[derive(Clone)]
struct ClientSecret(String);

impl FromStr for ClientSecret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret")
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(flags: &[&str]) -> UpstreamClientFlags {
        let command = UpstreamClientFlags::augment_args(Command::new("server"));
        let matches = command.get_matches_from([&["server"], flags].concat());
        UpstreamClientFlags::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn the_credentials_are_those_of_the_flags_and_stay_secret() {
        let client = [
            "--upstream-client-id=web",
            "--upstream-client-secret=swordfish",
        ];
        let by_post = [&client[..], &["--upstream-client-auth=client_secret_post"]].concat();
        for (flags, shown) in [
            (&[][..], "ClientCredentials::Public"),
            (&client, r#"ClientCredentials::Basic("web")"#),
            (&by_post, r#"ClientCredentials::Post("web")"#),
        ] {
            let flags = parse(flags);
            assert_eq!(format!("{:?}", flags.credentials()), shown);
            assert!(!format!("{flags:?}").contains("swordfish"));
            assert!(flags.check(true).is_ok());
        }
        assert!(parse(&client).check(false).is_err());
        for flag in [client[0], client[1], by_post[2]] {
            assert!(parse(&[flag]).check(true).is_err(), "{flag}");
        }
    }
}
