use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Builder, Database, ReadableDatabase as _, TableDefinition, TableError};

use super::super::StoreError;
use super::error::{Failure, RedbOpenError};
use super::tables::Tables;

/// The one table that exists in every layout.
const FORMAT: TableDefinition<'static, &str, u64> = TableDefinition::new("tower_oauth_refresh");
const LAYOUT: &str = "layout";

/// The layout of the tables that this version reads and writes.
const KNOWN: u64 = 1;

/// The database. It is closed and reopened after the disk has failed, because redb can recover in
/// no other way.
pub(super) struct Opened {
    path: PathBuf,
    cache_size: usize,
    state: RwLock<State>,
}

struct State {
    /// The error of the last attempt to reopen the database, if that failed.
    database: Result<Database, StoreError>,
    /// The identity of the file that was opened last.
    identity: Option<Identity>,
}

/// The identity of a file: its device and its inode.
type Identity = (u64, u64);

impl Opened {
    /// Opens the file, or creates it with read permission for the owner only.
    pub(super) fn create(path: PathBuf, cache_size: usize) -> Result<Self, RedbOpenError> {
        // Absolute, because the process may change its directory later.
        let path = std::path::absolute(path).map_err(RedbOpenError::io)?;
        let created = create_file(&path).map_err(RedbOpenError::io)?;
        let database = builder(cache_size)
            .create(&path)
            .map_err(RedbOpenError::of)?;
        if created {
            sync_directory(&path).map_err(RedbOpenError::io)?;
        }
        prepare(&database)?;
        let state = RwLock::new(State {
            database: Ok(database),
            identity: identity(&path).ok().flatten(),
        });
        Ok(Self {
            path,
            cache_size,
            state,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the reason why a write would be lost at a restart, if the path no longer leads to
    /// the open file. Always `None` on systems other than Unix.
    pub(super) fn missing(&self) -> Option<&'static str> {
        let known = self.state().identity?;
        match identity(&self.path) {
            Ok(Some(found)) if found != known => {
                Some("the store's file was replaced by another file while it was open")
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Some("the store's file was removed while it was open")
            }
            // A process that may no longer read the directory can still write the file.
            Ok(_) | Err(_) => None,
        }
    }

    /// Runs `work` on the database.
    ///
    /// # Errors
    ///
    /// The error of the last attempt to reopen the database, or the error of `work`.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        match &self.state().database {
            Ok(database) => Ok(work(database)?),
            Err(error) => Err(error.clone()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().database.is_ok()
    }

    /// Closes the database without a commit, and opens the file in its last committed state.
    pub(super) fn reopen(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The lock on the file must be released first.
        state.database = Err(StoreError::unavailable("the database is being reopened"));
        match self.open_existing() {
            Ok(database) => {
                state.database = Ok(database);
                state.identity = identity(&self.path).ok().flatten();
                tracing::info!(path = %self.path.display(), "reopened the store's database");
            }
            Err(error) => {
                let error = error.into_store_error();
                tracing::error!(path = %self.path.display(), %error, "cannot reopen the store's database: calls fail until a later attempt succeeds");
                state.database = Err(error);
            }
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_existing(&self) -> Result<Database, RedbOpenError> {
        // This must never create an empty database: the grants of a missing file would count as
        // absent.
        let database = builder(self.cache_size)
            .open(&self.path)
            .map_err(RedbOpenError::of)?;
        if !layout_is_known(&database)? {
            return Err(RedbOpenError::Foreign);
        }
        Ok(database)
    }
}

fn builder(cache_size: usize) -> Builder {
    let mut builder = Database::builder();
    // redb does not check the pages that it reads later, so damage must be found here.
    builder
        .set_cache_size(cache_size)
        .set_check_integrity_on_open(true);
    builder
}

/// Writes the layout number and the tables into an empty database. Fails if the database belongs to
/// another program or has an unknown layout.
fn prepare(database: &Database) -> Result<(), RedbOpenError> {
    if layout_is_known(database)? {
        return Ok(());
    }
    let create = || -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        write.open_table(FORMAT)?.insert(LAYOUT, KNOWN)?;
        drop(Tables::open(&write)?);
        write.commit()?;
        Ok(())
    };
    create().map_err(RedbOpenError::of)
}

/// Returns whether the database has our layout; `false` if it is empty.
///
/// # Errors
///
/// It is not empty and has another layout, or cannot be read.
fn layout_is_known(database: &Database) -> Result<bool, RedbOpenError> {
    let look = || -> Result<_, redb::Error> {
        let read = database.begin_read()?;
        let is_empty =
            read.list_tables()?.next().is_none() && read.list_multimap_tables()?.next().is_none();
        let found = match read.open_table(FORMAT) {
            Ok(table) => table.get(LAYOUT)?.map(|layout| layout.value()),
            Err(TableError::Storage(error)) => return Err(error.into()),
            Err(_) => None,
        };
        Ok((is_empty, found))
    };
    match look().map_err(RedbOpenError::of)? {
        (true, _) => Ok(false),
        (false, None) => Err(RedbOpenError::Foreign),
        (false, Some(KNOWN)) => Ok(true),
        (false, Some(found)) => Err(RedbOpenError::OtherLayout {
            found,
            known: KNOWN,
        }),
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Option<Identity>> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path)?;
    Ok(Some((found.dev(), found.ino())))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> io::Result<Option<Identity>> {
    Ok(None)
}

/// Creates the file, unless it exists. Returns whether it was created.
fn create_file(path: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the directory entry of a new file durable. Without it, a power cut could lose the name of
/// a file whose contents are durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    // An absolute path of a file has a parent.
    let directory = path.parent().unwrap_or(path);
    File::open(directory)?.sync_all()
}
