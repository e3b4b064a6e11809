//! REIN: back to the state after the connection was opened (RFC 4217 §13, MS-FTPS 3.2.5.3).

use std::time::Duration;

use crate::common::client::Client;
use crate::common::link::End;
use crate::common::server::{PASSWORD, USER};
use crate::common::{assert_same, pattern};
use crate::fixture::Test;

checks! {
    c023: Implicit, c024: Implicit, c025: Implicit, c026: Implicit, c027: Explicit,
    c028: Both, c029: Both,
}

fn c023(t: &Test) {
    let mut client = t.session();
    client.ok("REIN", 220);
    client.leave_tls();
    assert!(
        client.link.stays_silent(Duration::from_secs(1)),
        "TCP must stay open"
    );
}

/// Not logged in any more, and protected without a word about it.
fn is_as_new(t: &Test, client: &mut Client) {
    client.ok("PWD", 530);
    client.login(USER, PASSWORD);
    assert!(client.ok("PWD", 257).text().starts_with("257 \"/\""));
    client.ok(format!("CWD {}", t.directory), 250);
    let listing = client.download("LIST");
    assert!(listing.ends_with(b" f\r\n"), "{}", listing.escape_ascii());
}

fn c024(t: &Test) {
    t.put("f", b"");
    let mut client = t.session();
    for _ in 0..3 {
        client.ok("REIN", 220);
        client.leave_tls();
        client.handshake();
        client.expect(220);
        is_as_new(t, &mut client);
    }
}

fn c025(t: &Test) {
    t.put("f", b"");
    let mut client = t.session();
    client.ok("REIN", 220);
    assert_eq!(client.try_reply(), Err(End::CloseNotify));
    let mut segment = client.link.take_close_notify();
    client.link.begin_tls(&client.profile.full());
    segment.append(&mut client.link.outgoing());
    client.link.send_raw(&segment);
    assert_eq!(client.link.complete_handshake(), Ok(()));
    client.expect(220);
    is_as_new(t, &mut client);
}

fn c026(t: &Test) {
    let mut client = t.session();
    client.ok("REIN", 220);
    client.leave_tls();
    client.link.send_raw(b"NOOP\r\n");
    let (octets, end) = client.link.take_all_raw();
    let text = octets.first().is_some_and(u8::is_ascii_digit);
    assert!(!text, "{}", octets.escape_ascii());
    assert_ne!(end, End::Timeout);
}

fn c027(t: &Test) {
    let mut client = t.session();
    client.ok("REIN", 220);
    client.leave_tls();
    client.dialogue(&[
        ("NOOP", 200),
        ("PROT P", 503),
        ("PBSZ 0", 503),
        ("USER x", 534),
    ]);
    client.auth_tls();
    client.dialogue(&[("PROT P", 503), ("PWD", 530)]);
    t.settle(&mut client, USER);
    client.download("LIST");
}

fn c028(t: &Test) {
    let content = pattern(8 << 20);
    t.put("f", &content);
    let mut client = t.session();
    let data = client.open("RETR f");
    client.send("REIN");
    std::thread::sleep(Duration::from_millis(100));
    assert_same(&client.drain(data), &content);
    client.expect(220);
    client.leave_tls();
}

fn c029(t: &Test) {
    t.put("f", b"a\r\nbc");
    let mut client = t.session();
    let facts_before = client.ok("MLST f", 250).inner();
    client.dialogue(&[("TYPE I", 200), ("REST 5", 350), ("EPSV ALL", 200)]);
    client.ok("OPTS MLST size;", 200);
    client.ok("REIN", 220);
    client.leave_tls();
    if t.explicit() {
        client.auth_tls();
        client.login(USER, PASSWORD);
        client.protect();
    } else {
        client.handshake();
        client.expect(220);
        client.login(USER, PASSWORD);
    }
    assert!(client.ok("PWD", 257).text().starts_with("257 \"/\""));
    client.pasv();
    let file = format!("{}/f", t.directory);
    assert_eq!(client.ok(format!("MLST {file}"), 250).inner(), facts_before);
    assert_eq!(client.download(format!("RETR {file}")), b"a\r\nbc");
    t.put("lines", b"a\nb");
    let size = client.ok(format!("SIZE {}/lines", t.directory), 213);
    assert_eq!(size.message(), b"4", "TYPE A after REIN");
}
