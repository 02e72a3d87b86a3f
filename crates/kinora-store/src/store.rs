//! The connections: opening and locking the file, one writer, a pool of readers, and checkpoints
//! of the write-ahead log off the writer's path.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::{Error, Result, migrations};

/// The oldest SQLite whose WAL handling is free of known corruption.
const OLDEST_SQLITE: i32 = 3_051_003;
/// Connections for reading, opened as they are needed.
const READERS: usize = 4;
/// Changed rows after which the write-ahead log is copied back.
const CHECKPOINT_AFTER: u64 = 512;

/// The open database. Cheap to clone; every clone is the same database.
///
/// All calls block; asynchronous callers put them on a thread for blocking work.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    writer: Mutex<Writer>,
    /// None in memory, where the writer's connection is the only one.
    readers: Option<Readers>,
    /// Dropped last: the lock of the file.
    _lock: Option<File>,
}

struct Writer {
    connection: Connection,
    /// Changed rows since the last checkpoint was asked for.
    changed: u64,
    checkpointer: Option<Checkpointer>,
}

struct Readers {
    path: PathBuf,
    free: Mutex<Free>,
    returned: Condvar,
}

struct Free {
    connections: Vec<Connection>,
    opened: usize,
}

/// A thread with a connection of its own. A passive checkpoint there holds up neither the writer
/// nor the readers, while SQLite's automatic one runs inside the commit that crosses the limit.
struct Checkpointer {
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens or creates the database at `path`, whose folder exists; takes its lock, backs it up
    /// and migrates it where its format is older.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Newer`], [`Error::Foreign`], [`Error::OldSqlite`] with the file
    /// left as it was; otherwise what SQLite or the file system report.
    pub fn open(path: &Path) -> Result<Self> {
        require_sqlite()?;
        let lock = lock(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, true)?;
        let found = migrations::found(&connection)?;
        let application: i64 =
            connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 && application != migrations::APPLICATION_ID {
            return Err(Error::Foreign { path: path.into() });
        }
        let known = migrations::known();
        if found > known {
            let path = path.into();
            return Err(Error::Newer { path, found, known });
        }
        configure(&connection)?;
        if found < known {
            if found > 0 {
                back_up(&connection, path, found)?;
            }
            migrations::apply(&mut connection, found)?;
        }
        let checkpointer = Checkpointer::start(path)?;
        Ok(Self(Arc::new(Inner {
            writer: Mutex::new(Writer {
                connection,
                changed: 0,
                checkpointer: Some(checkpointer),
            }),
            readers: Some(Readers {
                path: path.into(),
                free: Mutex::new(Free {
                    connections: Vec::new(),
                    opened: 0,
                }),
                returned: Condvar::new(),
            }),
            _lock: Some(lock),
        })))
    }

    /// A database that lives as long as the store, for tests.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn open_in_memory() -> Result<Self> {
        require_sqlite()?;
        let mut connection = Connection::open_in_memory()?;
        configure(&connection)?;
        migrations::apply(&mut connection, 0)?;
        Ok(Self(Arc::new(Inner {
            writer: Mutex::new(Writer {
                connection,
                changed: 0,
                checkpointer: None,
            }),
            readers: None,
            _lock: None,
        })))
    }

    /// Runs `work` in one transaction, committed when it returns `Ok` and durable on return.
    ///
    /// # Errors
    /// What `work` returns, or why the commit failed; nothing is written in either case.
    pub fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut writer = unpoison(self.0.writer.lock());
        let before = writer.connection.total_changes();
        let tx = writer
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&tx)?;
        tx.commit()?;
        writer.changed += writer.connection.total_changes() - before;
        if writer.changed >= CHECKPOINT_AFTER {
            writer.changed = 0;
            if let Some(checkpointer) = &writer.checkpointer {
                checkpointer.wake();
            }
        }
        Ok(value)
    }

    /// Runs `work` over one unchanging state of the database.
    ///
    /// # Errors
    /// What `work` returns, or why the database could not be read.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let Some(readers) = &self.0.readers else {
            let writer = unpoison(self.0.writer.lock());
            return work(&writer.connection);
        };
        let mut reader = readers.take()?;
        let tx = reader.connection().transaction()?;
        work(&tx)
    }
}

impl Checkpointer {
    fn start(path: &Path) -> Result<Self> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, false)?;
        configure(&connection)?;
        let (wake, woken) = mpsc::sync_channel::<()>(1);
        let thread = std::thread::Builder::new()
            .name("kinora-checkpoint".into())
            .spawn(move || {
                while woken.recv().is_ok() {
                    let result =
                        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
                    if let Err(error) = result {
                        tracing::warn!(%error, "cannot copy the write-ahead log back yet");
                    }
                }
            })
            .map_err(|source| Error::Io {
                path: path.into(),
                source,
            })?;
        Ok(Self {
            wake,
            thread: Some(thread),
        })
    }

    fn wake(&self) {
        // A full channel means that a checkpoint is about to begin: it will see these pages too.
        if let Err(TrySendError::Disconnected(())) = self.wake.try_send(()) {
            tracing::warn!("the checkpoint thread is gone");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        // Replacing the sender closes the channel, which ends the thread; its connection has to be
        // closed before the lock of the file goes.
        self.wake = mpsc::sync_channel(1).0;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the checkpoint thread panicked");
        }
    }
}

impl Readers {
    fn take(&self) -> Result<Reader<'_>> {
        let mut free = unpoison(self.free.lock());
        loop {
            if let Some(connection) = free.connections.pop() {
                return Ok(Reader {
                    connection: Some(connection),
                    readers: self,
                });
            }
            if free.opened < READERS {
                let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY, false)?;
                connection.pragma_update(None, "cache_size", -16_000)?;
                connection.pragma_update(None, "temp_store", "MEMORY")?;
                free.opened += 1;
                return Ok(Reader {
                    connection: Some(connection),
                    readers: self,
                });
            }
            free = unpoison(self.returned.wait(free));
        }
    }
}

/// A connection on loan from the pool.
struct Reader<'a> {
    /// Present until the reader is dropped.
    connection: Option<Connection>,
    readers: &'a Readers,
}

impl Reader<'_> {
    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("present until dropped")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            unpoison(self.readers.free.lock())
                .connections
                .push(connection);
            self.readers.returned.notify_one();
        }
    }
}

fn require_sqlite() -> Result<()> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        let found = rusqlite::version().to_owned();
        return Err(Error::OldSqlite { found });
    }
    Ok(())
}

/// Locks `<path>.lock` until the file is closed; the system drops the lock of a dead process.
fn lock(path: &Path) -> Result<File> {
    let lock_path = beside(path, ".lock");
    let io = |source| Error::Io {
        path: lock_path.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn connect(path: &Path, access: OpenFlags, can_create: bool) -> Result<Connection> {
    let mut flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if can_create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    // Only the recovery of a write-ahead log locks connections of one process against each other.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Durable on commit, referentially checked, and never checkpointing by itself.
fn configure(connection: &Connection) -> Result<()> {
    connection.set_prepared_statement_cache_capacity(128);
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -64_000)?;
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    Ok(())
}

/// Copies the database to `<path>.v<format>.backup` before it is migrated.
fn back_up(connection: &Connection, path: &Path, format: i64) -> Result<()> {
    let target = beside(path, &format!(".v{format}.backup"));
    let part = beside(path, &format!(".v{format}.backup.part"));
    let io = |source| Error::Io {
        path: target.clone(),
        source,
    };
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    {
        let mut copy = Connection::open(&part)?;
        rusqlite::backup::Backup::new(connection, &mut copy)?.run_to_completion(
            1024,
            std::time::Duration::ZERO,
            None,
        )?;
    }
    File::open(&part).and_then(|f| f.sync_all()).map_err(io)?;
    std::fs::rename(&part, &target).map_err(io)?;
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
    }
    Ok(())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// A panic inside a transaction rolls it back on its way out, so the connection behind a poisoned
/// mutex is sound.
fn unpoison<'a, T>(
    result: std::result::Result<MutexGuard<'a, T>, PoisonError<MutexGuard<'a, T>>>,
) -> MutexGuard<'a, T> {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kinora.db");
        (folder, path)
    }

    #[test]
    fn commits_are_durable_and_readers_see_them() {
        let (_folder, path) = temporary();
        let store = Store::open(&path).unwrap();
        let mode: String = store
            .read(|db| Ok(db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?))
            .unwrap();
        assert_eq!(mode, "wal");
        store
            .write(|tx| {
                let level: i64 = tx.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
                assert_eq!(level, 2, "FULL");
                settings::set(tx, "a", &1.into())
            })
            .unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        let value = store.read(|db| settings::get(db, "a")).unwrap();
        assert_eq!(value, Some(1.into()));
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let store = Store::open_in_memory().unwrap();
        let result: Result<()> = store.write(|tx| {
            settings::set(tx, "a", &1.into())?;
            Err(Error::DiskFull)
        });
        assert!(matches!(result, Err(Error::DiskFull)));
        assert_eq!(store.read(|db| settings::get(db, "a")).unwrap(), None);
    }

    #[test]
    fn a_panic_in_a_transaction_leaves_nothing_and_the_store_works() {
        let store = Store::open_in_memory().unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.write(|tx| {
                settings::set(tx, "a", &1.into())?;
                if settings::get(tx, "a")?.is_some() {
                    panic!("planned");
                }
                Ok(())
            })
        }));
        assert!(result.is_err());
        assert_eq!(store.read(|db| settings::get(db, "a")).unwrap(), None);
        store.write(|tx| settings::set(tx, "a", &2.into())).unwrap();
    }

    #[test]
    fn a_second_store_is_refused_until_the_first_is_gone() {
        let (_folder, path) = temporary();
        let first = Store::open(&path).unwrap();
        assert!(matches!(Store::open(&path), Err(Error::InUse { .. })));
        drop(first);
        Store::open(&path).unwrap();
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let (_folder, path) = temporary();
        drop(Store::open(&path).unwrap());
        let raw = Connection::open(&path).unwrap();
        raw.pragma_update(None, "user_version", 999).unwrap();
        drop(raw);
        let before = std::fs::read(&path).unwrap();
        match Store::open(&path) {
            Err(Error::Newer { found, known, .. }) => {
                assert_eq!((found, known), (999, migrations::known()));
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("opened"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_database_of_another_program_is_refused_and_left_alone() {
        let (_folder, path) = temporary();
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch("CREATE TABLE other (x)").unwrap();
        drop(raw);
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(Store::open(&path), Err(Error::Foreign { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, b"not a database at all, but long enough to have a header ..........................................").unwrap();
        assert!(matches!(Store::open(&path), Err(Error::Sqlite(_))));
    }

    #[test]
    fn an_older_database_is_backed_up_before_it_changes() {
        let (folder, path) = temporary();
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch("CREATE TABLE treasure (x); INSERT INTO treasure VALUES (42)")
            .unwrap();
        back_up(&raw, &path, 1).unwrap();
        raw.execute_batch("DROP TABLE treasure").unwrap();
        let copy = Connection::open(folder.path().join("kinora.db.v1.backup")).unwrap();
        let x: i64 = copy
            .query_row("SELECT x FROM treasure", [], |row| row.get(0))
            .unwrap();
        assert_eq!(x, 42);
        assert!(!folder.path().join("kinora.db.v1.backup.part").exists());
        // A later attempt replaces the copy of an earlier one that came no further.
        back_up(&raw, &path, 1).unwrap();
    }

    #[test]
    fn readers_work_beside_a_writer_in_its_transaction() {
        let (_folder, path) = temporary();
        let store = Store::open(&path).unwrap();
        store.write(|tx| settings::set(tx, "a", &1.into())).unwrap();
        store
            .write(|tx| {
                settings::set(tx, "a", &2.into())?;
                assert_eq!(
                    store.read(|db| settings::get(db, "a"))?,
                    Some(1.into()),
                    "not committed yet"
                );
                Ok(())
            })
            .unwrap();
        assert_eq!(
            store.read(|db| settings::get(db, "a")).unwrap(),
            Some(2.into())
        );
    }
}
