//! Quotas: what uploads are charged, and what removed files give back.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use crate::proto::{FileError, FileReply, QuotaUsage};
use crate::quota::{Charge, Mark, Quota, Turn};
use crate::rt;
use crate::sys::fs::{self, Kind, Status};

use super::Root;
use super::error::file_error;
use super::gate::Place;

impl Root {
    /// The same tree for a session whose account has this home and quota (`None`: what holds for all), if anything is
    /// to be counted for it.
    pub async fn under_quota(self: Rc<Self>, home: &Path, own: Option<u64>) -> Rc<Self> {
        let rights = self.access.rights;
        // Rules may allow in one place what is forbidden elsewhere.
        if self.rules.is_none()
            && !(rights.write || rights.append || rights.delete || rights.rename)
        {
            return self;
        }
        match self.settings.quotas.enter(home, own).await {
            Some(quota) => Rc::new(Self {
                quota: Some(quota),
                _base: Some(Rc::clone(&self)),
                ..Self::clone(&self)
            }),
            None => self,
        }
    }

    /// What counts a place: what is mounted belongs to others than the home.
    pub(super) fn quota_at(&self, place: &Place<'_>) -> Option<&Quota> {
        self.quota.as_ref().filter(|_| place.volume == 0)
    }

    /// Refuses more octets than the quota has left.
    pub(super) async fn require_quota(
        &self,
        place: &Place<'_>,
        octets: u64,
    ) -> Result<(), FileError> {
        match self.quota_at(place) {
            Some(quota) if quota.left_of(octets).await < octets => Err(over_quota(quota)),
            _ => Ok(()),
        }
    }

    /// To be set before the file of an upload is opened.
    pub(super) fn mark(&self, place: &Place<'_>) -> Option<Mark> {
        self.quota_at(place).map(Quota::mark)
    }

    /// What an upload to this file, from this offset on, will be charged. One that has no room for a single octet is
    /// refused; a file that was made just now had some.
    pub(super) async fn charge(
        &self,
        (file, status): (&rt::File, &Status),
        mark: Option<Mark>,
        offset: u64,
        created: bool,
    ) -> Result<Option<Rc<Charge>>, FileError> {
        let (Some(quota), Some(mark)) = (&self.quota, mark) else {
            return Ok(None);
        };
        quota.settle().await;
        let charge = quota.open(file, status, mark).await;
        let charge = charge.map_err(|error| file_error(&error))?;
        if !created && charge.room(offset) == 0 && quota.left_of(1).await == 0 {
            charge.close().await;
            return Err(over_quota(quota));
        }
        Ok(Some(charge))
    }

    pub(super) async fn quota_usage(&self) -> FileReply {
        let Some(quota) = &self.quota else {
            return FileReply::Quota(QuotaUsage {
                used: 0,
                quota: None,
                counted: true,
            });
        };
        quota.settle().await;
        let usage = quota.usage();
        FileReply::Quota(QuotaUsage {
            used: usage.used,
            quota: usage.quota,
            counted: usage.counted,
        })
    }
}

/// The refusal for a quota, as it is now.
#[must_use]
pub fn over_quota(quota: &Quota) -> FileError {
    FileError::OverQuota {
        left: quota.left(),
        quota: quota.limit(),
    }
}

/// To be waited for before [`removing`] goes to the pool of blocking work, and given up after it.
pub(super) async fn turn(quota: Option<&Quota>) -> Option<Turn> {
    match quota {
        Some(quota) => quota.turn().await,
        None => None,
    }
}

/// Does what takes a name away from a file, and gives the file back if that was its only one. Blocks.
pub(super) fn removing(
    quota: Option<&Quota>,
    (parent, name): (&OwnedFd, &CStr),
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let Some(quota) = quota else {
        return work();
    };
    quota.removing(|| {
        // Held, since the name may be another file's by the time it is taken away.
        let held = fs::hold_plain(parent, name);
        let before = held.and_then(|held| Ok((fs::status(&held)?, held)));
        let held = match before {
            Ok((status, held)) if status.kind == Kind::File => {
                quota.hold(held).ok().map(|held| (status, held))
            }
            _ => None,
        };
        let done = work();
        if done.is_ok()
            && let Some((before, held)) = &held
            && before.links == 1
            && renames_what_is_removed(held.file())
        {
            // Renamed to what it is called already, it is still there.
            let there = fs::status_at(parent, name)
                .is_ok_and(|now| (now.device, now.inode) == (before.device, before.inode));
            if !there {
                held.removed();
            }
        }
        (done, held.map(|(_, held)| held))
    })
}

/// Whether a file that is held stays under another name when it is removed, so that its links do not tell: on NFS.
fn renames_what_is_removed(fd: &OwnedFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|volume| volume.f_type == rustix::fs::NFS_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{Rights, Settings};

    #[test]
    fn a_session_with_a_quota_keeps_the_shared_tree() {
        let home = tempfile::tempdir().unwrap();
        rt::run(32, async {
            let settings = Rc::new(Settings::default());
            settings.quotas.set_policy(1000, std::iter::empty());
            let root = Root::open(home.path(), Rights::ALL, Rc::clone(&settings)).unwrap();
            let shared = Rc::downgrade(&root);
            let counted = root.under_quota(home.path(), Some(1000)).await;
            assert!(counted.quota.is_some());
            assert!(shared.upgrade().is_some());
            drop(counted);
            assert!(shared.upgrade().is_none());
            settings.quotas.finish();
        })
        .unwrap();
    }
}
