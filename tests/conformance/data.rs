//! Setting up data connections: PASV, EPSV, PORT, EPRT, their protection, and what may go wrong
//! before the first octet.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::common::client::{Client, STRANGER, accept, extended};
use crate::common::link::{End, Link};
use crate::common::server::{PASSWORD, Server, USER, wait_until};
use crate::common::skip;
use crate::common::tls::Identity;
use crate::fixture::{DATA_OPTIONAL, Test};

checks! {
    c062: Both, c063: Both, c064: Both, c065: Both, c066: Both, c067: Both, c068: Both,
    c069: Both, c070: Both, c071: Both, c072: Both, c073: Both, c074: Both, c075: Both,
    c076: Both, c077: Both, c078: Both, c079: Both, c080: Explicit, c081: Both,
}

/// Every transfer command, on a file `f` that exists.
const TRANSFERS: &[&str] = &["RETR f", "STOR g", "APPE g", "STOU", "LIST", "NLST", "MLSD"];

fn c062(t: &Test) {
    let server = t.server();
    let mut client = t.login(&server);
    let address = client.pasv();
    assert_eq!(address.ip(), client.link.tcp.peer_addr().unwrap().ip());
    let (first, last) = server.passive_ports;
    assert!((first..=last).contains(&address.port()), "{address}");
    // Predictable ports would let a stranger connect first (RFC 2577 §8).
    let ports: Vec<u16> = (0..8).map(|_| client.pasv().port()).collect();
    let in_order = ports
        .windows(2)
        .all(|pair| pair[1].wrapping_sub(pair[0]) <= 1);
    assert!(!in_order, "{ports:?}");

    let outside = t.server_with(&["--passive-address", "192.0.2.7"]);
    let address = t.login(&outside).pasv();
    assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
}

const ON_IPV6: &[&str] = &["--explicit", "[::1]:0", "--implicit", "[::1]:0"];

/// The server on IPv6, if the machine has that.
fn server_on_ipv6(t: &Test) -> Option<std::sync::Arc<Server>> {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        skip("no IPv6 on the loopback interface");
        return None;
    }
    Some(t.server_with(ON_IPV6))
}

fn c063(t: &Test) {
    t.put("f", b"content");
    let Some(server) = server_on_ipv6(t) else {
        return;
    };
    let mut client = t.login(&server);
    client.ok("PASV", 425);
    let reply = client.ok("EPSV", 229);
    let text = reply.text();
    let start = text.find("(|||").expect("no (||| in 229");
    let port: u16 = text[start + 4..]
        .split("|)")
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(port, 0);
    assert_eq!(client.download("RETR f"), b"content");
    let listener = client.listen("EPRT");
    client.ok("RETR f", 150);
    let mut data = accept(&listener);
    client.secure_data(&mut data);
    assert_eq!(client.drain(data), b"content");
}

fn c064(t: &Test) {
    let mut client = t.session();
    for line in ["EPSV 2", "EPSV 9"] {
        let reply = client.ok(line, 522);
        assert!(reply.text().contains("(1)"), "{reply:?}");
    }
    client.dialogue(&[("EPSV 1", 229), ("EPSV x", 501)]);
    let Some(server) = server_on_ipv6(t) else {
        return;
    };
    let mut client = t.login(&server);
    for line in ["EPSV 1", "EPSV 9"] {
        let reply = client.ok(line, 522);
        assert!(reply.text().contains("(2)"), "{reply:?}");
    }
    client.dialogue(&[("EPSV 2", 229), ("EPSV x", 501)]);
}

fn c065(t: &Test) {
    let mut client = t.session();
    client.ok("EPSV ALL", 200);
    client.dialogue(&[("PORT 127,0,0,1,200,1", 503), ("PASV", 503)]);
    client.dialogue(&[("EPRT |1|127.0.0.1|50000|", 503), ("EPSV", 229)]);
    client.ok("REIN", 220);
    client.leave_tls();
    if t.explicit() {
        client.auth_tls();
    } else {
        client.handshake();
        client.expect(220);
    }
    client.login(USER, PASSWORD);
    client.ok("PASV", 227);
}

fn c066(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    for line in TRANSFERS {
        client.ok(line, 425);
    }
    assert!(
        !t.path("g").exists(),
        "a store without a connection made a file"
    );
}

fn c067(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    assert_eq!(client.download("RETR f"), b"content");
    client.dialogue(&[("RETR f", 425), ("NOOP", 200)]);
}

fn c068(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    let address = client.pasv();
    let mut data = client.data(address);
    client.ok("RETR missing", 550);
    let (octets, end) = data.take_all_raw();
    assert!(octets.is_empty());
    assert_ne!(end, End::Timeout, "the connection was left open");
    client.ok("RETR f", 425);
    assert_refused(address);
}

/// Nobody listens there any more.
#[track_caller]
fn assert_refused(address: SocketAddr) {
    let refused = wait_until(Duration::from_secs(5), || {
        Link::connect(address, None)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(refused, "{address} still accepts");
}

fn c069(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    let first = client.pasv();
    let second = client.pasv();
    assert_refused(first);
    let third = client.epsv();
    assert_refused(second);
    let listener = client.listen("PORT");
    assert_refused(third);
    client.ok("RETR f", 150);
    let mut data = accept(&listener);
    client.secure_data(&mut data);
    assert_eq!(client.drain(data), b"content");
}

fn c070(t: &Test) {
    let mut client = t.session();
    client.dialogue(&[("PORT 127,0,0,2,200,1", 504), ("PORT 127,0,0,1,0,80", 504)]);
    client.dialogue(&[("PORT 192,0,2,1,200,1", 504), ("PORT 127,0,0,1,3,255", 504)]);
    client.dialogue(&[
        ("EPRT |1|127.0.0.2|50000|", 504),
        ("EPRT |1|127.0.0.1|80|", 504),
    ]);
    client.ok("LIST", 425);
}

fn c071(t: &Test) {
    let mut client = t.session();
    let wrong = [
        "PORT 1,2,3",
        "PORT 256,0,0,1,200,1",
        "PORT 127,0,0,1,200,256",
        "PORT 127, 0, 0, 1, 200, 1",
        "PORT 127,0,0,1,200,1,1",
        "PORT 127,0,0,1,,1",
        "PORT a,b,c,d,e,f",
        "PORT",
    ];
    for line in wrong {
        client.ok(line, 501);
    }
    client.ok("PORT 127,0,0,1,200,0", 200);
}

fn c072(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    let own = client.link.tcp.local_addr().unwrap();
    client.ok(format!("EPRT {}", extended(own).replace('|', "!")), 200);
    let reply = client.ok("EPRT |3|127.0.0.1|50000|", 522);
    assert!(reply.text().contains("(1)"), "{reply:?}");
    let reply = client.ok("EPRT |2|::1|50000|", 522);
    assert!(reply.text().contains("(1)"), "{reply:?}");
    let wrong = [
        "EPRT |1|127.0.0.1|50000",
        "EPRT |1|127.0.0.1|",
        "EPRT |1|x|50000|",
        "EPRT |1|127.0.0.1|70000|",
        "EPRT |1|127.0.0.1|x|",
        "EPRT x",
        "EPRT",
    ];
    for line in wrong {
        client.ok(line, 501);
    }
    let data = client.open_active("EPRT", "RETR f");
    assert_eq!(client.drain(data), b"content");
}

fn c073(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    let listener = client.listen("PORT");
    client.ok("RETR f", 150);
    let mut data = accept(&listener);
    assert_eq!(data.handshake(&client.profile.full()), Ok(()));
    assert_eq!(data.certificate(), Identity::shared().der.as_ref());
    assert_eq!(data.certificate(), client.link.certificate());
    assert_eq!(client.drain(data), b"content");

    let mut data = client.open_active("PORT", "STOR g");
    data.send(b"sent to the server").unwrap();
    data.finish_sending();
    client.expect(226);
    assert_eq!(t.get("g"), b"sent to the server");
}

fn c074(t: &Test) {
    if !rustix::process::geteuid().is_root() {
        skip("only root may bind the ports 20 and 989");
        return;
    }
    t.put("f", b"content");
    // An address of this process alone: the well-known ports may be in use on 127.0.0.1.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let last = if t.explicit() { 1 } else { 2 };
    let host = Ipv4Addr::new(127, 64 | (high & 63), low, last);
    let explicit = format!("{host}:21");
    let implicit = format!("{host}:990");
    let server = Server::start(&[
        "--explicit",
        &explicit,
        "--implicit",
        &implicit,
        "--active-source-port",
        "standard",
    ]);
    let mut client = t.login(&server);
    let expected = SocketAddr::from((host, if t.explicit() { 20 } else { 989 }));
    // The second connection reuses nothing of the first: another port of ours.
    for verb in ["PORT", "EPRT"] {
        let data = client.open_active(verb, "RETR f");
        assert_eq!(data.tcp.peer_addr().unwrap(), expected);
        assert_eq!(client.drain(data), b"content");
    }
}

fn c075(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    let address = client.pasv();
    let mut stranger = Link::connect(address, Some(STRANGER)).unwrap();
    client.ok("RETR f", 150);
    let (octets, end) = stranger.take_all_raw();
    assert!(octets.is_empty(), "a stranger was served");
    assert_ne!(end, End::Timeout);
    let mut data = client.data(address);
    client.secure_data(&mut data);
    assert_eq!(client.drain(data), b"content");
}

fn c076(t: &Test) {
    t.put("f", b"content");
    let mut client = t.login(&t.server_with(&["--connect-timeout", "1s"]));
    let address = client.pasv();
    client.ok("RETR f", 150);
    let start = Instant::now();
    client.expect(425);
    let elapsed = start.elapsed();
    assert!(elapsed > Duration::from_millis(500), "after {elapsed:?}");
    assert!(elapsed < Duration::from_secs(8), "after {elapsed:?}");
    assert_refused(address);
    client.ok("NOOP", 200);
    // Active: a port on which nobody listens.
    let listener = client.listen("PORT");
    drop(listener);
    client.dialogue(&[("RETR f", 150)]);
    client.expect(425);
    assert_eq!(client.download("RETR f"), b"content");
}

fn c077(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    let address = client.pasv();
    let mut data = client.data(address);
    client.ok("RETR f", 150);
    assert!(data.stays_silent(Duration::from_millis(200)));
    client.secure_data(&mut data);
    assert_eq!(client.drain(data), b"content");
}

fn c078(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    let address = client.pasv();
    let mut data = client.data(address);
    data.begin_tls(&client.profile.resuming());
    let hello = data.outgoing();
    data.send_raw(&hello);
    std::thread::sleep(Duration::from_millis(100));
    client.ok("RETR f", 150);
    assert_eq!(data.complete_handshake(), Ok(()));
    assert_eq!(client.drain(data), b"content");
}

fn c079(t: &Test) {
    t.put("f", b"content");
    let mut client = t.session();
    for line in ["RETR f", "STOR g", "LIST"] {
        let address = client.pasv();
        let data = client.data(address);
        client.ok(line, 150);
        drop(data);
        client.expect(522);

        let address = client.pasv();
        let mut data = client.data(address);
        client.ok(line, 150);
        data.send_raw(b"this is no ClientHello, whatever it is\r\n");
        client.expect(522);
        let (octets, end) = data.take_all_raw();
        assert!(!octets.windows(7).any(|part| part == b"content"));
        assert_ne!(end, End::Timeout);
    }
    assert_eq!(client.download("RETR f"), b"content");
}

fn c080(t: &Test) {
    t.put("f", b"content");
    let mut client = t.secure(&t.server());
    client.login(USER, PASSWORD);
    client.ok(format!("CWD {}", t.directory), 250);
    for line in TRANSFERS {
        client.ok("PASV", 227);
        client.ok(line, 522);
    }
    client.ok("NOOP", 200);
    assert!(!t.path("g").exists(), "a refused store made a file");
}

/// A listing after `PROT level` that was sent behind the set-up.
fn list_at(client: &mut Client, level: &str) {
    let address = client.pasv();
    client.ok(format!("PROT {level}"), 200);
    client.protected = level == "P";
    let mut data = client.data(address);
    client.ok("LIST", 150);
    client.secure_data(&mut data);
    let listing = client.drain(data);
    assert!(listing.ends_with(b" f\r\n"), "{}", listing.escape_ascii());
}

fn c081(t: &Test) {
    t.put("f", b"");
    let mut client = t.login(&t.server_with(DATA_OPTIONAL));
    for level in ["C", "P", "C", "P"] {
        list_at(&mut client, level);
    }
    let listener = client.listen("PORT");
    client.ok("PROT C", 200);
    client.protected = false;
    client.ok("LIST", 150);
    let data = accept(&listener);
    assert!(client.drain(data).ends_with(b" f\r\n"));
}
