//! Clients that flood, do not read, or leave at the wrong moment: what it costs the server and the
//! other clients.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

mod common;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::client::Client;
use common::link::{End, Link};
use common::server::{Accounts, Server, USER, process_directory, wait_until};
use common::{PATIENCE, Port, assert_same, pattern};

const BOTH: [Port; 2] = [Port::Explicit, Port::Implicit];

/// A server on one core, so that whoever holds that core holds up everybody, and its files.
fn server(name: &str, options: &[&str]) -> (Server, PathBuf) {
    let home = process_directory().join(name);
    let accounts = Accounts::single(USER, &home);
    let users = ["--cores", "1", "--users", accounts.file.to_str().unwrap()];
    (Server::start(&[&users, options].concat()), home)
}

/// How long the server takes to greet a new client.
fn time_to_greeting(server: &Server) -> Duration {
    let began = Instant::now();
    Client::connect(server, Port::Explicit).expect(220);
    began.elapsed()
}

/// Sends the octets again and again, until `end` or until the server has had enough.
fn flood(mut tcp: TcpStream, octets: &[u8], end: Instant) {
    tcp.set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    while Instant::now() < end && tcp.write(octets).is_ok() {}
}

#[test]
fn flood_behind_a_download_costs_neither_memory_nor_time() {
    let (server, home) = server("flooded", &["--protect-data", "optional"]);
    std::fs::write(home.join("small"), b"small").unwrap();
    // No TLS record at all, and records that are not of this session.
    let forged = [&[0x17, 3, 3, 0x40, 0][..], &[b'z'; 0x4000]].concat();
    for (protected, octets) in [(false, vec![b'z'; 65536]), (true, forged)] {
        let mut client = Client::ready(&server, Port::Explicit);
        if !protected {
            client.ok("PROT C", 200);
            client.protected = false;
        }
        let mut data = client.open("RETR small");
        assert_same(&data.take_exactly(5), b"small");
        let before = server.resident();
        let tcp = data.tcp.try_clone().unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        let flooding = std::thread::spawn(move || flood(tcp, &octets, end));
        let mut slowest = Duration::ZERO;
        while !flooding.is_finished() {
            slowest = slowest.max(time_to_greeting(&server));
        }
        flooding.join().unwrap();
        let grown = server.resident().saturating_sub(before);
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        assert!(grown < 32 << 20, "{grown} octets more");
        client.expect(226);
        client.ok("NOOP", 200);
    }
}

#[test]
fn replies_that_nobody_reads_do_not_pile_up() {
    let (server, home) = server("unread", &[]);
    let rows = 1000;
    for row in 0..rows {
        std::fs::write(home.join(format!("{row:0>200}")), b"").unwrap();
    }
    let mut client = Client::ready(&server, Port::Implicit);
    client.ok("STAT /", 212);
    let before = server.resident();
    // A thousand replies of a quarter of a megabyte each.
    let asked = 1000;
    client.link.send(&b"STAT /\r\n".repeat(asked)).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets more");
    // What waited is carried out once the client reads.
    for _ in 0..20 {
        client.expect(212);
    }
}

#[test]
fn client_that_leaves_before_150_leaves_no_file() {
    let (server, home) = server("left", &[]);
    for number in 0..50 {
        let mut client = Client::ready(&server, BOTH[number % 2]);
        client.epsv();
        client.send(format!("STOR left-{number}"));
        client.link.reset();
    }
    let names = || std::fs::read_dir(&home).unwrap().count();
    assert!(
        wait_until(PATIENCE, || names() == 0),
        "{} files left",
        names()
    );
}

/// Connections of which the kernel still holds octets for a peer that does not read.
fn orphans(server: &Server) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (first, last) = server.passive_ports;
    let fin_wait_1 = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields[1].rsplit(':').next().unwrap();
        let port = u16::from_str_radix(port, 16).unwrap();
        fields[3] == "04" && (first..=last).contains(&port)
    };
    table.lines().skip(1).filter(fin_wait_1).count()
}

#[test]
fn aborted_and_stalled_downloads_leave_nothing_in_the_kernel() {
    let (server, home) = server("orphans", &["--stall-timeout", "1s"]);
    let content = pattern(64 << 20);
    std::fs::write(home.join("large"), &content).unwrap();
    let unread = |client: &mut Client| -> Link {
        let mut data = client.open("RETR large");
        data.take_exactly(1000);
        data
    };
    let mut client = Client::ready(&server, Port::Implicit);
    let mut aborted = unread(&mut client);
    client.send("ABOR");
    client.expect(426);
    client.expect(226);
    let mut stalled = unread(&mut client);
    client.expect(426);
    assert!(wait_until(PATIENCE, || orphans(&server) == 0));
    for data in [&mut aborted, &mut stalled] {
        let (octets, end) = data.take_all();
        assert_eq!(end, End::Reset);
        assert!(octets.len() < content.len());
    }
    client.ok("NOOP", 200);
}

#[test]
fn ipv4_client_of_an_ipv6_listener() {
    if TcpStream::connect("[::1]:1").is_err_and(|error| error.raw_os_error() == Some(99)) {
        return common::skip("no IPv6");
    }
    let any = ["--explicit", "[::]:0", "--implicit", "[::]:0"];
    let (mut server, home) = server("mapped", &any);
    let here = |address: SocketAddr| SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    server.explicit = here(server.explicit);
    server.implicit = here(server.implicit);
    let content = pattern(1000);
    std::fs::write(home.join("file"), &content).unwrap();
    for port in BOTH {
        let mut client = Client::ready(&server, port);
        // Passive, then active, in the words of both generations.
        assert_same(&client.download("RETR file"), &content);
        for verb in ["PORT", "EPRT"] {
            let data = client.open_active(verb, "RETR file");
            assert_same(&client.drain(data), &content);
        }
        client.epsv();
        client.upload("STOR uploaded", &content);
        assert_same(
            &std::fs::read(Path::new(&home).join("uploaded")).unwrap(),
            &content,
        );
    }
}
