//! How many transfers went which way, whole process.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::info;

use super::Outcome;
use super::route::{Fallback, Route};
use crate::proto::TransferEnd;

/// Transfers of one route.
#[derive(Debug, Default)]
struct Line {
    complete: AtomicU64,
    broken: AtomicU64,
    octets: AtomicU64,
}

/// Counters by route and by reason. Touched once a transfer, by every core.
#[derive(Debug, Default)]
pub struct Tally {
    routes: [Line; Route::ALL.len()],
    fallbacks: [AtomicU64; Fallback::ALL.len()],
}

impl Tally {
    /// Counts a transfer that has ended. One that never got to moving octets has no route.
    pub(super) fn count(&self, outcome: &Outcome) {
        let Some(choice) = outcome.choice else {
            return;
        };
        if let Some(line) = self.routes.get(choice.route as usize) {
            let ended = match outcome.end {
                TransferEnd::Complete => &line.complete,
                _ => &line.broken,
            };
            ended.fetch_add(1, Ordering::Relaxed);
            line.octets.fetch_add(outcome.octets, Ordering::Relaxed);
        }
        let reason = choice
            .fallback
            .and_then(|reason| self.fallbacks.get(reason as usize));
        if let Some(count) = reason {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes to the log every route that was taken, and every reason why the kernel did not protect
    /// a transfer.
    pub fn log(&self) {
        for (route, line) in Route::ALL.into_iter().zip(&self.routes) {
            let [complete, broken, octets] = [&line.complete, &line.broken, &line.octets]
                .map(|count| count.load(Ordering::Relaxed));
            if complete + broken > 0 {
                info!(route = route.name(), complete, broken, octets, "transfers");
            }
        }
        for (reason, count) in Fallback::ALL.into_iter().zip(&self.fallbacks) {
            let transfers = count.load(Ordering::Relaxed);
            if transfers > 0 {
                info!(reason = reason.name(), transfers, "kernel TLS not used");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::Choice;
    use super::*;

    #[test]
    fn numbers_of_routes_and_reasons_are_their_places() {
        for (place, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, place, "{}", route.name());
        }
        for (place, reason) in Fallback::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.name());
        }
    }

    #[test]
    fn transfers_are_counted_where_they_went() {
        let tally = Tally::default();
        let mut outcome = Outcome::new(TransferEnd::Complete);
        tally.count(&outcome);
        outcome.choice = Some(Choice {
            route: Route::UserTls,
            fallback: Some(Fallback::Short),
        });
        outcome.octets = 7;
        tally.count(&outcome);
        outcome.end = TransferEnd::Aborted;
        tally.count(&outcome);
        let line = &tally.routes[Route::UserTls as usize];
        assert_eq!(line.complete.load(Ordering::Relaxed), 1);
        assert_eq!(line.broken.load(Ordering::Relaxed), 1);
        assert_eq!(line.octets.load(Ordering::Relaxed), 14);
        let short = &tally.fallbacks[Fallback::Short as usize];
        assert_eq!(short.load(Ordering::Relaxed), 2);
    }
}
