//! Looking for the next event instead of sleeping, where it comes at once.
//!
//! To put a core to sleep and to wake it again takes longer than many a client takes for its next command, above all in a
//! virtual machine. So a core stays awake for a moment where three things come together: a client has answered promptly of
//! late (those that are far away never do), its events have come soon after it went to sleep, again and again, and it has
//! time to spare.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{blocking_work, now, spawn, yield_to_ring};
use crate::limits::{PROMPT_ANSWER_MAX, PROMPT_CLIENT_MAX};
use crate::sys::ring;

/// Sleeps in a row that must have been shorter than a look before one is worth it.
const SHORT_SLEEPS_MIN: u32 = 4;
/// The same at most, after looks that were in vain: where the client is on this very core, for instance, and would
/// answer if we slept.
const SHORT_SLEEPS_MAX: u32 = 1024;
/// How often it is judged whether the core has time to spare.
const WINDOW: Duration = Duration::from_millis(10);
/// The part of its time that a core must have to spare: one of so many.
const SPARE_PART: u32 = 6;

thread_local! {
    static PROMPT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A client needed so long for its next command after a reply.
pub fn note_answer(time: Duration, now: Instant) {
    if time <= PROMPT_ANSWER_MAX {
        PROMPT.set(Some(now));
    }
}

fn has_prompt_client(now: Instant) -> bool {
    PROMPT
        .get()
        .is_some_and(|then| now.saturating_duration_since(then) <= PROMPT_CLIENT_MAX)
}

/// Whether to look, learnt from what came of sleeping and looking. Pure.
#[derive(Debug)]
struct Eagerness {
    /// How long a look may take.
    look: Duration,
    /// Short sleeps in a row.
    short_sleeps: u32,
    /// How many it takes.
    wanted: u32,
    /// When the current window began.
    began: Instant,
    /// Time without work in it.
    spare: Duration,
    /// There was enough of it in the last one.
    has_time: bool,
}

impl Eagerness {
    fn new(look: Duration, now: Instant) -> Self {
        Self {
            look,
            short_sleeps: 0,
            wanted: SHORT_SLEEPS_MIN,
            began: now,
            spare: Duration::ZERO,
            has_time: true,
        }
    }

    fn looks(&self) -> bool {
        self.has_time && self.short_sleeps >= self.wanted
    }

    /// An event ended a sleep.
    fn slept(&mut self, time: Duration, now: Instant) {
        self.short_sleeps = match time <= self.look {
            true => self.short_sleeps.saturating_add(1),
            false => 0,
        };
        self.spared(time, now);
    }

    /// We looked, and an event came or not.
    fn looked(&mut self, time: Duration, found: bool, now: Instant) {
        if found {
            self.wanted = (self.wanted / 2).max(SHORT_SLEEPS_MIN);
        } else {
            self.short_sleeps = 0;
            self.wanted = (self.wanted * 2).min(SHORT_SLEEPS_MAX);
        }
        self.spared(time, now);
    }

    fn spared(&mut self, time: Duration, now: Instant) {
        self.spare += time;
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed >= WINDOW {
            self.has_time = self.spare * SPARE_PART >= elapsed;
            self.spare = Duration::ZERO;
            self.began = now;
        }
    }
}

/// Looks for events on this core's ring for at most so long before it sleeps, where that pays.
pub fn busy_poll(look: Duration) {
    if look > Duration::ZERO {
        spawn(watch(Eagerness::new(look, now())));
    }
}

async fn watch(mut eagerness: Eagerness) {
    loop {
        let seen = ring::completions();
        let began = now();
        if eagerness.looks() && blocking_work() == 0 && has_prompt_client(began) {
            let (found, ended) = look(seen, began + eagerness.look).await;
            eagerness.looked(ended - began, found, ended);
        } else {
            ring::completion_after(seen).await;
            let ended = now();
            eagerness.slept(ended - began, ended);
        }
    }
}

/// Tells whether something has completed before `end`, and the time.
async fn look(seen: u64, end: Instant) -> (bool, Instant) {
    loop {
        yield_to_ring().await;
        let now = now();
        let found = ring::completions() != seen;
        if found || now >= end {
            return (found, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_micros(100);
    const SHORT: Duration = Duration::from_micros(20);
    const LONG: Duration = Duration::from_millis(2);

    /// A core, and its time.
    struct Core(Eagerness, Instant);

    impl Core {
        fn new() -> Self {
            let now = now();
            Self(Eagerness::new(LOOK, now), now)
        }

        fn eager() -> Self {
            let mut core = Self::new();
            for _ in 0..SHORT_SLEEPS_MIN {
                assert!(!core.0.looks());
                core.sleep(SHORT);
            }
            assert!(core.0.looks());
            core
        }

        fn sleep(&mut self, time: Duration) {
            self.1 += time;
            self.0.slept(time, self.1);
        }

        fn look(&mut self, found: bool) {
            let time = if found { SHORT } else { LOOK };
            self.1 += time;
            self.0.looked(time, found, self.1);
        }

        fn work(&mut self, time: Duration) {
            self.1 += time;
        }
    }

    #[test]
    fn events_that_take_their_time_are_never_looked_for() {
        let mut core = Core::new();
        for turn in 0..1000 {
            core.sleep(if turn % SHORT_SLEEPS_MIN == 0 {
                LONG
            } else {
                SHORT
            });
            assert!(!core.0.looks());
        }
    }

    #[test]
    fn it_goes_on_while_events_come_and_stops_when_one_does_not() {
        let mut core = Core::eager();
        for _ in 0..1000 {
            core.look(true);
            assert!(core.0.looks());
        }
        core.look(false);
        assert!(!core.0.looks());
    }

    #[test]
    fn in_vain_more_and_more_seldom_until_something_is_found() {
        let mut core = Core::eager();
        let mut looks = 0;
        for _ in 0..100_000 {
            if core.0.looks() {
                looks += 1;
                core.look(false);
            }
            core.sleep(SHORT);
        }
        assert!((90..110).contains(&looks), "{looks}");
        while !core.0.looks() {
            core.sleep(SHORT);
        }
        for _ in 0..8 {
            core.look(true);
        }
        core.look(false);
        for _ in 0..2 * SHORT_SLEEPS_MIN {
            assert!(!core.0.looks());
            core.sleep(SHORT);
        }
        assert!(core.0.looks());
    }

    #[test]
    fn a_busy_core_does_not_look() {
        let mut core = Core::eager();
        for _ in 0..200 {
            core.look(true);
            core.work(SHORT * 9);
        }
        assert!(!core.0.looks());
        for _ in 0..1000 {
            core.sleep(SHORT);
        }
        assert!(core.0.looks());
    }

    #[test]
    fn only_prompt_clients_are_looked_for() {
        let start = now();
        note_answer(PROMPT_ANSWER_MAX * 2, start);
        assert!(!has_prompt_client(start));
        note_answer(PROMPT_ANSWER_MAX, start);
        assert!(has_prompt_client(start));
        assert!(!has_prompt_client(start + PROMPT_CLIENT_MAX * 2));
    }

    #[test]
    fn a_ring_does_its_work_while_it_looks() {
        let rounds = crate::rt::run(16, async {
            busy_poll(Duration::from_millis(1));
            let mut rounds = 0;
            for _ in 0..50 {
                note_answer(Duration::ZERO, now());
                crate::rt::pause(Duration::from_micros(100)).await;
                rounds += 1;
            }
            rounds
        });
        assert_eq!(rounds.unwrap(), 50);
    }
}
