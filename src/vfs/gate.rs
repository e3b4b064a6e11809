//! The gate that every operation passes: nothing is opened without a [`Place`], and only [`Root::gate`] makes one.
//!
//! Where rules depend on the path, a link must not be a way around them. So such an account's names are opened
//! without following links; where a link is on the way, it is resolved here to the path that it stands for, that
//! path passes the gate as well, and it is opened, again without following links. A link never leads from one
//! volume to another.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::proto::{FileError, VirtualPath};
use crate::rt;
use crate::rt::SharedFd;
use crate::sys::fs;

use super::access::{Access, require};
use super::links::{self, Guard};
use super::rules::{Operation, Rules};
use super::staging::{Storing, names_hidden};
use super::{Rights, Root, Volume};

/// A path that was let through.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// As the client named it, or as its links were resolved.
    pub(super) path: Cow<'a, VirtualPath>,
    /// For what.
    pub(super) operation: Operation,
    /// What may be done there.
    pub(super) rights: Rights,
    /// 0 for the home, else the number of the mount, counted from 1.
    pub(super) volume: usize,
    /// Octets of the path that lead to that volume.
    prefix: usize,
    /// Whether mounts are below it: then it is a directory, even if there is none on disk.
    pub(super) carries: bool,
}

impl Place<'_> {
    /// The path below its volume: no slash at its ends, empty for the volume's own directory.
    pub(super) fn relative(&self) -> &[u8] {
        let below = self.path.as_bytes().get(self.prefix..).unwrap_or_default();
        below.strip_prefix(b"/").unwrap_or(below)
    }

    /// Whether it is the root, a mount point or on the way to one.
    pub(super) fn is_fixed(&self) -> bool {
        self.carries || self.relative().is_empty()
    }

    /// The same, to be looked at only.
    pub(super) fn to_see(&self) -> Self {
        Self {
            path: self.path.clone(),
            operation: Operation::See,
            ..*self
        }
    }
}

impl Root {
    /// Lets an operation on a path through, or says why not.
    pub(super) fn gate<'a>(
        &self,
        path: &'a VirtualPath,
        operation: Operation,
    ) -> Result<Place<'a>, FileError> {
        self.admit(Cow::Borrowed(path), operation)
    }

    fn admit<'a>(
        &self,
        path: Cow<'a, VirtualPath>,
        operation: Operation,
    ) -> Result<Place<'a>, FileError> {
        // SECURITY: nobody puts anything in the place of another's unfinished upload, not even one whose own are in place.
        let makes_a_name = operation.makes_a_name();
        if (makes_a_name || self.settings.storing == Storing::Atomic) && names_hidden(&path) {
            return Err(match makes_a_name {
                true => FileError::NameNotAllowed,
                false => FileError::NotFound,
            });
        }
        let Some(rules) = &self.rules else {
            let rights = self.access.rights;
            require(operation.permitted_by(rights))?;
            if path.is_root() {
                operation.on_fixed(true)?;
            }
            return Ok(Place {
                path,
                operation,
                rights,
                volume: 0,
                prefix: 0,
                carries: false,
            });
        };
        let admitted = rules.admit(&path, operation)?;
        Ok(Place {
            path,
            operation,
            rights: admitted.rights,
            volume: admitted.volume,
            prefix: admitted.prefix,
            carries: admitted.carries,
        })
    }

    /// The volume of a place.
    pub(super) fn volume(&self, place: &Place<'_>) -> &Volume {
        let mount = place.volume.checked_sub(1);
        mount
            .and_then(|mount| self.mounts.get(mount))
            .unwrap_or(&self.home)
    }

    pub(super) fn directory_of(&self, place: &Place<'_>) -> &SharedFd {
        &self.volume(place).directory
    }

    /// What decides over accesses there.
    pub(super) fn access_at(&self, place: &Place<'_>) -> Access {
        Access {
            rights: place.rights,
            read_only: self.volume(place).read_only,
            ..self.access.clone()
        }
    }

    /// What may be done at its path by whatever way: a link on the way to it may permit less.
    pub(super) fn rights_at(&self, place: &Place<'_>) -> Rights {
        let rules = self.rules.as_ref();
        rules.map_or(self.access.rights, |rules| rules.rights_at(&place.path))
    }

    /// How the kernel resolves names of this account.
    pub(super) fn resolves(&self) -> u64 {
        if self.guard().is_some() {
            fs::RESOLVE_PLAIN
        } else {
            fs::RESOLVE_BENEATH
        }
    }

    /// The rules, where a link could be a way around them.
    pub(super) fn guard(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref().filter(|rules| rules.concerns_links())
    }

    /// What a listing must know of the rules: those of the path that the client gave, and of that at the end of links.
    pub(super) fn guard_of(&self, named: &VirtualPath, place: &Place<'_>) -> Option<Box<Guard>> {
        let rules = self.rules.as_ref()?;
        let mut mounted = rules.mounts_in(named);
        let mut exceptions = rules.exceptions_in(named);
        if *named != *place.path {
            mounted.extend(rules.mounts_in(&place.path));
            for (_, rights) in &mut exceptions {
                *rights = rights.and(place.rights);
            }
            for (name, rights) in rules.exceptions_in(&place.path) {
                match exceptions.iter_mut().find(|(named, _)| *named == name) {
                    Some((_, other)) => *other = other.and(rights),
                    None => exceptions.push((name, rights.and(place.rights))),
                }
            }
        }
        Some(Box::new(Guard {
            rules: Arc::clone(rules),
            volume: place.volume,
            mount_point: rules.mount_point(place.volume),
            mounted,
            exceptions,
        }))
    }

    /// Puts what the links on its way stand for in the place of a path, the last name's too with `last`.
    pub(super) async fn settle(&self, place: &mut Place<'_>, last: bool) -> io::Result<()> {
        let directory = self.directory_of(place).try_clone()?;
        let relative = place.relative().to_vec();
        let resolving = move || links::resolve(&directory, &relative, last);
        let relative = rt::blocking(resolving).await?;
        let rules = self.rules.as_ref();
        let volume = rules.map_or_else(VirtualPath::root, |rules| rules.mount_point(place.volume));
        let path = volume.join(&relative);
        let path = path.map_err(|_| io::Error::from(Errno::NAMETOOLONG))?;
        let settled = self.admit(Cow::Owned(path), place.operation);
        let settled = settled.map_err(refusal)?;
        if settled.volume != place.volume {
            return Err(Errno::XDEV.into());
        }
        let rights = place.rights.and(settled.rights);
        *place = Place { rights, ..settled };
        Ok(())
    }
}

/// A refusal at the end of a link, as the kernel would say it: [`super::file_error`] makes the same of it.
fn refusal(error: FileError) -> io::Error {
    io::Error::from(match error {
        FileError::Denied => Errno::ACCESS,
        FileError::Exists => Errno::EXIST,
        FileError::IsADirectory => Errno::ISDIR,
        FileError::NameNotAllowed => Errno::INVAL,
        // As a link that leaves the root. Not NOENT, upon which an upload would make the file.
        _ => Errno::LOOP,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::file_error;

    #[test]
    fn refusals_survive_the_way_through_an_error_of_the_kernel() {
        for error in [
            FileError::NotFound,
            FileError::Denied,
            FileError::Exists,
            FileError::IsADirectory,
            FileError::NameNotAllowed,
        ] {
            assert_eq!(file_error(&refusal(error)), error);
        }
    }
}
