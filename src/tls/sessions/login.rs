//! Logins, as far as they tell which control connections are of one client.

use std::net::IpAddr;
use std::time::Instant;

/// Who logged in, from where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Box<str>,
    pub(super) address: IpAddr,
    /// When the first of the control connections was opened.
    pub(super) opened: Instant,
    /// When the last of them had logged in.
    pub(super) at: Instant,
}

impl Login {
    /// Is it the same user at the same address?
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (&self.user, self.address) == (&other.user, other.address)
    }

    /// Was each opened before the other had logged in?
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.opened <= other.at && other.opened <= self.at
    }

    /// Adds another one; one of another user does not count.
    pub(super) fn widen(&mut self, other: &Self) {
        if self.is_of(other) {
            self.opened = self.opened.min(other.opened);
            self.at = self.at.max(other.at);
        }
    }
}
