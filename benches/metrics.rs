//! What recording costs a core: a value, a command with its replies, a transfer, and handing the books over; beside them a look
//! at the clock. `cargo bench --bench metrics`.
#![allow(clippy::indexing_slicing, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringftpd::metrics::{
    Books, Catalogue, Channel, Class, End, Ended, Kind, Mode, Recorder, Totals,
};
use ringftpd::{data, rt};

fn recorder() -> (Rc<Recorder>, Arc<Catalogue>) {
    let catalogue = Arc::new(Catalogue::new(&data::names()));
    (Recorder::new(&catalogue), catalogue)
}

/// Times from 10 us to 2 ms, as commands and transfers take, in no order.
fn times() -> impl FnMut() -> Duration {
    let mut state = 0x9e37_79b9_u32;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        Duration::from_nanos(u64::from(10_000 + state % 2_000_000))
    }
}

fn recording(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let (recorder, _) = recorder();
    let mut time = times();
    group.bench_function("a time that is not recorded", |bencher| {
        bencher.iter(|| black_box(time()));
    });
    group.bench_function("record a handshake", |bencher| {
        bencher.iter(|| recorder.handshake(Channel::Data, black_box(true), time()));
    });
    group.bench_function("record a command and its reply", |bencher| {
        bencher.iter(|| {
            recorder.replies(black_box([0, 1, 0, 0, 0]));
            recorder.command(black_box(Class::Noop), time());
        });
    });
    let ended = Ended {
        route: Some(4),
        fallback: Some(3),
        kind: Kind::Download,
        end: End::Complete,
        octets: 1024,
        time: Duration::from_micros(300),
        flow: Some(Duration::from_micros(100)),
    };
    // RETR of a small file over TLS: PASV and RETR, three replies, connection, handshake, first octet, end.
    group.bench_function("record a small download", |bencher| {
        bencher.iter(|| {
            recorder.replies(black_box([0, 1, 0, 0, 0]));
            recorder.command(black_box(Class::Setup), time());
            recorder.replies(black_box([1, 0, 0, 0, 0]));
            recorder.command(black_box(Class::Download), time());
            let running = recorder.running(black_box(Kind::Download));
            recorder.data_connected(black_box(Mode::Passive), time());
            recorder.handshake(black_box(Channel::Data), true, time());
            recorder.first_byte(black_box(Kind::Download), time());
            recorder.transfer(black_box(&ended));
            drop(running);
            recorder.replies(black_box([0, 1, 0, 0, 0]));
        });
    });
    group.bench_function("look at the clock", |bencher| {
        bencher.iter(|| black_box(rt::now()));
    });
    group.finish();
}

/// What a core does when it is asked, and the main thread after that.
fn telling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let (recorder, catalogue) = recorder();
    let mut time = times();
    let mut fill = || {
        for class in [Class::Noop, Class::Setup, Class::Download, Class::File] {
            recorder.command(class, time());
        }
        recorder.handshake(Channel::Data, true, time());
        recorder.first_byte(Kind::Download, time());
        recorder.loop_delay(time(), Duration::from_millis(100));
    };
    // Filled once: an exchange swaps two sets.
    let mut spare = Some(Books::new(&catalogue));
    group.bench_function("exchange books", |bencher| {
        bencher.iter(|| {
            spare = spare.take().map(|books| recorder.exchange(books, 1));
        });
    });
    let mut totals = Totals::new(&catalogue, &[0]);
    group.bench_function("add up a core, and empty its books", |bencher| {
        bencher.iter(|| {
            fill();
            let mut books = recorder.exchange(spare.take().expect("given back"), 1);
            totals.add(0, &books);
            books.reset();
            spare = Some(books);
        });
    });
    group.finish();
}

criterion_group!(benches, recording, telling);
criterion_main!(benches);
