//! Behind proxies: the PROXY protocol on control connections, and on data connections in a module of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::client::{Client, accept, host_port};
use crate::common::link::{End, Link};
use crate::common::server::{PASSWORD, Server, USER, wait_until};
use crate::common::tls::Profile;
use crate::common::{PATIENCE, Port};
use crate::fixture::{OPTIONAL, Test};

macro_rules! both_ports {
    ($($name:ident,)*) => {
        $(mod $name {
            #[test]
            fn explicit() {
                $crate::fixture::run(stringify!($name), $crate::common::Port::Explicit, super::$name);
            }
            #[test]
            fn implicit() {
                $crate::fixture::run(stringify!($name), $crate::common::Port::Implicit, super::$name);
            }
        })*
    };
}

both_ports! {
    proxy_clients_are_served_as_announced, proxy_headers_come_in_any_pieces, proxy_headers_are_demanded,
    proxy_headers_are_waited_for_a_while, proxy_headers_of_others_are_not_believed, proxy_only,
    proxy_limits_count_announced_addresses, proxy_health_checks_are_quiet, proxy_local_headers,
    proxy_headers_are_counted, proxy_drain_does_not_wait_for_headers,
}

mod data;

/// Where trusted connections come from.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10));
/// A client that exists: data connections can come from it, and be made to it.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
/// Where that client connected to, by its own idea.
const FRONT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

const TRUSTING: &[&str] = &["--proxy-from", "127.0.0.10"];
const IMPATIENT: &[&str] = &[
    "--proxy-from",
    "127.0.0.10",
    "--handshake-timeout",
    "1s",
    "--connect-timeout",
    "2s",
];

fn text(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Vec<u8> {
    let (source, destination) = (source.into(), destination.into());
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {source} {destination} 50000 21\r\n").into_bytes()
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let fixed = [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length].concat();
    [&fixed, body].concat()
}

/// Version 2, with a TLV behind the addresses.
fn binary_of(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let ends = [source.octets(), destination.octets()].concat();
    binary(
        0x21,
        0x11,
        &[&ends[..], b"\xc3\x50\0\x15\x01\0\x03ftp"].concat(),
    )
}

fn header() -> Vec<u8> {
    binary_of(CLIENT, FRONT)
}

fn local() -> Vec<u8> {
    binary(0x20, 0, &[])
}

/// A connection from the proxy, with these octets sent.
#[track_caller]
fn from_proxy(t: &Test, server: &Server, octets: &[u8]) -> Client {
    let mut client = Client::connect_as(server, t.port, Profile::usual(), Some(PROXY));
    client.link.send_raw(octets);
    client
}

/// A login through the proxy.
#[track_caller]
fn login(t: &Test, server: &Server, header: &[u8]) -> Client {
    let mut client = from_proxy(t, server, header);
    client.secure();
    t.settle(&mut client, USER);
    client
}

/// A data connection from there, with these octets sent. Its address is the server's: what PASV names is the
/// proxy's.
#[track_caller]
fn data_from(server: &Server, source: IpAddr, told: SocketAddr, octets: &[u8]) -> Link {
    let address = (server.explicit.ip(), told.port()).into();
    let mut link = Link::connect(address, Some(source)).unwrap();
    link.send_raw(octets);
    link
}

#[track_caller]
fn download_through(
    client: &mut Client,
    server: &Server,
    told: SocketAddr,
    header: &[u8],
) -> Vec<u8> {
    let mut data = data_from(server, PROXY, told, header);
    client.ok("RETR f", 150);
    client.secure_data(&mut data);
    client.drain(data)
}

/// What the server has logged, as text.
fn log(server: &Server) -> String {
    String::from_utf8_lossy(&server.log()).into_owned()
}

/// The same once everything that was logged until now is in it: lines are written some time later.
fn whole_log(server: &Server) -> String {
    let mut before = log(server);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = log(server);
        if now == before {
            return now;
        }
        before = now;
    }
}

fn proxy_clients_are_served_as_announced(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(TRUSTING);
    // Addresses that no other test has: the log is shared.
    let last = if t.explicit() { 1 } else { 2 };
    for version in [1, 2] {
        let announced = Ipv4Addr::new(203, 0, 113, 10 * version + last);
        let header = match version {
            1 => text(announced, FRONT),
            _ => binary_of(announced, FRONT),
        };
        let mut client = login(t, &server, &header);
        let told = client.pasv();
        assert_eq!(told.ip(), IpAddr::V4(FRONT), "the balancer's address");
        assert_eq!(
            download_through(&mut client, &server, told, &header),
            b"content"
        );
        let told = client.epsv();
        let mut data = data_from(&server, PROXY, told, &header);
        client.ok("STOR g", 150);
        client.secure_data(&mut data);
        data.send(b"sent").unwrap();
        data.finish_sending();
        client.expect(226);
        assert_eq!(t.get("g"), b"sent");
        for verb in ["RETR", "STOR"] {
            let said = |line: &str| {
                line.contains(&format!("peer={announced} "))
                    && line.contains(&format!("verb=\"{verb}\""))
            };
            assert!(
                wait_until(PATIENCE, || log(&server).lines().any(said)),
                "{verb} of {announced} is not in the log"
            );
        }
        assert!(wait_until(PATIENCE, || log(&server).lines().any(
            |line| line.contains("login") && line.contains(&format!("peer={announced} "))
        )));
    }
    // Others are served as ever.
    let mut direct = t.login(&server);
    assert_eq!(direct.pasv().ip(), server.explicit.ip());
    assert_eq!(direct.download("RETR f"), b"content");
    assert!(!log(&server).contains("peer=127.0.0.10 user"));
}

fn proxy_headers_come_in_any_pieces(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(TRUSTING);
    for header in [text(CLIENT, FRONT), header()] {
        // Octet by octet.
        let mut client = from_proxy(t, &server, b"");
        for octet in &header {
            client.link.send_raw(&[*octet]);
            std::thread::sleep(Duration::from_millis(1));
        }
        client.secure();
        t.settle(&mut client, USER);
        let told = client.pasv();
        let mut data = data_from(&server, PROXY, told, b"");
        client.ok("RETR f", 150);
        for octet in &header {
            data.send_raw(&[*octet]);
            std::thread::sleep(Duration::from_millis(1));
        }
        client.secure_data(&mut data);
        assert_eq!(client.drain(data), b"content");

        // Together with what the client says first.
        let mut client = from_proxy(t, &server, b"");
        if t.explicit() {
            client
                .link
                .send_raw(&[&header[..], b"FEAT\r\nAUTH TLS\r\n"].concat());
            client.expect(220);
            client.expect(211);
            client.expect(234);
        } else {
            client.link.begin_tls(&client.profile.resuming());
            let hello = client.link.outgoing();
            client.link.send_raw(&[&header[..], &hello].concat());
        }
        if t.explicit() {
            client.handshake();
        } else {
            assert_eq!(client.link.complete_handshake(), Ok(()));
            client.expect(220);
        }
        t.settle(&mut client, USER);
        let told = client.epsv();
        let mut data = data_from(&server, PROXY, told, b"");
        data.begin_tls(&client.profile.resuming());
        let hello = data.outgoing();
        data.send_raw(&[&header[..], &hello].concat());
        client.ok("RETR f", 150);
        assert_eq!(data.complete_handshake(), Ok(()));
        assert_eq!(client.drain(data), b"content");
    }
}

/// 421 on the explicit port, the mere end on the implicit one.
#[track_caller]
fn assert_turned_away(t: &Test, client: &mut Client, words: &str) {
    if t.explicit() {
        let reply = client.expect(421);
        assert!(reply.text().contains(words), "{reply:?}");
    }
    client.expect_closed();
}

fn proxy_headers_are_demanded(t: &Test) {
    let last = if t.explicit() { "5s" } else { "6s" };
    // A server of this test alone: its log is looked at, and it warns now and then only.
    let server = t.server_with(&["--proxy-from", "127.0.0.0/28", "--close-timeout", last]);
    let mut too_long = b"PROXY TCP4 ".to_vec();
    too_long.resize(200, b'1');
    let long_length = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", &[0; 100][..]].concat();
    for octets in [
        &b"USER main\r\n"[..],
        b"\x16\x03\x01\x00\x05hello",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 0.0.0.0 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        &too_long,
        &long_length,
        &binary(0x21, 0x11, &[1; 11]),
        &binary(0x21, 0x12, &[1; 12]),
        &binary(0x31, 0x11, &[1; 12]),
    ] {
        let mut client = from_proxy(t, &server, octets);
        assert_turned_away(t, &mut client, "PROXY header");
    }
    // It ends in the middle.
    let mut client = from_proxy(t, &server, &header()[..20]);
    client.link.shutdown_write();
    assert_turned_away(t, &mut client, "PROXY header");
    let log = whole_log(&server);
    let warning = log.lines().find(|line| line.contains("WARN")).unwrap();
    for part in [
        "proxy=127.0.0.10:",
        "send-proxy-v2",
        "--proxy-from",
        "control",
    ] {
        assert!(warning.contains(part), "{warning}");
    }
    let warnings = log.lines().filter(|line| line.contains("WARN")).count();
    assert!(warnings <= 4, "the log is flooded: {log}");
    assert_eq!(login(t, &server, &header()).pasv().ip(), IpAddr::V4(FRONT));
}

fn proxy_headers_are_waited_for_a_while(t: &Test) {
    let server = t.server_with(IMPATIENT);
    for octets in [&b""[..], b"PROXY ", &header()[..27]] {
        let began = Instant::now();
        let mut client = from_proxy(t, &server, octets);
        assert_turned_away(t, &mut client, "PROXY header");
        let waited = began.elapsed();
        assert!(waited > Duration::from_millis(500), "{waited:?}");
    }
    assert!(server.wait_for_log("no PROXY header came in time"));
}

fn proxy_headers_of_others_are_not_believed(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(TRUSTING);
    for header in [text(CLIENT, FRONT), header()] {
        let mut client = t.connect(&server);
        client.link.send_raw(&header);
        if t.explicit() {
            client.expect(220);
            // Two lines, one of them empty for the server. The other version has QUIT in it.
            let code = client.reply().code;
            assert!(matches!(code, 500 | 221), "{code}");
        } else {
            client.expect_closed();
        }
    }
    assert!(server.wait_for_log("add its address to --proxy-from"));
    // On data connections it is no ClientHello.
    let mut client = t.login(&server);
    let address = client.pasv();
    let mut data = client.data(address);
    data.send_raw(&header());
    client.ok("RETR f", 150);
    client.expect(522);
    drop(data);
    assert_eq!(client.download("RETR f"), b"content");
}

fn proxy_only(t: &Test) {
    let server = t.server_with(&[TRUSTING, &["--proxy-others", "refuse"]].concat());
    let mut client = t.connect(&server);
    assert_turned_away(t, &mut client, "public address");
    t.put("f", b"content");
    let mut client = login(t, &server, &header());
    // The client may come directly for its data.
    let told = client.pasv();
    let mut data = data_from(&server, CLIENT.into(), told, b"");
    client.ok("RETR f", 150);
    client.secure_data(&mut data);
    assert_eq!(client.drain(data), b"content");
}

fn proxy_limits_count_announced_addresses(t: &Test) {
    let server = t.server_with(&[TRUSTING, &["--connections-per-address-max", "1"]].concat());
    let last = if t.explicit() { 1 } else { 101 };
    let announce = |last: u8| binary_of(Ipv4Addr::new(192, 0, 2, last), FRONT);
    let mut clients: Vec<Client> = (last..last + 5)
        .map(|last| login(t, &server, &announce(last)))
        .collect();
    let mut second = from_proxy(t, &server, &announce(last));
    assert_turned_away(t, &mut second, "Too many connections");
    let mut first = clients.remove(0);
    first.ok("QUIT", 221);
    drop(first);
    let again = || {
        let mut client = from_proxy(t, &server, &announce(last));
        if t.explicit() {
            client.reply().code == 220
        } else {
            client.link.handshake(&client.profile.resuming()) == Ok(())
        }
    };
    assert!(wait_until(PATIENCE, again), "its place is not given back");
}

fn proxy_health_checks_are_quiet(t: &Test) {
    let name = if t.explicit() { "7s" } else { "8s" };
    let server =
        t.server_with(&[TRUSTING, &["--close-timeout", name, "--log-level", "info"]].concat());
    let before = whole_log(&server);
    for octets in [&b""[..], &local(), b"PROXY UNKNOWN\r\n"] {
        let client = from_proxy(t, &server, octets);
        drop(client);
        let client = from_proxy(t, &server, octets);
        client.link.reset();
        let mut client = from_proxy(t, &server, octets);
        client.link.shutdown_write();
        while client.try_reply().is_ok() {}
    }
    let mut client = login(t, &server, &header());
    let told = client.pasv();
    drop(data_from(&server, PROXY, told, b""));
    data_from(&server, PROXY, told, b"").reset();
    t.put("f", b"content");
    assert_eq!(
        download_through(&mut client, &server, told, &header()),
        b"content"
    );
    let log = whole_log(&server);
    let lines: Vec<&str> = log[before.len()..]
        .lines()
        .filter(|line| !line.contains("login") && !line.contains("transfer"))
        .collect();
    assert!(lines.is_empty(), "{lines:?}");
}

/// A proxy that speaks for itself is a client like others.
fn proxy_local_headers(t: &Test) {
    t.put("f", b"content");
    // Not the server whose log must not name the proxy.
    let server = t.server_with(&[TRUSTING, &["--close-timeout", "9s"]].concat());
    for header in [local(), b"PROXY UNKNOWN whatever\r\n".to_vec()] {
        let mut client = login(t, &server, &header);
        let told = client.pasv();
        assert_eq!(told.ip(), server.explicit.ip());
        assert_eq!(
            download_through(&mut client, &server, told, &header),
            b"content"
        );
    }
}

fn scrape(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.metrics.unwrap()).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn proxy_headers_are_counted(t: &Test) {
    t.put("f", b"content");
    let name = if t.explicit() { "7s" } else { "8s" };
    let server = t.server_with(&[TRUSTING, &["--metrics", "0", "--close-timeout", name]].concat());
    let mut client = login(t, &server, &header());
    let told = client.pasv();
    drop(data_from(&server, PROXY, told, &header()[..20]));
    download_through(&mut client, &server, told, &header());
    from_proxy(t, &server, &local()).link.shutdown_write();
    from_proxy(t, &server, b"none").expect_thrown_out();
    from_proxy(t, &server, b"PROXY TCP4\r\n").expect_thrown_out();
    for (connection, result) in [
        ("control", "client"),
        ("control", "local"),
        ("control", "missing"),
        ("control", "malformed"),
        ("data", "client"),
        ("data", "malformed"),
    ] {
        let line = format!(
            "ringftpd_proxy_headers_total{{connection=\"{connection}\",result=\"{result}\"}} 1"
        );
        let told = wait_until(PATIENCE, || scrape(&server).lines().any(|one| one == line));
        assert!(told, "{line}\n{}", scrape(&server));
    }
}

fn proxy_drain_does_not_wait_for_headers(t: &Test) {
    let server = Server::start(TRUSTING);
    let mut mute = from_proxy(t, &server, b"PROXY ");
    let mut other = from_proxy(t, &server, b"");
    std::thread::sleep(Duration::from_millis(100));
    server.signal(Signal::TERM);
    assert!(server.wait(Duration::from_secs(10)).is_some(), "it waits");
    mute.expect_thrown_out();
    other.expect_thrown_out();
}
