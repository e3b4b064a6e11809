//! What TLS costs the server without a network: its part of a handshake, and records sealed and opened, by ourselves and by
//! rustls. `cargo bench --bench tls`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark may fail where it likes, and has a clock"
)]

use std::hint::black_box;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringftpd::tls::{
    ControlTls, Engine, Identity, Progress, RecordOpener, RecordSealer, Resume, Role, Settings,
    Version, sealed_len,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};

/// What a transfer seals at a time.
const CHUNK_OCTETS: usize = 256 * 1024;

struct Site {
    settings: Settings,
    roots: Arc<RootCertStore>,
}

impl Site {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        let identity = Identity::from_pem(made.cert.pem().as_bytes(), key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Self {
            settings: Settings::new(&identity, Resume::Prefer).unwrap(),
            roots: Arc::new(roots),
        }
    }

    /// A client that knows one cipher suite, with sessions of its own.
    fn client(&self, suite: SupportedCipherSuite) -> Arc<ClientConfig> {
        let provider = CryptoProvider {
            cipher_suites: vec![suite],
            ..aws_lc_rs::default_provider()
        };
        let version = match suite {
            SupportedCipherSuite::Tls12(_) => &TLS12,
            SupportedCipherSuite::Tls13(_) => &TLS13,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        config.resumption = Resumption::in_memory_sessions(16);
        Arc::new(config)
    }

    fn control(&self) -> Rc<ControlTls> {
        ControlTls::new(&self.settings, Instant::now())
    }

    /// A whole handshake, and the time that the server was at it.
    fn connect(
        &self,
        role: Role,
        control: &Rc<ControlTls>,
        config: &Arc<ClientConfig>,
    ) -> (Engine, ClientConnection, Duration) {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
        let (mut incoming, mut outgoing, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        let begun = Instant::now();
        let mut engine = Engine::new(&self.settings, role, control).unwrap();
        let mut spent = begun.elapsed();
        loop {
            while client.wants_write() {
                client.write_tls(&mut incoming).unwrap();
            }
            let begun = Instant::now();
            let progress = engine.process(&mut incoming, &mut plain, &mut outgoing);
            spent += begun.elapsed();
            deliver(&mut client, &mut outgoing);
            if progress.unwrap() == Progress::Established && !client.wants_write() {
                return (engine, client, spent);
            }
        }
    }
}

fn deliver(client: &mut ClientConnection, outgoing: &mut Vec<u8>) {
    let mut rest = outgoing.as_slice();
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets().unwrap();
        // Without plaintext this ends in WouldBlock, which is as good an end.
        let _ = client.reader().read_to_end(&mut Vec::new());
    }
    outgoing.clear();
}

fn handshakes(criterion: &mut Criterion) {
    let site = Site::new();
    let mut group = criterion.benchmark_group("handshake");
    for (name, suite) in [
        ("TLS 1.3 AES-128", cipher_suite::TLS13_AES_128_GCM_SHA256),
        ("TLS 1.3 AES-256", cipher_suite::TLS13_AES_256_GCM_SHA384),
        (
            "TLS 1.2 AES-128",
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
    ] {
        group.bench_function(format!("control, full, {name}"), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let client = site.client(suite);
                    let (engine, _, time) = site.connect(Role::Control, &site.control(), &client);
                    assert!(!engine.resumed());
                    spent += time;
                }
                spent
            });
        });
        group.bench_function(format!("download, resumed, {name}"), |bencher| {
            let (client, control) = (site.client(suite), site.control());
            let _established = site.connect(Role::Control, &control, &client);
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let (engine, _, time) = site.connect(Role::Download, &control, &client);
                    assert!(engine.resumed() && !engine.foreign());
                    spent += time;
                }
                spent
            });
        });
    }
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let site = Site::new();
    let plain = vec![7; CHUNK_OCTETS];
    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Bytes(CHUNK_OCTETS as u64));
    for (name, suite) in [
        ("AES-128-GCM", cipher_suite::TLS13_AES_128_GCM_SHA256),
        ("AES-256-GCM", cipher_suite::TLS13_AES_256_GCM_SHA384),
        (
            "ChaCha20-Poly1305",
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
    ] {
        let client = site.client(suite);
        let keys = || {
            let (engine, ..) = site.connect(Role::Download, &site.control(), &client);
            engine.into_kernel_connection().unwrap().0
        };
        group.bench_function(format!("seal, {name}"), |bencher| {
            let mut sealer = RecordSealer::new(Version::Tls13, keys().tx).unwrap();
            let mut out = vec![0; sealed_len(CHUNK_OCTETS)];
            bencher.iter(|| sealer.seal_data(black_box(&plain), &mut out).unwrap());
        });
        group.bench_function(format!("seal by rustls, {name}"), |bencher| {
            let (mut engine, ..) = site.connect(Role::Download, &site.control(), &client);
            let mut out = vec![0; sealed_len(CHUNK_OCTETS)];
            bencher.iter(|| engine.seal_into(black_box(&plain), &mut out).unwrap());
        });
        group.bench_function(format!("open, {name}"), |bencher| {
            let (engine, other, _) = site.connect(Role::Download, &site.control(), &client);
            let (ours, _) = engine.into_kernel_connection().unwrap();
            let theirs = other.dangerous_extract_secrets().unwrap();
            let mut sealer = RecordSealer::new(Version::Tls13, ours.tx).unwrap();
            let mut opener = RecordOpener::new(Version::Tls13, theirs.rx).unwrap();
            let mut sealed = vec![0; sealed_len(CHUNK_OCTETS)];
            let mut opened = vec![0; CHUNK_OCTETS];
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let octets = sealer.seal_data(&plain, &mut sealed).unwrap();
                    let begun = Instant::now();
                    open_all(&mut opener, sealed.get(..octets).unwrap(), &mut opened);
                    spent += begun.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

fn open_all(opener: &mut RecordOpener, mut records: &[u8], opened: &mut [u8]) {
    while let Some(length) = ringftpd::tls::record::complete_len(records) {
        let (record, rest) = records.split_at(length);
        black_box(opener.open(record, opened).unwrap());
        records = rest;
    }
}

criterion_group!(benches, handshakes, records);
criterion_main!(benches);
