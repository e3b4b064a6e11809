//! What is said while the run is under way: one line that changes, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::Shared;
use super::settings::{Extent, Settings, Workload};
use super::table::grouped;
use crate::rt;

/// How often the line changes.
const INTERVAL: Duration = Duration::from_millis(250);

/// The line.
#[derive(Debug)]
pub struct Progress {
    /// Standard error is a terminal, and something is wanted there.
    live: bool,
    quiet: bool,
    idle: bool,
    extent: Duration,
    count: Option<u64>,
    sessions: usize,
    shown: Instant,
    octets: u64,
    operations: u64,
}

impl Progress {
    /// The line of a run that began then.
    #[must_use]
    pub fn new(settings: &Settings, begun: Instant) -> Self {
        Self {
            live: !settings.quiet && io::stderr().is_terminal(),
            quiet: settings.quiet,
            idle: settings.workload == Workload::Idle,
            extent: match settings.extent {
                Extent::Time(time) => settings.warm_up + time,
                Extent::Operations(_) => Duration::ZERO,
            },
            count: match settings.extent {
                Extent::Time(_) => None,
                Extent::Operations(count) => Some(count),
            },
            sessions: settings.sessions,
            shown: begun,
            octets: 0,
            operations: 0,
        }
    }

    /// Time since the line was changed, if that is long enough.
    fn due(&mut self) -> Option<(Instant, f64)> {
        let now = rt::now();
        let since = now.saturating_duration_since(self.shown);
        if !self.live || since < INTERVAL {
            return None;
        }
        self.shown = now;
        Some((now, since.as_secs_f64()))
    }

    fn show(&self, line: &str) {
        // Back to the first column, the line, and nothing behind it. A terminal that is gone needs none.
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }

    /// Sessions are being opened.
    pub fn opening(&mut self, shared: &Shared) {
        if self.due().is_some() {
            let opened = shared.opened.load(Ordering::Relaxed);
            self.show(&format!("opening sessions: {opened} of {}", self.sessions));
        }
    }

    /// All sessions are open, or have failed to.
    pub fn opened(&mut self, shared: &Shared, time: Duration) {
        if self.idle && !self.quiet {
            self.end();
            let errors = sum(shared, |live| &live.errors);
            let open = (self.sessions as u64).saturating_sub(errors);
            let seconds = time.as_secs_f64();
            let _ = writeln!(
                io::stderr(),
                "{} sessions open after {seconds:.3} s",
                grouped(open)
            );
        }
    }

    /// Operations run.
    #[expect(clippy::cast_precision_loss, reason = "for the eye")]
    pub fn running(&mut self, shared: &Shared, began: Instant) {
        let Some((now, seconds)) = self.due() else {
            return;
        };
        let octets = sum(shared, |live| &live.octets);
        let operations = sum(shared, |live| &live.operations);
        let errors = sum(shared, |live| &live.errors);
        let megabytes = (octets - self.octets) as f64 / 1e6 / seconds;
        let rate = (operations - self.operations) as f64 / seconds;
        (self.octets, self.operations) = (octets, operations);
        let passed = now.saturating_duration_since(began).as_secs_f64();
        let extent = match self.count {
            Some(count) => format!("{} of {}", grouped(operations), grouped(count)),
            None => format!("{passed:.0} of {:.0} s", self.extent.as_secs_f64()),
        };
        let trouble = match errors {
            0 => String::new(),
            errors => format!("  ERRORS {}", grouped(errors)),
        };
        self.show(&format!(
            "{extent}  {rate:.0} ops/s  {megabytes:.0} MB/s{trouble}"
        ));
    }

    /// The line goes away.
    pub fn end(&self) {
        if self.live {
            self.show("");
        }
    }
}

fn sum(
    shared: &Shared,
    counter: impl Fn(&super::statistics::Live) -> &std::sync::atomic::AtomicU64,
) -> u64 {
    let values = shared.live.iter().map(counter);
    values.map(|counter| counter.load(Ordering::Relaxed)).sum()
}
