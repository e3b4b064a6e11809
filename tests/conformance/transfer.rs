//! Transfers from the first octet to the final reply: both ends of the data, ABOR, STAT, REST.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::link::{End, Link};
use crate::common::server::{Accounts, PASSWORD, Server, process_directory, wait_until};
use crate::common::tls::{Profile, Version};
use crate::common::{assert_same, pattern, skip};
use crate::fixture::{DATA_OPTIONAL, OPTIONAL, Test};

checks! {
    c084: Both, c085: Both, c086: Both, c087: Both, c088: Both, c089: Both, c090: Both,
    c091: Both, c092: Both, c093: Both, c094: Both, c095: Both, c096: Both, c097: Both,
    c098: Both, c099: Both, c100: Both, c101: Both, c102: Both, c103: Both, c104: Both,
    c105: Both,
}

/// More than all socket buffers between server and client can hold.
const LARGE: u64 = 64 << 20;

fn c084(t: &Test) {
    let content = pattern(100_000);
    t.put("f", &content);
    for version in [Version::Tls12, Version::Tls13] {
        let mut client = t.login_with(&t.server(), Profile::new(version));
        // The client's close_notify lies unread in the server's socket when the server closes.
        let mut data = client.open("RETR f");
        let mut octets = data.take_exactly(content.len());
        data.close_notify();
        let start = Instant::now();
        let (rest, end) = data.take_all();
        octets.extend(rest);
        assert_same(&octets, &content);
        assert_eq!(end, End::CloseNotify);
        data.end_tls();
        let (rest, end) = data.take_all_raw();
        assert_eq!((rest, end), (Vec::new(), End::Fin), "{version:?}");
        client.expect(226);
        // The client's FIN is not waited for: it may come after the final reply.
        assert!(start.elapsed() < Duration::from_secs(3), "226 came late");
    }
    // A client of TLS 1.3 may close its own direction before it has read anything.
    let mut client = t.login_with(&t.server(), Profile::new(Version::Tls13));
    let mut data = client.open("RETR f");
    data.close_notify();
    let (octets, end) = data.take_all();
    assert_same(&octets, &content);
    assert_eq!(end, End::CloseNotify);
    client.expect(226);
}

fn c085(t: &Test) {
    const LENGTH: usize = 100 << 20;
    const STEP: usize = 10 << 20;
    t.put_zeros("f", LENGTH as u64);
    let file = std::fs::File::options()
        .write(true)
        .open(t.path("f"))
        .unwrap();
    for at in (0..LENGTH).step_by(STEP) {
        let mark = (at as u64 + 1).to_be_bytes();
        std::os::unix::fs::FileExt::write_all_at(&file, &mark, at as u64).unwrap();
    }
    let mut client = t.session();
    let mut data = client.open("RETR f");
    for at in (0..LENGTH).step_by(STEP) {
        let part = data.take_exactly(STEP);
        let (mark, zeros) = part.split_at(8);
        assert_eq!(mark, (at as u64 + 1).to_be_bytes());
        assert!(zeros.iter().all(|&octet| octet == 0), "behind {at}");
        std::thread::sleep(Duration::from_millis(80));
    }
    let rest = client.drain(data);
    assert!(rest.is_empty());
}

fn c086(t: &Test) {
    t.put_zeros("f", LARGE);
    let mut client = t.session();
    for reset in [true, false] {
        let mut data = client.open("RETR f");
        data.take_exactly(1 << 20);
        if reset {
            data.reset();
        } else {
            drop(data);
        }
        client.expect(426);
        client.ok("NOOP", 200);
    }
}

fn c087(t: &Test) {
    let content = pattern(300_000);
    for (options, code) in [(&[][..], 426), (&["--strict-eof", "off"], 226)] {
        let mut client = t.login(&t.server_with(options));
        let mut data = client.open("STOR f");
        data.send(&content).unwrap();
        data.shutdown_write();
        client.expect(code);
        client.ok("NOOP", 200);
        assert_same(&t.get("f"), &content);
    }
    // In the middle of a record.
    let mut client = t.session();
    let mut data = client.open("STOR f");
    let record = data.protect(b"half of a record");
    data.send_raw(&record[..record.len() / 2]);
    data.shutdown_write();
    client.expect(426);
}

fn c088(t: &Test) {
    let content = pattern(3_000_000);
    for version in [Version::Tls12, Version::Tls13] {
        let mut client = t.login_with(&t.server(), Profile::new(version));
        let mut data = client.open("STOR f");
        data.send(&content).unwrap();
        data.close_notify();
        let (octets, end) = data.take_all();
        assert_eq!((octets, end), (Vec::new(), End::CloseNotify), "{version:?}");
        client.expect(226);
        assert_same(&t.get("f"), &content);
    }
}

fn c089(t: &Test) {
    let content = pattern(500_000);
    let mut client = t.login(&t.server_with(DATA_OPTIONAL));
    client.ok("PROT C", 200);
    client.protected = false;
    let mut data = client.open("STOR f");
    data.send(&content).unwrap();
    // The octets have arrived when the file has them; an RST may overtake what is in flight.
    wait_until(Duration::from_secs(5), || {
        t.path("f").metadata().is_ok_and(|file| file.len() > 0)
    });
    data.reset();
    client.expect(426);
    client.upload("STOR f", &content);
    assert_same(&t.get("f"), &content);
    assert_same(&client.download("RETR f"), &content);
}

/// A file system of 1 MiB.
struct Volume(PathBuf);

impl Volume {
    fn mount(directory: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(&directory)
            .status();
        assert!(done.is_ok_and(|status| status.success()), "mount");
        Self(directory)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn c090(t: &Test) {
    if !rustix::process::geteuid().is_root() {
        skip("only root may mount a small volume");
        return;
    }
    let volume = Volume::mount(process_directory().join(format!("volume-{:?}", t.port)));
    let accounts = Accounts::single("small", &volume.0);
    let server = Server::start(&["--users", accounts.file.to_str().unwrap()]);
    let mut client = t.secure(&server);
    client.login("small", PASSWORD);
    if t.explicit() {
        client.protect();
    }
    client.ok("TYPE I", 200);
    client.ok("ALLO 100000000", 504);
    let mut data = client.open("STOR f");
    // The server may close before everything is sent.
    let _ = data.send(&pattern(3 << 20));
    data.finish_sending();
    client.expect(452);
    client.ok("NOOP", 200);
    client.ok("DELE f", 250);
    client.upload("STOR f", &pattern(100_000));
}

fn c091(t: &Test) {
    t.put_zeros("f", LARGE);
    let mut client = t.login(&t.server_with(&["--stall-timeout", "1s"]));
    for line in ["RETR f", "STOR g"] {
        let data = client.open(line);
        let start = Instant::now();
        client.expect(426);
        let elapsed = start.elapsed();
        assert!(elapsed > Duration::from_millis(500), "after {elapsed:?}");
        assert!(elapsed < Duration::from_secs(12), "after {elapsed:?}");
        drop(data);
        client.ok("NOOP", 200);
    }
}

fn c092(t: &Test) {
    t.put("f", b"old content");
    let mut client = t.session();
    client.upload("STOR f", b"");
    client.upload("STOR g", b"");
    assert_eq!((t.get("f"), t.get("g")), (Vec::new(), Vec::new()));
    assert!(client.download("RETR g").is_empty());
}

/// Aborts a download with these octets on the control connection.
fn abort_with(client: &mut Client, abort: impl FnOnce(&mut Client)) {
    let mut data = client.open("RETR f");
    data.take_exactly(1 << 20);
    abort(client);
    client.expect(426);
    client.expect(226);
    let (octets, end) = data.take_all();
    assert!((octets.len() as u64) < LARGE, "the whole file came");
    assert_ne!(end, End::Timeout, "data must be closed");
}

fn c093(t: &Test) {
    t.put_zeros("f", LARGE);
    t.put("small", b"content");
    let mut client = t.session();
    for _ in 0..3 {
        abort_with(&mut client, |client| client.send("ABOR"));
        assert_eq!(client.download("RETR small"), b"content");
    }
    let mut data = client.open("STOR g");
    data.send(b"some").unwrap();
    client.send("ABOR");
    client.expect(426);
    client.expect(226);
    assert_eq!(client.download("RETR small"), b"content");
    // Before the data connection is up.
    client.pasv();
    client.ok("RETR f", 150);
    client.send("ABOR");
    client.expect(426);
    client.expect(226);
}

fn c094(t: &Test) {
    t.put_zeros("f", LARGE);
    t.put("small", b"content");
    let mut client = t.session();
    let in_band = |client: &mut Client| client.send(b"\xff\xf4\xff\xf2ABOR");
    abort_with(&mut client, in_band);
    assert_eq!(client.download("RETR small"), b"content");
    if !t.explicit() {
        return;
    }
    let mut client = t.login_clear(&t.server_with(OPTIONAL));
    // Both customs: the urgent octet is the Data Mark, or the IAC before it.
    let urgent_mark = |client: &mut Client| {
        client.link.send_raw(b"\xff\xf4");
        send_urgent(&client.link, b"\xff\xf2");
        client.link.send_raw(b"ABOR\r\n");
    };
    let urgent_escape = |client: &mut Client| {
        send_urgent(&client.link, b"\xff\xf4\xff");
        client.link.send_raw(b"\xf2ABOR\r\n");
    };
    abort_with(&mut client, in_band);
    abort_with(&mut client, urgent_mark);
    abort_with(&mut client, urgent_escape);
    assert_eq!(client.download("RETR small"), b"content");
}

/// Sends octets whose last one is urgent.
fn send_urgent(link: &Link, octets: &[u8]) {
    let socket = socket2::SockRef::from(&link.tcp);
    assert_eq!(socket.send_out_of_band(octets).unwrap(), octets.len());
}

fn c095(t: &Test) {
    let mut client = t.session();
    client.ok("ABOR", 226);
    let address = client.pasv();
    client.ok("ABOR", 226);
    let closed = wait_until(Duration::from_secs(5), || {
        Link::connect(address, None).is_err()
    });
    assert!(closed, "the port still accepts");
    client.ok("LIST", 425);
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<u64> {
    let parts = text.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|digits| digits.parse().ok()).collect()
}

fn c096(t: &Test) {
    let content = pattern(32 << 20);
    t.put("f", &content);
    let mut client = t.session();
    let mut data = client.open("RETR f");
    let mut octets = data.take_exactly(1 << 20);
    let first = numbers(&client.ok("STAT", 211).text());
    octets.extend(data.take_exactly(20 << 20));
    let second = numbers(&client.ok("STAT", 211).text());
    let grown = first.iter().zip(&second).any(|(before, after)| {
        before < after && *before >= 1 << 20 && *after >= 21 << 20 && *after <= 32 << 20
    });
    assert!(first.len() == second.len() && grown, "{first:?} {second:?}");
    octets.extend(client.drain(data));
    assert_same(&octets, &content);
    client.ok("STAT", 211);
}

fn c097(t: &Test) {
    t.put_zeros("f", LARGE);
    let mut client = t.session();
    let data = client.open("RETR f");
    client.ok("NOOP", 200);
    client.send("PWD");
    client.send("NOOP");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.drain(data).len() as u64, LARGE);
    client.expect(257);
    client.expect(200);

    let mut data = client.open("RETR f");
    data.take_exactly(1000);
    client.send("NOOP");
    client.send("ABOR");
    client.expect(200);
    client.expect(426);
    client.expect(226);

    // Sent with the command: never before 150, once.
    let address = client.pasv();
    let mut data = client.data(address);
    client.send("RETR f\r\nNOOP");
    client.expect(150);
    client.secure_data(&mut data);
    client.expect(200);
    assert_eq!(client.drain(data).len() as u64, LARGE);
    client.ok("PWD", 257);
}

fn c098(t: &Test) {
    let content = pattern(8 << 20);
    t.put("f", &content);
    let mut client = t.session();
    let data = client.open("RETR f");
    client.send("QUIT");
    std::thread::sleep(Duration::from_millis(100));
    assert_same(&client.drain(data), &content);
    client.expect(221);
    client.expect_closed();
}

fn c099(t: &Test) {
    t.put_zeros("f", LARGE);
    let server = Server::start(&[]);
    let mut client = t.login(&server);
    client.download("LIST");
    client.ok("QUIT", 221);
    drop(client);
    std::thread::sleep(Duration::from_millis(500));
    let idle = server.descriptors();
    for (line, reset) in [
        ("RETR f", true),
        ("RETR f", false),
        ("STOR g", true),
        ("STOR g", false),
    ] {
        let mut client = t.login(&server);
        let mut data = client.open(line);
        if line.starts_with("STOR") {
            data.send(b"some").unwrap();
        } else {
            data.take_exactly(1000);
        }
        if reset {
            client.link.reset();
        } else {
            drop(client);
        }
        let (_, end) = data.take_all();
        assert_ne!(end, End::Timeout, "{line}: data must be closed");
    }
    let back = wait_until(Duration::from_secs(10), || server.descriptors() <= idle);
    assert!(back, "{} descriptors, {idle} before", server.descriptors());
}

fn c100(t: &Test) {
    let content = pattern(1_000_000);
    t.put("f", &content);
    let mut client = t.session();
    for offset in [1, 5, 16_384, 262_144, 999_999] {
        client.ok(format!("REST {offset}"), 350);
        assert_same(&client.download("RETR f"), &content[offset..]);
        assert_same(&client.download("RETR f"), &content);
    }
}

fn c101(t: &Test) {
    t.put("f", b"0123456789");
    let mut client = t.session();
    client.ok("REST 9", 350);
    assert_eq!(client.download("RETR f"), b"9");
    client.ok("REST 10", 350);
    assert_eq!(client.download("RETR f"), b"");
    client.ok("REST 11", 350);
    client.pasv();
    client.ok("RETR f", 554);
    assert_eq!(client.download("RETR f"), b"0123456789");
    client.dialogue(&[("REST 5", 350), ("REST 0", 350)]);
    assert_eq!(client.download("RETR f"), b"0123456789");
}

fn c102(t: &Test) {
    let mut client = t.session();
    client.dialogue(&[("REST x", 501), ("REST -1", 501), ("REST", 501)]);
    client.dialogue(&[
        ("REST 9223372036854775808", 501),
        ("REST 9223372036854775807", 350),
    ]);
}

fn c103(t: &Test) {
    let mut client = t.session();
    for verb in ["STOR", "APPE"] {
        t.put("f", b"0123456789");
        client.ok("REST 3", 350);
        client.upload(format!("{verb} f"), b"abc");
        assert_eq!(t.get("f"), b"012abc6789", "{verb}");
        client.ok("REST 8", 350);
        client.upload(format!("{verb} f"), b"vwxyz");
        assert_eq!(t.get("f"), b"012abc67vwxyz", "{verb}");
        client.ok("REST 99", 350);
        client.pasv();
        client.ok(format!("{verb} f"), 554);
    }
    client.upload("STOR f", b"new");
    assert_eq!(t.get("f"), b"new");
}

fn c104(t: &Test) {
    let mut client = t.session();
    client.upload("APPE f", b"first, ");
    client.upload("APPE f", b"second");
    assert_eq!(t.get("f"), b"first, second");
}

/// STOU, giving the name that the server chose.
fn store_unique(client: &mut Client, line: &str, octets: &[u8]) -> String {
    let address = client.pasv();
    let mut data = client.data(address);
    let message = client.ok(line, 150).message();
    client.secure_data(&mut data);
    data.send(octets).unwrap();
    data.finish_sending();
    client.expect(226);
    let text = String::from_utf8(message).unwrap();
    text.strip_prefix("FILE: ").expect("FILE: name").to_owned()
}

fn c105(t: &Test) {
    let mut client = t.session();
    let first = store_unique(&mut client, "STOU", b"one");
    let second = store_unique(&mut client, "STOU", b"two");
    let third = store_unique(&mut client, "STOU hint", b"three");
    assert_ne!(first, second);
    assert!(
        Path::new(&third)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("hint"),
        "{third}"
    );
    assert_eq!(client.download(format!("RETR {first}")), b"one");
    assert_eq!(client.download(format!("RETR {second}")), b"two");
    assert_eq!(client.download(format!("RETR {third}")), b"three");
    // A restart marker does not reach into a new file.
    client.ok("REST 2", 350);
    let fourth = store_unique(&mut client, "STOU", b"four");
    assert_eq!(client.download(format!("RETR {fourth}")), b"four");
}
