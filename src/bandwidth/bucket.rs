//! One rate, and who may move how many octets when. Pure: the time is passed in.
//!
//! A bucket knows the moment up to which its rate is given away. Whoever wants to move octets moves that moment on
//! by the time that they take at the rate, and may begin at the moment that it was before. So all who want more
//! than there is get their pieces in turn; what one does not ask for is the others'; and an exchange of
//! one atomic is all that it takes, on however many cores.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// So much of the past may be made up for: a task that woke late does not lower the rate, and a transfer
/// that was idle does not save up more. Over ten seconds it is 1 % of what may move.
const MADE_UP: Duration = Duration::from_millis(100);
/// A piece is what the rate moves in this time, divided by those who share it: a compromise between smooth
/// transfers and wake-ups.
const PIECE: Duration = Duration::from_millis(50);
/// With many sharers no piece is smaller: each is a turn of a task, a system call, and a TLS record.
const PIECE_OCTETS_MIN: u64 = 4096;

/// A rate with its account. Without a rate (0) everything may move at once.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Octets a second; 0 for no limit.
    rate: AtomicU64,
    /// In nanoseconds of the caller's clock.
    given_until: AtomicU64,
    /// Transfers that run.
    sharers: AtomicUsize,
}

impl Bucket {
    pub(super) fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Changes the rate. What is given away already stays so: a piece for each sharer.
    pub(super) fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    pub(super) fn join(&self) {
        self.sharers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.sharers.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many octets to ask for at a time; none without a rate.
    pub(super) fn piece(&self) -> Option<u64> {
        let rate = self.rate();
        let all = octets_in(PIECE, rate).max(1);
        let sharers = self.sharers.load(Ordering::Relaxed).max(1) as u64;
        (rate > 0).then(|| (all / sharers).max(PIECE_OCTETS_MIN.min(all)))
    }

    /// Gives so many octets away; they may move from the returned moment on, which may have passed.
    pub(super) fn give(&self, octets: u64, now: u64) -> u64 {
        let rate = self.rate();
        if rate == 0 {
            return now;
        }
        let cost = nanoseconds_of(octets, rate);
        let earliest = now.saturating_sub(nanoseconds(MADE_UP));
        let from = |given_until: u64| given_until.max(earliest);
        let before =
            self.given_until
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given_until| {
                    Some(from(given_until).saturating_add(cost))
                });
        from(before.unwrap_or_else(|given_until| given_until))
    }

    /// Takes octets back that were given away and did not move.
    pub(super) fn take_back(&self, octets: u64) {
        let rate = self.rate();
        if rate == 0 || octets == 0 {
            return;
        }
        let cost = nanoseconds_of(octets, rate);
        let _ =
            self.given_until
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given_until| {
                    Some(given_until.saturating_sub(cost))
                });
    }
}

fn octets_in(time: Duration, rate: u64) -> u64 {
    let octets = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(octets).unwrap_or(u64::MAX)
}

/// Rounded up: the limit is kept.
fn nanoseconds_of(octets: u64, rate: u64) -> u64 {
    let time = (u128::from(octets) * 1_000_000_000).div_ceil(u128::from(rate));
    u64::try_from(time).unwrap_or(u64::MAX)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limited(rate: u64) -> Bucket {
        let bucket = Bucket::default();
        bucket.set_rate(rate);
        bucket
    }

    const MILLISECOND: u64 = 1_000_000;

    /// A transfer under a virtual clock.
    struct Mover {
        /// When it asks for its next piece.
        asks: u64,
        /// How long it takes over a piece, beyond waiting for its turn.
        takes: u64,
        moved: u64,
    }

    fn movers<const N: usize>(takes: [u64; N]) -> [Mover; N] {
        takes.map(|takes| Mover {
            asks: SECOND,
            takes,
            moved: 0,
        })
    }

    /// Lets transfers move octets for so long; who asks first is served first.
    fn run(bucket: &Bucket, movers: &mut [Mover], time: u64) {
        movers.iter().for_each(|_| bucket.join());
        loop {
            let mover = movers.iter_mut().min_by_key(|mover| mover.asks).unwrap();
            if mover.asks >= SECOND + time {
                break;
            }
            let piece = bucket.piece().unwrap();
            let begins = bucket.give(piece, mover.asks).max(mover.asks);
            mover.asks = begins + mover.takes;
            if begins < SECOND + time {
                mover.moved += piece;
            }
        }
        movers.iter().for_each(|_| bucket.leave());
    }

    fn assert_near(moved: u64, expected: u64, per_mille: u64) {
        let difference = moved.abs_diff(expected);
        assert!(
            difference * 1000 <= expected * per_mille,
            "{moved} instead of {expected}"
        );
    }

    #[test]
    fn one_transfer_gets_the_rate() {
        for rate in [1_000, 50_000, 1_000_000, 123_456_789, 12_500_000_000] {
            let bucket = limited(rate);
            let mut movers = movers([0]);
            run(&bucket, &mut movers, 10 * SECOND);
            assert_near(movers[0].moved, 10 * rate, 20);
        }
    }

    #[test]
    fn being_late_does_not_lower_the_rate() {
        let bucket = limited(1_000_000);
        // Each piece takes 50 ms; the task is 45 ms late each time.
        let mut movers = movers([45 * MILLISECOND]);
        run(&bucket, &mut movers, 10 * SECOND);
        assert_near(movers[0].moved, 10_000_000, 20);
    }

    #[test]
    fn idleness_is_not_saved_up() {
        let bucket = limited(1_000_000);
        let mut first = movers([0]);
        run(&bucket, &mut first, SECOND);
        // An hour later.
        let mut now = 3600 * SECOND;
        let mut moved = 0;
        while now < 3601 * SECOND {
            now = bucket.give(1000, now).max(now);
            moved += 1000;
        }
        assert!(moved <= 1_102_000, "{moved}");
    }

    #[test]
    fn those_who_want_more_than_there_is_get_equal_shares() {
        let bucket = limited(8_000_000);
        // What was not used before goes to whoever is first.
        bucket.give(800_000, SECOND);
        // They are not equally fast, but none is slower than its share.
        let mut movers = movers([0, 1000, MILLISECOND, 5 * MILLISECOND]);
        run(&bucket, &mut movers, 10 * SECOND);
        for mover in &movers {
            assert_near(mover.moved, 20_000_000, 30);
        }
    }

    #[test]
    fn what_one_does_not_take_is_the_others() {
        let bucket = limited(9_000_000);
        // A third of 50 ms of the rate each 500 ms: 300,000 octets a second.
        let mut movers = movers([500 * MILLISECOND, 0, 0]);
        run(&bucket, &mut movers, 10 * SECOND);
        let [slow, fast, other] = movers;
        assert!(slow.moved < 3_100_000, "{}", slow.moved);
        let all = slow.moved + fast.moved + other.moved;
        assert_near(all, 90_000_000, 20);
        assert_near(fast.moved, other.moved, 20);
    }

    #[test]
    fn many_sharers_have_pieces_of_a_useful_size() {
        let bucket = limited(1_000_000);
        (0..1000).for_each(|_| bucket.join());
        assert_eq!(bucket.piece(), Some(PIECE_OCTETS_MIN));
        let slow = limited(1000);
        assert_eq!(slow.piece(), Some(50));
        assert_eq!(limited(0).piece(), None);
    }

    #[test]
    fn what_did_not_move_is_given_back() {
        let bucket = limited(1000);
        let now = 10 * SECOND;
        let first = bucket.give(2000, now);
        assert!(first <= now);
        let second = bucket.give(1000, now);
        assert_eq!(second, first + 2 * SECOND);
        bucket.take_back(1000);
        bucket.take_back(2000);
        assert_eq!(bucket.give(1, now), first);
    }

    #[test]
    fn a_new_rate_holds_from_the_next_piece_on() {
        let bucket = limited(1000);
        let now = SECOND;
        let first = bucket.give(1000, now);
        bucket.set_rate(10_000);
        assert_eq!(bucket.give(1000, now), first + SECOND);
        assert_eq!(bucket.give(1000, now), first + SECOND + SECOND / 10);
        bucket.set_rate(0);
        assert_eq!(bucket.give(u64::MAX, now), now);
    }

    #[test]
    fn nothing_overflows() {
        let bucket = limited(1);
        bucket.give(u64::MAX, u64::MAX);
        bucket.give(u64::MAX, 0);
        bucket.take_back(u64::MAX);
        bucket.set_rate(u64::MAX);
        assert!(bucket.piece().unwrap() > 1 << 58);
    }

    #[test]
    fn cores_together_keep_the_rate() {
        let bucket = limited(1_000_000);
        let given: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut octets = 0;
                        while bucket.give(100, SECOND) < 2 * SECOND {
                            octets += 100;
                        }
                        octets
                    })
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(given, 1_100_000);
    }
}
