//! Nothing is lost when a connection goes from rustls to the kernel, wherever its octets are at that
//! moment. Each test also runs on the route that has no such moment.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use rustls::HandshakeKind;

use crate::common::client::Client;
use crate::common::server::{Accounts, Server};
use crate::common::tls::{Profile, Version};
use crate::common::{Port, assert_same, pattern};
use crate::pressure::{
    DOWNLOADS, UPLOADS, Way, alone, client, has_kernel_tls, logged, patience, put_pattern, slowness,
};
use crate::raw::{DATA, Raw, profile};

/// Long enough for the server to have read what has come, on most runs: what follows must be right in
/// any case.
fn pause() {
    sleep(Duration::from_millis(50) * slowness().min(5));
}

fn protected_uploads() -> impl Iterator<Item = Way> {
    UPLOADS
        .into_iter()
        .filter(|way| way.protected && way.is_open())
}

/// Uploads `content` by what `send` does with a connection whose end of the handshake is not sent
/// yet, on every route.
fn upload(content: &[u8], send: impl Fn(&mut Raw)) {
    let _alone = alone();
    for way in protected_uploads() {
        let server = way.server(&[]);
        let mut client = way.client(&server, Port::Explicit, profile());
        client.link.set_patience(patience());
        let address = client.pasv();
        let data = client.data(address);
        client.ok("STOR taken", 150);
        let mut raw = Raw::begin(data.tcp, &client.profile);
        send(&mut raw);
        let all = raw.open_all();
        assert!(all.closed, "{way}: {all:?}");
        client.expect(226);
        let stored = fs::read(Accounts::shared().home.join("taken")).unwrap();
        assert_same(&stored, content);
    }
}

#[test]
fn data_right_behind_the_handshake() {
    let content = pattern(100_000);
    upload(&content, |raw| {
        let mut flight = std::mem::take(&mut raw.finished);
        flight.extend(raw.seal_data(&content, 5_000));
        raw.send(&flight);
        pause();
        let end = raw.seal_end();
        raw.send(&end);
        raw.finish();
    });
}

#[test]
fn a_whole_upload_in_one_segment() {
    for size in [0, 1, 700, 16_384] {
        let content = pattern(size);
        upload(&content, |raw| {
            let mut flight = std::mem::take(&mut raw.finished);
            flight.extend(raw.seal_data(&content, usize::MAX));
            flight.extend(raw.seal_end());
            raw.send(&flight);
            raw.finish();
        });
    }
}

#[test]
fn a_record_cut_anywhere() {
    let content = pattern(40_000);
    // In the header, behind it, in the middle, and just before the end of the second record.
    for cut in [1, 2, 3, 4, 5, 6, 11_000, 16_405] {
        upload(&content, |raw| {
            let mut flight = std::mem::take(&mut raw.finished);
            let first = raw.seal(DATA, &content[..10_000], 0);
            let rest = raw.seal_data(&content[10_000..], usize::MAX);
            flight.extend(first);
            flight.extend(&rest[..cut]);
            raw.send(&flight);
            pause();
            raw.send(&rest[cut..]);
            pause();
            let end = raw.seal_end();
            raw.send(&end);
            raw.finish();
        });
    }
}

#[test]
fn data_a_pause_and_more_data() {
    let content = pattern(300_000);
    upload(&content, |raw| {
        let finished = std::mem::take(&mut raw.finished);
        raw.send(&finished);
        for part in content.chunks(60_001) {
            pause();
            let records = raw.seal_data(part, usize::MAX);
            raw.send(&records);
        }
        let end = raw.seal_end();
        raw.send(&end);
        raw.finish();
    });
}

/// With the usual threshold the kernel takes over in the middle, between two records of an odd size.
#[test]
fn a_long_upload_goes_over_in_the_middle() {
    let _alone = alone();
    let content = pattern(6_000_000);
    let ktls = if has_kernel_tls() { "on" } else { "auto" };
    let server = Server::start(&["--ktls", ktls, "--log-level", "info"]);
    for record in [5_000, 16_384, 13_333] {
        let mut client = client(&server, Port::Implicit, profile(), true);
        client.link.set_patience(patience());
        let address = client.pasv();
        let data = client.data(address);
        client.ok("STOR long", 150);
        let mut raw = Raw::handshake(data.tcp, &client.profile);
        let records = raw.seal_data(&content, record);
        // In pieces that have nothing to do with records; the end comes when the kernel has taken over.
        for piece in records.chunks(70_003) {
            raw.send(piece);
        }
        pause();
        let end = raw.seal_end();
        raw.send(&end);
        raw.finish();
        assert!(raw.open_all().closed);
        client.expect(226);
        let stored = fs::read(Accounts::shared().home.join("long")).unwrap();
        assert_same(&stored, &content);
    }
    if has_kernel_tls() {
        let all = logged(&server);
        let kernel = all.iter().filter(|one| one.route == "ktls-receive");
        assert!(kernel.count() > 0, "{all:?}");
    }
}

/// Tickets are sent by rustls before the keys go: a client resumes with those of a download.
#[test]
fn tickets_arrive_before_the_kernel_takes_over() {
    let _alone = alone();
    let content = put_pattern("tickets", 50_000);
    for way in DOWNLOADS
        .into_iter()
        .filter(|way| way.protected && way.is_open())
    {
        let server = way.server(&[]);
        for version in [Version::Tls12, Version::Tls13] {
            let mut client = way.client(&server, Port::Explicit, Profile::new(version));
            client.link.set_patience(patience());
            // More often than the control connection brought tickets.
            for round in 0..8 {
                resume(&mut client, &content, round, way);
            }
        }
    }
}

fn resume(client: &mut Client, content: &[u8], round: usize, way: Way) {
    let data = client.open("RETR tickets");
    let kind = data.handshake_kind();
    assert_eq!(kind, HandshakeKind::Resumed, "{way}, round {round}");
    assert_same(&client.drain(data), content);
}
