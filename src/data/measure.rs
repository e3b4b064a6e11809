//! What is measured of a transfer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::route::{Fallback, Route};
use super::{Job, Opened, Outcome, Setup};
use crate::metrics::{Channel, Counted, End, Ended, Kind, Mode, Names, Recorder};
use crate::proto::TransferEnd;
use crate::rt;

/// The names of routes and of reasons, by number.
#[must_use]
pub fn names() -> Names {
    Names {
        routes: Route::ALL.map(Route::name).to_vec(),
        fallbacks: Fallback::ALL.map(Fallback::name).to_vec(),
    }
}

/// The moments of one transfer.
pub(super) struct Watch {
    metrics: Rc<Recorder>,
    kind: Kind,
    mode: Mode,
    /// The transfer command came.
    asked: Instant,
    /// 150 was queued, and the transfer began.
    began: Instant,
    /// There was a data connection.
    connected: Option<Instant>,
    /// Octets could flow.
    ready: Option<Instant>,
    _running: Counted,
}

impl Watch {
    pub(super) fn new(job: &Job, began: Instant) -> Self {
        let kind = match job.opened {
            Opened::Download { .. } => Kind::Download,
            Opened::Upload(_) => Kind::Upload,
            Opened::Listing(_) => Kind::Listing,
        };
        Self {
            kind,
            mode: match job.setup {
                Setup::Passive(_) => Mode::Passive,
                Setup::Active(_) => Mode::Active,
            },
            asked: job.asked,
            began,
            connected: None,
            ready: None,
            _running: job.metrics.running(kind),
            metrics: Rc::clone(&job.metrics),
        }
    }

    /// The data connection is there.
    pub(super) fn connected(&mut self) {
        let now = rt::now();
        let time = now.saturating_duration_since(self.began);
        self.metrics.data_connected(self.mode, time);
        self.connected = Some(now);
        self.ready = Some(now);
    }

    /// Its handshake is complete; `before` is what it had taken before the command came.
    pub(super) fn secured(&mut self, resumed: bool, before: Duration) {
        let now = rt::now();
        let since = now.saturating_duration_since(self.connected.unwrap_or(now));
        self.metrics
            .handshake(Channel::Data, resumed, before + since);
        self.ready = Some(now);
    }

    /// It is over at `now`; the first octet moved at `first`.
    pub(super) fn ended(self, outcome: &Outcome, first: Option<Instant>, now: Instant) {
        if outcome.end == TransferEnd::TlsFailed {
            self.metrics.handshake_failed(Channel::Data);
        }
        if let Some(first) = first {
            let time = first.saturating_duration_since(self.asked);
            self.metrics.first_byte(self.kind, time);
        }
        let choice = outcome.choice;
        self.metrics.transfer(&Ended {
            route: choice.map(|choice| choice.route as usize),
            fallback: choice.and_then(|choice| Some(choice.fallback? as usize)),
            kind: self.kind,
            end: end(outcome.end),
            octets: outcome.octets,
            time: outcome.time,
            flow: self.ready.map(|ready| now.saturating_duration_since(ready)),
        });
    }
}

fn end(end: TransferEnd) -> End {
    match end {
        TransferEnd::Complete => End::Complete,
        TransferEnd::NotConnected => End::NotConnected,
        TransferEnd::TlsFailed => End::TlsFailed,
        TransferEnd::NotResumed => End::NotResumed,
        TransferEnd::ConnectionLost => End::ConnectionLost,
        TransferEnd::Truncated => End::Truncated,
        TransferEnd::Stalled => End::Stalled,
        TransferEnd::Aborted => End::Aborted,
        TransferEnd::Unsynced | TransferEnd::File(_) => End::FileError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_routes_and_reasons_are_their_places() {
        for (place, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, place, "{}", route.name());
        }
        for (place, reason) in Fallback::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.name());
        }
        let names = names();
        let Names { routes, fallbacks } = &names;
        assert_eq!(routes[Route::UserTls as usize], "user-tls");
        assert_eq!(fallbacks[Fallback::Short as usize], "short");
    }
}
