//! What an octet of a transfer costs the server, by protection and route: CPU time of the real server's process, with its
//! kernel threads that serve the ring, for one large file.
//!
//! In an emulator that counts instructions (`benches/cost-in-lab`) a nanosecond is an instruction, and the figures repeat;
//! elsewhere they are times and as noisy as times are. `cargo bench --bench cost [-- OCTETS] [PART OF A ROW]`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark may fail where it likes, and has a clock"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::Read;
use std::sync::Arc;

use common::Port;
use common::client::Client;
use common::link::Link;
use common::server::{Accounts, Server, tail};
use common::tls::{Identity, Version};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite};

/// The file, where no argument says otherwise.
const OCTETS: usize = 64 * 1024 * 1024;
/// Transfers of each kind; the last one counts, since the first warms caches and buffers up.
const ROUNDS: usize = 2;
const NAME: &str = "cost.bin";

/// A protection: its name, and the client that wants it.
struct Protection {
    name: &'static str,
    config: Option<Arc<ClientConfig>>,
}

/// A way to serve: its name, and the options of the server.
struct Way {
    name: &'static str,
    options: &'static [&'static str],
    kernel_tls: bool,
}

const fn way(name: &'static str, options: &'static [&'static str], kernel_tls: bool) -> Way {
    Way {
        name,
        options,
        kernel_tls,
    }
}

const DOWNLOADS: [Way; 5] = [
    way("user space", &["--ktls", "off"], false),
    way("read and send", &["--ktls", "on", "--route", "read"], true),
    way("sendfile", &["--ktls", "on", "--route", "sendfile"], true),
    way("splice", &["--ktls", "on", "--route", "splice"], true),
    way("chosen", &["--ktls", "auto"], false),
];
const CLEAR_DOWNLOADS: [Way; 4] = [
    way(
        "read and send",
        &["--ktls", "off", "--route", "read"],
        false,
    ),
    way("sendfile", &["--ktls", "off", "--route", "sendfile"], false),
    way("splice", &["--ktls", "off", "--route", "splice"], false),
    way("chosen", &["--ktls", "off"], false),
];
const UPLOADS: [Way; 3] = [
    way("user space", &["--ktls", "off"], false),
    way("kernel", &["--ktls", "on"], true),
    way("chosen", &["--ktls", "auto"], false),
];
const CLEAR_UPLOADS: [Way; 1] = [way("receive and write", &["--ktls", "off"], false)];

fn main() {
    let octets = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(OCTETS);
    let wanted = std::env::args()
        .skip(1)
        .find(|word| !word.starts_with('-') && word.parse::<usize>().is_err())
        .unwrap_or_default();
    let kernel_tls = ringftpd::tls::probe::run()
        .suites
        .iter()
        .any(|suite| suite.problem.is_none());
    let content = common::pattern(octets);
    std::fs::write(Accounts::shared().home.join(NAME), &content).unwrap();
    println!(
        "Linux {}, {octets} octets, nanoseconds of the server's CPU time an octet (instructions, where they are counted)\n",
        ringftpd::sys::host::kernel_release()
    );
    println!("| direction | protection | way | route | CPU/octet |\n|---|---|---|---|---|");
    for protection in protections() {
        let clear = protection.config.is_none();
        let downloads = if clear {
            &CLEAR_DOWNLOADS[..]
        } else {
            &DOWNLOADS
        };
        let uploads = if clear { &CLEAR_UPLOADS[..] } else { &UPLOADS };
        let chosen = |direction: &str, way: &Way| {
            format!("{direction} {} {}", protection.name, way.name).contains(&wanted)
        };
        for way in downloads.iter().filter(|way| chosen("download", way)) {
            measure(
                "download",
                &protection,
                way,
                kernel_tls,
                |client| {
                    download(client, &protection, octets);
                },
                octets,
            );
        }
        for way in uploads.iter().filter(|way| chosen("upload", way)) {
            measure(
                "upload",
                &protection,
                way,
                kernel_tls,
                |client| {
                    upload(client, &protection, &content);
                },
                octets,
            );
        }
    }
}

fn protections() -> Vec<Protection> {
    let protected = |name, version, suite| Protection {
        name,
        config: Some(Arc::new(config(version, suite))),
    };
    use cipher_suite as suite;
    vec![
        protected(
            "TLSv1.3 AES-128-GCM",
            Version::Tls13,
            suite::TLS13_AES_128_GCM_SHA256,
        ),
        protected(
            "TLSv1.3 AES-256-GCM",
            Version::Tls13,
            suite::TLS13_AES_256_GCM_SHA384,
        ),
        protected(
            "TLSv1.3 CHACHA20-POLY1305",
            Version::Tls13,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
        protected(
            "TLSv1.2 AES-128-GCM",
            Version::Tls12,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        Protection {
            name: "none (PROT C)",
            config: None,
        },
    ]
}

fn config(version: Version, suite: SupportedCipherSuite) -> ClientConfig {
    let provider = CryptoProvider {
        cipher_suites: vec![suite],
        ..aws_lc_rs::default_provider()
    };
    let version = match version {
        Version::Tls12 => &TLS12,
        Version::Tls13 => &TLS13,
    };
    let mut roots = RootCertStore::empty();
    roots.add(Identity::shared().der.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Runs the transfers on a server of their own and prints the row of the last one.
fn measure(
    direction: &str,
    protection: &Protection,
    way: &Way,
    kernel_tls: bool,
    transfer: impl Fn(&mut Client),
    octets: usize,
) {
    if way.kernel_tls && !kernel_tls {
        return;
    }
    let mut options = vec![
        "--cores",
        "1",
        "--protect-data",
        "optional",
        "--log-level",
        "info",
    ];
    options.extend(way.options);
    let server = Server::start(&options);
    let mut client = Client::ready(&server, Port::Explicit);
    if protection.config.is_none() {
        client.ok("PROT C", 200);
        client.protected = false;
    }
    let mut spent = 0;
    for _ in 0..ROUNDS {
        let before = cpu_nanoseconds(server.pid);
        transfer(&mut client);
        spent = cpu_nanoseconds(server.pid) - before;
    }
    let log = String::from_utf8_lossy(&server.log()).into_owned();
    let route = log
        .rsplit("route=\"")
        .next()
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("no route in {}", tail(log.as_bytes())));
    println!(
        "| {direction} | {} | {} | {route} | {:.3} |",
        protection.name,
        way.name,
        spent as f64 / octets as f64
    );
}

/// What the threads of a process have spent, those that the kernel runs for its rings included
/// (`/proc/PID/task/TID/schedstat`: time on a processor in nanoseconds).
fn cpu_nanoseconds(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let spent = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.filter_map(|thread| spent(thread.ok()?)).sum()
}

fn open(client: &mut Client, protection: &Protection, line: &str) -> Link {
    let address = client.pasv();
    let mut data = client.data(address);
    client.ok(line, 150);
    if let Some(config) = &protection.config {
        data.handshake(config).unwrap();
    }
    data
}

/// Takes everything without decrypting it: the client shares the one processor.
fn download(client: &mut Client, protection: &Protection, octets: usize) {
    let mut data = open(client, protection, &format!("RETR {NAME}"));
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0;
    loop {
        match data.tcp.read(&mut buffer).unwrap() {
            0 => break,
            count => received += count,
        }
    }
    // The end of the handshake may have brought some with it.
    assert!(received + 64 * 1024 >= octets, "{received}");
    drop(data);
    client.expect(226);
}

fn upload(client: &mut Client, protection: &Protection, content: &[u8]) {
    let mut data = open(client, protection, &format!("STOR {NAME}"));
    data.send(content).unwrap();
    data.finish_sending();
    client.expect(226);
}
