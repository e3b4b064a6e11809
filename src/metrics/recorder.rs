//! What a core calls while it works.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::books::{Books, Gauges};
use super::catalogue::{Catalogue, Count, Measure};
use super::labels::{
    Admitted, Banned, Channel, Class, End, Handshake, Introduction, Kind, Listener, Mode, Refusal,
    Verdict,
};
use crate::limits;

/// The books of one core, which alone writes into them: no locks, no atomics.
#[derive(Debug)]
pub struct Recorder {
    books: RefCell<Books>,
    no_route: usize,
    sessions: Cell<u64>,
    transfers: [Cell<u64>; 3],
    /// Octets of transfers that have ended: sent, received.
    moved: [Cell<u64>; 2],
}

/// A transfer that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The number of the route, if it came to that.
    pub route: Option<usize>,
    /// The number of the reason why the kernel did not protect it.
    pub fallback: Option<usize>,
    /// What it moved.
    pub kind: Kind,
    /// How it ended.
    pub end: End,
    /// Octets moved.
    pub octets: u64,
    /// From the 150 to the end.
    pub time: Duration,
    /// The part of it in which octets could flow, if there was one.
    pub flow: Option<Duration>,
}

/// Counts in a gauge until it is dropped.
#[derive(Debug)]
pub struct Counted {
    recorder: Rc<Recorder>,
    /// A transfer of this kind, or else a session.
    kind: Option<Kind>,
}

impl Recorder {
    /// Empty books.
    #[must_use]
    pub fn new(catalogue: &Arc<Catalogue>) -> Rc<Self> {
        Rc::new(Self {
            no_route: catalogue.no_route(),
            books: RefCell::new(Books::new(catalogue)),
            sessions: Cell::new(0),
            transfers: Default::default(),
            moved: Default::default(),
        })
    }

    /// Takes the books away and goes on in empty ones, those of an earlier exchange for example.
    /// `connections` are open on this core now.
    #[must_use]
    pub fn exchange(&self, empty: Books, connections: usize) -> Books {
        let mut books = self.books.replace(empty);
        books.gauges = Gauges {
            connections: connections as u64,
            sessions: self.sessions.get(),
            transfers: self.transfers.each_ref().map(Cell::get),
        };
        books
    }

    /// Octets that ended transfers have sent and received since the start.
    #[must_use]
    pub fn moved(&self) -> [u64; 2] {
        self.moved.each_ref().map(Cell::get)
    }

    fn time(&self, measure: Measure, index: usize, time: Duration) {
        if let Some(series) = self.books.borrow_mut().series_mut(measure, index) {
            series.time(time);
        }
    }

    fn count(&self, count: Count, index: usize) {
        self.books.borrow_mut().count(count, index, 1);
    }

    /// A connection was accepted, or turned away.
    pub fn connection(&self, listener: Listener, admitted: Admitted) {
        let index = listener as usize * Admitted::NAMES.len() + admitted as usize;
        self.count(Count::Connections, index);
    }

    /// A limit turned a connection or a login away.
    pub fn refused(&self, reason: Refusal) {
        self.count(Count::Refusals, reason as usize);
    }

    /// Somebody was banned.
    pub fn banned(&self, what: Banned) {
        self.count(Count::Bans, what as usize);
    }

    /// The greeting has left so long after accept.
    pub fn greeted(&self, listener: Listener, time: Duration) {
        self.time(Measure::Greeting, listener as usize, time);
    }

    /// A connection of a trusted proxy was introduced, or not.
    pub fn introduced(&self, channel: Channel, introduction: Introduction) {
        let index = channel as usize * Introduction::NAMES.len() + introduction as usize;
        self.count(Count::Introductions, index);
    }

    /// A TLS handshake is complete.
    pub fn handshake(&self, channel: Channel, resumed: bool, time: Duration) {
        let kind = if resumed {
            Handshake::Resumed
        } else {
            Handshake::Full
        };
        let index = channel as usize * Handshake::NAMES.len() + kind as usize;
        self.time(Measure::Handshake, index, time);
    }

    /// A TLS handshake has failed.
    pub fn handshake_failed(&self, channel: Channel) {
        self.count(Count::HandshakesFailed, channel as usize);
    }

    /// A password was judged.
    pub fn login(&self, verdict: Verdict, time: Duration) {
        self.count(Count::Logins, verdict as usize);
        self.time(Measure::Login, verdict as usize, time);
    }

    /// A command has had its first reply. The time of PASS is that of the login.
    pub fn command(&self, class: Class, time: Duration) {
        let mut books = self.books.borrow_mut();
        books.count(Count::Commands, class as usize, 1);
        if class != Class::Password
            && let Some(series) = books.series_mut(Measure::Command, class as usize)
        {
            series.time(time);
        }
    }

    /// So many replies have left, by first digit from 1 to 5.
    pub fn replies(&self, replies: [u32; 5]) {
        let mut books = self.books.borrow_mut();
        for (index, replies) in replies.into_iter().enumerate() {
            if replies > 0 {
                books.count(Count::Replies, index, u64::from(replies));
            }
        }
    }

    /// A transfer has its data connection.
    pub fn data_connected(&self, mode: Mode, time: Duration) {
        self.time(Measure::DataConnection, mode as usize, time);
    }

    /// A transfer has moved its first octet.
    pub fn first_byte(&self, kind: Kind, time: Duration) {
        self.time(Measure::FirstByte, kind as usize, time);
    }

    /// A transfer has ended. Times and rates are those of complete ones: the others took as long as
    /// the network or the client wanted.
    pub fn transfer(&self, ended: &Ended) {
        let mut books = self.books.borrow_mut();
        let route = ended.route.unwrap_or(self.no_route);
        let index = route * Kind::NAMES.len() + ended.kind as usize;
        let with_end = index * End::NAMES.len() + ended.end as usize;
        books.count(Count::Transfers, with_end, 1);
        books.count(Count::Octets, index, ended.octets);
        if let Some(fallback) = ended.fallback {
            books.count(Count::Fallbacks, fallback, 1);
        }
        let [sent, received] = &self.moved;
        let moved = match ended.kind {
            Kind::Upload => received,
            Kind::Download | Kind::Listing => sent,
        };
        moved.set(moved.get().saturating_add(ended.octets));
        if ended.end != End::Complete {
            return;
        }
        if let Some(series) = books.series_mut(Measure::Transfer, index) {
            series.time(ended.time);
        }
        if let Some(flow) = ended.flow
            && ended.octets >= limits::METRICS_RATE_OCTETS_MIN
            && let Some(series) = books.series_mut(Measure::Rate, index)
        {
            series.rate(rate(ended.octets, flow));
        }
    }

    /// The core did something so much later than it was due. What else would have been due meanwhile,
    /// at `interval`, was late too.
    pub fn loop_delay(&self, mut late: Duration, interval: Duration) {
        late = late.min(limits::METRICS_TIME_MAX);
        loop {
            self.time(Measure::LoopDelay, 0, late);
            match late.checked_sub(interval) {
                Some(rest) if !interval.is_zero() && !rest.is_zero() => late = rest,
                _ => return,
            }
        }
    }

    /// A user is logged in until the answer is dropped.
    #[must_use]
    pub fn session(self: &Rc<Self>) -> Counted {
        self.sessions.set(self.sessions.get() + 1);
        Counted {
            recorder: Rc::clone(self),
            kind: None,
        }
    }

    /// A transfer runs until the answer is dropped.
    #[must_use]
    pub fn running(self: &Rc<Self>, kind: Kind) -> Counted {
        if let Some(gauge) = self.transfers.get(kind as usize) {
            gauge.set(gauge.get() + 1);
        }
        Counted {
            recorder: Rc::clone(self),
            kind: Some(kind),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let gauge = match self.kind {
            Some(kind) => self.recorder.transfers.get(kind as usize),
            None => Some(&self.recorder.sessions),
        };
        if let Some(gauge) = gauge {
            gauge.set(gauge.get().saturating_sub(1));
        }
    }
}

/// Octets a second.
fn rate(octets: u64, time: Duration) -> u64 {
    let nanoseconds = time.as_nanos().max(1);
    let rate = u128::from(octets) * 1_000_000_000 / nanoseconds;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Names;

    fn recorder() -> (Rc<Recorder>, Arc<Catalogue>) {
        let names = Names {
            routes: vec!["a", "b"],
            fallbacks: vec!["x", "y"],
        };
        let catalogue = Arc::new(Catalogue::new(&names));
        (Recorder::new(&catalogue), catalogue)
    }

    fn ended(end: End) -> Ended {
        Ended {
            route: Some(1),
            fallback: Some(1),
            kind: Kind::Upload,
            end,
            octets: 2 * limits::METRICS_RATE_OCTETS_MIN,
            time: Duration::from_secs(3),
            flow: Some(Duration::from_secs(2)),
        }
    }

    #[test]
    fn transfers_are_counted_where_they_went() {
        let (recorder, catalogue) = recorder();
        recorder.transfer(&ended(End::Complete));
        recorder.transfer(&ended(End::Aborted));
        let nowhere = Ended {
            route: None,
            fallback: None,
            octets: 0,
            ..ended(End::NotConnected)
        };
        recorder.transfer(&nowhere);
        let books = recorder.exchange(Books::new(&catalogue), 0);
        let (_, family) = catalogue.counts().nth(Count::Transfers as usize).unwrap();
        let counted = books.counts(Count::Transfers).iter().enumerate();
        let counted: Vec<_> = counted
            .filter(|(_, number)| **number > 0)
            .map(|(index, number)| (family.labels(index), *number))
            .collect();
        let labels = |route, end| vec![("route", route), ("kind", "upload"), ("end", end)];
        let expected = [
            (labels("b", "complete"), 1),
            (labels("b", "aborted"), 1),
            (labels("none", "not_connected"), 1),
        ];
        assert_eq!(counted, expected);
        assert_eq!(recorder.moved(), [0, 4 * limits::METRICS_RATE_OCTETS_MIN]);
        let octets: u64 = books.counts(Count::Octets).iter().sum();
        assert_eq!(octets, 4 * limits::METRICS_RATE_OCTETS_MIN);
        assert_eq!(books.counts(Count::Fallbacks), [0, 2]);
        let values = |measure| {
            let all = books.series(measure).iter();
            let mut recorded =
                all.filter_map(|series| Some((series.histogram()?.len(), series.sum())));
            (recorded.next(), recorded.next())
        };
        assert_eq!(values(Measure::Transfer), (Some((1, 3_000_000_000)), None));
        let rate = limits::METRICS_RATE_OCTETS_MIN;
        assert_eq!(values(Measure::Rate), (Some((1, rate)), None));
    }

    #[test]
    fn short_transfers_have_no_rate() {
        let (recorder, catalogue) = recorder();
        let short = Ended {
            octets: limits::METRICS_RATE_OCTETS_MIN - 1,
            ..ended(End::Complete)
        };
        recorder.transfer(&short);
        let books = recorder.exchange(Books::new(&catalogue), 0);
        let rates = books.series(Measure::Rate).iter();
        assert_eq!(rates.filter_map(|one| one.histogram()).count(), 0);
    }

    #[test]
    fn an_exchange_begins_anew_and_gauges_go_on() {
        let (recorder, catalogue) = recorder();
        let session = recorder.session();
        let transfer = recorder.running(Kind::Listing);
        recorder.login(Verdict::Granted, Duration::from_millis(1));
        recorder.replies([0, 1, 2, 0, 3]);
        let mut books = recorder.exchange(Books::new(&catalogue), 5);
        let gauges = Gauges {
            connections: 5,
            sessions: 1,
            transfers: [0, 0, 1],
        };
        assert_eq!(books.gauges, gauges);
        assert_eq!(books.counts(Count::Logins), [1, 0, 0]);
        assert_eq!(books.counts(Count::Replies), [0, 1, 2, 0, 3]);
        drop((session, transfer));
        books.reset();
        let books = recorder.exchange(books, 0);
        assert_eq!(books.gauges, Gauges::default());
        assert_eq!(books.counts(Count::Logins), [0, 0, 0]);
    }

    #[test]
    fn a_long_delay_counts_for_all_that_would_have_been_due() {
        let (recorder, catalogue) = recorder();
        let interval = Duration::from_millis(100);
        recorder.loop_delay(Duration::from_millis(250), interval);
        recorder.loop_delay(Duration::ZERO, interval);
        let books = recorder.exchange(Books::new(&catalogue), 0);
        let delay = &books.series(Measure::LoopDelay)[0];
        assert_eq!(delay.histogram().unwrap().len(), 4);
        assert_eq!(delay.sum(), (250 + 150 + 50) * 1_000_000);
    }
}
