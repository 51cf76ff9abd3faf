use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// A function of the schema, as a statement that calls it.
pub(super) struct Statement {
    /// The name of the function, with that of its schema.
    function: String,
    /// The call with a placeholder for each argument.
    prepared: SqlStr,
}

/// An argument of a function.
pub(super) enum Argument<'a> {
    Bytes(Option<&'a [u8]>),
    Number(Option<i64>),
    Text(&'a str),
    ListOfBytes(Vec<&'a [u8]>),
    Numbers(Vec<i64>),
    Texts(&'a [String]),
}

impl Statement {
    /// Creates a statement that calls a function of `arguments` arguments. `schema` must be quoted.
    pub(super) fn new(schema: &str, function: &str, arguments: usize) -> Self {
        let function = format!("{schema}.{function}");
        let places = (1..=arguments)
            .map(|number| format!("${number}"))
            .collect::<Vec<_>>()
            .join(", ");
        let prepared = AssertSqlSafe(format!("SELECT * FROM {function}({places})")).into_sql_str();
        Self { function, prepared }
    }

    /// Prepares the statement, if that has not been done on this connection, and runs it.
    pub(super) async fn run_prepared(
        &self,
        connection: &mut PgConnection,
        arguments: &[Argument<'_>],
    ) -> Result<PgRow, sqlx::Error> {
        let mut query = sqlx::query(self.prepared.clone());
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

    /// Runs the statement with its arguments written into its text, in one message of the simple
    /// query protocol. So it needs neither a prepared statement nor a second message that must
    /// reach the same server.
    pub(super) async fn run_unprepared(
        &self,
        connection: &mut PgConnection,
        arguments: &[Argument<'_>],
    ) -> Result<PgRow, sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(self.text(arguments)))
            .fetch_one(connection)
            .await
    }

    fn text(&self, arguments: &[Argument<'_>]) -> String {
        let arguments: Vec<_> = arguments.iter().map(Argument::literal).collect();
        format!("SELECT * FROM {}({})", self.function, arguments.join(", "))
    }
}

impl Argument<'_> {
    fn literal(&self) -> String {
        let list =
            |literals: Vec<String>, of: &str| format!("ARRAY[{}]::{of}[]", literals.join(","));
        match self {
            Self::Bytes(bytes) => bytes.map_or_else(|| "NULL".to_owned(), literal_bytes),
            Self::Number(number) => {
                number.map_or_else(|| "NULL".to_owned(), |number| number.to_string())
            }
            Self::Text(text) => literal_text(text),
            Self::ListOfBytes(values) => list(
                values.iter().map(|bytes| literal_bytes(bytes)).collect(),
                "bytea",
            ),
            Self::Numbers(values) => {
                list(values.iter().map(ToString::to_string).collect(), "bigint")
            }
            Self::Texts(values) => list(
                values.iter().map(|text| literal_text(text)).collect(),
                "text",
            ),
        }
    }
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
        let statement = Statement::new("\"s\"", "f", 6);
        let text = statement.text(&[
            Argument::Bytes(Some(b"'\\\0")),
            Argument::Bytes(None),
            Argument::Number(Some(-1)),
            Argument::Text("'); DROP"),
            Argument::ListOfBytes(vec![b"'"]),
            Argument::Numbers(vec![]),
        ]);
        assert_eq!(
            text,
            "SELECT * FROM \"s\".f(E'\\\\x275c00'::bytea, NULL, -1, \
             convert_from(E'\\\\x27293b2044524f50'::bytea, 'UTF8'), \
             ARRAY[E'\\\\x27'::bytea]::bytea[], ARRAY[]::bigint[])"
        );
    }
}
