use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::error::{Failure, PostgresConnectError};

/// The migrations, the first of which makes version 1 of the schema.
///
/// A migration only adds: older instances still run while it is applied, and call the functions
/// that they know. A changed function gets a new name (`claim_2`).
const MIGRATIONS: [&str; 1] = [include_str!("migrations/1.sql")];

/// The version of the schema that the store needs.
pub(super) const VERSION: i32 = MIGRATIONS.len() as i32;

/// The longest name of a schema. The channel of announcements is named for it, and a name in
/// PostgreSQL has at most 63 bytes.
const LONGEST: usize = 48;

/// The name of a schema.
#[derive(Clone, Debug)]
pub(super) struct Schema(String);

impl Schema {
    /// Checks the name. It needs no escaping, neither in an identifier nor in a string.
    pub(super) fn new(name: String) -> Result<Self, PostgresConnectError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_reserved = name.starts_with("pg_") || name.starts_with(|c: char| c.is_ascii_digit());
        if (1..=LONGEST).contains(&name.len()) && name.bytes().all(plain) && !is_reserved {
            return Ok(Self(name));
        }
        Err(PostgresConnectError::Setting {
            setting: "schema",
            reason: "it must be up to 48 lower-case letters, digits and underscores, and begin with neither a digit nor pg_",
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Returns the name as an identifier in SQL.
    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// Returns the name of the channel of announcements.
    pub(super) fn channel(&self) -> String {
        format!("{}_ended", self.0)
    }

    /// Returns the SQL that brings the schema from version `from` to [`VERSION`].
    pub(super) fn sql(&self, from: i32) -> String {
        let schema = self.quoted();
        let mut sql = String::new();
        if from == 0 {
            sql.push_str(&format!(
                "CREATE SCHEMA IF NOT EXISTS {schema};\n\
                 CREATE TABLE {schema}.migrations (version integer PRIMARY KEY);\n"
            ));
        }
        for (migration, version) in MIGRATIONS
            .iter()
            .zip(1..)
            .skip(from.unsigned_abs() as usize)
        {
            sql.push_str(&migration.replace("{schema}", &schema));
            sql.push_str(&format!(
                "INSERT INTO {schema}.migrations VALUES ({version});\n"
            ));
        }
        sql
    }

    /// Brings the schema up to date, if `migrate` is set; otherwise checks that it is.
    ///
    /// Many instances may do this at once: a lock that lasts for the transaction lets one of them
    /// work, and the others find the work done.
    pub(super) async fn prepare(
        &self,
        pool: &PgPool,
        migrate: bool,
    ) -> Result<(), PostgresConnectError> {
        let mut connection = pool.acquire().await.map_err(Failure::from)?;
        let found = self.version(&mut connection).await?;
        if found >= VERSION {
            return Ok(());
        }
        if !migrate {
            return Err(PostgresConnectError::Schema {
                found,
                needed: VERSION,
            });
        }
        Ok(self.migrate(&mut connection).await?)
    }

    async fn migrate(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        // Each statement must see what the instance before this one has committed.
        let mut transaction = connection
            .begin_with("BEGIN ISOLATION LEVEL READ COMMITTED")
            .await?;
        let lock = format!(
            "SELECT pg_advisory_xact_lock(hashtextextended('tower-oauth-refresh {}', 0))",
            self.0
        );
        sqlx::raw_sql(AssertSqlSafe(lock))
            .execute(&mut *transaction)
            .await?;
        let found = self.version(&mut transaction).await?;
        if found < VERSION {
            sqlx::raw_sql(AssertSqlSafe(self.sql(found)))
                .execute(&mut *transaction)
                .await?;
            tracing::info!(
                schema = self.0,
                from = found,
                to = VERSION,
                "migrated the schema"
            );
        }
        Ok(transaction.commit().await?)
    }

    /// Returns the version of the schema, or 0 if it is missing.
    async fn version(&self, connection: &mut PgConnection) -> Result<i32, Failure> {
        // Not `to_regclass`, which may answer from a cache that is older than the transaction.
        let exists = format!(
            "SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE nspname = '{}' AND relname = 'migrations')",
            self.0
        );
        let exists = sqlx::raw_sql(AssertSqlSafe(exists))
            .fetch_one(&mut *connection)
            .await?;
        if !exists.try_get::<bool, _>(0)? {
            return Ok(0);
        }
        let version = format!(
            "SELECT coalesce(max(version), 0) FROM {}.migrations",
            self.quoted()
        );
        let version = sqlx::raw_sql(AssertSqlSafe(version))
            .fetch_one(connection)
            .await?;
        Ok(version.try_get(0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_needs_escaping_is_rejected() {
        for name in [
            "",
            "1a",
            "pg_a",
            "A",
            "a\"b",
            "a'b",
            "a.b",
            "ä",
            &"a".repeat(49),
        ] {
            assert!(Schema::new(name.to_owned()).is_err(), "{name}");
        }
        assert_eq!(
            Schema::new("login_2".to_owned()).unwrap().quoted(),
            "\"login_2\""
        );
    }

    #[test]
    fn the_sql_of_a_schema_has_no_placeholder() {
        let sql = Schema::new("login".to_owned()).unwrap().sql(0);
        assert!(
            !sql.contains("{schema}") && sql.contains("\"login\".claim_1("),
            "{sql}"
        );
    }
}
