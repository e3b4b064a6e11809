//! What a command costs before anything is done about it: splitting lines, finding the verb, a whole round through the
//! session. `cargo bench --bench parse`.
#![allow(clippy::indexing_slicing, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringftpd::proto::line::{Line, LineSplitter};
use ringftpd::proto::session::{ChannelKind, Session, Settings};
use ringftpd::proto::{Action, Event, LoginVerdict, command};

/// Commands as clients send them around one transfer.
const DIALOGUE: &[u8] =
    b"TYPE I\r\nCWD /pub/release/2026-11\r\nSIZE image-0001.tar.zst\r\nMDTM image-0001.tar.zst\r\n\
    EPSV\r\nREST 0\r\nRETR image-0001.tar.zst\r\nNOOP\r\n";
const DIALOGUE_LINES: u64 = 8;

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lines");
    group.throughput(Throughput::Elements(DIALOGUE_LINES));
    group.bench_function("split", |bencher| {
        let mut splitter = LineSplitter::new();
        bencher.iter(|| {
            splitter.push(black_box(DIALOGUE));
            while let Some(line) = splitter.next_line() {
                black_box(&line);
            }
        });
    });
    group.bench_function("split and find the verb", |bencher| {
        let mut splitter = LineSplitter::new();
        bencher.iter(|| {
            splitter.push(black_box(DIALOGUE));
            while let Some(Line::Command(line)) = splitter.next_line() {
                let (verb, argument) = command::split(&line);
                let row = command::find(verb).expect("a known verb");
                black_box(row.check(argument).is_ok());
            }
        });
    });
    group.finish();
}

/// A session that is logged in on the implicit port.
fn session(now: Instant) -> Session {
    let server = "192.0.2.1:990".parse().expect("an address");
    let client = "192.0.2.2:50000".parse().expect("an address");
    let settings = Arc::new(Settings::default());
    let mut session = Session::new(settings, ChannelKind::Implicit, server, client, now);
    drain(&mut session);
    session.handle_event(Event::TlsUp, now);
    drain(&mut session);
    session.handle_octets(b"USER alice\r\nPASS secret\r\n", now);
    drain(&mut session);
    session.handle_event(Event::LoginChecked(LoginVerdict::Granted), now);
    let replies = drain(&mut session);
    assert!(replies > 0, "the login was answered");
    session
}

/// Performs nothing; returns how many octets of replies there were.
fn drain(session: &mut Session) -> usize {
    let mut octets = 0;
    while let Some(action) = session.poll_action() {
        if let Action::Send(reply) = &action {
            octets += reply.len();
        }
        black_box(&action);
    }
    octets
}

fn rounds(criterion: &mut Criterion) {
    #[allow(
        clippy::disallowed_methods,
        reason = "the session takes any moment for the present"
    )]
    let now = Instant::now();
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(1));
    for command in ["NOOP", "PWD", "TYPE I", "FEAT", "REST 1048576"] {
        let line = format!("{command}\r\n");
        group.bench_function(command, |bencher| {
            let mut session = session(now);
            bencher.iter(|| {
                session.handle_octets(black_box(line.as_bytes()), now);
                assert!(drain(&mut session) > 0, "answered at once");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lines, rounds);
criterion_main!(benches);
