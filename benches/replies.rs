//! What a reply costs, and a line end in TYPE A. `cargo bench --bench replies`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringftpd::proto::ascii::{FromNetwork, ToNetwork};
use ringftpd::proto::reply::{self, Code, Octet255};

const TEXT_OCTETS: usize = 256 * 1024;

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replies");
    let mut out = Vec::with_capacity(4096);
    group.bench_function("one line", |bencher| {
        bencher.iter(|| {
            out.clear();
            reply::append_line(
                &mut out,
                Code::TransferComplete,
                black_box(b"Transfer complete."),
                black_box(Octet255::Iac),
            );
        });
    });
    let features: Vec<String> = (0..16).map(|number| format!(" FEATURE-{number}")).collect();
    group.bench_function("sixteen features", |bencher| {
        bencher.iter(|| {
            out.clear();
            let inner = features.iter().map(String::as_bytes);
            let octet_255 = black_box(Octet255::Iac);
            reply::append_lines(
                &mut out,
                Code::SystemStatus,
                b"Features:",
                inner,
                "End",
                octet_255,
            );
        });
    });
    group.finish();
}

/// Lines of 0 to 78 octets.
fn text(line_end: &str) -> Vec<u8> {
    let lines = (0..).map(|number: usize| "x".repeat(number * 7 % 79) + line_end);
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        if text.len() >= TEXT_OCTETS {
            return text;
        }
    }
    text
}

fn ascii(criterion: &mut Criterion) {
    let (file, network) = (text("\n"), text("\r\n"));
    let mut out = Vec::with_capacity(2 * TEXT_OCTETS);
    let mut group = criterion.benchmark_group("ascii");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("to the network", |bencher| {
        bencher.iter(|| {
            out.clear();
            ToNetwork::new().convert(black_box(&file), &mut out);
        });
    });
    group.bench_function("size on the network", |bencher| {
        bencher.iter(|| ToNetwork::new().count_for_size(black_box(&file)));
    });
    group.throughput(Throughput::Bytes(network.len() as u64));
    group.bench_function("from the network", |bencher| {
        bencher.iter(|| {
            out.clear();
            FromNetwork::new().convert(black_box(&network), &mut out);
        });
    });
    group.finish();
}

criterion_group!(benches, replies, ascii);
criterion_main!(benches);
