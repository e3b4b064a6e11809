//! Counts files with several hard links once, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::sys::fs::Status;

/// The files with several hard links that a scan has met by some of their names. One is forgotten with its last name, so
/// of a tree that holds all names of its files little is kept. Files that have names elsewhere stay: so many of those as a
/// table may hold. From then on each name of a file that is not in it counts its share: exact, up to the remainder of the
/// division, where all names are in the tree, too little where some are not.
///
/// One that is renamed during the scan, to where that is still to come, may count twice, as any file may.
#[derive(Debug)]
pub(super) struct Links {
    /// By device and inode, how many names are still to come.
    to_come: HashMap<(u64, u64), u32>,
    files_max: usize,
    /// Names that counted a share.
    shares: u64,
}

/// What a name of a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// All of it.
    Whole,
    /// Nothing: another name has.
    Nothing,
    /// One of so many parts.
    Share(u32),
}

impl Counts {
    /// So much of a file of this size.
    pub(super) fn of(self, octets: u64) -> u64 {
        match self {
            Self::Whole => octets,
            Self::Nothing => 0,
            Self::Share(parts) => octets / u64::from(parts.max(1)),
        }
    }

    /// Whether it counts as a file.
    pub(super) fn is_first(self) -> bool {
        self != Self::Nothing
    }
}

impl Links {
    /// Keeps so many files at most.
    pub(super) fn new(files_max: usize) -> Self {
        Self {
            to_come: HashMap::new(),
            files_max,
            shares: 0,
        }
    }

    /// The scan meets a name of this file.
    pub(super) fn see(&mut self, status: &Status) -> Counts {
        if status.links < 2 {
            return Counts::Whole;
        }
        // What counted shares must not count as a whole later, when others have been forgotten.
        let is_full = self.shares > 0 || self.to_come.len() >= self.files_max;
        match self.to_come.entry((status.device, status.inode)) {
            Entry::Occupied(mut known) => {
                *known.get_mut() -= 1;
                if *known.get() == 0 {
                    known.remove();
                }
                Counts::Nothing
            }
            Entry::Vacant(_) if is_full => {
                self.shares += 1;
                Counts::Share(status.links)
            }
            Entry::Vacant(new) => {
                new.insert(status.links - 1);
                Counts::Whole
            }
        }
    }

    /// How many names counted a share of their file.
    pub(super) fn shares(&self) -> u64 {
        self.shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs;

    /// A file and so many names of it in all.
    fn linked(directory: &std::path::Path, name: &str, names: u32) -> Status {
        let first = directory.join(name);
        std::fs::write(&first, [0; 100]).unwrap();
        for number in 1..names {
            std::fs::hard_link(&first, directory.join(format!("{name}{number}"))).unwrap();
        }
        let status = fs::status(std::fs::File::open(first).unwrap()).unwrap();
        assert_eq!(status.links, names);
        status
    }

    #[test]
    fn a_file_is_forgotten_with_its_last_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut links = Links::new(2);
        assert_eq!(links.see(&linked(directory.path(), "s", 1)), Counts::Whole);
        for name in ["a", "b", "c", "d"] {
            let file = linked(directory.path(), name, 3);
            let seen = [0; 3].map(|_| links.see(&file));
            assert_eq!(seen, [Counts::Whole, Counts::Nothing, Counts::Nothing]);
        }
        assert!(links.to_come.is_empty());
        assert_eq!(links.shares(), 0);
    }

    #[test]
    fn above_the_bound_each_name_counts_its_share() {
        let directory = tempfile::tempdir().unwrap();
        let mut links = Links::new(2);
        let files = ["a", "b", "c", "d"].map(|name| linked(directory.path(), name, 4));
        let total = |links: &mut Links| -> u64 {
            files.iter().map(|file| links.see(file).of(file.size)).sum()
        };
        assert_eq!(total(&mut links), 2 * 100 + 2 * 25);
        assert_eq!(links.to_come.len(), 2, "it has not grown");
        let rest: u64 = (0..3).map(|_| total(&mut links)).sum();
        assert_eq!(rest, 3 * 2 * 25, "all names of a file are the whole of it");
        assert!(links.to_come.is_empty());
        // There is room again, but some names of this one may have counted their share.
        assert_eq!(links.see(&files[2]), Counts::Share(4));
        assert_eq!(links.shares(), 9);
    }
}
