//! Command lines of every shape, telnet, pipelining, other protocols, HELP.

use std::io::Write;
use std::time::Duration;

use crate::common::client::Client;
use crate::common::link::End;
use crate::common::server::{PASSWORD, Server, USER};
use crate::fixture::Test;

checks! {
    c124: Both, c125: Both, c126: Both, c127: Both, c128: Explicit, c129: Both,
    c130: Both, c131: Implicit, c132: Both, c133: Implicit, c137: Both,
}

fn c124(t: &Test) {
    let long = "x".repeat(9000);
    let mut client = t.session();
    client.dialogue(&[(&long, 500), ("NOOP", 200)]);
    client.ok(format!("CWD {long}"), 500);
    client.ok("NOOP", 200);
    client.ok(&long, 421);
    client.expect_closed();
    // Without any line end, for ever.
    let mut client = t.secure(&t.server());
    for _ in 0..64 {
        client.link.send(&[b'x'; 16_384]).unwrap();
    }
    client.link.send(b"\r\n").unwrap();
    client.expect(500);
    client.ok("NOOP", 200);
}

fn c125(t: &Test) {
    let mut client = t.session();
    for octet in b"CWD /\r\nPWD\r\nNOOP\r\n" {
        client.link.send(&[*octet]).unwrap();
    }
    client.expect(250);
    client.expect(257);
    client.expect(200);
    let steps = [
        ("NOOP", 200),
        ("PWD", 257),
        ("SYST", 215),
        ("FROB", 500),
        ("TYPE X", 501),
    ];
    let all: String = steps.map(|(line, _)| format!("{line}\r\n")).concat();
    client.link.send(all.repeat(4).as_bytes()).unwrap();
    for _ in 0..4 {
        for (_, code) in steps {
            client.expect(code);
        }
    }
}

fn c126(t: &Test) {
    let mut client = t.session();
    client.link.send(b"NOOP\n").unwrap();
    client.expect(200);
    client.link.send(b"\r\n\r\n\nPWD\r\n").unwrap();
    client.expect(257);
    client.link.send(b"NOOP\r\r\n").unwrap();
    client.expect(200);
    client.dialogue(&[
        (" NOOP", 500),
        ("CWD a\0b", 501),
        ("CWD a\rb", 501),
        ("CWD ", 501),
    ]);
    client.dialogue(&[("noop", 200), ("nOoP", 200)]);
}

fn c127(t: &Test) {
    let mut client = t.session();
    client.link.send(b"\xff\xfd\x01").unwrap();
    assert_eq!(
        client.link.take_exactly(3),
        b"\xff\xfc\x01",
        "DO is answered by WONT"
    );
    client.link.send(b"\xff\xfb\x01").unwrap();
    assert_eq!(
        client.link.take_exactly(3),
        b"\xff\xfe\x01",
        "WILL is answered by DONT"
    );
    // No answers to DONT, WONT and plain commands, in the middle of a word and over two reads.
    client.link.send(b"NO\xff\xfe\x01O\xff\xfc").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    client.link.send(b"\x01P\xff\xf1\r\n").unwrap();
    client.expect(200);
    client.ok(b"MKD x\xff\xff", 257);
    assert!(t.path(b"x\xff").is_dir());
    client.link.send(b"RMD x\xff").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    client.link.send(b"\xff\r\n").unwrap();
    client.expect(250);
}

const REQUEST: &[u8] = b"GET /marker HTTP/1.1\r\nHost: marker.example\r\n\r\n";

/// Nothing but at most one 421, in which nothing of the request is seen, then the end.
#[track_caller]
fn closed_without_echo(client: &mut Client) {
    let (octets, end) = client.link.take_all();
    let text = String::from_utf8_lossy(&octets).into_owned();
    assert!(
        !text.contains("marker") && !text.contains("GET"),
        "{text:?}"
    );
    let few = text.is_empty() || (text.starts_with("421") && text.lines().count() == 1);
    assert!(few, "{text:?}");
    assert_ne!(end, End::Timeout);
}

fn c128(t: &Test) {
    let attempts: [&[u8]; 6] = [
        REQUEST,
        b"POST /marker HTTP/1.1\r\n",
        b"SSH-2.0-marker\r\n",
        b"EHLO marker\r\n",
        b"Host: marker\r\n",
        b"\x16\x03\x01\x00\x05marker",
    ];
    for attempt in attempts {
        let mut client = t.connect(&t.server());
        client.expect(220);
        client.link.send_raw(attempt);
        closed_without_echo(&mut client);
    }
    let mut client = t.secure(&t.server());
    client.link.send(REQUEST).unwrap();
    closed_without_echo(&mut client);
}

fn c129(t: &Test) {
    const LINES: usize = 4000;
    t.put_zeros("f", 64 << 20);
    let server = Server::start(&[]);
    let mut client = t.login(&server);
    let mut data = client.open("RETR f");
    data.take_exactly(1 << 20);
    let before = server.resident();
    // 32 MB of commands: more than the queue, more than the socket's buffers take at once. The allocator takes
    // memory 2 MiB at a time.
    let line = format!("NOOP {}\r\n", "x".repeat(8000));
    let commands = client.link.protect(line.repeat(LINES).as_bytes());
    let mut tcp = client.link.tcp.try_clone().unwrap();
    let writer = std::thread::spawn(move || tcp.write_all(&commands));
    std::thread::sleep(Duration::from_millis(500));
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} octets for a queue of commands");
    let (rest, end) = data.take_all();
    assert_eq!((rest.len(), end), (63 << 20, End::CloseNotify));
    // As many as the client lets come are answered during the transfer, the others behind it.
    let codes: Vec<u16> = (0..=LINES).map(|_| client.reply().code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 226).count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), LINES);
    writer.join().unwrap().unwrap();
    client.ok("PWD", 257);
}

fn c130(t: &Test) {
    let server = Server::start(&[]);
    let mut client = t.login(&server);
    client.ok(b"MKD a\r\0b", 501);
    let name = b"esc\x1b[31m\x80\xfe";
    let reply = client.ok([b"MKD ", &name[..]].concat(), 257);
    let shown = [b"257 \"", t.directory.as_bytes(), b"/", &name[..], b"\""].concat();
    assert!(reply.raw.starts_with(&shown), "{reply:?}");
    assert!(t.path(name).is_dir());
    client.ok(b"CLNT \x1b[31mname", 200);
    client.ok(b"FROB\x1b[31m x", 500);
    client.ok("QUIT", 221);
    std::thread::sleep(Duration::from_millis(200));
    let log = server.log();
    assert!(
        !log.windows(5).any(|part| part == b"\x1b[31m"),
        "escape codes in the log"
    );
    let password = PASSWORD.as_bytes();
    let leaked = log.windows(password.len()).any(|part| part == password);
    assert!(!leaked, "a password in the log");
}

fn c131(t: &Test) {
    let mut client = t.connect(&t.server());
    client.link.begin_tls(&client.profile.full());
    // Held back by TLS until the handshake is over: it leaves together with the Finished.
    let hello = client.link.protect(format!("USER {USER}\r\n").as_bytes());
    client.link.send_raw(&hello);
    assert_eq!(client.link.complete_handshake(), Ok(()));
    client.expect(220);
    client.expect(331);
    client.ok(format!("PASS {PASSWORD}"), 230);
}

fn c132(t: &Test) {
    let mut client = t.session();
    client.link.send(b"REIN\r\nNOOP\r\n").unwrap();
    client.expect(220);
    client.expect_thrown_out();
}

fn c133(t: &Test) {
    let attempts: [&[u8]; 3] = [
        REQUEST,
        b"X-Header: marker\r\nHost: marker\r\n\r\n",
        b"PUT /marker HTTP/1.1\r\n\r\n",
    ];
    for attempt in attempts {
        let mut client = t.secure(&t.server());
        client.link.send(attempt).unwrap();
        closed_without_echo(&mut client);
    }
}

fn c137(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[
        ("HELP", 214),
        ("HELP RETR", 214),
        ("help retr", 214),
        ("HELP FOO", 502),
    ]);
}
