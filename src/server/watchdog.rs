//! Whether every core's event loop still turns.
//!
//! Each core counts its pulses, with the timer that also measures its delay. The main thread compares: a core that has
//! not counted since the last look does not answer. The supervisor hears that the server works only when all of them do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::limits;

/// A core's count, written by the core and read by the main thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The core is here.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the core has ever been here.
    pub(super) fn has_begun(&self) -> bool {
        self.count() > 0
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often to look for a supervisor that wants to hear something in `interval`: four times, so that it hears of a
/// core that was late once. A core counts [`limits::LOOP_DELAY_INTERVAL`] apart, so more often says nothing.
pub(super) fn look_interval(interval: Duration) -> Duration {
    (interval / 4).max(2 * limits::LOOP_DELAY_INTERVAL)
}

/// What the main thread saw last.
#[derive(Debug)]
pub(super) struct Watchdog {
    seen: Vec<u64>,
}

impl Watchdog {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            seen: vec![0; cores],
        }
    }

    /// Looks at the cores, each with its count, or `None` when it has ended as it should. Returns the places of those that
    /// do not answer.
    pub(super) fn look(&mut self, counts: impl IntoIterator<Item = Option<u64>>) -> Vec<usize> {
        let mut hung = Vec::new();
        for (place, (seen, count)) in self.seen.iter_mut().zip(counts).enumerate() {
            match count {
                Some(count) if count == *seen => hung.push(place),
                Some(count) => *seen = count,
                None => {}
            }
        }
        hung
    }

    /// As [`Self::look`] at these pulses; `ended` tells which cores have ended.
    pub(super) fn look_at(
        &mut self,
        pulses: &[Pulse],
        ended: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let counts = pulses.iter().enumerate();
        self.look(counts.map(|(place, pulse)| (!ended(place)).then(|| pulse.count())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_count_is_noticed_until_it_does_again() {
        let mut watchdog = Watchdog::new(3);
        assert_eq!(
            watchdog.look([Some(1), Some(7), Some(2)]),
            Vec::<usize>::new()
        );
        // One has come a long way, one by a single step, one not at all.
        assert_eq!(watchdog.look([Some(2), Some(7), Some(90)]), [1]);
        assert_eq!(watchdog.look([Some(2), Some(7), Some(91)]), [0, 1]);
        assert_eq!(
            watchdog.look([Some(3), Some(8), Some(92)]),
            Vec::<usize>::new()
        );
        // One that has ended is not missed.
        assert_eq!(
            watchdog.look([Some(4), None, Some(93)]),
            Vec::<usize>::new()
        );
        // One that never began is.
        assert_eq!(Watchdog::new(1).look([Some(0)]), [0]);
    }

    #[test]
    fn a_blocked_thread_does_not_answer() {
        let pulse = Pulse::default();
        let mut watchdog = Watchdog::new(1);
        let look = |watchdog: &mut Watchdog, pulse: &Pulse| {
            watchdog.look_at(std::slice::from_ref(pulse), |_| false)
        };
        assert!(!pulse.has_begun());
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (told, heard) = std::sync::mpsc::channel();
        let core = pulse.clone();
        let thread = std::thread::spawn(move || {
            core.beat();
            told.send(()).unwrap();
            wait.recv().unwrap();
            core.beat();
        });
        heard.recv().unwrap();
        assert!(look(&mut watchdog, &pulse).is_empty());
        assert_eq!(look(&mut watchdog, &pulse), [0]);
        go_on.send(()).unwrap();
        thread.join().unwrap();
        assert!(look(&mut watchdog, &pulse).is_empty());
        assert!(pulse.has_begun());
        let ended = watchdog.look_at(std::slice::from_ref(&pulse), |_| true);
        assert!(ended.is_empty());
    }

    #[test]
    fn looks_are_not_closer_than_pulses() {
        assert_eq!(
            look_interval(Duration::from_secs(20)),
            Duration::from_secs(5)
        );
        assert!(look_interval(Duration::from_millis(1)) > limits::LOOP_DELAY_INTERVAL);
    }
}
