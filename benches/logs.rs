//! What a line of the transfer log costs the core that has made the transfer. `cargo bench --bench logs`.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use ringftpd::logging::{
    Moved, Operation, Record, Success, TransferLog, TransferLogFormat, push_object, push_xferlog,
};

fn record() -> Record<'static> {
    Record {
        ended: SystemTime::now(),
        session: 123_456,
        host: None,
        user: "alice",
        anonymous: false,
        address: Ipv4Addr::new(192, 0, 2, 7).into(),
        operation: Operation::Download,
        command: "RETR",
        path: b"/pub/2026/a file of some length.tar.zst",
        target: None,
        moved: Some(Moved {
            octets: 1024,
            time: Duration::from_micros(412),
            restart: 0,
            ascii: false,
            private: true,
            route: Some("user-tls"),
            tls: Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256", true)),
        }),
        success: Success::Complete,
        reason: None,
    }
}

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transfer log");
    for (name, push) in [
        (
            "xferlog",
            push_xferlog as fn(&mut Vec<u8>, &Record<'static>),
        ),
        ("json", push_object),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut line = Vec::with_capacity(512);
                push(&mut line, black_box(&record()));
                line
            });
        });
    }
    // With the queue; its thread writes to a device that takes everything. Those that find no room cost less.
    if let Ok(log) = TransferLog::open(Path::new("/dev/null"), TransferLogFormat::Json) {
        group.bench_function("json, queued", |bencher| {
            bencher.iter(|| log.write(black_box(&record())));
        });
    }
    group.finish();
}

criterion_group!(benches, lines);
criterion_main!(benches);
