//! The parameters of a query string or a form.

use std::fmt;

/// A parameter that must not be repeated occurs more than once (RFC 6749 §3.1, §3.2).
#[derive(Debug)]
pub(crate) struct Repeated;

/// Decoded parameters in their original order. Parameters with an empty value are treated as absent
/// (RFC 6749 §3.1).
#[derive(Clone, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let all = form_urlencoded::parse(text).into_owned();
        Self(all.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Returns all values of a parameter that may be repeated.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the value of a parameter that must not be repeated.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Repeated> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            Err(Repeated)
        } else {
            Ok(value)
        }
    }

    /// Returns whether any parameter other than `but` is repeated.
    pub(crate) fn repeat(&self, but: &[&str]) -> bool {
        let mut rest = &self.0[..];
        while let [(name, _), others @ ..] = rest {
            if !but.contains(&name.as_str()) && others.iter().any(|(other, _)| other == name) {
                return true;
            }
            rest = others;
        }
        false
    }
}

impl fmt::Debug for Parameters {
    /// Prints the names only, because values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}
