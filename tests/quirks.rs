//! What clients at large expect beyond the letter of the RFCs, each found with a real one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::Port;
use common::client::Client;
use common::link::{End, Link};
use common::server::{Accounts, PASSWORD, Server, USER};

/// The default listener is for both families, where IPv4 clients have mapped addresses.
#[test]
fn ipv4_clients_of_a_listener_for_both_families_transfer_in_every_mode() {
    std::fs::write(Accounts::shared().home.join("mapped"), b"content").unwrap();
    let server = Server::start(&["--explicit", "[::]:0", "--implicit", "[::]:0"]);
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = Client::connect(&server, port);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address(port).port()));
        client.link = Link::connect(address, None).unwrap();
        client.settle(USER, PASSWORD);
        for verb in ["EPSV", "PASV"] {
            let target = if verb == "EPSV" {
                SocketAddr::new(address.ip(), client.epsv().port())
            } else {
                client.pasv()
            };
            assert_eq!(target.ip(), address.ip(), "{verb}");
            let mut data = client.data(target);
            client.ok("RETR mapped", 150);
            client.secure_data(&mut data);
            assert_eq!(client.drain(data), b"content", "{verb}");
        }
    }
}

/// curl with `--ftp-ssl-ccc` reads the server's close_notify and sends none of its own.
#[test]
fn commands_may_follow_ccc_without_a_close_notify() {
    let server = Server::start(&["--ccc"]);
    let mut client = Client::ready(&server, Port::Explicit);
    client.ok("CCC", 200);
    assert_eq!(client.try_reply(), Err(End::CloseNotify));
    client.link.end_tls();
    client.dialogue(&[("NOOP", 200), ("PWD", 257), ("PROT C", 503)]);
}

/// Clients that ask for `.` compare the names with those that they know.
#[test]
fn names_in_the_current_directory_are_bare() {
    let home = Accounts::shared().home.join("names");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("one"), b"").unwrap();
    let server = Server::start(&[]);
    let mut client = Client::ready(&server, Port::Implicit);
    client.ok("CWD names", 250);
    for (line, names) in [
        ("NLST", "one\r\n"),
        ("NLST .", "one\r\n"),
        ("NLST -a .", "one\r\n"),
        ("NLST ./", "one\r\n"),
        ("NLST ../names", "../names/one\r\n"),
    ] {
        assert_eq!(client.download(line), names.as_bytes(), "{line}");
    }
}

/// curl 7.88 sends its ClientHello before the command, and looks at the control connection only when
/// a timer runs out or the data connection has answered.
#[test]
fn a_data_handshake_is_answered_before_the_command() {
    std::fs::write(Accounts::shared().home.join("early"), b"content").unwrap();
    let server = Server::start(&[]);
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = Client::ready(&server, port);
        for round in 0..8 {
            let mut data = {
                let address = client.pasv();
                client.data(address)
            };
            let tickets = client.profile.tickets.count();
            assert_eq!(data.handshake(&client.profile.resuming()), Ok(()));
            let spent = tickets - client.profile.tickets.count();
            if round % 2 == 0 {
                client.ok("RETR early", 150);
                assert_eq!(client.drain(data), b"content");
                let left = client.profile.tickets.count();
                assert_eq!(left, tickets - spent + 1, "a download brings a ticket");
            } else {
                client.ok("STOR late", 150);
                data.send(b"octets").unwrap();
                data.close_notify();
                client.expect(226);
                let left = client.profile.tickets.count();
                assert_eq!(left, tickets - spent, "an upload brings none");
            }
        }
    }
    let late = Accounts::shared().home.join("late");
    assert_eq!(std::fs::read(late).unwrap(), b"octets");
}

/// What the client does with a port before it gives a command must not outlive the set-up.
#[test]
fn a_data_connection_that_came_early_goes_with_its_set_up() {
    let server = Server::start(&[]);
    let mut client = Client::ready(&server, Port::Implicit);
    let mut first = {
        let address = client.pasv();
        client.data(address)
    };
    assert_eq!(first.handshake(&client.profile.resuming()), Ok(()));
    let second = client.pasv();
    let (octets, end) = first.take_all();
    assert!(octets.is_empty() && end != End::Timeout, "{end:?}");
    let mut data = client.data(second);
    assert_eq!(data.handshake(&client.profile.resuming()), Ok(()));
    client.ok("LIST", 150);
    client.drain(data);
}
