use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};

/// An argument of a function.
pub(super) enum Argument<'a> {
    Bytes(Option<&'a [u8]>),
    Number(Option<i64>),
    Text(&'a str),
    ListOfBytes(Vec<&'a [u8]>),
    Numbers(Vec<i64>),
    Texts(&'a [String]),
}

/// Calls a function.
///
/// With `prepared`, the statement is prepared first, if that has not been done on this connection.
/// Without, the arguments are written into its text, and it is one message of the simple query
/// protocol. So it needs neither a prepared statement nor a second message that must reach the same
/// server.
pub(super) async fn call(
    connection: &mut PgConnection,
    prepared: bool,
    function: &str,
    arguments: &[Argument<'_>],
) -> Result<PgRow, sqlx::Error> {
    if !prepared {
        let literals: Vec<_> = arguments.iter().map(Argument::literal).collect();
        let query = sqlx::raw_sql(text(function, &literals));
        return query.fetch_one(connection).await;
    }
    let places: Vec<_> = (1..=arguments.len())
        .map(|number| format!("${number}"))
        .collect();
    let mut query = sqlx::query(text(function, &places));
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

fn text(function: &str, arguments: &[String]) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "SELECT * FROM {function}({})",
        arguments.join(", ")
    ))
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
        let literals: Vec<_> = arguments.iter().map(Argument::literal).collect();
        assert_eq!(
            text("\"s\".f", &literals).0,
            "SELECT * FROM \"s\".f(E'\\\\x275c00'::bytea, NULL, -1, \
             convert_from(E'\\\\x27293b2044524f50'::bytea, 'UTF8'), \
             ARRAY[E'\\\\x27'::bytea]::bytea[], ARRAY[]::bigint[])"
        );
    }
}
