//! What an account may do, as a set that has names.

use std::fmt;
use std::str::FromStr;

/// A set of things that an account may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permissions(u16);

/// A word that names no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no permission; known are {known} and `all`", known = Permissions::ALL)]
pub struct PermissionsError {
    word: String,
}

/// Every permission and its name in users files and on the command line.
const NAMES: [(Permissions, &str); 8] = [
    (Permissions::READ, "read"),
    (Permissions::WRITE, "write"),
    (Permissions::APPEND, "append"),
    (Permissions::DELETE, "delete"),
    (Permissions::RENAME, "rename"),
    (Permissions::LIST, "list"),
    (Permissions::MAKE_DIRECTORY, "make-directory"),
    (Permissions::CHANGE, "change"),
];

impl Permissions {
    /// RETR, and SIZE and MDTM of files.
    pub const READ: Self = Self(1);
    /// STOR and STOU: new files and replaced ones.
    pub const WRITE: Self = Self(1 << 1);
    /// APPE, and STOR from a restart marker.
    pub const APPEND: Self = Self(1 << 2);
    /// DELE and RMD.
    pub const DELETE: Self = Self(1 << 3);
    /// RNFR and RNTO.
    pub const RENAME: Self = Self(1 << 4);
    /// LIST, NLST, MLSD, MLST and STAT of a path.
    pub const LIST: Self = Self(1 << 5);
    /// MKD.
    pub const MAKE_DIRECTORY: Self = Self(1 << 6);
    /// MFMT and SITE CHMOD: times and modes.
    pub const CHANGE: Self = Self(1 << 7);
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(0xff);
    /// What an anonymous client may do.
    pub const READ_ONLY: Self = Self(Self::READ.0 | Self::LIST.0);
    /// Whatever changes something on disk.
    pub const CHANGING: Self = Self(Self::ALL.0 & !Self::READ_ONLY.0);

    /// Whether every one of `wanted` is in the set.
    #[must_use]
    pub const fn allows(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Whether any one of `others` is in the set.
    #[must_use]
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the permissions in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .filter(move |(permission, _)| self.allows(*permission))
            .map(|(_, name)| name)
    }

    /// The set of these words; `all` stands for every permission.
    ///
    /// # Errors
    /// [`PermissionsError`] for the first word that is none.
    pub fn from_words<'a>(
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PermissionsError> {
        words.into_iter().try_fold(Self::NONE, |set, word| {
            if word == "all" {
                return Ok(Self::ALL);
            }
            NAMES
                .iter()
                .find(|(_, name)| *name == word)
                .map(|(permission, _)| set.union(*permission))
                .ok_or_else(|| PermissionsError {
                    word: word.to_owned(),
                })
        })
    }
}

impl FromStr for Permissions {
    type Err = PermissionsError;

    /// Parses a list as `read,list,write`.
    fn from_str(list: &str) -> Result<Self, PermissionsError> {
        Self::from_words(
            list.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty()),
        )
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.names().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({self})")
    }
}
