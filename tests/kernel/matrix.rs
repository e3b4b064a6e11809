//! What arrives: every protection, on every route, in both directions.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output, Stdio};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;

use crate::common::client::Client;
use crate::common::server::{Accounts, Server, wait_until};
use crate::common::tls::Profile;
use crate::common::{Port, assert_same, pattern, skip};
use crate::pressure::{
    DOWNLOADS, UPLOADS, Way, alone, client, has_kernel_tls, is_slow, number, patience, put_pattern,
};

/// Around the size of a record, and an odd number of chunks.
const SIZES: [usize; 6] = [0, 1, 16_383, 16_384, 16_385, 1_500_007];

/// A protection: its suite, and how `openssl s_client` asks for it.
pub(crate) struct Protection {
    pub(crate) suite: SupportedCipherSuite,
    openssl: [&'static str; 3],
}

/// Every protection that the kernel can have the keys of.
pub(crate) fn protections() -> [Protection; 6] {
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
fn profiles(way: Way) -> Vec<(Profile, Option<SupportedCipherSuite>)> {
    if !way.protected {
        return vec![(Profile::usual(), None)];
    }
    let all = protections().into_iter();
    all.map(|protection| (Profile::of(protection.suite), Some(protection.suite)))
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
pub(crate) fn statistic(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or(0)
}

/// The log must come to say all these words in one line about a transfer of this file. It comes a moment
/// later than the reply.
#[track_caller]
pub(crate) fn assert_logged(server: &Server, name: &str, words: &[&str]) {
    let path = format!(" path=/{name} ");
    let mut last = None;
    let said = wait_until(patience(), || {
        let log = String::from_utf8_lossy(&server.log()).into_owned();
        let mut lines = log.lines().filter(|line| line.contains(&path)).rev();
        last = lines.next().map(str::to_owned);
        let mut all = last.iter().map(String::as_str).chain(lines);
        all.any(|line| words.iter().all(|words| line.contains(words)))
    });
    assert!(said, "{words:?} not of {name}; last {last:?}");
}

/// How the log names a route that the kernel does or does not protect. What follows is the suite.
pub(crate) fn way_in_log(route: &str, not_kernel: Option<&str>) -> String {
    let reason = not_kernel.map(|reason| format!(" not_kernel=\"{reason}\""));
    format!(" route=\"{route}\"{} tls=", reason.unwrap_or_default())
}

#[track_caller]
fn assert_route(server: &Server, way: Way, name: &str, suite: Option<SupportedCipherSuite>) {
    let reason = (way.route == "user-tls").then_some("off");
    let suite = suite.map_or_else(String::new, |suite| {
        format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
    });
    let words = [&way_in_log(way.route, reason), &*suite, " end=Complete"];
    assert_logged(server, name, &words);
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
        for (number, (profile, suite)) in profiles(way).into_iter().enumerate() {
            let port = [Port::Explicit, Port::Implicit][number % 2];
            let mut client = way.client(&server, port, profile);
            client.link.set_patience(patience());
            for (size, name) in files("down", number) {
                let octets = client.download(format!("RETR {name}"));
                assert_same(&octets, &contents[&size]);
                assert_route(&server, way, &name, suite);
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
    let before = (statistic("TlsRxSw"), statistic("TlsDecryptError"));
    let mut kernel = 0;
    for way in UPLOADS.into_iter().filter(|way| way.is_open()) {
        let server = way.server(&[]);
        for (number, (profile, suite)) in profiles(way).into_iter().enumerate() {
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
            assert_route(&server, way, &name, suite);
            kernel += u64::from(way.route.starts_with("ktls"));
        }
    }
    assert!(
        statistic("TlsRxSw") >= before.0 + kernel,
        "{kernel} by the kernel"
    );
    assert_eq!(statistic("TlsDecryptError"), before.1);
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
        let transfers = log.lines().filter(|line| line.contains(" transfer "));
        for line in transfers {
            let kernel = line.contains(" route=\"ktls-") && !line.contains("not_kernel");
            let reason = match line.contains("path=/chosen ") {
                true => "dearer",
                false => "unasked",
            };
            let stays = line.contains(&format!(" not_kernel=\"{reason}\""));
            assert!(kernel || stays, "{line}");
        }
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
            let output = download_with_openssl(&mut client, &protection.openssl);
            assert_same(&output.stdout, &content);
            // It fails at an end without close_notify.
            assert!(output.status.success(), "{way}: {:?}", output.status);
            client.expect(226);
            assert_route(&server, way, "openssl", Some(protection.suite));
        }
    }
}

fn download_with_openssl(client: &mut Client, options: &[&str]) -> Output {
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
    program.wait_with_output().unwrap()
}
