//! A simulation of whole control connections: the pure protocol on both sides, a world made up in
//! between, a virtual clock. Every draw comes from one seed, so that a failing run can be repeated:
//!
//! ```text
//! RINGFTPD_SEED=1234 cargo test --test sim      one run, everything that happens is printed
//! RINGFTPD_SIM_RUNS=1000000 cargo test --test sim    more runs
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

mod dialogue;
mod line;
mod model;
mod stranger;
mod tree;
mod world;

use std::str::FromStr;
use std::thread;

use world::World;

const SEED: &str = "RINGFTPD_SEED";
const RUNS: &str = "RINGFTPD_SIM_RUNS";
const RUNS_DEFAULT: u64 = 20_000;
/// Faultless dialogues are longer than the sessions of strangers.
const RUNS_PER_DIALOGUE: u64 = 10;

/// Says which run failed.
struct Run {
    name: &'static str,
    seed: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { name, seed } = self;
            eprintln!(
                "seed {seed} failed; repeat it with {SEED}={seed} cargo test --test sim {name}"
            );
        }
    }
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name} is not a number: {text}");
    number
}

/// Runs one seed, or the budget; returns the number of runs.
fn repeat(name: &'static str, share: u64, mut run: impl FnMut(u64, bool)) -> u64 {
    if let Some(seed) = number(SEED) {
        let _run = Run { name, seed };
        run(seed, true);
        return 1;
    }
    let runs = number(RUNS).unwrap_or(RUNS_DEFAULT).div_ceil(share);
    for seed in 0..runs {
        let _run = Run { name, seed };
        run(seed, false);
    }
    runs
}

/// Clients that send anything at any time, in a world where everything fails now and then.
#[test]
fn strangers() {
    let mut total = world::Counts::default();
    let runs = repeat("strangers", 1, |seed, shown| {
        total += World::with_stranger(seed, shown).run();
    });
    if runs >= RUNS_DEFAULT {
        // The draws must go on reaching what the rules are about.
        assert!(total.transfers > runs / 2, "{total:?}");
        assert!(total.aborts > runs / 50, "{total:?}");
        assert!(total.progress > runs / 50, "{total:?}");
        assert!(total.handshakes > runs / 2, "{total:?}");
        assert!(total.tls_ends > runs / 50, "{total:?}");
        assert!(total.departures > runs / 10, "{total:?}");
    }
}

/// In a world without faults a dialogue logs in, and every request does what it says.
#[test]
fn dialogues() {
    repeat("dialogues", RUNS_PER_DIALOGUE, dialogue::run);
}

/// The same seed is the same run.
#[test]
fn runs_repeat() {
    for seed in 0..20 {
        let first = World::with_stranger(seed, false).run();
        assert_eq!(first, World::with_stranger(seed, false).run());
    }
}
