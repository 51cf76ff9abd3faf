use std::str::FromStr;

use crate::authorize::is_scope;
use crate::clients::visible;

/// The maximum length of a description, in characters.
const LONGEST: usize = 200;

/// A scope and the text that the consent page shows instead of it.
#[derive(Clone, Debug)]
pub(super) struct ScopeDescription {
    pub(super) scope: String,
    pub(super) text: String,
}

impl FromStr for ScopeDescription {
    type Err = String;

    fn from_str(flag: &str) -> Result<Self, String> {
        let (scope, text) = flag.split_once('=').ok_or("it must be SCOPE=TEXT")?;
        // In the environment variable, a space may follow the `;` that separates descriptions.
        let scope = scope.trim_start();
        if !is_scope(scope) {
            return Err(format!("`{scope}` is not a scope"));
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("the text for `{scope}` is empty"));
        }
        if text.chars().count() > LONGEST {
            return Err(format!(
                "the text for `{scope}` is longer than {LONGEST} characters"
            ));
        }
        if visible(text) != text {
            return Err(format!(
                "the text for `{scope}` must be one line of visible characters, with single spaces between words"
            ));
        }
        Ok(Self {
            scope: scope.to_owned(),
            text: text.to_owned(),
        })
    }
}
