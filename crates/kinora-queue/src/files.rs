//! Files that are whole or not there: durable writes, renames that never replace, moves between
//! file systems.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Makes what was created, renamed or removed inside a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and its parents, durably.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folder(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

/// Writes a whole file, durably.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let result = (|| {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    })();
    if result.is_err() {
        remove(&part)?;
    }
    result
}

/// Removes a file; one that is not there is as good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a folder with everything inside; one that is not there is as good.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames a file within a file system, and fails with `AlreadyExists` rather than replace another.
/// Durable once the folders are synced.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // File systems that cannot do this in one step.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            link_new(from, to)
        }
        Err(error) => Err(error.into()),
    }
}

/// The same through a hard link; between its two steps the file has both names.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if is_same_file(from, to) {
                return fs::remove_file(from);
            }
            Err(error)
        }
        // No hard links either: the look before the rename is not atomic, but nothing better is
        // there, and only this program writes to the folder under such names.
        Err(_) if from.exists() && !to.exists() => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Moves a file, between file systems too, and fails with `AlreadyExists` rather than replace
/// another. Durable on return. Cut short and called again, it goes on where it was.
pub(crate) fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_new(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy_new(from, to)?,
        other => other?,
    }
    for folder in [from.parent(), to.parent()].into_iter().flatten() {
        sync_folder(folder)?;
    }
    Ok(())
}

fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        if !is_equal(from, to)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // The copy of an earlier call that was cut short.
        return fs::remove_file(from);
    }
    let part = to.with_extension("moving.part");
    let copied = (|| {
        let mut target = File::create(&part)?;
        io::copy(&mut File::open(from)?, &mut target)?;
        target.sync_all()?;
        rename_new(&part, to)
    })();
    if let Err(error) = copied {
        remove(&part)?;
        return Err(error);
    }
    if let Some(folder) = to.parent() {
        sync_folder(folder)?;
    }
    fs::remove_file(from)
}

/// Whether two files hold the same bytes.
pub(crate) fn is_equal(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_move_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        type Move = fn(&Path, &Path) -> io::Result<()>;
        for (name, move_file) in [
            ("rename", rename_new as Move),
            ("link", link_new),
            ("copy", copy_new),
            ("move", move_new),
        ] {
            fs::write(&a, "new").unwrap();
            fs::write(&b, "old").unwrap();
            let error = move_file(&a, &b).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
            assert_eq!(fs::read(&b).unwrap(), b"old", "{name}");
            fs::remove_file(&b).unwrap();
            move_file(&a, &b).unwrap();
            assert_eq!(fs::read(&b).unwrap(), b"new", "{name}");
            assert!(!a.exists(), "{name}");
            fs::remove_file(&b).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_move_that_was_cut_short_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "same").unwrap();
        fs::write(&b, "same").unwrap();
        copy_new(&a, &b).unwrap();
        assert!(!a.exists());
        fs::hard_link(&b, &a).unwrap();
        link_new(&a, &b).unwrap();
        assert!(!a.exists() && b.exists());
    }

    #[test]
    fn a_written_file_is_whole_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x/y/z");
        create_folder(&deep).unwrap();
        let path = deep.join("metadata.json");
        write(&path, b"{}").unwrap();
        write(&path, b"[]").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"[]");
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1);
    }
}
