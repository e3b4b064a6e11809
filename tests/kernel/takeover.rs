//! Nothing is lost when a connection goes from rustls to the kernel, wherever its octets are at that
//! moment. Each test also runs on the route that has no such moment.

use std::fs;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use rustls::HandshakeKind;
use socket2::SockRef;

use crate::common::client::Client;
use crate::common::server::{Accounts, Server};
use crate::common::tls::{Profile, Version};
use crate::common::{Port, assert_same, pattern};
use crate::matrix::{assert_logged, protections, way_in_log};
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

/// Sends these octets and FIN in one segment: nobody has one without the other.
fn send_with_end(tcp: &TcpStream, raw: &mut Raw, octets: &[u8]) {
    SockRef::from(tcp).set_tcp_cork(true).unwrap();
    raw.send(octets);
    raw.finish();
}

/// A client that has ended with its handshake: the kernel takes nobody over after FIN, and nothing is
/// lost for that.
fn assert_stays(server: &Server, way: Way, name: &str) {
    let reason = match way.route {
        "user-tls" => "off",
        _ => "late",
    };
    let words = [&way_in_log("user-tls", Some(reason)), " end=Complete"];
    assert_logged(server, name, &words);
}

#[test]
fn an_upload_that_ends_with_the_handshake_stays_with_rustls() {
    let _alone = alone();
    for way in protected_uploads() {
        let server = way.server(&[]);
        for size in [0, 1, 16_384] {
            let content = pattern(size);
            let mut client = way.client(&server, Port::Explicit, profile());
            client.link.set_patience(patience());
            let address = client.pasv();
            let data = client.data(address);
            let tcp = data.tcp.try_clone().unwrap();
            let name = format!("ends-{size}");
            client.ok(format!("STOR {name}"), 150);
            let mut raw = Raw::begin(data.tcp, &client.profile);
            let mut flight = std::mem::take(&mut raw.finished);
            flight.extend(raw.seal_data(&content, usize::MAX));
            flight.extend(raw.seal_end());
            send_with_end(&tcp, &mut raw, &flight);
            assert!(raw.open_all().closed, "{way}");
            client.expect(226);
            let stored = fs::read(Accounts::shared().home.join(&name)).unwrap();
            assert_same(&stored, &content);
            assert_stays(&server, way, &name);
        }
    }
}

#[test]
fn a_download_whose_client_ends_with_the_handshake_stays_with_rustls() {
    let _alone = alone();
    let content = put_pattern("ended-true", 2_000_003);
    put_pattern("ended-false", content.len());
    for way in DOWNLOADS {
        if !way.protected || !way.is_open() {
            continue;
        }
        let server = way.server(&[]);
        for notify in [true, false] {
            let mut client = way.client(&server, Port::Implicit, profile());
            client.link.set_patience(patience());
            let address = client.pasv();
            let data = client.data(address);
            let tcp = data.tcp.try_clone().unwrap();
            let name = format!("ended-{notify}");
            client.ok(format!("RETR {name}"), 150);
            let mut raw = Raw::begin(data.tcp, &client.profile);
            let mut flight = std::mem::take(&mut raw.finished);
            // Of no interest, and not in the way.
            flight.extend(raw.seal_data(b"octets of a client that should be silent", 7));
            if notify {
                flight.extend(raw.seal_end());
            }
            send_with_end(&tcp, &mut raw, &flight);
            let all = raw.open_all();
            assert!(all.closed, "{way}: {all:?}");
            assert_same(&all.data, &content);
            drop((raw, tcp));
            client.expect(226);
            assert_stays(&server, way, &name);
        }
    }
}

/// In TLS 1.2, too, where a client that resumes has the last word of the handshake.
#[test]
fn data_right_behind_the_handshake_in_every_protection() {
    let _alone = alone();
    let content = pattern(200_000);
    for way in protected_uploads() {
        let server = way.server(&[]);
        for protection in protections() {
            let profile = Profile::of(protection.suite);
            let mut client = way.client(&server, Port::Explicit, profile);
            client.link.set_patience(patience());
            let address = client.pasv();
            let mut data = client.data(address);
            client.ok("STOR behind", 150);
            data.begin_tls(&client.profile.resuming());
            // rustls keeps it until the handshake is done, and sends it with its Finished.
            let hello = data.protect(&content[..30_000]);
            data.send_raw(&hello);
            assert_eq!(data.complete_handshake(), Ok(()));
            assert_eq!(data.handshake_kind(), HandshakeKind::Resumed);
            let records = data.protect(&content[30_000..]);
            for piece in records.chunks(50_001) {
                data.send_raw(piece);
            }
            pause();
            data.finish_sending();
            client.expect(226);
            let stored = fs::read(Accounts::shared().home.join("behind")).unwrap();
            assert_same(&stored, &content);
        }
        // The end may come before the server has got to take a connection over.
        let all = logged(&server);
        let expected = all.iter().filter(|one| one.route == way.route).count();
        assert!(expected >= 3, "{way}: {all:?}");
    }
}
