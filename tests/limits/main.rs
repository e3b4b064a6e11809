//! Limits, against the real server: what is let through, what is refused and with which reply, what is counted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod atomic;
mod quota;
mod rates;

use common::Port;
use common::client::Client;
use common::server::{Accounts, PASSWORD, Server};

/// A server with these users.
fn server(accounts: &Accounts, options: &[&str]) -> Server {
    let users = ["--users", accounts.file.to_str().unwrap()];
    Server::start(&[&users[..], options].concat())
}

/// Ann, without TLS.
fn login_clear(server: &Server) -> Client {
    let mut client = Client::connect(server, Port::Explicit);
    client.expect(220);
    client.login("ann", PASSWORD);
    client.ok("TYPE I", 200);
    client
}

/// The value of a series in what the server tells now; `--metrics 0` is needed.
fn scrape(server: &Server, series: &str) -> Option<u64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server.metrics.unwrap()).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let name = format!("ringftpd_{series} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name))?;
    value.parse().ok()
}
