//! Random clients and random drivers: nothing panics, replies are well formed, each command has
//! one final reply, memory is bounded.

use super::*;
use crate::limits;
use crate::proto::Charset;
use crate::proto::command::TABLE;

const ROUNDS: u64 = 400;
const STEPS: usize = 120;

fn random_end(random: &mut fastrand::Rng) -> TransferEnd {
    let ends = [
        TransferEnd::Complete,
        TransferEnd::NotConnected,
        TransferEnd::TlsFailed,
        TransferEnd::NotResumed,
        TransferEnd::ConnectionLost,
        TransferEnd::Truncated,
        TransferEnd::Stalled,
        TransferEnd::Aborted,
        TransferEnd::Unsynced,
        TransferEnd::File(FileError::QuotaExceeded),
    ];
    random.choice(ends).expect("not empty")
}

fn random_argument(random: &mut fastrand::Rng) -> Vec<u8> {
    let known: [&[u8]; 32] = [
        b"x",
        b"TLS",
        b"ON",
        b"0",
        b"5",
        b"P",
        b"C",
        b"A",
        b"I",
        b"L 8",
        b"S",
        b"F",
        b"ALL",
        b"1",
        b"|1|10.0.0.9|2000|",
        b"10,0,0,9,8,0",
        b"20200101000000 x",
        b"-la d",
        b"..",
        b"a\"b",
        b"MLST type;",
        b"UTF8 ON",
        b"UTF8 OFF",
        b"(U+6F22)\xCE\xC4",
        b"HELP",
        b"CHMOD 644 x",
        b"UTIME 202001010000 x",
        b"EN",
        b"a.example",
        b"[::1]",
        b"",
        b"\xC3\xA4 ",
    ];
    match random.u8(..8) {
        0 => (0..random.usize(..40)).map(|_| random.u8(..)).collect(),
        _ => random.choice(known).expect("not empty").to_vec(),
    }
}

/// A line that a client could send; it may hold line ends and Telnet by accident.
fn random_line(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut line = Vec::new();
    match random.u8(..20) {
        0 => line.extend((0..random.usize(..60)).map(|_| random.u8(..))),
        1 => line.resize(random.usize(..10_000), b'x'),
        _ => {
            let row = random.choice(TABLE).expect("not empty");
            line.extend_from_slice(random.choice(row.names).expect("not empty").as_bytes());
            if random.bool() {
                line.push(b' ');
                line.extend(random_argument(random));
            }
        }
    }
    line.extend_from_slice(random.choice([&b"\r\n"[..], b"\n"]).expect("not empty"));
    line
}

fn randomise(wire: &mut Wire, random: &mut fastrand::Rng) {
    let errors = [
        FileError::NotFound,
        FileError::NotADirectory,
        FileError::VolumeFull,
    ];
    let error = random.choice(errors).expect("not empty");
    wire.file = if random.u8(..4) == 0 {
        Err(error)
    } else {
        Ok(FileReply::Done)
    };
    wire.ready = if random.u8(..4) == 0 {
        Err(error)
    } else {
        Ok(TransferReady::default())
    };
    wire.verdict = if random.u8(..4) == 0 {
        LoginVerdict::Refused
    } else {
        LoginVerdict::Granted
    };
    wire.end = random.bool().then(|| random_end(random));
}

fn random_event(random: &mut fastrand::Rng) -> Event {
    match random.u8(..9) {
        0 => Event::TlsUp,
        1 => Event::TlsDown,
        2 => Event::LoginChecked(LoginVerdict::Granted),
        3 => Event::FileDone(Ok(FileReply::Size(1))),
        4 => Event::PassiveReady(Err(SetupError::System)),
        5 => Event::TransferReady(Err(FileError::Local)),
        6 => Event::Progress(3),
        _ => Event::TransferEnded(random_end(random)),
    }
}

fn random_charset(random: &mut fastrand::Rng) -> Charset {
    let label = random.choice(["UTF-8", "GBK", "Shift_JIS", "latin1"]);
    label.expect("not empty").parse().expect("a label")
}

fn start(random: &mut fastrand::Rng) -> Wire {
    let settings = Settings {
        ccc: random.bool(),
        tls_control: if random.bool() {
            Requirement::Required
        } else {
            Requirement::Optional
        },
        charset: random_charset(random),
        ..policy()
    };
    match random.u8(..3) {
        0 => Wire::explicit(settings),
        1 => Wire::implicit(settings),
        _ => Wire::ready_with(settings),
    }
}

#[test]
fn random_octets_and_events_never_panic() {
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut wire = start(&mut random);
        for _ in 0..STEPS {
            randomise(&mut wire, &mut random);
            match random.u8(..12) {
                0 => {
                    let event = random_event(&mut random);
                    wire.session.handle_event(event, wire.now);
                }
                1 => wire.now += Duration::from_secs(random.u64(..20)),
                2 => wire.session.handle_timeout(wire.now),
                3 if random.u8(..40) == 0 => wire.session.handle_shutdown(random.bool(), wire.now),
                4 if random.u8(..40) == 0 => wire.session.handle_closed(),
                _ => {
                    for part in random_line(&mut random).chunks(limits::CONTROL_READ_OCTETS) {
                        if wire.session.wants_octets() {
                            wire.session.handle_octets(part, wire.now);
                        }
                    }
                }
            }
            if random.bool() {
                // Telnet answers are no replies.
                wire.sent.clear();
                drain_unchecked(&mut wire);
            }
            assert!(wire.session.splitter.queued().count() <= limits::CONTROL_READ_OCTETS);
        }
        drain_unchecked(&mut wire);
        let closes = wire
            .actions
            .iter()
            .filter(|action| **action == Action::Close);
        assert!(closes.count() <= 1, "seed {seed}");
        if wire.actions.contains(&Action::Close) {
            assert!(wire.is_closed(), "seed {seed}: actions after Close");
        }
    }
}

fn drain_unchecked(wire: &mut Wire) {
    while let Some(action) = wire.session.poll_action() {
        if let Some(event) = wire.answer(&action) {
            wire.session.handle_event(event, wire.now);
        }
        match action {
            Action::Send(octets) => wire.sent.extend_from_slice(&octets),
            action => wire.actions.push(action),
        }
    }
}

/// Known verbs with clean arguments: exactly one final reply for each, in order, with at most one
/// 150 before it, and 421 at most once as the last word.
#[test]
fn one_final_reply_for_each_command() {
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut wire = start(&mut random);
        for _ in 0..STEPS {
            randomise(&mut wire, &mut random);
            let line = random_line(&mut random);
            let clean = line.len() < 8000
                && line
                    .trim_ascii_end()
                    .iter()
                    .all(|octet| matches!(octet, 0x20..0x7F));
            if !clean || line.trim_ascii().is_empty() {
                continue;
            }
            let mut codes = wire.tell_octets(line.trim_ascii_end());
            // What may still be due: a transfer's end, a wrong password's delay.
            let later = [
                wire.event(Event::TransferEnded(TransferEnd::Complete)),
                wire.wait(Duration::from_secs(1)),
            ];
            for more in later.iter().filter(|more| !more.is_empty()) {
                codes = format!("{codes} {more}");
            }
            let finals: Vec<&str> = codes
                .split_whitespace()
                .filter(|code| *code != "150")
                .collect();
            let text = line.escape_ascii();
            let silent = wire.is_closed() && finals.is_empty();
            let rein = line.to_ascii_uppercase().starts_with(b"REIN") && finals == ["220", "220"];
            let last = finals.len() == 2 && finals[1] == "421" && wire.is_closed();
            assert!(
                finals.len() == 1 || silent || rein || last,
                "seed {seed}: {text}: {codes}"
            );
            if wire.is_closed() {
                break;
            }
        }
    }
}

/// Commands that leave the login alone, so that none is answered by the end of the session.
fn steady_line(random: &mut fastrand::Rng) -> Vec<u8> {
    loop {
        let row = random.choice(TABLE).expect("not empty");
        if !matches!(
            row.name(),
            "USER" | "PASS" | "QUIT" | "REIN" | "CCC" | "AUTH"
        ) {
            let argument = random_argument(random);
            let line = [row.name().as_bytes(), b" ", &argument].concat();
            if line.iter().all(|octet| matches!(octet, 0x20..0x7F)) {
                return line;
            }
        }
    }
}

/// Lines cut anywhere, answers at any time: still one final reply for each command.
#[test]
fn pipelined_commands_with_slow_answers() {
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let charset = random_charset(&mut random);
        let mut wire = Wire::ready_with(Settings {
            charset,
            ..policy()
        });
        let mut input: Vec<u8> = Vec::new();
        for _ in 0..STEPS {
            input.extend(steady_line(&mut random));
            input.extend_from_slice(b"\r\n");
        }
        let mut input = input.as_slice();
        let mut answers: Vec<Event> = Vec::new();
        wire.sent.clear();
        // Each turn takes octets or gives an answer; the bound is far above what is needed.
        for _ in 0..100_000 {
            if wire.session.wants_octets() && random.bool() {
                let (part, rest) = input.split_at(random.usize(..=input.len().min(300)));
                wire.session.handle_octets(part, wire.now);
                input = rest;
            }
            if random.bool() && !answers.is_empty() {
                let answer = answers.swap_remove(random.usize(..answers.len()));
                wire.session.handle_event(answer, wire.now);
            }
            randomise(&mut wire, &mut random);
            while let Some(action) = wire.session.poll_action() {
                match (&action, wire.answer(&action)) {
                    (Action::AbortTransfer, _) => {
                        assert!(matches!(
                            answers.first(),
                            Some(Event::TransferEnded(_) | Event::Progress(_))
                        ));
                    }
                    (Action::RunTransfer, _) => {
                        answers.push(Event::TransferEnded(random_end(&mut random)));
                    }
                    (Action::Send(octets), _) => wire.sent.extend_from_slice(octets),
                    (_, Some(answer)) => answers.push(answer),
                    _ => {}
                }
            }
            if input.is_empty() && answers.is_empty() && wire.session.splitter.queued().count() == 0
            {
                break;
            }
        }
        let codes = codes_of(&wire.sent);
        let finals = codes
            .split_whitespace()
            .filter(|code| *code != "150")
            .count();
        assert_eq!(finals, STEPS, "seed {seed}: {codes}");
    }
}
