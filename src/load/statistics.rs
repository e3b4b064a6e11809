//! What is measured: durations by phase, octets and operations by second, errors by kind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::failure::{Failure, Kind};

/// Significant decimal digits of a duration.
const DIGITS: u8 = 3;
/// Seconds of the series that are kept one by one: a day.
const SERIES_SECONDS_MAX: usize = 24 * 3600;

/// A part of an operation that is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// TCP connect of a control connection.
    Connect,
    /// Full TLS handshake of a control connection.
    HandshakeControlFull,
    /// Resumed TLS handshake of a control connection.
    HandshakeControlResumed,
    /// Full TLS handshake of a data connection.
    HandshakeDataFull,
    /// Resumed TLS handshake of a data connection.
    HandshakeDataResumed,
    /// From USER to the reply to PASS.
    Login,
    /// A whole `login` operation: from connect to the reply to QUIT.
    Session,
    /// A command without a data connection, to its reply.
    Command,
    /// From EPSV, PASV, EPRT or PORT to a data connection that is up.
    DataConnection,
    /// From the transfer command to the first octet of a file or listing.
    FirstByte,
    /// A whole transfer: from its first command, or from when it should have begun, to the final reply.
    Transfer,
}

impl Phase {
    /// Every phase, in the order in which they come.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::HandshakeControlFull,
        Self::HandshakeControlResumed,
        Self::HandshakeDataFull,
        Self::HandshakeDataResumed,
        Self::Login,
        Self::Session,
        Self::Command,
        Self::DataConnection,
        Self::FirstByte,
        Self::Transfer,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::HandshakeControlFull => "handshake_control_full",
            Self::HandshakeControlResumed => "handshake_control_resumed",
            Self::HandshakeDataFull => "handshake_data_full",
            Self::HandshakeDataResumed => "handshake_data_resumed",
            Self::Login => "login",
            Self::Session => "session",
            Self::Command => "command",
            Self::DataConnection => "data_connection",
            Self::FirstByte => "first_byte",
            Self::Transfer => "transfer",
        }
    }
}

/// Durations of one phase, in nanoseconds.
pub type Durations = Histogram<u64>;

/// What happened in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    /// Octets of files and listings.
    pub octets: u64,
    /// Operations that were finished.
    pub operations: u64,
}

/// Counters that the progress line reads while a core writes them.
#[derive(Debug, Default)]
pub struct Live {
    /// Octets of files and listings.
    pub octets: AtomicU64,
    /// Operations finished.
    pub operations: AtomicU64,
    /// Errors.
    pub errors: AtomicU64,
}

impl Live {
    /// Adds to a counter that only this thread writes.
    pub fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    /// How many.
    pub count: u64,
    /// What the first one said.
    pub first: String,
}

/// What one core has measured; those of several are added up.
#[derive(Debug, Clone)]
pub struct Statistics {
    phases: Vec<Option<Durations>>,
    /// Octets received and sent of files and listings, within the time of measuring.
    pub octets: u64,
    /// Operations finished within the time of measuring.
    pub operations: u64,
    /// By second of the time of measuring.
    pub series: Vec<Second>,
    /// By kind; those outside the time of measuring, too.
    pub errors: BTreeMap<Kind, Errors>,
    /// Protected data connections that ended without close_notify.
    pub unclosed: u64,
    /// Arrivals that were due and never begun.
    pub missed: u64,
    /// When the last operation was finished.
    pub last: Option<Instant>,
    began: Option<Instant>,
    until: Option<Instant>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            phases: vec![None; Phase::ALL.len()],
            octets: 0,
            operations: 0,
            series: Vec::new(),
            errors: BTreeMap::new(),
            unclosed: 0,
            missed: 0,
            last: None,
            began: None,
            until: None,
        }
    }
}

impl Statistics {
    /// The time of measuring; what ends outside it counts only where that is said.
    pub fn measure(&mut self, from: Instant, until: Option<Instant>) {
        (self.began, self.until) = (Some(from), until);
    }

    /// Whether `now` is in the time of measuring.
    #[must_use]
    pub fn measures(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now >= began) && self.until.is_none_or(|until| now < until)
    }

    /// Notes a duration that ends now, if now is in the time of measuring.
    pub fn note(&mut self, phase: Phase, duration: Duration, now: Instant) {
        if self.measures(now) {
            self.note_always(phase, duration);
        }
    }

    /// Notes a duration, whenever it was: what opens a session is over before measuring begins.
    pub fn note_always(&mut self, phase: Phase, duration: Duration) {
        let Some(place) = self.phases.get_mut(phase as usize) else {
            return;
        };
        let durations = match place {
            Some(durations) => durations,
            None => match Histogram::new(DIGITS) {
                Ok(durations) => place.insert(durations),
                // The number of digits is one that it takes.
                Err(_) => return,
            },
        };
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // It grows as needed; what does not fit into 64 bits does not come.
        let _ = durations.record(nanoseconds.max(1));
    }

    /// Counts octets that came or went now.
    pub fn count_octets(&mut self, octets: u64, now: Instant) {
        if let Some(second) = self.second(now) {
            second.octets += octets;
            self.octets += octets;
        }
    }

    /// Counts an operation that was finished now.
    pub fn count_operation(&mut self, now: Instant) {
        if let Some(second) = self.second(now) {
            second.operations += 1;
            self.operations += 1;
            self.last = Some(now);
        }
    }

    /// Counts an error.
    pub fn count_error(&mut self, failure: &Failure) {
        let errors = self.errors.entry(failure.kind).or_insert_with(|| Errors {
            count: 0,
            first: failure.what.clone(),
        });
        errors.count += 1;
    }

    fn second(&mut self, now: Instant) -> Option<&mut Second> {
        if !self.measures(now) {
            return None;
        }
        let second = now.saturating_duration_since(self.began?).as_secs();
        let place = usize::try_from(second).ok()?.min(SERIES_SECONDS_MAX);
        if place >= self.series.len() {
            self.series.resize(place + 1, Second::default());
        }
        self.series.get_mut(place)
    }

    /// The durations of a phase, if there are any.
    #[must_use]
    pub fn durations(&self, phase: Phase) -> Option<&Durations> {
        self.phases.get(phase as usize)?.as_ref()
    }

    /// Adds what another core has measured in the same time.
    pub fn add(&mut self, other: Self) {
        for (mine, theirs) in self.phases.iter_mut().zip(other.phases) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    // The same digits, and sizes grow by themselves.
                    let _ = mine.add(theirs);
                }
                (mine @ None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
        self.octets += other.octets;
        self.operations += other.operations;
        self.unclosed += other.unclosed;
        self.missed += other.missed;
        self.last = self.last.max(other.last);
        if self.series.len() < other.series.len() {
            self.series.resize(other.series.len(), Second::default());
        }
        for (mine, theirs) in self.series.iter_mut().zip(other.series) {
            mine.octets += theirs.octets;
            mine.operations += theirs.operations;
        }
        for (kind, theirs) in other.errors {
            match self.errors.get_mut(&kind) {
                Some(mine) => mine.count += theirs.count,
                None => {
                    self.errors.insert(kind, theirs);
                }
            }
        }
    }

    /// All errors together.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: Instant, milliseconds: u64) -> Instant {
        base + Duration::from_millis(milliseconds)
    }

    #[test]
    fn only_what_ends_within_the_time_of_measuring_counts() {
        let base = crate::rt::now();
        let mut statistics = Statistics::default();
        statistics.count_operation(base);
        statistics.measure(at(base, 1000), Some(at(base, 3500)));
        for time in [999, 1000, 1999, 2000, 3499, 3500] {
            statistics.count_operation(at(base, time));
            statistics.count_octets(10, at(base, time));
            statistics.note(Phase::Transfer, Duration::from_micros(time), at(base, time));
        }
        assert_eq!(statistics.operations, 4);
        assert_eq!(statistics.octets, 40);
        let operations: Vec<u64> = statistics.series.iter().map(|s| s.operations).collect();
        assert_eq!(operations, [2, 1, 1]);
        let durations = statistics.durations(Phase::Transfer).unwrap();
        assert_eq!(durations.len(), 4);
        assert_eq!(durations.min() / 10_000, 100, "999 is not in");
    }

    #[test]
    fn cores_are_added_up() {
        let base = crate::rt::now();
        let mut all = Statistics::default();
        for core in 0_u64..3 {
            let mut one = Statistics::default();
            one.measure(base, None);
            one.note(Phase::Connect, Duration::from_micros(10 * (core + 1)), base);
            one.count_octets(core, at(base, 1000 * core));
            one.count_operation(at(base, 1000 * core));
            one.count_error(&Failure::harmless(Kind::Reply(550), format!("core {core}")));
            one.count_error(&Failure::harmless(Kind::Timeout, "late"));
            all.add(one);
        }
        let durations = all.durations(Phase::Connect).unwrap();
        assert_eq!((durations.len(), durations.max() / 1000), (3, 30));
        assert_eq!((all.octets, all.operations), (3, 3));
        assert_eq!(all.series.len(), 3);
        assert_eq!(all.error_count(), 6);
        let missing = &all.errors[&Kind::Reply(550)];
        assert_eq!((missing.count, missing.first.as_str()), (3, "core 0"));
        assert!(all.durations(Phase::Login).is_none());
    }
}
