//! The requirements of each `--resource-prefix`.

use tower_oauth_refresh::path::PathPrefix;

/// The requirements that an access token must meet below one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) prefix: PathPrefix,
    /// The required scopes, all of which a token must have.
    pub(crate) scopes: Vec<String>,
    /// The resource that a token must be issued for (RFC 8707).
    pub(crate) resource: Option<String>,
    /// The URL of the protected resource metadata (RFC 9728).
    pub(crate) metadata: Option<String>,
}

impl Rule {
    /// Returns whether every token that meets this rule also meets `other`.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let resource = other.resource.is_none() || other.resource == self.resource;
        resource && other.scopes.iter().all(|scope| self.scopes.contains(scope))
    }
}

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

    /// Returns all values that apply below this prefix, including those of the prefixes around it.
    fn all(&self, prefix: &PathPrefix) -> impl Iterator<Item = &'a str> {
        let holds = |named: &Option<&PathPrefix>| named.is_none_or(|named| named.encloses(prefix));
        self.values
            .iter()
            .filter(move |(named, _)| holds(named))
            .map(|(_, value)| *value)
    }

    /// Returns the value that applies below this prefix, for a flag with one value per prefix: the
    /// value of the innermost prefix around it.
    ///
    /// Returns an error if that prefix has two different values.
    fn one(&self, prefix: &PathPrefix) -> Result<Option<&'a str>, String> {
        let depth = |named: Option<&PathPrefix>| named.map(PathPrefix::depth);
        let holding = || {
            self.values
                .iter()
                .filter(|(named, _)| named.is_none_or(|named| named.encloses(prefix)))
        };
        let Some((innermost, value)) = holding().max_by_key(|(named, _)| depth(*named)) else {
            return Ok(None);
        };
        let mut rivals = holding().filter(|(named, _)| depth(*named) == depth(*innermost));
        match rivals.find(|(_, rival)| rival != value) {
            Some((_, rival)) => Err(format!(
                "{}: {rival} and {value} are both set for {prefix}",
                self.name
            )),
            None => Ok(Some(*value)),
        }
    }
}

/// Returns the rule of each prefix, the innermost first.
///
/// The requirements of an outer prefix also apply below the inner one. So if the upstream resolves
/// a path to the outer prefix where the proxy matched the inner one, the token still meets the
/// outer requirements.
pub(crate) fn rules(
    prefixes: &[PathPrefix],
    scopes: &[String],
    resources: &[String],
    metadata: &[String],
) -> Result<Vec<Rule>, String> {
    let scopes = Flag::read("--resource-scope", scopes, prefixes)?;
    let resources = Flag::read("--resource", resources, prefixes)?;
    let metadata = Flag::read("--resource-metadata", metadata, prefixes)?;
    let rule = |prefix: &PathPrefix| {
        let mut rule = Rule {
            prefix: prefix.clone(),
            scopes: Vec::new(),
            resource: resources.one(prefix)?.map(str::to_owned),
            metadata: metadata.one(prefix)?.map(str::to_owned),
        };
        for scope in scopes.all(prefix) {
            let mut scopes = scope
                .split(' ')
                .filter(|scope| !scope.is_empty())
                .peekable();
            if scopes.peek().is_none() {
                return Err("--resource-scope: the value contains no scope".to_owned());
            }
            let new: Vec<_> = scopes
                .filter(|scope| !rule.scopes.iter().any(|known| known == scope))
                .collect();
            rule.scopes.extend(new.into_iter().map(str::to_owned));
        }
        Ok(rule)
    };
    let mut rules = prefixes.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    for inner in &rules {
        let around = |outer: &&Rule| outer.prefix.encloses(&inner.prefix) && !inner.includes(outer);
        if let Some(outer) = rules.iter().find(around) {
            let Rule { prefix, .. } = inner;
            return Err(format!(
                "--resource: {prefix} is below {}, which requires another resource",
                outer.prefix
            ));
        }
    }
    // Of two prefixes with equal depth, the longer one may be below the other: `/api.v2` is a
    // format of `/api`.
    rules.sort_by_key(|rule| std::cmp::Reverse((rule.prefix.depth(), rule.prefix.as_str().len())));
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prefixes: &[&str], flags: [&[&str]; 3]) -> Result<Vec<Rule>, String> {
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
        rules(&prefixes, &scopes, &resources, &metadata)
    }

    #[test]
    fn requirements_of_outer_prefixes_apply_below_inner_ones() {
        let rules = read(
            &["/api", "/api/admin", "/v2", "/a=b"],
            [
                &["read", "/api/admin=write admin", "/v2=read", "/a=b=x=y"],
                &["https://all", "/api=https://api", "/v2=https://v2?a=b"],
                &["/api=https://api/meta", "/api/admin=https://api/admin-meta"],
            ],
        );
        let shown: Vec<_> = rules
            .unwrap()
            .into_iter()
            .map(|rule| {
                let [resource, metadata] =
                    [rule.resource, rule.metadata].map(Option::unwrap_or_default);
                format!(
                    "{} {} {resource} {metadata}",
                    rule.prefix,
                    rule.scopes.join("+")
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "/api/admin read+write+admin https://api https://api/admin-meta",
                "/api read https://api https://api/meta",
                "/a=b read+x=y https://all ",
                "/v2 read https://v2?a=b ",
            ]
        );
    }

    #[test]
    fn contradictory_flags_are_rejected() {
        type Row = (
            &'static [&'static str],
            [&'static [&'static str]; 3],
            &'static str,
        );
        let rows: [Row; 8] = [
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
                &["/api", "/api/x"],
                [&[], &["/api=https://a", "/api/x=https://b"], &[]],
                "--resource: /api/x is below /api, which requires another resource",
            ),
            (
                &["/api", "/API/"],
                [&[], &[], &["/api=https://a", "/API/=https://b"]],
                "--resource-metadata: https://a and https://b are both set for /api",
            ),
        ];
        for (prefixes, flags, why) in rows {
            assert_eq!(read(prefixes, flags).unwrap_err(), why);
        }
    }

    #[test]
    fn a_rule_includes_rules_with_fewer_requirements() {
        let rules = read(
            &["/a", "/b", "/c", "/d"],
            [
                &["/a=x", "/b=x y", "/d=x y"],
                &["/b=https://b", "/d=https://d"],
                &["https://m"],
            ],
        );
        let rules = rules.unwrap();
        let includes = |one: usize, other: usize| rules[one].includes(&rules[other]);
        let table: Vec<_> = (0..4)
            .map(|one| (0..4).map(|other| includes(one, other)).collect::<Vec<_>>())
            .collect();
        assert_eq!(
            table,
            [
                [true, false, true, false],
                [true, true, true, false],
                [false, false, true, false],
                [true, false, true, true]
            ]
        );
    }
}
