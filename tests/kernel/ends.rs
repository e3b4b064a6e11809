//! How transfers end, on every route: what is cut is never reported as whole, and what is whole always is.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::link::{End, Link};
use crate::common::server::{Accounts, Server, wait_until};
use crate::common::tls::Profile;
use crate::common::{Port, assert_same, pattern};
use crate::matrix::protections;
use crate::pressure::{
    DOWNLOADS, UPLOADS, Way, alone, is_slow, open_narrow, patience, put_pattern, slowness,
};
use crate::raw::{ALERT, CLOSE_NOTIFY, DATA, HANDSHAKE, Raw, profile};

/// An upload on one route, up to its open data connection.
struct Upload {
    server: Server,
    client: Client,
    raw: Raw,
    way: Way,
}

impl Upload {
    fn open(way: Way, options: &[&str]) -> Self {
        let server = way.server(options);
        let mut client = way.client(&server, Port::Explicit, profile());
        client.link.set_patience(patience());
        let address = client.pasv();
        let data = client.data(address);
        client.ok("STOR ended", 150);
        let raw = Raw::handshake(data.tcp, &client.profile);
        Self {
            server,
            client,
            raw,
            way,
        }
    }

    fn send(&mut self, octets: &[u8]) {
        let records = self.raw.seal_data(octets, usize::MAX);
        self.raw.send(&records);
    }

    /// The final reply, and what is in the file then.
    fn end(mut self) -> (u16, Vec<u8>) {
        // Some of the ends are resets.
        let _ = self.raw.open_all();
        let reply = self.client.reply();
        self.client.ok("NOOP", 200);
        drop(self.server);
        let stored = fs::read(Accounts::shared().home.join("ended")).unwrap();
        (reply.code, stored)
    }
}

/// Every way of a protected upload; `test` is given one.
fn on_uploads(options: &[&str], test: impl Fn(Upload)) {
    let _alone = alone();
    for way in UPLOADS {
        if way.protected && way.is_open() {
            eprintln!("{way}");
            test(Upload::open(way, options));
        }
    }
}

#[test]
fn an_atomic_upload_replaces_the_file_at_its_end_or_not_at_all() {
    let (old, new) = (pattern(1000), pattern(300_000));
    let path = Accounts::shared().home.join("ended");
    for whole in [false, true] {
        fs::write(&path, &old).unwrap();
        on_uploads(&["--upload-mode", "atomic"], |mut upload| {
            upload.send(&new);
            assert_same(&fs::read(&path).unwrap(), &old);
            if whole {
                let end = upload.raw.seal_end();
                upload.raw.send(&end);
            }
            upload.raw.finish();
            let (code, stored) = upload.end();
            assert_eq!(code, if whole { 226 } else { 426 });
            assert_same(&stored, if whole { &new } else { &old });
            fs::write(&path, &old).unwrap();
        });
    }
}

#[test]
fn an_upload_without_close_notify_was_cut() {
    let content = pattern(100_000);
    on_uploads(&[], |mut upload| {
        upload.send(&content);
        upload.raw.finish();
        let (code, stored) = upload.end();
        assert_eq!(code, 426);
        assert_same(&stored, &content);
    });
    on_uploads(&["--strict-eof", "off"], |mut upload| {
        upload.send(&content);
        upload.raw.finish();
        let (code, stored) = upload.end();
        assert_eq!(code, 226);
        assert_same(&stored, &content);
    });
}

#[test]
fn an_upload_cut_in_a_record_was_cut_whatever_the_policy() {
    let content = pattern(100_000);
    on_uploads(&["--strict-eof", "off"], |mut upload| {
        upload.send(&content);
        let record = upload.raw.seal(DATA, b"cut", 0);
        upload.raw.send(&record[..record.len() - 1]);
        upload.raw.finish();
        assert_eq!(upload.end().0, 426, "cut in a record");
    });
}

#[test]
fn unusual_records_of_data_are_data() {
    let content = pattern(60_000);
    on_uploads(&[], |mut upload| {
        let mut records = upload.raw.seal(DATA, b"", 0);
        for (number, part) in content.chunks(7_000).enumerate() {
            records.extend(upload.raw.seal(DATA, part, number * 900));
            records.extend(upload.raw.seal(DATA, b"", number));
        }
        records.extend(upload.raw.seal_end());
        upload.raw.send(&records);
        upload.raw.finish();
        let (code, stored) = upload.end();
        assert_eq!(code, 226);
        assert_same(&stored, &content);
    });
}

/// An empty record that stands alone, then the end.
#[test]
fn an_empty_record_tells_nothing_about_the_next() {
    let content = pattern(60_000);
    on_uploads(&[], |mut upload| {
        upload.send(&content);
        for padding in [0, 1, 100] {
            sleep(Duration::from_millis(30) * slowness().min(5));
            let empty = upload.raw.seal(DATA, b"", padding);
            upload.raw.send(&empty);
        }
        sleep(Duration::from_millis(30) * slowness().min(5));
        let end = upload.raw.seal_end();
        upload.raw.send(&end);
        upload.raw.finish();
        let (code, stored) = upload.end();
        assert_eq!(code, 226);
        assert_same(&stored, &content);
    });
}

#[test]
fn nothing_counts_behind_close_notify() {
    let content = pattern(60_000);
    on_uploads(&[], |mut upload| {
        upload.send(&content);
        let end = upload.raw.seal_end();
        let late = upload.raw.seal(DATA, b"too late", 0);
        upload.raw.send(&[end, late].concat());
        upload.raw.finish();
        let (code, stored) = upload.end();
        assert!([226, 426].contains(&code), "{code}");
        assert_same(&stored, &content);
    });
}

/// What no client may send ends the upload.
#[test]
fn records_that_a_client_may_not_send_end_an_upload() {
    let content = pattern(30_000);
    let cases: [(u8, &[u8]); 11] = [
        (ALERT, &[2, 40]),
        (ALERT, &[2, 20]),
        (ALERT, &[2]),
        // Only records of data may be empty (RFC 8446 §5.4).
        (ALERT, b""),
        // A ticket, a certificate request, a key update of an unknown kind.
        (HANDSHAKE, &[4, 0, 0, 0]),
        (HANDSHAKE, &[13, 0, 0, 1, 0]),
        (HANDSHAKE, &[24, 0, 0, 1, 7]),
        // Fragments, of a key update and of a message whose rest never comes.
        (HANDSHAKE, &[24, 0, 0]),
        (HANDSHAKE, &[4, 0, 1, 0, 9, 9]),
        (24, &[1, 0, 0]),
        (77, b"what is this"),
    ];
    for (record_type, payload) in cases {
        on_uploads(&[], |mut upload| {
            let way = upload.way;
            upload.send(&content);
            let bad = upload.raw.seal(record_type, payload, 0);
            upload.raw.send(&bad);
            // An end that would be a proper one.
            let end = upload.raw.seal_end();
            upload.raw.send(&end);
            upload.raw.finish();
            let (code, _) = upload.end();
            assert_eq!(code, 426, "{way}: {record_type} {payload:?}");
        });
    }
}

/// No client may send it (RFC 8446 §5.4), but rustls passes over it: then nothing must be missing.
#[test]
fn an_empty_handshake_record_does_no_harm() {
    let content = pattern(60_000);
    on_uploads(&[], |mut upload| {
        let way = upload.way;
        let mut records = upload.raw.seal_data(&content[..30_000], usize::MAX);
        records.extend(upload.raw.seal(HANDSHAKE, b"", 3));
        records.extend(upload.raw.seal_data(&content[30_000..], usize::MAX));
        records.extend(upload.raw.seal_end());
        upload.raw.send(&records);
        upload.raw.finish();
        let (code, stored) = upload.end();
        let kept = match code {
            226 => content.len(),
            426 => 30_000,
            other => panic!("{way}: {other}"),
        };
        assert_same(&stored, &content[..kept]);
    });
}

#[test]
fn a_record_that_was_changed_ends_an_upload() {
    let content = pattern(30_000);
    on_uploads(&[], |mut upload| {
        upload.send(&content);
        let mut bad = upload.raw.seal(DATA, b"octets", 0);
        *bad.last_mut().unwrap() ^= 1;
        upload.raw.send(&bad);
        let (code, stored) = upload.end();
        assert_eq!(code, 426);
        assert_same(&stored, &content);
    });
}

#[test]
fn a_reset_ends_an_upload() {
    let content = pattern(300_000);
    on_uploads(&[], |mut upload| {
        upload.send(&content);
        upload.raw.reset();
        let reply = upload.client.reply();
        assert_eq!(reply.code, 426, "{reply:?}");
    });
}

/// Every protected way of a download of this file, opened by a client that makes its records itself.
fn on_downloads(name: &str, test: impl Fn(Way, &mut Client, Raw)) {
    let _alone = alone();
    for way in DOWNLOADS {
        if !way.protected || !way.is_open() {
            continue;
        }
        eprintln!("{way}");
        let server = way.server(&[]);
        let mut client = way.client(&server, Port::Implicit, profile());
        client.link.set_patience(patience());
        let address = client.pasv();
        let data = client.data(address);
        client.ok(format!("RETR {name}"), 150);
        let raw = Raw::handshake(data.tcp, &client.profile);
        test(way, &mut client, raw);
        client.ok("NOOP", 200);
    }
}

/// More than all buffers on the way hold, and than the server sends between two looks.
const LONG: usize = 48 << 20;

#[test]
fn an_alert_or_nonsense_ends_a_download() {
    put_pattern("long", LONG);
    for (record_type, payload) in [
        (ALERT, &[2, 40][..]),
        (77, b"what is this"),
        (HANDSHAKE, &[4, 0, 0, 0]),
    ] {
        on_downloads("long", |way, client, mut raw| {
            // Part of the handshake it would be before that.
            assert_ne!(raw.open().map(|record| record.0), None, "{way}");
            let record = raw.seal(record_type, payload, 0);
            raw.send(&record);
            let all = raw.open_all();
            assert!(!all.closed, "{way}: {all:?}");
            drop(raw);
            let reply = client.reply();
            assert_eq!(reply.code, 426, "{way}: {record_type} {payload:?}");
        });
    }
}

/// A client may close its own direction and still wants the rest.
#[test]
fn a_client_that_has_closed_its_direction_gets_everything() {
    let content = put_pattern("half", 9_000_001);
    for by_fin_alone in [true, false] {
        on_downloads("half", |way, client, mut raw| {
            if !by_fin_alone {
                let end = raw.seal_end();
                raw.send(&end);
            }
            raw.finish();
            let all = raw.open_all();
            assert!(all.closed, "{way}: {all:?}");
            assert_same(&all.data, &content);
            drop(raw);
            client.expect(226);
        });
    }
}

/// Octets that a client sends during a download are of no interest, and do no harm.
#[test]
fn a_client_that_talks_during_a_download_gets_everything() {
    let content = put_pattern("talk", 9_000_001);
    on_downloads("talk", |way, client, mut raw| {
        for _ in 0..100 {
            let record = raw.seal(DATA, &[7; 500], 0);
            raw.send(&record);
        }
        let all = raw.open_all();
        assert!(all.closed, "{way}: {all:?}");
        assert_same(&all.data, &content);
        let end = raw.seal(ALERT, &CLOSE_NOTIFY, 0);
        raw.send(&end);
        drop(raw);
        client.expect(226);
    });
}

/// FIN must not overtake what waits in the server: clients that read little, in bursts, files whose end
/// lies anywhere in the buffers.
#[test]
fn slow_readers_get_the_end_too() {
    let _alone = alone();
    let steps = if is_slow() { 6 } else { 24 };
    let sizes: Vec<usize> = (0..steps)
        .map(|step| 60_000 + step * step * 7_919)
        .collect();
    let files: Vec<_> = sizes
        .iter()
        .map(|size| {
            (
                put_pattern(&format!("slow-{size}"), *size),
                format!("slow-{size}"),
            )
        })
        .collect();
    for way in DOWNLOADS.into_iter().filter(|way| way.is_open()) {
        eprintln!("{way}");
        let server = way.server(&["--cores", "1"]);
        for (number, (content, name)) in files.iter().enumerate() {
            let profile = if number % 2 == 0 {
                profile()
            } else {
                Profile::usual()
            };
            let mut client = way.client(&server, Port::Explicit, profile);
            client.link.set_patience(patience());
            let buffer = 2_048 << (number % 5);
            let mut data = open_narrow(&mut client, &format!("RETR {name}"), buffer);
            let mut octets = Vec::new();
            let end = loop {
                match data.take() {
                    Ok(mut more) => octets.append(&mut more),
                    Err(end) => break end,
                }
                if octets.len() % 5 == 0 {
                    sleep(Duration::from_millis(2) * slowness().min(5));
                }
            };
            assert_eq!(end, client.clean_end(), "{way}: {name}, buffer {buffer}");
            assert_same(&octets, content);
            drop(data);
            client.expect(226);
        }
    }
}

/// The ciphers number their records in different ways.
#[test]
fn an_upload_is_cut_in_every_protection() {
    let _alone = alone();
    let content = pattern(60_000);
    for way in UPLOADS {
        if !way.protected || !way.is_open() {
            continue;
        }
        let server = way.server(&[]);
        for protection in protections() {
            for changed in [false, true] {
                let profile = Profile::of(protection.suite);
                let mut client = way.client(&server, Port::Explicit, profile);
                client.link.set_patience(patience());
                let mut data = client.open("STOR cut");
                data.send(&content).unwrap();
                if changed {
                    let mut record = data.protect(b"changed on the way");
                    *record.last_mut().unwrap() ^= 1;
                    data.send_raw(&record);
                } else {
                    data.shutdown_write();
                }
                client.expect(426);
                let stored = fs::read(Accounts::shared().home.join("cut")).unwrap();
                assert_same(&stored, &content);
            }
        }
    }
}

/// While the kernel protects a download, the server's process opens what the client says.
#[test]
fn what_clients_say_in_a_download_is_understood_in_every_protection() {
    let _alone = alone();
    let content = put_pattern("spoken", 1_000_003);
    put_pattern("spoken-long", 12 << 20);
    for way in DOWNLOADS {
        if !way.protected || !way.is_open() {
            continue;
        }
        let server = way.server(&[]);
        for protection in protections() {
            let profile = Profile::of(protection.suite);
            let mut client = way.client(&server, Port::Explicit, profile);
            client.link.set_patience(patience());
            let mut data = client.open("RETR spoken");
            for part in [1, 3_000, 20_000] {
                data.send(&content[..part]).unwrap();
            }
            assert_same(&client.drain(data), &content);
            // rustls looks more seldom; what it does then is seen elsewhere.
            if way.route.starts_with("ktls") {
                let mut data = open_narrow(&mut client, "RETR spoken-long", 32 * 1024);
                data.take_exactly(1);
                data.send(b"right").unwrap();
                let mut record = data.protect(b"changed on the way");
                *record.last_mut().unwrap() ^= 1;
                data.send_raw(&record);
                let (_, end) = data.take_all();
                assert_ne!(end, End::CloseNotify, "{way}: {:?}", protection.suite);
                client.expect(426);
            }
        }
    }
}

/// How a client goes that has not read everything.
#[derive(Debug, Clone, Copy)]
enum Going {
    Reset,
    /// The kernel makes a reset of it, as octets are unread.
    Close,
    /// As clients do that end their own direction properly first.
    FinThenReset,
}

/// After that kernel TLS may report success for all that is left of a file, whatever its size.
#[test]
fn a_client_that_goes_without_reading_has_not_got_it() {
    let _alone = alone();
    put_pattern("unwanted", if is_slow() { 16 << 20 } else { 64 << 20 });
    for way in DOWNLOADS.into_iter().filter(|way| way.is_open()) {
        eprintln!("{way}");
        let server = way.server(&[]);
        for going in [Going::Reset, Going::Close, Going::FinThenReset] {
            // In the middle of everything, and when nothing moves any more.
            for stalls in [false, true] {
                let mut client = way.client(&server, Port::Explicit, Profile::usual());
                client.link.set_patience(patience());
                let mut data = open_narrow(&mut client, "RETR unwanted", 32 * 1024);
                data.take_exactly(100_000);
                if stalls {
                    wait_until_full(&data);
                }
                go(data, going);
                let reply = client.reply();
                assert_eq!(reply.code, 426, "{way}: {going:?}, stalls: {stalls}");
            }
        }
    }
}

/// Waits until nothing more comes to a client that does not read.
fn wait_until_full(data: &Link) {
    let mut last = (0, Instant::now());
    wait_until(patience(), || {
        let unread = rustix::io::ioctl_fionread(&data.tcp).unwrap();
        if unread != last.0 {
            last = (unread, Instant::now());
        }
        unread > 0 && last.1.elapsed() > Duration::from_millis(50) * slowness()
    });
}

fn go(data: Link, going: Going) {
    match going {
        Going::Reset => data.reset(),
        Going::Close => drop(data),
        Going::FinThenReset => {
            data.shutdown_write();
            // Long enough for FIN to be seen first, on most runs.
            sleep(Duration::from_millis(10) * slowness().min(5));
            data.reset();
        }
    }
}
