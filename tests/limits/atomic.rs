//! Quotas and uploads that appear once they are whole: the old file counts until the new one has its place.

use crate::common::client::{Client, Reply};
use crate::common::server::{Accounts, PASSWORD, Server, process_directory, wait_until};
use crate::common::{PATIENCE, Port, assert_same, pattern};
use crate::server;

const QUOTA: usize = 100_000;

/// A server with `ann`, who may store [`QUOTA`] octets, and her home.
fn site(name: &str) -> (Server, Accounts) {
    let home = process_directory().join(format!("atomic-{name}"));
    let accounts = Accounts::single("bob", &home.join("bob"));
    let accounts = Accounts {
        home: home.join("ann"),
        ..accounts
    };
    std::fs::create_dir(&accounts.home).unwrap();
    accounts.add_with("ann", &accounts.home, &["--quota", "100k"]);
    (server(&accounts, &["--upload-mode", "atomic"]), accounts)
}

fn login(server: &Server) -> Client {
    let mut client = Client::connect(server, Port::Implicit);
    client.settle("ann", PASSWORD);
    client
}

/// An upload that the server may end before everything is sent.
fn upload(client: &mut Client, line: &str, octets: &[u8]) -> Reply {
    let mut data = client.open(line);
    let _ = data.send(octets);
    data.close_notify();
    data.shutdown_write();
    client.reply()
}

fn used(client: &mut Client) -> usize {
    let text = client.ok("SITE QUOTA", 200).text();
    text.split(' ').nth(2).unwrap().parse().unwrap()
}

#[test]
fn the_old_file_counts_until_it_is_replaced() {
    let (server, accounts) = site("replaced");
    let home = &accounts.home;
    let (mut client, mut other) = (login(&server), login(&server));
    let octets = pattern(QUOTA);
    assert_eq!(client.upload("STOR f", &octets[..60_000]).code, 226);
    assert_eq!(used(&mut other), 60_000);
    // Both are there for a while.
    let mut data = client.open("STOR f");
    data.send(&octets[1..40_001]).unwrap();
    assert!(wait_until(PATIENCE, || used(&mut other) == QUOTA));
    data.finish_sending();
    client.expect(226);
    assert_eq!(used(&mut other), 40_000);
    assert_same(&std::fs::read(home.join("f")).unwrap(), &octets[1..40_001]);
    // One octet more than there is room for beside the old one.
    let reply = upload(&mut client, "STOR f", &octets[..60_001]);
    let text = "552 Quota exceeded: 60000 of 100000 octets left. Nothing of it was stored.\r\n";
    assert_eq!(reply.text(), text);
    assert_eq!(used(&mut other), 40_000);
    assert_same(&std::fs::read(home.join("f")).unwrap(), &octets[1..40_001]);
    assert_eq!(client.upload("STOR f", &octets[..60_000]).code, 226);
    assert_eq!(client.upload("STOU", &octets[..40_000]).code, 226);
    assert_eq!(used(&mut other), QUOTA);
    // Full: refused before 150.
    for line in ["STOR new", "STOR f", "STOU"] {
        client.pasv();
        client.ok(line, 552);
    }
    assert_eq!(std::fs::read_dir(home).unwrap().count(), 2);
    // A file with another name stays, and counts.
    client.ok("DELE f", 250);
    assert_eq!(client.upload("STOR a", &octets[..1_000]).code, 226);
    std::fs::hard_link(home.join("a"), home.join("b")).unwrap();
    assert_eq!(client.upload("STOR a", &octets[..500]).code, 226);
    assert_eq!(used(&mut other), 41_500);
}

#[test]
fn what_breaks_off_is_given_back_to_the_octet() {
    let (server, accounts) = site("broken");
    let home = &accounts.home;
    let (mut client, mut other) = (login(&server), login(&server));
    assert_eq!(client.upload("STOR f", &pattern(10_000)).code, 226);
    for line in ["STOR f", "STOR new", "STOU"] {
        let mut data = client.open(line);
        data.send(&pattern(70_000)).unwrap();
        assert!(wait_until(PATIENCE, || used(&mut other) == 80_000));
        client.ok("ABOR", 426);
        client.expect(226);
        assert_eq!(used(&mut other), 10_000);
        let mut data = client.open(line);
        data.send(&pattern(20_000)).unwrap();
        assert!(wait_until(PATIENCE, || used(&mut other) == 30_000));
        data.shutdown_write();
        client.expect(426);
        assert_eq!(used(&mut other), 10_000);
    }
    let mut data = client.open("STOR f");
    data.send(&pattern(20_000)).unwrap();
    other.ok("DELE f", 250);
    assert!(wait_until(PATIENCE, || used(&mut other) == 20_000));
    data.finish_sending();
    client.expect(226);
    assert_eq!(used(&mut other), 20_000);
    assert_eq!(std::fs::read_dir(home).unwrap().count(), 1);
}

#[test]
fn many_that_replace_one_file_leave_its_size() {
    let (server, accounts) = site("many");
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let mut client = login(&server);
            scope.spawn(move || {
                for round in 0..8 {
                    let octets = pattern(1_000 * number + round);
                    assert_eq!(client.upload("STOR f", &octets).code, 226);
                }
            });
        }
    });
    let octets = std::fs::metadata(accounts.home.join("f")).unwrap().len();
    assert_eq!(used(&mut login(&server)) as u64, octets);
    assert_eq!(std::fs::read_dir(&accounts.home).unwrap().count(), 1);
}
