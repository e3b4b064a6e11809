//! LIST, NLST and MLSD/MLST lines from plain entries.

/// Which facts MLSD and MLST show (RFC 3659 §7.5), as a small bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactSet(u8);

impl FactSet {
    /// `type`.
    pub const TYPE: Self = Self(1);
    /// `size`, files only.
    pub const SIZE: Self = Self(2);
    /// `modify`.
    pub const MODIFY: Self = Self(4);
    /// `perm`.
    pub const PERM: Self = Self(8);
    /// `unique`.
    pub const UNIQUE: Self = Self(16);
    /// `UNIX.mode`.
    pub const UNIX_MODE: Self = Self(32);
    /// Every fact; the set in force after login.
    pub const ALL: Self = Self(63);
    /// No fact: names only.
    pub const NONE: Self = Self(0);

    /// Whether all facts of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
