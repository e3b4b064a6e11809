//! The last step of an upload that appears once it is whole, and what takes it back. All of it may wait for a disk.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::limits;
use crate::quota::Quota;
use crate::sys::fs::{self, Kind, Status};
use crate::sys::unnamed;

use super::quota::removing;
use super::staging::hidden_name;

/// A file that does not have its name yet. What its end takes is held from its beginning: an upload is not lost for want of
/// a descriptor.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) file: OwnedFd,
    /// The directory, whatever it is called by the end.
    pub(super) parent: OwnedFd,
    pub(super) name: CString,
    /// What it is called meanwhile, where it has to have a name.
    pub(super) hidden: Option<CString>,
    /// Whether a file that has the name may be replaced.
    pub(super) replaces: bool,
    /// What counts the file that is replaced.
    pub(super) quota: Option<Quota>,
}

impl Unfinished {
    /// Gives it its name.
    pub(super) fn publish(&self) -> io::Result<()> {
        unnamed::flush(&self.file)?;
        match &self.quota {
            Some(quota) => quota.moving(|| self.give_name()),
            None => self.give_name(),
        }
    }

    /// Brings the name to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        unnamed::sync_names(&self.parent, &self.file)
    }

    fn give_name(&self) -> io::Result<()> {
        if let Some(hidden) = &self.hidden {
            return self.rename(hidden, None);
        }
        let restricted = self.restrict()?;
        let hidden = self.hide()?;
        let named = self.rename(&hidden, restricted);
        if named.is_err() {
            self.remove(&hidden, None);
        }
        named
    }

    /// SECURITY: a hidden name is in everybody's reach, and stays after a kill: until the file has the owner of the one that
    /// it replaces, others may do nothing with it, and no more than with that afterwards. Returns the mode that it had.
    fn restrict(&self) -> io::Result<Option<Mode>> {
        let there = match fs::status_at(&self.parent, &self.name) {
            Ok(there) if there.kind == Kind::File => there,
            _ => return Ok(None),
        };
        let own = fs::status(&self.file)?;
        let owners_stay = (own.user, own.group) == (there.user, there.group);
        if owners_stay && own.mode & !there.mode == 0 {
            return Ok(None);
        }
        let mode = own.mode & there.mode & if owners_stay { 0o777 } else { 0o700 };
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
        Ok(Some(Mode::from_raw_mode(own.mode & 0o777)))
    }

    fn rename(&self, hidden: &CStr, restricted: Option<Mode>) -> io::Result<()> {
        self.require_ours(hidden)?;
        for _ in 0..limits::OPEN_TRIES_MAX {
            let there = match fs::status_at(&self.parent, &self.name) {
                Ok(there) => there,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Some(mode) = restricted {
                        rustix::fs::fchmod(&self.file, mode)?;
                    }
                    match self.rename_to_free(hidden) {
                        // Somebody was faster.
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                        result => return result,
                    }
                }
                Err(error) => return Err(error),
            };
            return match there.kind {
                Kind::File if self.replaces => {
                    unnamed::adopt(&self.file, &there)?;
                    self.replace(hidden)
                }
                Kind::File => Err(Errno::EXIST.into()),
                Kind::Directory => Err(Errno::ISDIR.into()),
                _ => Err(Errno::NXIO.into()),
            };
        }
        Err(Errno::BUSY.into())
    }

    fn rename_to_free(&self, hidden: &CStr) -> io::Result<()> {
        match fs::rename_to_free(&self.parent, hidden, &self.parent, &self.name) {
            // Some file systems cannot do it in one step.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.take_free(hidden),
            result => result,
        }
    }

    /// The same where no rename spares what has come to have the name.
    fn take_free(&self, hidden: &CStr) -> io::Result<()> {
        if self.replaces {
            return self.replace(hidden);
        }
        match unnamed::link_again(&self.parent, hidden, &self.name) {
            Ok(()) => {}
            // It was free a moment ago.
            Err(error) if unnamed::has_no_links(&error) => return self.replace(hidden),
            Err(error) => return Err(error),
        }
        if let Err(error) = fs::remove_file(&self.parent, hidden) {
            stays(hidden, &error);
        }
        Ok(())
    }

    /// Takes the place of what has the name: a file keeps its octets for those who have it open.
    fn replace(&self, hidden: &CStr) -> io::Result<()> {
        removing(self.quota.as_ref(), (&self.parent, &self.name), || {
            fs::rename(&self.parent, hidden, &self.parent, &self.name)
        })
    }

    /// Gives a file without a name a hidden one: only a rename replaces another, and programs that watch a directory wait
    /// for one (`IN_MOVED_TO`), since a file that is linked looks as if it were still to be written.
    fn hide(&self) -> io::Result<CString> {
        for number in 0..limits::UNIQUE_NAME_TRIES_MAX {
            let name = hidden_name(number)?;
            match unnamed::link(&self.file, &self.parent, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.map(|()| name),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// SECURITY: what others have put under the hidden name neither gets the name nor is removed.
    fn require_ours(&self, hidden: &CStr) -> io::Result<()> {
        let own = fs::status(&self.file)?;
        let there = fs::status_at(&self.parent, hidden)?;
        if (own.device, own.inode) == (there.device, there.inode) {
            Ok(())
        } else {
            Err(Errno::STALE.into())
        }
    }

    /// It came to nothing: a file without a name goes by itself.
    pub(super) fn discard(&self) {
        if let Some(hidden) = &self.hidden {
            self.remove(hidden, self.quota.as_ref());
        }
    }

    fn remove(&self, hidden: &CStr, quota: Option<&Quota>) {
        let removed = self.require_ours(hidden).and_then(|()| {
            removing(quota, (&self.parent, hidden), || {
                fs::remove_file(&self.parent, hidden)
            })
        });
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => stays(hidden, &error),
            _ => {}
        }
    }

    /// Makes it as the file that it is to replace.
    pub(super) fn adopt(&self, old: &Status) -> io::Result<()> {
        unnamed::adopt(&self.file, old)
    }
}

fn stays(hidden: &CStr, error: &io::Error) {
    tracing::warn!(
        name = %hidden.to_string_lossy(),
        %error,
        "the hidden name of an upload that has ended was not removed: remove it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const HIDDEN: &CStr = c".ringftpd-upload-0123456789abcdef";

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A whole file with a hidden name, to be called `f`.
    fn hidden(home: &Path, replaces: bool) -> Unfinished {
        let path = home.join(HIDDEN.to_str().unwrap());
        std::fs::write(&path, "new").unwrap();
        Unfinished {
            file: std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .into(),
            parent: fs::hold_root(home).unwrap(),
            name: c"f".into(),
            hidden: Some(HIDDEN.into()),
            replaces,
            quota: None,
        }
    }

    #[test]
    fn without_a_rename_that_spares_a_unique_name_replaces_nothing() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("f");
        let upload = hidden(home.path(), false);
        std::fs::write(&target, "just come").unwrap();
        let taken = upload.take_free(HIDDEN).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "just come");
        std::fs::remove_file(&target).unwrap();
        upload.take_free(HIDDEN).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(fs::status(&upload.file).unwrap().links, 1);
        // Others replace what has come.
        let upload = hidden(home.path(), true);
        std::fs::write(&target, "just come").unwrap();
        upload.take_free(HIDDEN).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_put_under_the_hidden_name_gets_no_other_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let there = home.path().join(HIDDEN.to_str().unwrap());
        for old in [false, true] {
            let upload = hidden(home.path(), true);
            if old {
                std::fs::write(home.path().join("f"), "old").unwrap();
            }
            std::fs::write(home.path().join("evil"), "evil").unwrap();
            std::fs::rename(home.path().join("evil"), &there).unwrap();
            let error = upload.publish().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::STALE.raw_os_error()));
            upload.discard();
            assert_eq!(std::fs::read_to_string(&there).unwrap(), "evil");
            let now = std::fs::read_to_string(home.path().join("f"));
            assert_eq!(now.ok(), old.then(|| "old".to_owned()));
        }
    }

    #[test]
    fn no_more_is_permitted_under_a_hidden_name_than_on_the_old_file() {
        let home = tempfile::tempdir().unwrap();
        let upload = hidden(home.path(), true);
        let own = home.path().join(HIDDEN.to_str().unwrap());
        let target = home.path().join("f");
        let is_root = rustix::process::geteuid().is_root();
        std::fs::write(&target, "old").unwrap();
        let mode = || fs::status(&upload.file).unwrap().mode;
        for (there, before, expected) in [
            (0o600, 0o644, 0o600),
            (0o640, 0o644, 0o640),
            (0o666, 0o644, 0o644),
            (0o400, 0o666, 0o400),
        ] {
            set_mode(&own, before);
            set_mode(&target, there);
            upload.restrict().unwrap();
            assert_eq!(mode(), expected, "{there:o}");
        }
        if is_root {
            // Of another: nothing for the group, which may be another one, too.
            std::os::unix::fs::chown(&target, Some(4321), Some(4321)).unwrap();
            set_mode(&own, 0o664);
            set_mode(&target, 0o660);
            upload.restrict().unwrap();
            assert_eq!(mode(), 0o600);
        }
        // Should the old one have gone, it is as any new one.
        set_mode(&own, 0o644);
        set_mode(&target, 0o600);
        let restricted = upload.restrict().unwrap();
        std::fs::remove_file(&target).unwrap();
        upload.rename(HIDDEN, restricted).unwrap();
        assert_eq!(mode(), 0o644);
    }
}
