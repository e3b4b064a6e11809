//! What a listing of a directory with 10,000 entries costs from the file system to its lines, through the ring and the pool
//! for blocking work. `cargo bench --bench directory`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringftpd::proto::listing::FactSet;
use ringftpd::proto::{ListFormat, VirtualPath};
use ringftpd::{rt, vfs};

const ENTRIES: u64 = 10_000;

async fn list(root: &Rc<vfs::Root>, format: ListFormat) {
    let opened = root
        .open_listing(&VirtualPath::root(), format, b"", true)
        .await;
    let mut listing = opened.expect("the directory was made just now");
    let mut buffer = Vec::new();
    loop {
        let (chunk, more) = listing.next(buffer).await.expect("its entries stay");
        if !more {
            return;
        }
        buffer = chunk;
    }
}

fn directory(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a directory for temporary files");
    for number in 0..ENTRIES {
        let path = home
            .path()
            .join(format!("release-image-{number:06}.tar.zst"));
        std::fs::write(path, "").expect("room for empty files");
    }
    let mut group = criterion.benchmark_group("directory");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(ENTRIES));
    let machine = ListFormat::Machine(FactSet::DEFAULT);
    for (name, format) in [
        ("LIST", ListFormat::Long),
        ("NLST", ListFormat::Names),
        ("MLSD", machine),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                rt::run(256, async {
                    let settings = Rc::new(vfs::Settings::default());
                    let root = vfs::Root::open(home.path(), vfs::Rights::ALL, settings);
                    let root = root.expect("the directory was made just now");
                    let began = rt::now();
                    for _ in 0..times {
                        list(&root, format).await;
                    }
                    elapsed(began)
                })
                .expect("io_uring")
            });
        });
    }
    group.finish();
}

fn elapsed(since: Instant) -> Duration {
    rt::now().saturating_duration_since(since)
}

criterion_group!(benches, directory);
criterion_main!(benches);
