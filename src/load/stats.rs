//! What a run counts: latencies in HDR histograms, operations, octets, failures.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::trouble::Trouble;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// TCP connect of a control connection.
    Connect,
    /// TLS handshakes, by connection and kind.
    ControlFull,
    /// A resumed one of a control connection.
    ControlResumed,
    /// A full one of a data connection.
    DataFull,
    /// A resumed one of a data connection.
    DataResumed,
    /// From connecting to being logged in.
    Login,
    /// From EPSV to the data connection's TCP connect.
    DataSetup,
    /// From the transfer command to the first octet.
    FirstByte,
    /// From the transfer command to the final reply.
    Transfer,
    /// The whole operation. With a rate it counts from the intended time.
    Operation,
}

impl Phase {
    /// All of them, in the order of a session.
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::ControlFull,
        Self::ControlResumed,
        Self::Login,
        Self::DataSetup,
        Self::DataFull,
        Self::DataResumed,
        Self::FirstByte,
        Self::Transfer,
        Self::Operation,
    ];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ControlFull => "control_handshake_full",
            Self::ControlResumed => "control_handshake_resumed",
            Self::DataFull => "data_handshake_full",
            Self::DataResumed => "data_handshake_resumed",
            Self::Login => "login",
            Self::DataSetup => "data_setup",
            Self::FirstByte => "first_byte",
            Self::Transfer => "transfer",
            Self::Operation => "operation",
        }
    }
}

/// A histogram in nanoseconds, three digits.
type Latencies = Histogram<u64>;

/// The counts of a core, or of all.
#[derive(Debug, Default)]
pub struct Stats {
    phases: [Option<Box<Latencies>>; Phase::ALL.len()],
    /// Operations that succeeded in the measured time.
    pub operations: u64,
    /// Octets of files and listings in the measured time.
    pub octets: u64,
    /// Failures by kind, at any time.
    pub failures: BTreeMap<Trouble, u64>,
    /// What servers said to the first failure of a kind.
    pub examples: BTreeMap<Trouble, String>,
    /// Operations and octets by second of the measured time.
    pub series: Vec<(u64, u64)>,
    /// The suite of data connections, else of control connections.
    pub suite: Option<String>,
}

impl Stats {
    /// Notes a time. One that is out of bounds (one nanosecond to one hour) counts as the bound.
    pub fn record(&mut self, phase: Phase, time: Duration) {
        let place = Phase::ALL.iter().position(|other| *other == phase);
        let Some(slot) = place.and_then(|place| self.phases.get_mut(place)) else {
            return;
        };
        if slot.is_none() {
            *slot = Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
                .ok()
                .map(Box::new);
        }
        if let Some(histogram) = slot {
            histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// The times of a phase, if there are any.
    #[must_use]
    pub fn latencies(&self, phase: Phase) -> Option<&Latencies> {
        let place = Phase::ALL.iter().position(|other| *other == phase)?;
        self.phases.get(place)?.as_deref()
    }

    /// Counts a failure.
    pub fn fail(&mut self, trouble: Trouble, example: impl FnOnce() -> String) {
        *self.failures.entry(trouble.clone()).or_default() += 1;
        self.examples.entry(trouble).or_insert_with(example);
    }

    /// Counts in a second of the measured time.
    pub fn count(&mut self, second: usize, operations: u64, octets: u64) {
        if self.series.len() <= second {
            self.series.resize(second + 1, (0, 0));
        }
        if let Some(entry) = self.series.get_mut(second) {
            entry.0 += operations;
            entry.1 += octets;
        }
        self.operations += operations;
        self.octets += octets;
    }

    /// Adds what another core has counted.
    pub fn add(&mut self, other: Self) {
        for (ours, theirs) in self.phases.iter_mut().zip(other.phases) {
            match (ours.as_mut(), theirs) {
                (Some(ours), Some(theirs)) => {
                    // The bounds are the same.
                    let _ = ours.add(&*theirs);
                }
                (None, theirs) => *ours = theirs,
                (Some(_), None) => {}
            }
        }
        self.operations += other.operations;
        self.octets += other.octets;
        for (trouble, count) in other.failures {
            *self.failures.entry(trouble).or_default() += count;
        }
        for (trouble, example) in other.examples {
            self.examples.entry(trouble).or_insert(example);
        }
        if self.series.len() < other.series.len() {
            self.series.resize(other.series.len(), (0, 0));
        }
        for (ours, theirs) in self.series.iter_mut().zip(other.series) {
            ours.0 += theirs.0;
            ours.1 += theirs.1;
        }
        self.suite = self.suite.take().or(other.suite);
    }
}
