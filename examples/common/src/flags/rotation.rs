use std::collections::HashMap;

use tower_oauth_refresh::{ClientId, RefreshLayerBuilder, RotationPolicy, Store};

use super::seconds;

/// The flags for the rotation policy of clients.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sessions")]
pub struct RotationFlags {
    /// When a refresh replaces the refresh token of the client: `every-use`, `never`, or SECS: if
    /// the token is at least this many seconds old
    ///
    /// The risk of `never` and SECS: a stolen copy of a token is not noticed while the token is
    /// kept. RFC 9700 §4.14.2 requires `every-use` for public clients, unless the upstream binds
    /// their tokens to a key.
    #[arg(long, value_name = "POLICY", value_parser = policy, allow_negative_numbers = true, default_value = "every-use")]
    rotation: RotationPolicy,

    /// Policy of one client, instead of --rotation; may be repeated. For clients that must not or
    /// cannot replace their token: FAPI 2.0, account linking (Google, Alexa)
    #[arg(long, value_name = "CLIENT_ID=POLICY", value_delimiter = ',', value_parser = client)]
    rotation_client: Vec<(ClientId, RotationPolicy)>,
}

impl RotationFlags {
    /// Returns an error if a client has two policies, of which one would have no effect.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut policies = HashMap::new();
        for (client, policy) in &self.rotation_client {
            if policies
                .insert(client, policy)
                .is_some_and(|other| other != policy)
            {
                return Err(format!("--rotation-client: two policies for `{client}`"));
            }
        }
        Ok(())
    }

    /// Applies the flags to the builder of a refresh layer.
    pub(super) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
    ) -> RefreshLayerBuilder<S> {
        let general = self.rotation;
        let clients: HashMap<_, _> = self.rotation_client.iter().cloned().collect();
        builder.rotation_policy(move |client| {
            let policy = clients.get(&client.client_id);
            policy.copied().unwrap_or(general)
        })
    }
}

fn policy(text: &str) -> Result<RotationPolicy, String> {
    match text {
        "every-use" => Ok(RotationPolicy::EveryUse),
        "never" => Ok(RotationPolicy::Never),
        text => {
            let age = seconds(text).map_err(|error| format!("{error}, `every-use` or `never`"))?;
            if age.is_zero() {
                return Err("must be more than 0 seconds; use `every-use`".into());
            }
            Ok(RotationPolicy::WhenOlderThan(age))
        }
    }
}

/// Parses the policy of a client. The identifier may contain `=`.
fn client(text: &str) -> Result<(ClientId, RotationPolicy), String> {
    let (id, text) = text
        .rsplit_once('=')
        .ok_or_else(|| "it must be CLIENT_ID=POLICY".to_owned())?;
    let id = ClientId::try_from(id).map_err(|error| error.to_string())?;
    Ok((id, policy(text)?))
}
