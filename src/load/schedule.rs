//! When operations should begin in an open loop.

use std::time::{Duration, Instant};

/// Evenly spaced arrivals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    began: Instant,
    rate: f64,
    until: Option<Instant>,
}

impl Schedule {
    /// `rate` arrivals a second from `began` on, above 0; none at `until` or later.
    #[must_use]
    pub fn new(began: Instant, rate: f64, until: Option<Instant>) -> Self {
        Self { began, rate, until }
    }

    /// When arrival `number` is due; `None` when that is after the end.
    #[must_use]
    pub fn arrival(&self, number: u64) -> Option<Instant> {
        // Each from its number, so that no error adds up. 2^53 arrivals are exact.
        #[expect(clippy::cast_precision_loss, reason = "runs have fewer arrivals")]
        let seconds = number as f64 / self.rate;
        let due = self.began + Duration::try_from_secs_f64(seconds).ok()?;
        self.until.is_none_or(|until| due < until).then_some(due)
    }

    /// Arrivals that are due before `then`.
    #[must_use]
    pub fn due(&self, then: Instant) -> u64 {
        let then = self.until.map_or(then, |until| until.min(then));
        let seconds = then.saturating_duration_since(self.began).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and what does not fit saturates"
        )]
        let due = (seconds * self.rate).ceil() as u64;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spaced_and_end() {
        let began = crate::rt::now();
        let until = began + Duration::from_secs(2);
        let schedule = Schedule::new(began, 250.0, Some(until));
        for number in [0, 1, 250, 499] {
            let expected = began + Duration::from_millis(4) * u32::try_from(number).unwrap();
            assert_eq!(schedule.arrival(number), Some(expected), "{number}");
        }
        assert_eq!(schedule.arrival(500), None, "due at the end");
        assert_eq!(schedule.due(until), 500);
        assert_eq!(schedule.due(until + Duration::from_secs(9)), 500);
        assert_eq!(schedule.due(began), 0);
        assert_eq!(schedule.due(began + Duration::from_millis(5)), 2);
    }

    #[test]
    fn no_error_adds_up() {
        let began = crate::rt::now();
        let schedule = Schedule::new(began, 3.0, None);
        let due = schedule.arrival(3_000_000_000).unwrap();
        assert_eq!(due - began, Duration::from_secs(1_000_000_000));
        let far = Schedule::new(began, 1e-9, None);
        assert_eq!(far.arrival(u64::MAX), None, "beyond the end of time");
    }
}
