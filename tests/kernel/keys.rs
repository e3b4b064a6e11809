//! Keys that change in the middle of a transfer (RFC 8446 §4.6.3): followed by rustls and by kernels that
//! can (Linux 6.14), a clear end on those that cannot.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
};
use rustls::pki_types::ServerName;

use crate::common::server::{Accounts, Server, wait_until};
use crate::common::tls::Profile;
use crate::common::{Port, assert_same, pattern};
use crate::matrix::{assert_logged, protections, statistic, way_in_log};
use crate::pressure::{
    DOWNLOADS, Logged, UPLOADS, Way, alone, client, connect, has_kernel_tls, logged, patience,
    put_pattern, slowness,
};
use crate::raw::{
    DATA, HANDSHAKE, KEY_UPDATE, KEY_UPDATE_REQUESTED, Raw, Records, outgoing, profile,
};

/// Can this kernel change keys? As `ringftpd doctor` says.
fn kernel_changes_keys() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let built = env!("CARGO_BIN_EXE_ringftpd");
        let program = std::env::var_os("RINGFTPD_TEST_PROGRAM").unwrap_or_else(|| built.into());
        let output = Command::new(program).arg("doctor").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let row = text
            .lines()
            .find(|line| line.starts_with("TLSv1.3 AES-128-GCM"));
        row.unwrap_or_else(|| panic!("{text}")).contains(" yes ")
    })
}

/// Does a transfer on this way survive a change of the client's keys? In a download the client's records
/// are opened by the server's process; only the answer needs the kernel.
fn follows(way: Way, message: &[u8]) -> bool {
    !way.route.starts_with("ktls") || kernel_changes_keys() || !way.upload && message == KEY_UPDATE
}

/// The last transfer in the log.
fn last(server: &Server) -> Logged {
    assert!(wait_until(patience(), || !logged(server).is_empty()));
    logged(server).pop().unwrap()
}

fn open(way: Way, server: &Server, line: &str) -> (crate::common::client::Client, Raw) {
    let mut client = way.client(server, Port::Explicit, profile());
    client.link.set_patience(patience());
    let address = client.pasv();
    let data = client.data(address);
    client.ok(line, 150);
    let raw = Raw::handshake(data.tcp, &client.profile);
    (client, raw)
}

/// Changes the client's keys.
fn update(raw: &mut Raw, message: &[u8]) -> Vec<u8> {
    let record = raw.seal(HANDSHAKE, message, 0);
    raw.update_sending();
    record
}

#[test]
fn a_client_changes_its_keys_in_an_upload() {
    let _alone = alone();
    let content = pattern(90_000);
    let errors = rekey_errors();
    let followed = statistic("TlsRxRekeyOk");
    for message in [KEY_UPDATE, KEY_UPDATE_REQUESTED] {
        // At the start, in the middle, at the end, and several times.
        for places in [&[0][..], &[45_000], &[90_000], &[10, 10, 20_000, 89_999]] {
            for way in UPLOADS {
                if way.protected && way.is_open() {
                    upload(way, &content, &message, places);
                }
            }
        }
    }
    assert_eq!(rekey_errors(), errors);
    if has_kernel_tls() && kernel_changes_keys() {
        assert!(statistic("TlsRxRekeyOk") > followed, "not by the kernel");
    }
}

/// Keys that the kernel should have changed and did not.
fn rekey_errors() -> u64 {
    statistic("TlsTxRekeyError") + statistic("TlsRxRekeyError")
}

fn upload(way: Way, content: &[u8], message: &[u8], places: &[usize]) {
    let server = way.server(&[]);
    let (mut client, mut raw) = open(way, &server, "STOR keys");
    let mut records = Vec::new();
    let mut start = 0;
    for place in places {
        records.extend(raw.seal_data(&content[start..*place], usize::MAX));
        records.extend(update(&mut raw, message));
        start = *place;
    }
    records.extend(raw.seal_data(&content[start..], usize::MAX));
    records.extend(raw.seal_end());
    raw.send(&records);
    let said = format!("{way}: {message:?} at {places:?}");
    let reply = client.reply();
    // A short upload may be here as a whole before the kernel takes over; rustls has read it then.
    if !follows(way, message) && last(&server).route == "ktls-receive" {
        assert_eq!(reply.code, 426, "{said}");
        assert!(server.wait_for_log("cannot follow"), "{said}");
        return;
    }
    assert_eq!(reply.code, 226, "{said}");
    let stored = fs::read(Accounts::shared().home.join("keys")).unwrap();
    assert_same(&stored, content);
    let all = raw.open_all();
    assert!(all.closed, "{said}: {all:?}");
    let answers = all
        .others
        .iter()
        .filter(|other| **other == (HANDSHAKE, KEY_UPDATE.to_vec()));
    let wanted = message == KEY_UPDATE_REQUESTED;
    // One answer may stand for several requests.
    assert_eq!(answers.count() > 0, wanted, "{said}: {all:?}");
}

/// rustls keeps its answer to a client's request to itself until it sends next: such a connection stays
/// with it.
#[test]
fn a_client_that_changed_its_keys_early_stays_with_rustls() {
    let _alone = alone();
    let content = pattern(3 << 20);
    let ktls = if has_kernel_tls() { "on" } else { "auto" };
    let server = Server::start(&["--ktls", ktls]);
    for message in [KEY_UPDATE, KEY_UPDATE_REQUESTED] {
        let mut client = client(&server, Port::Explicit, profile(), true);
        client.link.set_patience(patience());
        let address = client.pasv();
        let data = client.data(address);
        client.ok("STOR early", 150);
        let mut raw = Raw::handshake(data.tcp, &client.profile);
        let first = raw.seal_data(&content[..1000], usize::MAX);
        raw.send(&first);
        let record = update(&mut raw, &message);
        raw.send(&record);
        let rest = raw.seal_data(&content[1000..], usize::MAX);
        raw.send(&rest);
        // The kernel would take over here, long before the end.
        sleep(Duration::from_millis(100) * slowness());
        let end = raw.seal_end();
        raw.send(&end);
        let all = raw.open_all();
        assert!(all.closed, "{all:?}");
        assert_eq!(all.others.is_empty(), message == KEY_UPDATE, "{all:?}");
        client.expect(226);
        let stored = fs::read(Accounts::shared().home.join("early")).unwrap();
        assert_same(&stored, &content);
    }
    if has_kernel_tls() {
        assert!(server.wait_for_log("not_kernel=\"late\""));
    }
}

/// With AES-GCM in TLS 1.2 a number that comes twice gives the key of the authentication away, and the
/// kernel chooses its numbers in another way than rustls.
#[test]
fn numbers_of_records_never_come_twice() {
    let _alone = alone();
    put_pattern("numbers", 300_000);
    for way in DOWNLOADS {
        if !way.protected || !way.is_open() {
            continue;
        }
        let server = way.server(&[]);
        for suite in [
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ] {
            let profile = Profile::of(suite);
            let mut client = way.client(&server, Port::Explicit, profile.clone());
            client.link.set_patience(patience());
            let address = client.pasv();
            let data = client.data(address);
            client.ok("RETR numbers", 150);
            let numbers = explicit_nonces(data.tcp, &profile);
            client.expect(226);
            let distinct: BTreeSet<_> = numbers.iter().collect();
            assert!(numbers.len() > 19, "{way}: {}", numbers.len());
            assert_eq!(distinct.len(), numbers.len(), "{way}: {numbers:?}");
        }
    }
}

/// The explicit nonces of all protected records of a server, its Finished included.
fn explicit_nonces(tcp: TcpStream, profile: &Profile) -> Vec<[u8; 8]> {
    let mut reader = Records::new(tcp);
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(profile.full(), name).unwrap();
    let mut nonces = Vec::new();
    let mut protected = false;
    while tls.is_handshaking() || tls.wants_write() {
        reader.send(&outgoing(&mut tls));
        if !tls.is_handshaking() {
            break;
        }
        let record = reader.take().expect("a record of the handshake");
        if protected {
            nonces.push(record[5..13].try_into().unwrap());
        }
        // change_cipher_spec: what follows is protected.
        protected |= record[0] == 20;
        tls.read_tls(&mut &record[..]).unwrap();
        tls.process_new_packets().unwrap();
    }
    while let Some(record) = reader.take() {
        nonces.push(record[5..13].try_into().unwrap());
    }
    nonces
}

#[test]
fn a_client_changes_its_keys_in_a_download() {
    let _alone = alone();
    let content = put_pattern("keys-down", 24 << 20);
    for message in [KEY_UPDATE, KEY_UPDATE_REQUESTED] {
        for way in DOWNLOADS {
            if way.protected && way.is_open() {
                download(way, &content, &message);
            }
        }
    }
}

fn download(way: Way, content: &[u8], message: &[u8]) {
    let server = way.server(&[]);
    let (mut client, mut raw) = open(way, &server, "RETR keys-down");
    let record = update(&mut raw, message);
    raw.send(&record);
    let again = update(&mut raw, message);
    raw.send(&again);
    let all = raw.open_all();
    let said = format!("{way}: {message:?}: {all:?}");
    // Where rustls has read the first of them already, the connection has stayed with it.
    if !follows(way, message) && !all.closed {
        drop(raw);
        client.expect(426);
        assert!(server.wait_for_log("cannot follow"), "{said}");
        return;
    }
    assert!(all.closed, "{said}");
    assert_same(&all.data, content);
    let wanted = message == KEY_UPDATE_REQUESTED;
    let answered = all
        .others
        .iter()
        .any(|other| *other == (HANDSHAKE, KEY_UPDATE.to_vec()));
    assert_eq!(answered, wanted, "{said}");
    // Its own end has the new keys.
    let end = raw.seal_end();
    raw.send(&end);
    drop(raw);
    client.expect(226);
}

/// A key must not protect more records than it may: new ones in time, or rustls from the start.
#[test]
fn the_server_renews_its_keys() {
    let _alone = alone();
    if !has_kernel_tls() {
        eprintln!("skipped: this kernel has no kernel TLS");
        return;
    }
    let content = put_pattern("renewed", 40 << 20);
    for means in ["read", "sendfile", "splice"] {
        let options = [
            "--ktls",
            "on",
            "--route",
            means,
            "--ktls-key-records",
            "1024",
        ];
        let server = Server::start(&options);
        let mut client = client(&server, Port::Explicit, profile(), true);
        client.link.set_patience(patience());
        let address = client.pasv();
        let data = client.data(address);
        client.ok("RETR renewed", 150);
        let mut raw = Raw::handshake(data.tcp, &client.profile);
        let all = raw.open_all();
        assert!(all.closed, "{means}: {all:?}");
        assert_same(&all.data, &content);
        drop(raw);
        client.expect(226);
        // rustls follows too.
        if kernel_changes_keys() && means == "sendfile" {
            assert_same(&client.download("RETR renewed"), &content);
        }
        let updates = all
            .others
            .iter()
            .filter(|other| **other == (HANDSHAKE, KEY_UPDATE.to_vec()));
        let updates = updates.count();
        let last = last(&server);
        if kernel_changes_keys() {
            // 2,560 full records and some that are not.
            assert!((2..10).contains(&updates), "{means}: {updates} updates");
            assert_eq!(last.route, format!("ktls-{means}"));
        } else {
            assert_eq!(updates, 0, "{means}");
            assert_eq!(last.route, "user-tls", "{means}");
            assert!(server.wait_for_log("not_kernel=\"long\""), "{means}");
        }
    }
}

/// Once the client has got something: in the middle of the file, or behind its end.
#[test]
fn a_client_changes_its_keys_late_in_a_download() {
    let _alone = alone();
    let contents = [
        put_pattern("keys-middle", 12 << 20),
        put_pattern("keys-end", 100_003),
    ];
    for way in DOWNLOADS {
        if !way.protected || !way.is_open() {
            continue;
        }
        let server = way.server(&[]);
        for message in [KEY_UPDATE, KEY_UPDATE_REQUESTED] {
            download_middle(way, &server, &contents[0], &message);
            download_end(way, &server, &contents[1], &message);
        }
    }
}

fn download_middle(way: Way, server: &Server, content: &[u8], message: &[u8]) {
    let mut client = way.client(server, Port::Explicit, profile());
    client.link.set_patience(patience());
    // So little that the server is not far ahead: it has more to send than it does between two looks.
    let data = connect(client.pasv(), 32 * 1024);
    client.ok("RETR keys-middle", 150);
    let mut raw = Raw::handshake(data.tcp, &client.profile);
    let mut octets = Vec::new();
    while octets.len() < 500_000 {
        let (record_type, payload) = raw.open().expect("a record");
        if record_type == DATA {
            octets.extend(payload);
        }
    }
    let record = update(&mut raw, message);
    raw.send(&record);
    let all = raw.open_all();
    let said = format!("{way}: {message:?}: {all:?}");
    if !follows(way, message) {
        assert!(!all.closed, "{said}");
        drop(raw);
        client.expect(426);
        assert!(server.wait_for_log("cannot follow"), "{said}");
        return;
    }
    assert!(all.closed, "{said}");
    octets.extend(&all.data);
    assert_same(&octets, content);
    let answered = all.others.contains(&(HANDSHAKE, KEY_UPDATE.to_vec()));
    assert_eq!(answered, message == KEY_UPDATE_REQUESTED, "{said}");
    let end = raw.seal_end();
    raw.send(&end);
    drop(raw);
    client.expect(226);
}

/// Behind close_notify nobody can answer, and nobody has to: everything has arrived.
fn download_end(way: Way, server: &Server, content: &[u8], message: &[u8]) {
    let (mut client, mut raw) = open(way, server, "RETR keys-end");
    let all = raw.open_all();
    assert!(all.closed, "{way}: {all:?}");
    assert_same(&all.data, content);
    let mut records = update(&mut raw, message);
    records.extend(raw.seal_end());
    raw.send(&records);
    drop(raw);
    client.expect(226);
}

/// A message may be cut into two records (RFC 8446 §5.1). Nobody does that to five octets; rustls
/// understands it, and with the kernel it is an honest end.
#[test]
fn a_key_update_in_two_records() {
    let _alone = alone();
    let content = pattern(60_000);
    for way in UPLOADS {
        if !way.protected || !way.is_open() {
            continue;
        }
        let server = way.server(&[]);
        let (mut client, mut raw) = open(way, &server, "STOR two");
        let mut records = raw.seal_data(&content[..30_000], usize::MAX);
        records.extend(raw.seal(HANDSHAKE, &KEY_UPDATE[..3], 0));
        records.extend(raw.seal(HANDSHAKE, &KEY_UPDATE[3..], 0));
        raw.update_sending();
        records.extend(raw.seal_data(&content[30_000..], usize::MAX));
        records.extend(raw.seal_end());
        raw.send(&records);
        let _ = raw.open_all();
        let reply = client.reply();
        let kernel = last(&server).route == "ktls-receive";
        assert_eq!(reply.code, if kernel { 426 } else { 226 }, "{way}");
        let stored = fs::read(Accounts::shared().home.join("two")).unwrap();
        let kept = if kernel { 30_000 } else { content.len() };
        assert_same(&stored, &content[..kept]);
    }
}

/// Half of what a key may protect goes to kernels that cannot change it, and more with ciphers whose keys
/// do not wear out.
#[test]
fn one_octet_too_many_for_a_key_stays_with_rustls() {
    let _alone = alone();
    if !has_kernel_tls() {
        eprintln!("skipped: this kernel has no kernel TLS");
        return;
    }
    let content = put_pattern("worn", (8 << 20) + 1);
    let route = ["--ktls", "on", "--route", "sendfile"];
    let server = Server::start(&[&route[..], &["--ktls-key-records", "1024"]].concat());
    for protection in protections() {
        let mut client = client(&server, Port::Explicit, Profile::of(protection.suite), true);
        client.link.set_patience(patience());
        let suite = format!("{:?}", protection.suite.suite());
        let changes = suite.starts_with("TLS13") && kernel_changes_keys();
        let endless = suite.contains("CHACHA20");
        for skipped in [0, 1] {
            client.ok(format!("REST {skipped}"), 350);
            assert_same(&client.download("RETR worn"), &content[skipped..]);
            let kernel = skipped == 1 || changes || endless;
            let (route, reason) = match kernel {
                true => ("ktls-sendfile", None),
                false => ("user-tls", Some("long")),
            };
            let octets = format!(" octets={} ", content.len() - skipped);
            let name = suite.replace("TLS13_", "TLS_");
            assert_logged(
                &server,
                "worn",
                &[&octets, &way_in_log(route, reason), &name],
            );
        }
    }
}
