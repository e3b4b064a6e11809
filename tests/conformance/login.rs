//! USER and PASS, parameters, OPTS and LANG, QUIT, idle connections.

use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::link::End;
use crate::common::server::{PASSWORD, SPACED, SPACED_PASSWORD, Server, USER};
use crate::fixture::Test;

checks! {
    c043: Both, c044: Both, c045: Both, c046: Both, c047: Both, c048: Both, c049: Both,
    c050: Both, c051: Both, c052: Both, c053: Both, c054: Both, c055: Both, c056: Both,
    c057: Both, c058: Both, c060: Both, c061: Both,
}

/// The time that a refusal takes.
fn refusal(t: &Test, server: &Server, user: &str) -> Duration {
    let mut client = t.secure(server);
    client.ok(format!("USER {user}"), 331);
    let start = Instant::now();
    client.ok("PASS wrong", 530);
    start.elapsed()
}

fn c043(t: &Test) {
    // It grows with failures, and would hide the time that is measured.
    let server = t.server_with(&["--bad-login-delay", "0"]);
    let mut times = [Duration::MAX; 2];
    // The shortest of several is what the server does; the rest is the machine's noise.
    // Without a hash the one would take a thirtieth of the other.
    for round in 0..60 {
        times[0] = times[0].min(refusal(t, &server, "nobody-of-this-name"));
        times[1] = times[1].min(refusal(t, &server, USER));
        let [unknown, wrong] = times;
        if round >= 4 && unknown < wrong * 2 && wrong < unknown * 2 {
            return;
        }
    }
    panic!("unknown name, wrong password: {times:?}");
}

fn c044(t: &Test) {
    t.secure(&t.server())
        .dialogue(&[("PASS x", 503), ("NOOP", 200)]);
}

fn c045(t: &Test) {
    let mut client = t.secure(&t.server());
    for code in [530, 530, 421] {
        client.ok(format!("USER {USER}"), 331);
        client.ok("PASS wrong", code);
    }
    client.expect_closed();
}

fn c046(t: &Test) {
    let mut client = t.secure(&t.server());
    client.ok(format!("USER {SPACED}"), 331);
    client.ok(format!("PASS {}", SPACED_PASSWORD.trim()), 530);
    client.login(SPACED, SPACED_PASSWORD);
}

fn c047(t: &Test) {
    t.put("lines", b"a\nb");
    let mut client = t.session();
    client.ok(format!("USER {USER}"), 331);
    client.ok("PWD", 530);
    client.ok(format!("PASS {PASSWORD}"), 230);
    assert!(client.ok("PWD", 257).text().starts_with("257 \"/\""));
    let size = client.ok(format!("SIZE {}/lines", t.directory), 213);
    assert_eq!(size.message(), b"3", "TYPE I is kept");
    client.download("LIST");
}

fn c048(t: &Test) {
    let mut client = t.secure(&t.server());
    let lines = [
        "PWD",
        "PASV",
        "RETR x",
        "REST 1",
        "MLST",
        "EPSV",
        "CWD /",
        "STAT",
        "SITE HELP",
    ];
    for line in lines {
        client.ok(line, 530);
    }
    client.ok(format!("USER {USER}"), 331);
    client.ok("PWD", 530);
}

fn c049(t: &Test) {
    t.session().dialogue(&[("ACCT x", 202), ("SMNT x", 502)]);
}

fn c050(t: &Test) {
    let mut client = t.session();
    client.dialogue(&[
        ("TYPE a", 200),
        ("TYPE A N", 200),
        ("TYPE A T", 200),
        ("TYPE I", 200),
    ]);
    client.dialogue(&[("TYPE i", 200), ("TYPE L 8", 200)]);
    client.dialogue(&[("TYPE A C", 504), ("TYPE E", 504), ("TYPE L 7", 504)]);
    client.dialogue(&[("TYPE", 501), ("TYPE L", 501), ("TYPE X", 501)]);
}

fn c051(t: &Test) {
    let mut client = t.session();
    client.dialogue(&[
        ("STRU F", 200),
        ("STRU R", 504),
        ("STRU P", 504),
        ("STRU X", 501),
    ]);
    client.dialogue(&[
        ("MODE S", 200),
        ("MODE B", 504),
        ("MODE C", 504),
        ("MODE X", 501),
    ]);
    client.dialogue(&[("MODE Z", 504), ("STRU", 501), ("MODE", 501)]);
}

fn c052(t: &Test) {
    let mut client = t.session();
    client.dialogue(&[
        ("ALLO 10", 202),
        ("ALLO 10 R 5", 202),
        ("ALLO x", 501),
        ("ALLO", 501),
    ]);
    client.ok("ALLO 9223372036854775807", 504);
}

fn c053(t: &Test) {
    let mut client = t.session();
    let made = client.ok("XMKD d", 257);
    assert!(
        made.text().contains(&format!("\"{}/d\"", t.directory)),
        "{made:?}"
    );
    client.ok("XCWD d", 250);
    let here = client.ok("XPWD", 257);
    assert!(
        here.text().contains(&format!("\"{}/d\"", t.directory)),
        "{here:?}"
    );
    client.dialogue(&[
        ("XCUP", 250),
        ("XRMD d", 250),
        ("XCWD d", 550),
        ("XRMD d", 550),
    ]);
}

fn c054(t: &Test) {
    t.put("f", b"0123456789");
    let mut client = t.session();
    client.dialogue(&[("RNFR f", 350), ("NOOP", 200), ("RNTO g", 250)]);
    client.dialogue(&[("REST 4", 350), ("NOOP", 200)]);
    assert_eq!(client.download("RETR g"), b"456789");
}

fn c055(t: &Test) {
    let mut client = t.session();
    client.ok("QUIT", 221);
    assert_eq!(client.try_reply(), Err(End::CloseNotify));
    client.link.close_notify();
    let (rest, end) = client.link.take_all_raw();
    assert_eq!((rest, end), (Vec::new(), End::Fin));
    let mut client = t.secure(&t.server());
    client.ok("QUIT now, please", 221);
    assert_eq!(client.try_reply(), Err(End::CloseNotify));
}

fn c056(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[
        ("LANG", 200),
        ("LANG en-GB", 200),
        ("LANG xx", 504),
        ("LANG 1!", 501),
    ]);
}

fn c057(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[
        ("OPTS UTF8 ON", 200),
        ("OPTS utf8 on", 200),
        ("OPTS UTF8", 200),
    ]);
    client.dialogue(&[("OPTS UTF-8 ON", 200), ("OPTS UTF8 OFF", 200)]);
    client.dialogue(&[("OPTS FOO", 501), ("OPTS", 501), ("OPTS FOO BAR", 501)]);
}

/// The line of FEAT that shows which facts are selected.
fn facts_line(client: &mut Client) -> String {
    let lines = client.ok("FEAT", 211).inner();
    let line = lines.iter().find(|line| line.starts_with(" MLST "));
    line.unwrap().clone()
}

fn c058(t: &Test) {
    let mut client = t.secure(&t.server());
    let usual = " MLST type*;size*;modify*;perm*;unique*;UNIX.mode;";
    assert_eq!(facts_line(&mut client), usual);
    let reply = client.ok("OPTS MLST type;frogs;", 200);
    assert_eq!(reply.raw, b"200 MLST OPTS type;\r\n");
    let only_type = " MLST type*;size;modify;perm;unique;UNIX.mode;";
    assert_eq!(facts_line(&mut client), only_type);
    client.ok("OPTS MLST type size", 501);
    assert_eq!(facts_line(&mut client), only_type, "unchanged after 501");
    let reply = client.ok("OPTS MLST UNIX.mode;SIZE;", 200);
    let text = reply.text().to_ascii_lowercase();
    let either = ["size;unix.mode;", "unix.mode;size;"];
    let sound = either
        .iter()
        .any(|facts| text == format!("200 mlst opts {facts}\r\n"));
    assert!(sound, "{reply:?}");
}

fn c060(t: &Test) {
    t.put_zeros("f", 32 << 20);
    let server = t.server_with(&["--idle-timeout", "2s"]);
    let mut client = t.login(&server);
    let start = Instant::now();
    client.expect(421);
    let elapsed = start.elapsed();
    assert!(elapsed > Duration::from_secs(1), "after {elapsed:?}");
    assert!(elapsed < Duration::from_secs(10), "after {elapsed:?}");
    client.expect_closed();

    let mut client = t.login(&server);
    let mut data = client.open("RETR f");
    let mut count = data.take_exactly(1 << 20).len();
    std::thread::sleep(Duration::from_millis(3500));
    let (rest, end) = data.take_all();
    count += rest.len();
    assert_eq!((count, end), (32 << 20, End::CloseNotify));
    client.expect(226);
    client.ok("NOOP", 200);
}

fn c061(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[
        ("FROB", 500),
        ("MIC x", 502),
        ("ADAT x", 503),
        ("CONF x", 502),
    ]);
}
