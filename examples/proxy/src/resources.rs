//! The requirements of each `--resource-prefix`.

use tower_oauth_refresh::access::Requirements;
use tower_oauth_refresh::path::PathPrefix;
use tower_oauth_refresh::{AccessLayerBuilder, Store};

/// The values of one flag. A value applies to every prefix, or, after `PATH=`, to that prefix.
struct Flag<'a> {
    name: &'static str,
    values: Vec<(Option<&'a PathPrefix>, &'a str)>,
}

impl<'a> Flag<'a> {
    fn read(
        name: &'static str,
        values: &'a [String],
        prefixes: &'a [PathPrefix],
    ) -> Result<Self, String> {
        if prefixes.is_empty() && !values.is_empty() {
            return Err(format!("{name} needs --resource-prefix"));
        }
        let read = |text: &'a String| {
            let named = prefixes.iter().filter_map(|prefix| {
                let value = text.strip_prefix(prefix.as_str())?.strip_prefix('=')?;
                Some((prefix, value))
            });
            // The longest match wins, because a path may contain a `=`.
            match named.max_by_key(|(prefix, _)| prefix.as_str().len()) {
                Some((prefix, value)) => Ok((Some(prefix), value)),
                None => match text.split_once('=').filter(|_| text.starts_with('/')) {
                    Some((path, _)) => Err(format!("{name}: {path} is not a --resource-prefix")),
                    None => Ok((None, text.as_str())),
                },
            }
        };
        Ok(Self {
            name,
            values: values.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the values that are set for this prefix, or for every prefix.
    fn values(&self, prefix: Option<&PathPrefix>) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(named, _)| *named == prefix)
            .map(|(_, value)| *value)
    }

    /// Returns the value that is set for this prefix, or for every prefix, for a flag with one
    /// value per prefix.
    fn value(&self, prefix: Option<&PathPrefix>) -> Result<Option<&'a str>, String> {
        let mut values = self.values(prefix);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        match values.find(|rival| *rival != value) {
            Some(rival) => Err(format!(
                "{}: {value} and {rival} are both set for {}",
                self.name,
                prefix.map_or("every --resource-prefix", PathPrefix::as_str)
            )),
            None => Ok(Some(value)),
        }
    }
}

/// The resources that the proxy guards, each with its path. They are empty without
/// `--resource-prefix`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// The requirements that apply below every prefix.
    everywhere: Requirements,
    prefixes: Vec<(PathPrefix, Requirements)>,
}

impl Resources {
    /// Reads the values of the flags.
    pub(crate) fn read(
        prefixes: &[PathPrefix],
        scopes: &[String],
        resources: &[String],
        metadata: &[String],
    ) -> Result<Self, String> {
        let scopes = Flag::read("--resource-scope", scopes, prefixes)?;
        let resources = Flag::read("--resource", resources, prefixes)?;
        let metadata = Flag::read("--resource-metadata", metadata, prefixes)?;
        let requirements = |prefix: Option<&PathPrefix>| {
            let mut requirements = Requirements::new();
            for value in scopes.values(prefix) {
                let mut scopes = value
                    .split(' ')
                    .filter(|scope| !scope.is_empty())
                    .peekable();
                if scopes.peek().is_none() {
                    return Err("--resource-scope: the value contains no scope".to_owned());
                }
                requirements = scopes.fold(requirements, Requirements::require_scope);
            }
            if let Some(resource) = resources.value(prefix)? {
                requirements = requirements.resource(resource);
            }
            if let Some(metadata) = metadata.value(prefix)? {
                requirements = requirements.resource_metadata(metadata);
            }
            Ok(requirements)
        };
        let prefixes = prefixes.iter().map(|prefix| {
            let requirements = requirements(Some(prefix))?;
            Ok((prefix.clone(), requirements))
        });
        Ok(Self {
            everywhere: requirements(None)?,
            prefixes: prefixes.collect::<Result<_, String>>()?,
        })
    }

    /// Adds the resources to the builder of an access layer.
    pub(crate) fn configure<S: Store>(
        self,
        builder: AccessLayerBuilder<S>,
    ) -> AccessLayerBuilder<S> {
        let builder = builder.require(self.everywhere);
        let add = |builder: AccessLayerBuilder<S>, (prefix, requirements): (PathPrefix, _)| {
            builder.resource_for(prefix.as_str(), requirements)
        };
        self.prefixes.into_iter().fold(builder, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prefixes: &[&str], flags: [&[&str]; 3]) -> Result<Resources, String> {
        let prefixes: Vec<PathPrefix> = prefixes
            .iter()
            .map(|prefix| prefix.parse().unwrap())
            .collect();
        let [scopes, resources, metadata] = flags.map(|values| {
            values
                .iter()
                .map(|value| (*value).to_owned())
                .collect::<Vec<_>>()
        });
        Resources::read(&prefixes, &scopes, &resources, &metadata)
    }

    #[test]
    fn values_are_for_their_prefix_or_for_every_prefix() {
        let resources = read(
            &["/api", "/api/admin", "/v2", "/a=b"],
            [
                &["read", "/api/admin=write admin", "/a=b=x=y"],
                &["https://all", "/v2=https://v2?a=b", "https://all"],
                &["/api=https://api/meta"],
            ],
        );
        let resources = resources.unwrap();
        let requirements = Requirements::new;
        let everywhere = requirements().require_scope("read").resource("https://all");
        assert_eq!(resources.everywhere, everywhere);
        let found: Vec<_> = resources
            .prefixes
            .into_iter()
            .map(|(prefix, requirements)| (prefix.to_string(), requirements))
            .collect();
        let expected = [
            ("/api", requirements().resource_metadata("https://api/meta")),
            (
                "/api/admin",
                requirements().require_scope("write").require_scope("admin"),
            ),
            ("/v2", requirements().resource("https://v2?a=b")),
            ("/a=b", requirements().require_scope("x=y")),
        ];
        assert_eq!(
            found,
            expected.map(|(prefix, all)| (prefix.to_owned(), all))
        );
        assert_eq!(read(&[], [&[], &[], &[]]), Ok(Resources::default()));
    }

    #[test]
    fn contradictory_flags_are_rejected() {
        type Row = (
            &'static [&'static str],
            [&'static [&'static str]; 3],
            &'static str,
        );
        let rows: [Row; 7] = [
            (
                &[],
                [&["read"], &[], &[]],
                "--resource-scope needs --resource-prefix",
            ),
            (
                &[],
                [&[], &["https://a"], &[]],
                "--resource needs --resource-prefix",
            ),
            (
                &[],
                [&[], &[], &["https://a"]],
                "--resource-metadata needs --resource-prefix",
            ),
            (
                &["/api"],
                [&["/apo=read"], &[], &[]],
                "--resource-scope: /apo is not a --resource-prefix",
            ),
            (
                &["/api"],
                [&["/api= "], &[], &[]],
                "--resource-scope: the value contains no scope",
            ),
            (
                &["/api"],
                [&[], &["/api=https://a", "/api=https://b"], &[]],
                "--resource: https://a and https://b are both set for /api",
            ),
            (
                &["/api"],
                [&[], &[], &["https://a", "/api=https://c", "https://b"]],
                "--resource-metadata: https://a and https://b are both set for every --resource-prefix",
            ),
        ];
        for (prefixes, flags, why) in rows {
            assert_eq!(read(prefixes, flags).unwrap_err(), why);
        }
    }
}
