use std::str::FromStr;

use crate::authorize::is_scope;

/// A scope that calls of a tool need, from `NAME=SCOPE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolScope {
    pub(crate) tool: String,
    pub(crate) scope: String,
}

impl FromStr for ToolScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tool, scope) = text.split_once('=').ok_or("it must be NAME=SCOPE")?;
        if tool.is_empty() || tool.trim() != tool {
            return Err(format!("`{tool}` is not the name of a tool"));
        }
        if !is_scope(scope) {
            return Err(format!("`{scope}` is not a scope"));
        }
        Ok(Self {
            tool: tool.to_owned(),
            scope: scope.to_owned(),
        })
    }
}
