//! What uploads are charged, and the ends of uploads.
//!
//! What a file has become is asked for on the pool of blocking work: a file system on the network writes out the file
//! first, or hangs, and a core must not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use super::Quota;
use super::ledger::signed;
use super::open_files::{FileId, Octets, Opened, Untaken};
use super::pending::Token;
use crate::rt;
use crate::sys::fs::Status;

/// A moment before the status of a file is read, for [`Quota::open`].
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

impl Quota {
    /// A file is about to be opened.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.ledger.files().closes())
    }

    /// An upload opens a file; the status was read after the mark was set. Without a name it is given back with its last
    /// charge.
    ///
    /// # Errors
    /// The kernel's error.
    pub async fn open(
        &self,
        file: &rt::File,
        status: &Status,
        mark: Mark,
    ) -> io::Result<Rc<Charge>> {
        let token = self.quotas.held.begin();
        if let Some(opened) = self.ledger.files().open(status, mark.0) {
            return Ok(self.charge(opened, file, token));
        }
        // An upload into the same file has just ended.
        let fd = file.clone().into_fd().map_err(|(_, error)| error)?;
        let quota = self.clone();
        // Should nobody wait for it any more, it is closed there.
        let mut held = rt::blocking(move || quota.hold(fd)).await?;
        let opened = held.opened.take();
        opened
            .map(|opened| self.charge(opened, file, token))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn charge(&self, opened: Opened, file: &rt::File, token: Token) -> Rc<Charge> {
        Rc::new(Charge {
            quota: self.clone(),
            id: opened.id,
            octets: opened.octets,
            end: Some((file.clone(), token)),
        })
    }

    fn close_blocking(&self, id: FileId, file: impl AsFd) {
        self.ledger.close_blocking(id, file);
        self.changed();
    }

    /// Holds a file while its name is taken away. Blocks.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn hold(&self, fd: OwnedFd) -> io::Result<Held> {
        let token = self.quotas.held.begin();
        let opened = self.ledger.files().open_blocking(&fd)?;
        Ok(Held {
            quota: self.clone(),
            fd,
            opened: Some(opened),
            _token: token,
        })
    }
}

/// The octets of a file that an upload has open.
#[derive(Debug)]
pub struct Charge {
    quota: Quota,
    id: FileId,
    octets: Arc<Octets>,
    /// What its end needs, until that.
    end: Option<(rt::File, Token)>,
}

impl Charge {
    /// The quota that is charged.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Octets that may be written from this offset on: what is left, and what the file holds already.
    #[must_use]
    pub fn room(&self, offset: u64) -> u64 {
        let own = self.octets.get().saturating_sub(offset);
        self.quota.left().saturating_add(own)
    }

    /// Charges for octets that are about to be written: for as much as the file grows. Returns how many may be.
    #[must_use]
    pub fn charge(&self, offset: u64, count: usize) -> usize {
        let end = offset.saturating_add(count as u64);
        loop {
            let octets = self.octets.get();
            if end <= octets {
                return count;
            }
            let (ledger, wanted) = (&self.quota.ledger, end - octets);
            let take = || ledger.take(wanted, self.quota.limit());
            match self.octets.grow(octets, wanted, take) {
                Ok(grown) => {
                    self.quota.changed();
                    let granted = usize::try_from(grown.saturating_sub(offset));
                    return granted.unwrap_or(count).min(count);
                }
                // Another upload has charged for the same file.
                Err(Untaken(taken)) => ledger.add(-signed(taken)),
            }
        }
    }

    /// The file was cut to nothing.
    pub fn emptied(&self) {
        let octets = self.octets.empty();
        self.quota.ledger.add(-signed(octets));
        self.quota.changed();
    }

    /// The quota ran out: the home is counted again, for the next upload.
    pub fn ran_out(&self) {
        self.quota.quotas.keeper.scan(&self.quota.ledger);
    }

    /// The upload ends, if nobody else holds this: returns when the file counts as what it has become. Else the last one
    /// that goes sees to that in the background.
    pub async fn close(self: Rc<Self>) {
        let held = Rc::into_inner(self).and_then(|mut charge| charge.leave());
        if let Some(held) = held {
            rt::blocking(move || drop(held)).await;
        }
    }

    /// For another thread.
    fn leave(&mut self) -> Option<Held> {
        let (file, token) = self.end.take()?;
        match file.into_fd() {
            Ok(fd) => Some(Held {
                quota: self.quota.clone(),
                fd,
                opened: Some(Opened {
                    id: self.id,
                    octets: Arc::clone(&self.octets),
                }),
                _token: token,
            }),
            // No descriptor is left for a duplicate: it is better to wait here than to count wrongly.
            Err((file, _)) => {
                self.quota.close_blocking(self.id, &file);
                None
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(held) = self.leave() {
            rt::begin_blocking(move || drop(held));
        }
    }
}

/// A file that counts as what it has become when this is dropped, which blocks.
#[derive(Debug)]
pub struct Held {
    quota: Quota,
    fd: OwnedFd,
    opened: Option<Opened>,
    _token: Token,
}

impl Held {
    /// The file.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.fd
    }

    /// The file has lost its last name, on a file system that does not tell by its links.
    pub fn removed(&self) {
        if let Some(opened) = &self.opened {
            self.quota.ledger.files().removed(opened.id);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(opened) = self.opened.take() {
            self.quota.close_blocking(opened.id, &self.fd);
        }
    }
}
