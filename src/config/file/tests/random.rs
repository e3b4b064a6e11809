//! Damaged and random texts.

use std::path::Path;

use super::super::example::example;
use super::super::parse::parse;
use super::super::sections::SECTIONS;
use super::super::sources::Sources;
use super::super::table::Table;
use super::{SAMPLES, directory};

/// Words that mean something to TOML or to the table, for damage.
const WORDS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "=",
    "\"",
    "'''",
    "\n",
    "\r\n",
    "#",
    ".",
    "{",
    "}",
    ",",
    "\u{feff}",
    "é",
    "\0",
    "\\u00",
    "-",
    "1e999",
    "0x",
    "9223372036854775808",
    "[timers]\n",
    "[listening]\n",
    "explicit = ",
    "'off'",
    "1979-05-27",
    "nan",
    "true",
    "--",
];

/// Cuts, changes, takes out or puts in.
fn damage(octets: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let at = random.usize(..=octets.len());
    match random.u8(..4) {
        0 => octets.truncate(at),
        1 if at < octets.len() => octets[at] = random.u8(..),
        2 => drop(octets.drain(at..(at + random.usize(..40)).min(octets.len()))),
        _ => drop(octets.splice(at..at, random.choice(WORDS).unwrap().bytes())),
    }
}

/// Seeded: each run tries the same.
#[test]
fn no_text_makes_it_panic() {
    let directory = directory();
    let table = Table::new();
    let text = example(&table, SECTIONS).replace("\n#", "\n");
    let good: String = SAMPLES
        .iter()
        .map(|(name, good, ..)| format!("{name} = {good}\n"))
        .collect();
    let seeds = [
        text.as_bytes(),
        good.as_bytes(),
        b"[timers]\nidle-timeout = 5\n",
    ];
    let mut random = fastrand::Rng::with_seed(42);
    let file = directory.path().join("ringftpd.toml");
    let sources = Sources::only(&file).unwrap();
    for round in 0..4_000 {
        let mut octets = seeds[round % seeds.len()].to_vec();
        if round % 7 == 0 {
            octets = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        }
        for _ in 0..random.usize(1..8) {
            damage(&mut octets, &mut random);
        }
        let text = String::from_utf8_lossy(&octets);
        let parsed = parse(&text, Path::new("/base"), &table, SECTIONS);
        let lines = 1 + text.matches('\n').count();
        for problem in &parsed.problems {
            let place = problem
                .place
                .expect("what is wrong with a text has a place");
            assert!(
                (1..=lines).contains(&place.line) && place.column > 0,
                "{text}"
            );
        }
        // With everything else, which takes longer.
        if round % 40 == 0 {
            let survey = sources.survey(&octets, Some(directory.path()));
            assert!(
                survey.loaded.is_ok() || !survey.problems.is_empty(),
                "{text}"
            );
        }
    }
}
