//! The servers that a URL names, and the search for the one that accepts writes.
//!
//! sqlx knows neither several hosts in a URL nor `target_session_attrs`. So the store parses both,
//! and asks every server itself.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::error::{Failure, Kind, PostgresConnectError};
use super::server_time::millis;

/// The values of `target_session_attrs` that a store can have. All have the same effect, because
/// a store needs a server that accepts writes, and such a server is a primary.
const SESSION_ATTRS: [&str; 3] = ["any", "read-write", "primary"];

/// The time that the other servers have when one has answered that it accepts writes.
const GRACE: Duration = Duration::from_secs(5);

/// One or more servers that replicate each other.
pub(super) struct Servers(Vec<PgConnectOptions>);

/// A server that accepts writes.
pub(super) struct Primary {
    /// Its index in the list of servers.
    pub(super) index: usize,
    pub(super) options: PgConnectOptions,
    pub(super) version: i32,
    /// Whether a commit is on the disk before it is confirmed.
    pub(super) is_durable: bool,
    /// The number of promotions in its history, or 0 if that is unknown.
    timeline: i64,
    time: i64,
    read_at: Instant,
}

impl Servers {
    /// Parses a URL, which may have several hosts: `postgres://user@a:5432,b:5432/database`.
    pub(super) fn parse(url: &str) -> Result<Self, PostgresConnectError> {
        let urls = split(url).map_err(|reason| Failure::new(Kind::Url, reason))?;
        let servers = urls.iter().map(|url| options(url));
        Ok(Self(servers.collect::<Result<_, _>>()?))
    }

    /// Returns the one server of a pool.
    pub(super) fn of_pool(pool: &PgPool) -> Self {
        Self(vec![PgConnectOptions::clone(&pool.connect_options())])
    }

    pub(super) fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// Asks all servers at once, for at most `limit`, and returns the one that accepts writes.
    ///
    /// A former primary that was restarted after its standby was promoted accepts writes, too. So
    /// of several, the one that was promoted last is used, or else the first one.
    pub(super) async fn primary(&self, limit: Duration) -> Result<Primary, Failure> {
        let asked = self.0.iter().enumerate();
        let asked =
            asked.map(|(index, options)| async move { (index, inspect(index, options).await) });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut answers: Vec<_> = self.0.iter().map(|_| Err(Failure::slow())).collect();
        let mut end = Instant::now() + limit;
        while let Ok(Some((index, answer))) = timeout_at(end, asked.next()).await {
            if answer.is_ok() {
                end = end.min(Instant::now() + GRACE);
            }
            answers[index] = answer;
        }
        let (mut primaries, mut failures) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(primary) => primaries.push(primary),
                Err(failure) => failures.push(failure),
            }
        }
        // Reversed, because `max_by_key` returns the last one of equal ones.
        let latest = primaries
            .into_iter()
            .rev()
            .max_by_key(|primary| primary.timeline);
        latest.ok_or_else(|| self.joined(failures))
    }

    /// Joins the reasons why no server can be used, one for each.
    fn joined(&self, mut failures: Vec<Failure>) -> Failure {
        if failures.len() == 1 {
            return failures.remove(0);
        }
        // A standby is read-only as it should be, so another failure is the reason.
        let mut kinds = failures.iter().map(Failure::kind);
        let kind = kinds.find(|kind| *kind != Kind::ReadOnly);
        let reasons: Vec<_> = self
            .0
            .iter()
            .zip(&failures)
            .map(|(server, failure)| {
                format!("{}:{}: {failure}", server.get_host(), server.get_port())
            })
            .collect();
        Failure::new(
            kind.unwrap_or(Kind::ReadOnly),
            format!("no server accepts writes: {}", reasons.join("; ")),
        )
    }
}

impl Primary {
    /// Returns the time of the server, in milliseconds since the Unix epoch.
    pub(super) fn now(&self) -> i64 {
        self.time.saturating_add(millis(self.read_at.elapsed()))
    }
}

/// Connects without a pool, which would hide the reason of a failure. Fails if the server does not
/// accept writes.
async fn inspect(index: usize, options: &PgConnectOptions) -> Result<Primary, Failure> {
    let mut connection = PgConnection::connect_with(options).await?;
    let settings = "SELECT current_setting('server_version_num')::integer AS version,
        current_setting('transaction_read_only')::boolean AS read_only,
        current_setting('fsync')::boolean AS fsync,
        current_setting('synchronous_commit') AS synchronous_commit,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now";
    let row = sqlx::raw_sql(settings).fetch_one(&mut connection).await?;
    let read_at = Instant::now();
    if row.try_get("read_only")? {
        let message = "the server is read-only: perhaps it is a standby";
        return Err(Failure::new(Kind::ReadOnly, message));
    }
    // Servers that are only compatible with PostgreSQL may have no timeline.
    let timeline =
        "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint";
    let timeline = sqlx::raw_sql(timeline).fetch_one(&mut connection).await;
    let primary = Primary {
        index,
        options: options.clone(),
        version: row.try_get("version")?,
        is_durable: row.try_get("fsync")?
            && row.try_get::<String, _>("synchronous_commit")? != "off",
        timeline: timeline.and_then(|row| row.try_get(0)).unwrap_or(0),
        time: row.try_get("now")?,
        read_at,
    };
    // The server closes its side, too.
    let _ = connection.close().await;
    Ok(primary)
}

/// Parses a URL with one host. The text of a statement is not logged, because it may contain sealed
/// values.
fn options(url: &str) -> Result<PgConnectOptions, PostgresConnectError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| PostgresConnectError::Url(Arc::new(Failure::from(error))))?;
    // tokio resolves no IPv6 address in brackets.
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    // PgBouncer rejects a connection that sets it, by default; the store uses no such numbers.
    let options = options.host(&host).extra_float_digits(None);
    Ok(options.disable_statement_logging())
}

/// Returns a URL for each host, without the parameters that sqlx does not know.
fn split(url: &str) -> Result<Vec<Zeroizing<String>>, String> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = base.find("://").map_or(base.len(), |at| at + 3);
    let path = base[authority..].find('/');
    let path = path.map_or(base.len(), |at| authority + at);
    let hosts_at = base[authority..path].rfind('@');
    let hosts_at = hosts_at.map_or(authority, |at| authority + at + 1);
    let hosts: Vec<_> = base[hosts_at..path].split(',').collect();
    if hosts.len() > 1 && hosts.contains(&"") {
        return Err("a host of the list is empty".to_owned());
    }
    let mut parameters = Vec::new();
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "" => {}
            "target_session_attrs" if SESSION_ATTRS.contains(&value) => {}
            "target_session_attrs" => {
                let values = SESSION_ATTRS.join(", ");
                return Err(format!(
                    "{name} must be one of {values}: the store needs a server that accepts writes"
                ));
            }
            "host" | "hostaddr" | "port" if hosts.len() > 1 || value.contains(',') => {
                return Err(format!(
                    "several hosts must stand before the path, as in postgres://a:5432,b:5432/db, without {name}"
                ));
            }
            // sqlx would ignore it, and log the password.
            "sslpassword" => return Err(format!("{name} is not supported: decrypt the key")),
            _ => parameters.push(parameter),
        }
    }
    let one = |host: &&str| {
        let mut one = Zeroizing::new(String::with_capacity(url.len() + 1));
        for part in [&base[..hosts_at], *host, &base[path..]] {
            one.push_str(part);
        }
        for (number, parameter) in parameters.iter().enumerate() {
            one.push(if number == 0 { '?' } else { '&' });
            one.push_str(parameter);
        }
        one
    };
    Ok(hosts.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_one_for_each_host() {
        for (url, split_urls) in [
            ("postgres://h/d", &["postgres://h/d"][..]),
            (
                "postgres://u:p,w@a:1,[::1]:2,c/d?target_session_attrs=read-write&sslmode=require",
                &[
                    "postgres://u:p,w@a:1/d?sslmode=require",
                    "postgres://u:p,w@[::1]:2/d?sslmode=require",
                    "postgres://u:p,w@c/d?sslmode=require",
                ],
            ),
            ("postgres://a,b", &["postgres://a", "postgres://b"]),
            (
                "postgresql://h?a=1&target_session_attrs=primary&b=2",
                &["postgresql://h?a=1&b=2"],
            ),
            (
                "postgres://?target_session_attrs=any&host=/run&port=1",
                &["postgres://?host=/run&port=1"],
            ),
            ("no url,at=all", &["no url,at=all"]),
        ] {
            let split = split(url).unwrap();
            let split: Vec<_> = split.iter().map(|url| url.as_str()).collect();
            assert_eq!(split, split_urls, "{url}");
        }
    }

    #[test]
    fn every_host_has_its_own_port() {
        let servers = Servers::parse("postgres://u:secret@a:1,[::1]:2/d").unwrap();
        let found: Vec<_> = servers
            .0
            .iter()
            .map(|server| (server.get_host(), server.get_port(), server.get_username()))
            .collect();
        assert_eq!(found, [("a", 1, "u"), ("::1", 2, "u")]);
    }

    #[test]
    fn an_invalid_url_is_rejected_without_its_password() {
        for (url, reason) in [
            ("postgres://u:secret@a,,b/d", "a host of the list is empty"),
            ("postgres://u:secret@a,/d", "a host of the list is empty"),
            ("postgres://u:secret@a:1,b:x/d", "invalid port number"),
            (
                "postgres://u:secret@a,b/d?target_session_attrs=standby",
                "target_session_attrs must be one of any, read-write, primary",
            ),
            (
                "postgres://u:secret@a/d?target_session_attrs=",
                "target_session_attrs must be one of any, read-write, primary",
            ),
            (
                "postgres://u:secret@a,b/d?port=1",
                "several hosts must stand before the path",
            ),
            (
                "postgres://u:secret@/d?host=a,b",
                "several hosts must stand before the path",
            ),
            (
                "postgres://a/d?sslpassword=secret",
                "sslpassword is not supported",
            ),
        ] {
            let Err(PostgresConnectError::Url(error)) = Servers::parse(url) else {
                panic!("{url} is accepted");
            };
            let error = error.to_string();
            assert!(
                error.contains(reason) && !error.contains("secret"),
                "{url}: {error}"
            );
        }
    }
}
