//! The store that `--store` names.

use std::fmt;
#[cfg(feature = "redb")]
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tower_oauth_refresh::MemoryStore;
#[cfg(feature = "redb")]
use tower_oauth_refresh::RedbStore;
#[cfg(feature = "redb")]
use tower_oauth_refresh::store::RedbOpenError;
#[cfg(feature = "postgres")]
use tower_oauth_refresh::{PostgresConnectError, PostgresStore};
#[cfg(feature = "redis")]
use tower_oauth_refresh::{RedisConnectError, RedisStore};
#[cfg(any(feature = "postgres", feature = "redis"))]
use tower_oauth_refresh::{Store, TieredStore};

use super::{OpenStore, StateDirectory};
use crate::program::Failure;

/// The store that the operator chose. Parsing does not check its address completely:
/// [`open`](Self::open) does.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreChoice {
    Memory,
    /// The URL, which may contain a password.
    Redis(String),
    /// The URL, which may contain a password.
    Postgres(String),
    Redb(PathBuf),
    /// A file in this directory, which is created if it does not exist.
    Default(StateDirectory),
}

/// Settings of Redis, and of the cache in front of a store that several servers share.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The memory for the cache. Zero disables it.
    pub cache_bytes: u64,
    /// The time for which the cache keeps an entry. Zero disables the cache.
    pub cache_ttl: Duration,
    /// The number of replicas that must acknowledge a write.
    pub replicas: u32,
}

/// The time limit for replicas to acknowledge a write.
#[cfg(feature = "redis")]
const REPLICA_TIMEOUT: Duration = Duration::from_millis(300);

/// The reason why a file could not be opened.
#[cfg(feature = "redb")]
#[derive(Debug, thiserror::Error)]
#[error("--store redb:{}", .0.display())]
struct FileError(PathBuf, #[source] RedbOpenError);

impl StoreChoice {
    /// Returns whether several servers can share the store, so that there is a cache in front of
    /// it.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_) | Self::Postgres(_))
    }

    /// Checks what can be checked without opening the store.
    pub fn check(&self, settings: Settings) -> Result<(), String> {
        if settings.replicas > 0 && !matches!(self, Self::Redis(_)) {
            return Err("--wait-for-replicas needs --store with Redis".into());
        }
        Ok(())
    }

    /// Opens the store. Must be called within a Tokio runtime.
    pub async fn open(&self, settings: Settings) -> Result<OpenStore, Failure> {
        self.check(settings).map_err(Failure::Usage)?;
        match self {
            Self::Memory => Ok(OpenStore::plain(MemoryStore::new())),
            #[cfg(feature = "redis")]
            Self::Redis(url) => {
                let mut store = RedisStore::builder(url);
                if settings.replicas > 0 {
                    store = store.wait_for_replicas(settings.replicas, REPLICA_TIMEOUT);
                }
                let store = store.connect().await.map_err(|error| match error {
                    RedisConnectError::Url(_) | RedisConnectError::TlsFeature => {
                        Failure::Usage(format!("--store: {error}"))
                    }
                    error => error.into(),
                })?;
                Ok(cached(store, settings))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let store = PostgresStore::connect(url).await;
                let store = store.map_err(|error| match error {
                    PostgresConnectError::Url(cause) => {
                        Failure::Usage(format!("--store: invalid PostgreSQL URL: {cause}"))
                    }
                    error => error.into(),
                })?;
                Ok(cached(store, settings))
            }
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => Err(self.left_out(settings)),
            #[cfg(not(feature = "redis"))]
            Self::Redis(_) => Err(self.left_out(settings)),
            #[cfg(feature = "redb")]
            Self::Redb(path) => open_file(path),
            #[cfg(feature = "redb")]
            Self::Default(directory) => {
                let path = directory.as_path();
                directory.create().map_err(|error| {
                    let path = path.display();
                    format!("--store is not set, and {path} cannot be created: {error}")
                })?;
                open_file(&path.join("sessions.redb"))
            }
            #[cfg(not(feature = "redb"))]
            Self::Redb(_) | Self::Default(_) => Err(self.left_out(settings)),
        }
    }

    /// Returns the error for a store that this program was built without.
    #[cfg(not(all(feature = "postgres", feature = "redis", feature = "redb")))]
    fn left_out(&self, _: Settings) -> Failure {
        Failure::Usage(format!(
            "--store: this program was built without `{self}`: build it with `--all-features`"
        ))
    }
}

#[cfg(any(feature = "postgres", feature = "redis"))]
fn cached(store: impl Store + Clone, settings: Settings) -> OpenStore {
    OpenStore::cached(
        TieredStore::builder(store)
            .max_bytes(settings.cache_bytes)
            .ttl(settings.cache_ttl)
            .build(),
    )
}

#[cfg(feature = "redb")]
fn open_file(path: &Path) -> Result<OpenStore, Failure> {
    RedbStore::open(path)
        .map(OpenStore::plain)
        .map_err(|error| FileError(path.to_owned(), error).into())
}

impl fmt::Display for StoreChoice {
    /// Writes the kind of store without its address, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => {
                f.write_str(url.split_once(':').map_or("redis", |(scheme, _)| scheme))
            }
            Self::Postgres(_) => f.write_str("postgres"),
            Self::Redb(_) | Self::Default(_) => f.write_str("redb"),
        }
    }
}

impl fmt::Debug for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const STORES: &str = "use `memory`, redis://…, rediss://…, redis-cluster://…, redis-sentinel://…, postgres://… or redb:PATH";
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        match scheme {
            "memory" if scheme == text => Ok(Self::Memory),
            "memory" => Err("`memory` does not take an address".into()),
            "redis" | "rediss" | "redis-cluster" | "rediss-cluster" | "redis-sentinel"
            | "rediss-sentinel" | "redis+unix" => Ok(Self::Redis(text.to_owned())),
            "postgres" | "postgresql" => Ok(Self::Postgres(text.to_owned())),
            "redb" if rest.is_empty() => Err("`redb` needs the path of a file: redb:PATH".into()),
            "redb" => Ok(Self::Redb(rest.into())),
            _ if scheme == text && text.contains(['@', '/']) => {
                // The text may be a URL without its scheme, and contain a password.
                Err(format!("unknown store: {STORES}"))
            }
            _ => Err(format!("unknown store `{scheme}`: {STORES}")),
        }
    }
}
