use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};

use super::schema::Schema;

/// An argument of a function.
pub(super) enum Argument<'a> {
    Bytes(Option<&'a [u8]>),
    Number(Option<i64>),
    Text(&'a str),
    ListOfBytes(Vec<&'a [u8]>),
    Numbers(Vec<i64>),
    Texts(&'a [String]),
}

/// The calls of the functions of a schema.
pub(super) struct Statements {
    /// The quoted name of the schema.
    schema: String,
    /// The text of the prepared statement of each function that was called. `None` if statements
    /// must not be prepared.
    prepared: Option<Mutex<HashMap<&'static str, Arc<str>>>>,
}

impl Statements {
    pub(super) fn new(schema: &Schema, prepared: bool) -> Self {
        Self {
            schema: schema.quoted(),
            prepared: prepared.then(Mutex::default),
        }
    }

    /// Calls a function.
    ///
    /// With prepared statements, the statement is prepared first, if that has not been done on this
    /// connection. Without, the arguments are written into its text, and it is one message of the
    /// simple query protocol. So it needs neither a prepared statement nor a second message that
    /// must reach the same server.
    pub(super) async fn call(
        &self,
        connection: &mut PgConnection,
        function: &'static str,
        arguments: &[Argument<'_>],
    ) -> Result<PgRow, sqlx::Error> {
        let Some(text) = self.prepared(function, arguments.len()) else {
            let text = self.text(function, arguments.iter().map(Argument::literal));
            let query = sqlx::raw_sql(AssertSqlSafe(text));
            return query.fetch_one(connection).await;
        };
        let mut query = sqlx::query(AssertSqlSafe(text));
        for argument in arguments {
            query = match argument {
                Argument::Bytes(bytes) => query.bind(*bytes),
                Argument::Number(number) => query.bind(*number),
                Argument::Text(text) => query.bind(*text),
                Argument::ListOfBytes(list) => query.bind(list),
                Argument::Numbers(list) => query.bind(list),
                Argument::Texts(list) => query.bind(*list),
            };
        }
        query.fetch_one(connection).await
    }

    /// Returns the text of the prepared statement of a function with this many arguments.
    fn prepared(&self, function: &'static str, arguments: usize) -> Option<Arc<str>> {
        let texts = self.prepared.as_ref()?;
        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        let text = texts.entry(function).or_insert_with(|| {
            let places = (1..=arguments).map(|number| format!("${number}"));
            self.text(function, places).into()
        });
        Some(Arc::clone(text))
    }

    fn text(&self, function: &str, arguments: impl Iterator<Item = String>) -> String {
        let arguments: Vec<_> = arguments.collect();
        let (schema, arguments) = (&self.schema, arguments.join(", "));
        format!("SELECT * FROM {schema}.{function}({arguments})")
    }
}

impl Argument<'_> {
    fn literal(&self) -> String {
        let null = || "NULL".to_owned();
        match self {
            Self::Bytes(bytes) => bytes.map_or_else(null, literal_bytes),
            Self::Number(number) => number.map_or_else(null, |number| number.to_string()),
            Self::Text(text) => literal_text(text),
            Self::ListOfBytes(list) => {
                array("bytea", list.iter().map(|bytes| literal_bytes(bytes)))
            }
            Self::Numbers(list) => array("bigint", list.iter().map(ToString::to_string)),
            Self::Texts(list) => array("text", list.iter().map(|text| literal_text(text))),
        }
    }
}

fn array(of: &str, literals: impl Iterator<Item = String>) -> String {
    let literals: Vec<_> = literals.collect();
    format!("ARRAY[{}]::{of}[]", literals.join(","))
}

/// Only hexadecimal digits, so that nothing needs to be escaped. The prefix `E` makes the backslash
/// independent of `standard_conforming_strings`.
fn literal_bytes(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut literal = String::with_capacity(2 * bytes.len() + 14);
    literal.push_str("E'\\\\x");
    for byte in bytes {
        literal.push(char::from(DIGITS[usize::from(byte >> 4)]));
        literal.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    literal.push_str("'::bytea");
    literal
}

/// Writes any text as its bytes, so that nothing needs to be escaped.
fn literal_text(text: &str) -> String {
    format!("convert_from({}, 'UTF8')", literal_bytes(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(prepared: bool) -> Statements {
        let schema = Schema::new("s".to_owned()).unwrap();
        Statements::new(&schema, prepared)
    }

    #[test]
    fn the_text_of_a_prepared_statement_is_built_once() {
        assert_eq!(statements(false).prepared("f", 2), None);
        let statements = statements(true);
        let first = statements.prepared("f", 2).unwrap();
        assert_eq!(&*first, "SELECT * FROM \"s\".f($1, $2)");
        assert!(Arc::ptr_eq(&first, &statements.prepared("f", 2).unwrap()));
        let other = statements.prepared("g", 0).unwrap();
        assert_eq!(&*other, "SELECT * FROM \"s\".g()");
    }

    #[test]
    fn arguments_cannot_leave_their_literal() {
        let arguments = [
            Argument::Bytes(Some(b"'\\\0")),
            Argument::Bytes(None),
            Argument::Number(Some(-1)),
            Argument::Text("'); DROP"),
            Argument::ListOfBytes(vec![b"'"]),
            Argument::Numbers(vec![]),
        ];
        let literals = arguments.iter().map(Argument::literal);
        assert_eq!(
            statements(false).text("f", literals),
            "SELECT * FROM \"s\".f(E'\\\\x275c00'::bytea, NULL, -1, \
             convert_from(E'\\\\x27293b2044524f50'::bytea, 'UTF8'), \
             ARRAY[E'\\\\x27'::bytea]::bytea[], ARRAY[]::bigint[])"
        );
    }
}
