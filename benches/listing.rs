//! What a line of LIST and of MLSD costs, for a thousand files changed within a month. `cargo bench --bench listing`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringftpd::proto::listing::{Entry, EntryKind, FactSet, LineWriter, Perm};

const ENTRIES: usize = 1000;
/// 2026-11-01T00:00:00 UTC.
const NOW: i64 = 1_793_491_200;

fn names() -> Vec<String> {
    (0..ENTRIES)
        .map(|number| format!("release-image-{number:06}.tar.zst"))
        .collect()
}

fn entries(names: &[String]) -> Vec<Entry<'_>> {
    let perm = Perm::READ
        .with_if(Perm::WRITE, true)
        .with_if(Perm::DELETE, true);
    names
        .iter()
        .zip(0_u64..)
        .map(|(name, number)| Entry {
            prefix: b"",
            name: name.as_bytes(),
            kind: EntryKind::File,
            size: number * 1_000_003,
            modified: NOW - i64::try_from(number).unwrap_or(0) * 2600,
            mode: 0o644,
            links: 1,
            perm,
            unique: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        })
        .collect()
}

fn listing(criterion: &mut Criterion) {
    let names = names();
    let entries = entries(&names);
    let mut out = Vec::with_capacity(256 * 1024);
    let mut group = criterion.benchmark_group("listing");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("LIST", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut writer = LineWriter::new(NOW);
            for entry in &entries {
                writer.long(&mut out, black_box(entry));
            }
            out.len()
        });
    });
    group.bench_function("MLSD", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut writer = LineWriter::new(NOW);
            for entry in &entries {
                writer.machine(&mut out, FactSet::ALL, black_box(entry));
            }
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, listing);
criterion_main!(benches);
