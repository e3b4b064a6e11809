//! Which sessions a client must have, so that it can be asked to resume one.

use std::cell::Cell;
use std::time::Duration;

use rustls::ProtocolVersion;

use crate::limits;

/// What a client has when the handshake of a data connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tls) enum Holding {
    /// Perhaps nothing: none was issued, or so long ago that libraries forget it.
    Nothing,
    /// Sessions that it has perhaps spent.
    Spent,
    /// One that it has not spent.
    Unspent,
}

impl Holding {
    /// Whether it could have resumed under this version. A session of TLS 1.2 can be resumed any number of times; some
    /// clients keep only the latest ticket of TLS 1.3 and spend it once (RFC 8446 §C.4).
    pub(in crate::tls) fn can_resume(self, version: Option<ProtocolVersion>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Spent => version != Some(ProtocolVersion::TLSv1_3),
            Self::Unspent => true,
        }
    }
}

/// When sessions were issued to a control connection and its data connections. Times are those since boot.
#[derive(Default)]
pub(super) struct Issues {
    latest: Cell<Option<Duration>>,
    /// One was issued after the last handshake of a data connection had begun.
    unspent: Cell<bool>,
}

impl Issues {
    /// A session is issued.
    pub(super) fn note(&self, now: Duration) {
        self.latest.set(Some(now));
        self.unspent.set(true);
    }

    /// The handshake of a data connection begins. `alone`: nobody shares the client's sessions.
    pub(super) fn begin(&self, alone: bool, now: Duration) -> Holding {
        let unspent = self.unspent.take() && alone;
        match self.latest.get() {
            Some(at) if now.saturating_sub(at) < limits::TLS_SESSION_KEPT_MIN => match unspent {
                true => Holding::Unspent,
                false => Holding::Spent,
            },
            _ => Holding::Nothing,
        }
    }

    /// As if so much time had passed.
    #[cfg(test)]
    pub(super) fn age(&self, time: Duration) {
        let earlier = self.latest.get().map(|at| at.saturating_sub(time));
        self.latest.set(earlier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_held_to_what_it_must_have() {
        let (old, new) = (
            Some(ProtocolVersion::TLSv1_2),
            Some(ProtocolVersion::TLSv1_3),
        );
        let issues = Issues::default();
        let at = Duration::from_secs(10);
        assert_eq!(issues.begin(true, at), Holding::Nothing);
        issues.note(at);
        assert_eq!(issues.begin(true, at), Holding::Unspent);
        assert_eq!(issues.begin(true, at), Holding::Spent);
        issues.note(at);
        assert_eq!(issues.begin(false, at), Holding::Spent);
        issues.note(at);
        let late = at + limits::TLS_SESSION_KEPT_MIN;
        assert_eq!(issues.begin(true, late), Holding::Nothing);
        let able = [Holding::Nothing, Holding::Spent, Holding::Unspent]
            .map(|holding| (holding.can_resume(old), holding.can_resume(new)));
        assert_eq!(able, [(false, false), (true, false), (true, true)]);
    }
}
