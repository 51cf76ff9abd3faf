//! The rules that concern more than one flag.

use tower_oauth_refresh::path::PathPrefix;

use super::Cli;

impl Cli {
    /// Checks the rules that concern more than one flag. Returns the first problem.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.checks().into_iter().collect()
    }

    /// Checks each rule that concerns more than one flag.
    pub(crate) fn checks(&self) -> [Result<(), String>; 8] {
        let revocation = &self.shared.revocation;
        let sends_requests = self.upstream_refresh || revocation.is_set();
        [
            self.shared.admin.check(self.listen),
            self.check_receivers(),
            revocation.check(),
            self.upstream_client.check(sends_requests),
            self.shared.sessions.check(),
            self.check_upstream(),
            self.check_resources(),
            self.check_caches(),
        ]
    }

    fn check_caches(&self) -> Result<(), String> {
        // An invalid store is reported elsewhere.
        let choice = self.shared.store.choice();
        let may_be_shared = match &choice {
            Ok(Some(choice)) => choice.is_shared(),
            Ok(None) => false,
            Err(_) => true,
        };
        match self.shared.store.first_of_caches() {
            Some(flag) if !may_be_shared && self.resource_prefix.is_empty() => Err(format!(
                "{flag} needs --store with Redis or PostgreSQL, or --resource-prefix"
            )),
            _ => Ok(()),
        }
    }

    fn check_upstream(&self) -> Result<(), String> {
        let revocation = &self.shared.revocation;
        if self.upstream.is_none() {
            let flags = [
                ("--preserve-host", self.preserve_host),
                ("--token-path", self.token_path.is_some()),
                ("--revocation-path", self.revocation_path.is_some()),
                ("--introspection-path", self.introspection_path.is_some()),
                ("--adopt-until", self.adopt_until.is_some()),
                ("--hand-back", self.hand_back),
                ("--upstream-refresh", self.upstream_refresh),
                ("--upstream-revocation", revocation.is_set()),
            ];
            if let Some((flag, _)) = flags.iter().find(|(_, set)| *set) {
                return Err(format!("{flag} needs --upstream"));
            }
        }
        Ok(())
    }

    /// The endpoints that end sessions are in front of the layer, so that they would hide a guarded
    /// path.
    fn check_receivers(&self) -> Result<(), String> {
        for (flag, path) in self.shared.admin.receiver_paths() {
            let resource = self
                .resource_prefix
                .iter()
                .find(|prefix| prefix.covers(path));
            if let Some(prefix) = resource {
                return Err(format!(
                    "{flag}: its path {path} is below --resource-prefix {prefix}"
                ));
            }
            if self.guarded_paths().any(|guarded| guarded == path) {
                return Err(format!(
                    "{flag}: its path {path} is that of a guarded endpoint"
                ));
            }
        }
        Ok(())
    }

    fn check_resources(&self) -> Result<(), String> {
        if !self.reference_access_tokens && !self.resource_prefix.is_empty() {
            return Err("--resource-prefix needs --reference-access-tokens".into());
        }
        if !self.reference_access_tokens && !self.allowed_resource.is_empty() {
            return Err("--allowed-resource needs --reference-access-tokens".into());
        }
        self.resources()?;
        for allowed in &self.allow_ambiguous_path {
            if let Some(prefix) = self
                .resource_prefix
                .iter()
                .find(|prefix| prefix.encloses(allowed))
            {
                return Err(format!(
                    "--allow-ambiguous-path {allowed} is below --resource-prefix {prefix}"
                ));
            }
        }
        // A client that requests a token does not have one yet, so the endpoints must not be below
        // a prefix that requires one.
        let endpoints = [
            ("--token-path", Some(self.token_path())),
            ("--revocation-path", Some(self.revocation_path())),
            ("--introspection-path", self.introspection_path.as_deref()),
        ];
        for (flag, path) in endpoints {
            let Some(path) = path else { continue };
            if let Some(prefix) = self
                .resource_prefix
                .iter()
                .find(|prefix| prefix.covers(path))
            {
                return Err(format!("{flag} {path} is below --resource-prefix {prefix}"));
            }
            // The layer guards all paths below an endpoint. An invalid path of an endpoint is
            // rejected by the layer.
            let Ok(endpoint) = path.parse::<PathPrefix>() else {
                continue;
            };
            if let Some(prefix) = self
                .resource_prefix
                .iter()
                .find(|prefix| endpoint.encloses(prefix))
            {
                return Err(format!("--resource-prefix {prefix} is below {flag} {path}"));
            }
        }
        Ok(())
    }
}
