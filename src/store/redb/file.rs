use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Builder, Database, ReadableDatabase as _, TableDefinition, TableError};

use super::super::StoreError;
use super::error::RedbOpenError;
use super::tables::Tables;

/// The one table that every layout has.
const FORMAT: TableDefinition<'static, &str, u64> = TableDefinition::new("tower_oauth_refresh");
const LAYOUT: &str = "layout";

/// The layout of the tables that this version reads and writes.
const KNOWN: u64 = 1;

/// The database, which is closed and opened again when the disk has failed: redb goes on in no
/// other way.
pub(super) struct Opened {
    path: PathBuf,
    cache_size: usize,
    database: RwLock<Result<Database, StoreError>>,
    identity: RwLock<Option<Identity>>,
}

/// The identity of a file: its device and its inode.
type Identity = (u64, u64);

/// The reason why a write would be lost at a restart.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Missing {
    #[error("the store's file was removed while it was open")]
    Removed,
    #[error("another file has taken the place of the store's file while it was open")]
    Replaced,
}

impl Opened {
    /// Opens the file, or creates it, readable for its owner alone.
    pub(super) fn create(path: PathBuf, cache_size: usize) -> Result<Self, RedbOpenError> {
        // Absolute, because the process may change its directory later.
        let path = std::path::absolute(path)?;
        let created = create_file(&path)?;
        let database = builder(cache_size)
            .create(&path)
            .map_err(RedbOpenError::of)?;
        if created {
            sync_directory(&path)?;
        }
        prepare(&database)?;
        let identity = RwLock::new(identity(&path).ok().flatten());
        Ok(Self {
            path,
            cache_size,
            database: RwLock::new(Ok(database)),
            identity,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the reason if the path no longer leads to the open file. Always `None` on systems
    /// other than Unix.
    pub(super) fn missing(&self) -> Option<Missing> {
        let known = (*self.identity.read().unwrap_or_else(PoisonError::into_inner))?;
        match identity(&self.path) {
            Ok(Some(found)) if found != known => Some(Missing::Replaced),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Some(Missing::Removed)
            }
            // A process that may no longer read the directory goes on.
            Ok(_) | Err(_) => None,
        }
    }

    /// Runs `work` on the database.
    ///
    /// # Errors
    ///
    /// Why the database could not be opened again, or what `work` fails with.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Ok(database) => work(database),
            Err(error) => Err(error.clone()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.database
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_ok()
    }

    /// Closes what is open, as it stands, and opens what is committed.
    pub(super) fn reopen(&self) {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // The lock on the file has to go first.
        drop(std::mem::replace(
            &mut *database,
            Err(StoreError::unavailable(
                "the database is being opened again",
            )),
        ));
        *database = self.open_existing().map_err(StoreError::from);
        if database.is_ok() {
            *self
                .identity
                .write()
                .unwrap_or_else(PoisonError::into_inner) = identity(&self.path).ok().flatten();
        }
        match &*database {
            Ok(_) => {
                tracing::info!(path = %self.path.display(), "the store's database is open again")
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the store's database cannot be opened again");
            }
        }
    }

    fn open_existing(&self) -> Result<Database, RedbOpenError> {
        // Never an empty database in the place of one that has gone: its grants would count as
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
    // redb trusts what it reads later on, so damage has to be found here.
    builder
        .set_cache_size(cache_size)
        .set_check_integrity_on_open(true);
    builder
}

/// Writes the number of the layout and the tables into an empty database; refuses all but one of
/// ours.
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

/// Whether the database has our layout. False if it is empty.
fn layout_is_known(database: &Database) -> Result<bool, RedbOpenError> {
    let look = || -> Result<_, redb::Error> {
        let read = database.begin_read()?;
        let empty =
            read.list_tables()?.next().is_none() && read.list_multimap_tables()?.next().is_none();
        if empty {
            return Ok((true, None));
        }
        let found = match read.open_table(FORMAT) {
            Ok(table) => table.get(LAYOUT)?.map(|layout| layout.value()),
            Err(TableError::Storage(error)) => return Err(error.into()),
            Err(_) => None,
        };
        Ok((false, found))
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

/// Whether there was no file.
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

/// Makes the name of a new file last: without it, a file that is durable may be found by nobody.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
