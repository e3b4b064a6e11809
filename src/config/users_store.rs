//! The users file on disk: read, and replaced as a whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::failure::{Exit, Failure, cause};
use crate::auth::{UsersError, UsersFile};
use crate::limits;

/// Parses the contents of the users file at `path`.
pub(super) fn parse(path: &Path, octets: &[u8]) -> Result<UsersFile, Failure> {
    let text = std::str::from_utf8(octets)
        .map_err(|_| Failure::file(Exit::Config, path, "the users file is not UTF-8 text"))?;
    UsersFile::parse(text).map_err(|error| match error {
        UsersError::Syntax { line, message } => {
            let message = format!("{}:{line}: {message}", path.display());
            Failure::new(Exit::Config, message)
        }
        other => Failure::file(Exit::Config, path, other),
    })
}

/// Reads the users file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<UsersFile>, Failure> {
    let failed = |error: io::Error| Failure::io(Exit::NoInput, path, &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut octets = Zeroizing::new(Vec::new());
    let max = limits::SETTINGS_FILE_OCTETS_MAX;
    file.take(max + 1)
        .read_to_end(&mut octets)
        .map_err(failed)?;
    // What is written back must not lack the end.
    if octets.len() as u64 > max {
        let problem = format!("larger than {max} octets; give a file that is smaller");
        return Err(Failure::file(Exit::NoInput, path, problem));
    }
    parse(path, &octets).map(Some)
}

/// Changes the users file: reads it, or starts an empty one if `create`, applies the change, and
/// puts the new file in the old one's place at once. A lock on the directory keeps two changes
/// from losing one another.
pub(super) fn update(
    path: &Path,
    create: bool,
    change: impl FnOnce(&mut UsersFile) -> Result<(), UsersError>,
) -> Result<(), Failure> {
    // A link stays a link: what it leads to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let failed = |error: io::Error| Failure::io(Exit::CannotCreate, path, &error);
    let directory_path = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = File::open(directory_path).map_err(|error| {
        let remedy = format!("{}; make the directory first", cause(&error));
        Failure::file(Exit::CannotCreate, directory_path, remedy)
    })?;
    flock(&directory, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    let mut users = match read(path)? {
        Some(users) => users,
        None if create => UsersFile::default(),
        None => return Err(missing(path)),
    };
    change(&mut users).map_err(|error| Failure::file(Exit::Config, path, error))?;
    replace(path, &directory, users.to_text().as_bytes()).map_err(failed)
}

/// The failure of a users file that is needed and not there.
pub(super) fn missing(path: &Path) -> Failure {
    let message = "there is no such users file; `ringftpd user add` makes one";
    Failure::file(Exit::NoInput, path, message)
}

/// Writes a file next to the old one, 0600 from its first moment, and renames it. Where the group may read the old one, it
/// may read the new one.
fn replace(path: &Path, directory: &File, contents: &[u8]) -> io::Result<()> {
    let temporary = temporary_path(path);
    let written = write_new(&temporary, path, contents)
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| directory.sync_all());
    if written.is_err() {
        // It may have been renamed already; then there is nothing to remove.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn write_new(temporary: &Path, old: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    if let Ok(old) = std::fs::metadata(old) {
        let new = file.metadata()?;
        // The service that owns the old file must be able to read the new one.
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        // A service that is not the owner reads it by its group.
        file.set_permissions(std::fs::Permissions::from_mode(
            0o600 | (old.mode() & 0o040),
        ))?;
    }
    file.write_all(contents)?;
    file.sync_all()
}

fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

/// Makes a directory and its parents; those made are usable by the owner only if `private`.
pub(super) fn make_directory(path: &Path, private: bool) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mode = if private { 0o700 } else { 0o755 };
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Permissions, User, hash_password};

    fn user() -> User {
        User::new(hash_password(b"secret").unwrap(), None, Permissions::ALL).unwrap()
    }

    #[test]
    fn the_file_is_private_and_replaced_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        update(&real, true, |users| users.add("one", user())).unwrap();
        let first = std::fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(first & 0o7777, 0o600);
        std::os::unix::fs::symlink(&real, &link).unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
        update(&link, false, |users| users.add("two", user())).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = std::fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(
            mode & 0o7777,
            0o640,
            "the group's right to read is kept, no other"
        );
        let users = read(&real).unwrap().unwrap();
        let names: Vec<&str> = users.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["one", "two"]);
        let entries = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(entries, 2, "a temporary file was left behind");
    }

    #[test]
    fn what_is_larger_than_the_server_reads_is_not_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        let file = File::create(&path).unwrap();
        file.set_len(limits::SETTINGS_FILE_OCTETS_MAX + 1).unwrap();
        let failure = read(&path).err().unwrap();
        assert_eq!(failure.exit, Exit::NoInput);
        assert!(
            failure.message.contains("larger than 67108864"),
            "{failure}"
        );
    }

    #[test]
    fn a_failed_change_leaves_the_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        let failure = update(&path, false, |_| Ok(())).unwrap_err();
        assert_eq!(failure.exit, Exit::NoInput);
        update(&path, true, |users| users.add("one", user())).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let failure = update(&path, true, |users| users.add("one", user())).unwrap_err();
        assert!(
            failure.message.contains("ringftpd user passwd"),
            "{failure}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn concurrent_changes_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        let user = user();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (path, user) = (&path, user.clone());
                scope.spawn(move || {
                    update(path, true, |users| users.add(&format!("u{number}"), user)).unwrap();
                });
            }
        });
        assert_eq!(read(&path).unwrap().unwrap().iter().count(), 8);
    }
}
