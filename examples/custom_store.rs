//! A store of your own: grants in SQLite, with the whole contract of `Store`.
//!
//! `cargo run --example custom_store` serves a token endpoint whose refresh tokens survive a
//! restart. `cargo test --example custom_store` runs the conformance suite over the store.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use axum::{Json, Router, routing::post};
use bytes::Bytes;
use rusqlite::{Connection, Error, ErrorCode, OptionalExtension as _, Transaction, params};
use tokio::sync::oneshot;
use tower_oauth_refresh::RefreshLayer;
use tower_oauth_refresh::store::{
    Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Store, StoreError, Swap, Ttl,
    Version, decide,
};
use tower_oauth_refresh::{Clock as _, SystemClock, Timestamp};

/// An expired row is absent for every call, so it does not matter when it is deleted.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS entries (
        key BLOB PRIMARY KEY, version BLOB NOT NULL, tag BLOB NOT NULL, lease INTEGER,
        value BLOB NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sidecars (
        key BLOB, name BLOB, value BLOB NOT NULL, expires INTEGER NOT NULL,
        PRIMARY KEY (key, name)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS entries_by_end ON entries (expires);
    CREATE INDEX IF NOT EXISTS sidecars_by_end ON sidecars (expires);";

const TIMEOUT: Duration = Duration::from_secs(5);
const PURGE_EVERY: Duration = Duration::from_secs(60);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Grants in an SQLite file. One thread makes the calls of a handle, in their order. So no late
/// copy of an insert takes effect after a later copy was answered.
#[derive(Clone)]
pub struct SqliteStore(Sender<Job>);

impl SqliteStore {
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let db = Connection::open(path)?;
        db.busy_timeout(TIMEOUT)?;
        db.execute_batch(SCHEMA)?;
        let (jobs, queue) = channel();
        std::thread::spawn(move || work(db, &queue));
        Ok(Self(jobs))
    }

    /// Runs `call` in a transaction that no other writer can interleave with.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Transaction<'_>, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, result) = oneshot::channel();
        let job = move |db: &mut Connection| {
            let transaction =
                db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate);
            let done = transaction.and_then(|transaction| {
                let done = call(&transaction, SystemClock.now())?;
                transaction.commit().map(|()| done)
            });
            let _ = reply.send(done);
        };
        self.0
            .send(Box::new(job))
            .map_err(|_| StoreError::unavailable("the thread has ended"))?;
        let result = tokio::time::timeout(TIMEOUT * 2, result).await;
        result
            .map_err(StoreError::unavailable)?
            .map_err(StoreError::unavailable)?
            .map_err(store_error)
    }
}

impl Store for SqliteStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let key = *key;
        self.run(move |db, now| read(db, &key, now)).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        decide::check_sidecars(sidecars)?;
        let (key, sidecars) = (*key, sidecars.to_vec());
        self.run(move |db, now| {
            let current = read(db, &key, now)?;
            if let Some(swap) = decide::swap(current.as_ref(), expected, &change) {
                return Ok(swap);
            }
            match change {
                Change::Put { entry, ttl } => write(db, &key, &entry, ttl, now)?,
                Change::Remove => {
                    db.execute("DELETE FROM entries WHERE key = ?1", [key.as_bytes()])?;
                }
            }
            for Sidecar {
                name, value, ttl, ..
            } in sidecars
            {
                db.execute(
                    "INSERT OR REPLACE INTO sidecars VALUES (?1, ?2, ?3, ?4)",
                    params![
                        key.as_bytes(),
                        name.as_bytes(),
                        &*value,
                        millis(now.saturating_add(ttl))
                    ],
                )?;
            }
            Ok(Swap::Swapped)
        })
        .await
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        let (key, name) = (*key, *name);
        self.run(move |db, now| {
            let sql = "SELECT value FROM sidecars WHERE key = ?1 AND name = ?2 AND expires > ?3";
            let row = params![key.as_bytes(), name.as_bytes(), millis(now)];
            db.query_row(sql, row, |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))
                .optional()
        })
        .await
    }

    // Optional: the default makes two calls.
    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let (key, tag) = (*key, *tag);
        self.run(move |db, now| {
            let Some(mut entry) = read(db, &key, now)? else {
                return Ok(None);
            };
            let before = entry.version;
            let claim = decide::claim(&mut entry, &tag, version, lease, now);
            if entry.version != before {
                write(db, &key, &entry, Ttl::Keep, now)?;
            }
            Ok(Some(claim))
        })
        .await
    }

    fn system_name(&self) -> Option<&'static str> {
        Some("sqlite")
    }
}

fn read(db: &Connection, key: &Key, now: Timestamp) -> Result<Option<Entry>, Error> {
    let sql = "SELECT version, tag, value, lease FROM entries WHERE key = ?1 AND expires > ?2";
    db.query_row(sql, params![key.as_bytes(), millis(now)], |row| {
        let value = Bytes::from(row.get::<_, Vec<u8>>(2)?);
        let entry = Entry::new(Version::new(row.get(0)?), ClaimTag::new(row.get(1)?), value);
        let lease = row.get::<_, Option<i64>>(3)?;
        Ok(entry.with_lease(lease.map(|end| Timestamp::from_millis(end.unsigned_abs()))))
    })
    .optional()
}

fn write(db: &Connection, key: &Key, entry: &Entry, ttl: Ttl, now: Timestamp) -> Result<(), Error> {
    let (key, version, tag) = (
        key.as_bytes(),
        entry.version.as_bytes(),
        entry.tag.as_bytes(),
    );
    let lease = entry.lease.map(millis);
    match ttl {
        Ttl::After(ttl) => db.execute(
            "INSERT OR REPLACE INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                key,
                version,
                tag,
                lease,
                &*entry.value,
                millis(now.saturating_add(ttl))
            ],
        ),
        Ttl::Keep => db.execute(
            "UPDATE entries SET version = ?2, tag = ?3, lease = ?4, value = ?5 WHERE key = ?1",
            params![key, version, tag, lease, &*entry.value],
        ),
    }
    .map(drop)
}

fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A row that cannot be read is not absent: that would end the session of a user.
fn store_error(error: Error) -> StoreError {
    match (error.sqlite_error_code(), &error) {
        (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _)
        | (None, Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..)) => {
            StoreError::corrupt(error)
        }
        _ => StoreError::unavailable(error),
    }
}

/// Makes the calls of one handle, and deletes expired rows once a minute. Keeps a row for a day
/// after its expiry, in case the clock is wrong.
fn work(mut db: Connection, queue: &Receiver<Job>) {
    let mut purged = Instant::now();
    loop {
        match queue.recv_timeout(PURGE_EVERY) {
            Ok(job) => job(&mut db),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if purged.elapsed() >= PURGE_EVERY {
            purged = Instant::now();
            let before = millis(SystemClock.now()) - 24 * 3600 * 1000;
            for table in ["entries", "sidecars"] {
                if let Err(error) =
                    db.execute(&format!("DELETE FROM {table} WHERE expires < ?1"), [before])
                {
                    eprintln!("expired rows stay in the file: {error}");
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let token = || async {
        Json(
            serde_json::json!({ "access_token": "a", "token_type": "Bearer", "refresh_token": "yours" }),
        )
    };
    let refresh = RefreshLayer::builder(SqliteStore::open("grants.db")?)
        .token_path("/token")
        .build()?;
    let app = Router::new().route("/token", post(token)).layer(refresh);
    println!("curl http://127.0.0.1:3000/token -d grant_type=password -d client_id=web");
    Ok(axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?)
}

#[cfg(test)]
mod tests {
    use super::SqliteStore;

    tower_oauth_refresh::store_conformance!({
        let directory = tempfile::tempdir().expect("a directory");
        async move || SqliteStore::open(directory.path().join("grants.db")).expect("a file")
    });
}
