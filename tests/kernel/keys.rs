//! Keys that change in the middle of a transfer (RFC 8446 §4.6.3): followed by rustls and by kernels that
//! can (Linux 6.14), a clear end on those that cannot.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use crate::common::server::{Accounts, Server};
use crate::common::{Port, assert_same, pattern};
use crate::pressure::{
    DOWNLOADS, UPLOADS, Way, alone, client, has_kernel_tls, logged, patience, put_pattern,
};
use crate::raw::{HANDSHAKE, KEY_UPDATE, KEY_UPDATE_REQUESTED, Raw, profile};

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

/// Does a transfer on this way survive a change of the client's keys?
fn follows(way: Way) -> bool {
    !way.route.starts_with("ktls") || kernel_changes_keys()
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
    if !follows(way) && logged(&server).last().unwrap().route == "ktls-receive" {
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
    if !follows(way) {
        assert!(!all.closed, "{said}");
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
        let updates = all
            .others
            .iter()
            .filter(|other| **other == (HANDSHAKE, KEY_UPDATE.to_vec()));
        let updates = updates.count();
        let last = logged(&server).pop().unwrap();
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
