//! What arrives: every protection, on every route, in both directions.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;

use crate::common::client::Client;
use crate::common::server::{Accounts, Server};
use crate::common::tls::Profile;
use crate::common::{Port, assert_same, pattern, skip};
use crate::pressure::{
    DOWNLOADS, UPLOADS, Way, alone, client, has_kernel_tls, is_slow, logged, number, patience,
    put_pattern,
};

/// Around the size of a record, and an odd number of chunks.
const SIZES: [usize; 6] = [0, 1, 16_383, 16_384, 16_385, 1_500_007];

/// A protection: its suite, and how `openssl s_client` asks for it.
struct Protection {
    suite: SupportedCipherSuite,
    openssl: [&'static str; 3],
}

fn protections() -> [Protection; 6] {
    let tls13 = |suite, name| Protection {
        suite,
        openssl: ["-tls1_3", "-ciphersuites", name],
    };
    let tls12 = |suite, name| Protection {
        suite,
        openssl: ["-tls1_2", "-cipher", name],
    };
    [
        tls13(suite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
        tls13(suite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
        tls13(
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
        tls12(
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        tls12(
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            "ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
        tls12(
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
    ]
}

/// The protections of a way; one stands for all where there is none.
fn profiles(way: Way) -> Vec<Profile> {
    let count = if way.protected { 6 } else { 1 };
    let all = protections().into_iter().take(count);
    all.map(|protection| Profile::of(protection.suite))
        .collect()
}

/// Octets of the large file of a protection, by its number. An emulator moves the largest one under the
/// first alone, unless it is told to.
fn large(protection: usize) -> usize {
    let usual = if is_slow() && protection > 0 {
        6 << 20
    } else {
        64 << 20
    };
    number("RINGFTPD_TEST_LARGE", usual)
}

/// The files of one protection.
fn files(direction: &str, protection: usize) -> impl Iterator<Item = (usize, String)> {
    let sizes = SIZES.into_iter().chain([large(protection)]);
    sizes.map(move |size| (size, format!("{direction}-{size}")))
}

/// The counters of kernel TLS (`/proc/net/tls_stat`).
fn statistic(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or(0)
}

#[track_caller]
fn assert_route(server: &Server, way: Way, name: &str) {
    let route = || {
        let all = logged(server);
        let last = all.into_iter().rfind(|transfer| transfer.name == name)?;
        Some((last.route, last.end))
    };
    let found = crate::common::server::wait_until(patience(), || route().is_some());
    assert!(found, "{name} is not in the log");
    let expected = (way.route.to_owned(), "Complete".to_owned());
    assert_eq!(route(), Some(expected), "{way}: {name}");
}

#[test]
fn downloads_arrive_whole() {
    let _alone = alone();
    let contents: BTreeMap<_, _> = [0, 1]
        .into_iter()
        .flat_map(|protection| files("down", protection))
        .map(|(size, name)| (size, put_pattern(&name, size)))
        .collect();
    let mut kernel = 0;
    let before = (statistic("TlsTxSw"), statistic("TlsDecryptError"));
    for way in DOWNLOADS.into_iter().filter(|way| way.is_open()) {
        let server = way.server(&[]);
        for (number, profile) in profiles(way).into_iter().enumerate() {
            let port = [Port::Explicit, Port::Implicit][number % 2];
            let mut client = way.client(&server, port, profile);
            client.link.set_patience(patience());
            for (size, name) in files("down", number) {
                let octets = client.download(format!("RETR {name}"));
                assert_same(&octets, &contents[&size]);
                assert_route(&server, way, &name);
            }
            let (size, name) = files("down", number).last().unwrap();
            let content = &contents[&size];
            let middle = content.len() / 2 + 1;
            client.ok(format!("REST {middle}"), 350);
            let octets = client.download(format!("RETR {name}"));
            assert_same(&octets, &content[middle..]);
            if way.route.starts_with("ktls") {
                kernel += SIZES.len() as u64 + 2;
            }
        }
    }
    assert!(
        statistic("TlsTxSw") >= before.0 + kernel,
        "{kernel} by the kernel"
    );
    assert_eq!(statistic("TlsDecryptError"), before.1);
}

#[test]
fn uploads_arrive_whole() {
    let _alone = alone();
    let content = pattern(large(0).max(large(1)));
    let before = statistic("TlsRxSw");
    let mut kernel = 0;
    for way in UPLOADS.into_iter().filter(|way| way.is_open()) {
        let server = way.server(&[]);
        for (number, profile) in profiles(way).into_iter().enumerate() {
            let port = [Port::Explicit, Port::Implicit][number % 2];
            let mut client = way.client(&server, port, profile);
            client.link.set_patience(patience());
            for (size, name) in files("up", number) {
                client.upload(format!("STOR {name}"), &content[..size]);
                let stored = fs::read(Accounts::shared().home.join(name)).unwrap();
                assert_same(&stored, &content[..size]);
            }
            // A short one may have ended before the kernel could take over.
            let (_, name) = files("up", number).last().unwrap();
            assert_route(&server, way, &name);
            kernel += u64::from(way.route.starts_with("ktls"));
        }
    }
    assert!(
        statistic("TlsRxSw") >= before + kernel,
        "{kernel} by the kernel"
    );
}

/// The choice that the server makes by itself.
#[test]
fn what_the_server_chooses_arrives_whole() {
    let _alone = alone();
    let content = put_pattern("chosen", 5 << 20);
    let server = Server::start(&["--log-level", "info"]);
    for protection in protections() {
        let profile = Profile::of(protection.suite);
        let mut client = client(&server, Port::Explicit, profile, true);
        client.link.set_patience(patience());
        assert_same(&client.download("RETR chosen"), &content);
        client.upload("STOR chosen-back", &content);
        let stored = fs::read(Accounts::shared().home.join("chosen-back")).unwrap();
        assert_same(&stored, &content);
    }
    let log = String::from_utf8_lossy(&server.log()).into_owned();
    if has_kernel_tls() {
        assert!(log.contains("kernel TLS"), "{log}");
        return;
    }
    // Nobody has to guess why.
    assert!(log.contains("kernel TLS is not used"), "{log}");
    assert!(log.contains("modprobe tls"), "{log}");
    assert!(log.contains("not_kernel=\"unsupported\""), "{log}");
}

/// Another implementation of TLS: what it decrypts, and that it finds a proper end.
#[test]
fn openssl_gets_the_same_octets() {
    let _alone = alone();
    if Command::new("openssl").arg("version").output().is_err() {
        skip("openssl is missing (Debian package openssl)");
        return;
    }
    let content = put_pattern("openssl", 3_000_001);
    let ways = DOWNLOADS
        .into_iter()
        .filter(|way| way.protected && way.is_open());
    for way in ways {
        let server = way.server(&[]);
        for protection in protections() {
            let mut client = way.client(&server, Port::Explicit, Profile::of(protection.suite));
            client.link.set_patience(patience());
            let octets = download_with_openssl(&mut client, &protection.openssl);
            assert_same(&octets, &content);
            client.expect(226);
            assert_route(&server, way, "openssl");
        }
    }
}

fn download_with_openssl(client: &mut Client, options: &[&str]) -> Vec<u8> {
    let address = client.pasv();
    let program = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address.to_string()])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    client.ok("RETR openssl", 150);
    let output = program.wait_with_output().unwrap();
    output.stdout
}
