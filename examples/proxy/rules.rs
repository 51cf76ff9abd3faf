//! What is asked of a request below each `--resource-prefix`.

use tower_oauth_refresh::path::PathPrefix;

/// What an access token must be good for below one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) prefix: PathPrefix,
    /// All of them.
    pub(crate) scopes: Vec<String>,
    /// RFC 8707.
    pub(crate) resource: Option<String>,
    /// Where the metadata of the resource is (RFC 9728).
    pub(crate) metadata: Option<String>,
}

impl Rule {
    /// Whether a token that is good enough here is good enough there.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let resource = other.resource.is_none() || other.resource == self.resource;
        resource && other.scopes.iter().all(|scope| self.scopes.contains(scope))
    }
}

/// The values of one flag, each for every prefix, or behind `PATH=` for that one.
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
            // A path may hold a `=` itself.
            match named.max_by_key(|(prefix, _)| prefix.as_str().len()) {
                Some((prefix, value)) => Ok((Some(prefix), value)),
                None => match text.split_once('=').filter(|_| text.starts_with('/')) {
                    Some((path, _)) => Err(format!("{name}: {path} is no --resource-prefix")),
                    None => Ok((None, text.as_str())),
                },
            }
        };
        Ok(Self {
            name,
            values: values.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    /// Everything that holds below this prefix, the values of those around it included.
    fn all(&self, prefix: &PathPrefix) -> impl Iterator<Item = &'a str> {
        let holds = |named: &Option<&PathPrefix>| named.is_none_or(|named| named.encloses(prefix));
        self.values
            .iter()
            .filter(move |(named, _)| holds(named))
            .map(|(_, value)| *value)
    }

    /// What holds below this prefix if that can be one thing only: what names the innermost prefix
    /// around it.
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
                "{}: {rival} and {value} are both for {prefix}",
                self.name
            )),
            None => Ok(Some(*value)),
        }
    }
}

/// The rule of each prefix, the innermost first.
///
/// What is asked for around a prefix is asked for below it as well: a server that reads a path
/// otherwise than the proxy does serves nothing for a token that is not good enough for it.
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
                return Err("--resource-scope: it names no scope".to_owned());
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
                "--resource: {prefix} is below {}, which is for another",
                outer.prefix
            ));
        }
    }
    // Of two prefixes of equal depth the longer one may be below the other: `/api.v2` is a format
    // of `/api`.
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
    fn what_holds_below_a_prefix() {
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
    fn what_makes_no_sense_is_refused() {
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
                "--resource-scope: /apo is no --resource-prefix",
            ),
            (
                &["/api"],
                [&["/api= "], &[], &[]],
                "--resource-scope: it names no scope",
            ),
            (
                &["/api"],
                [&[], &["/api=https://a", "/api=https://b"], &[]],
                "--resource: https://a and https://b are both for /api",
            ),
            (
                &["/api", "/api/x"],
                [&[], &["/api=https://a", "/api/x=https://b"], &[]],
                "--resource: /api/x is below /api, which is for another",
            ),
            (
                &["/api", "/API/"],
                [&[], &[], &["/api=https://a", "/API/=https://b"]],
                "--resource-metadata: https://a and https://b are both for /api",
            ),
        ];
        for (prefixes, flags, why) in rows {
            assert_eq!(read(prefixes, flags).unwrap_err(), why);
        }
    }

    #[test]
    fn one_rule_includes_another_if_it_asks_for_no_less() {
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
