//! Who may connect, and who is shut out after failed logins: replies, counts, what the log says.

use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, USER, process_directory, wait_until};
use crate::common::tls::Profile;
use crate::common::{PATIENCE, Port};
use crate::scrape;

fn connect(server: &Server, port: Port, from: &str) -> Client {
    let source = from.parse().unwrap();
    Client::connect_as(server, port, Profile::usual(), Some(source))
}

/// The explicit port says 421 and closes, the implicit one only closes.
#[track_caller]
fn assert_refused(server: &Server, from: &str, words: &str) {
    let mut client = connect(server, Port::Explicit, from);
    let reply = client.expect(421);
    assert!(reply.text().contains(words), "{reply:?}");
    client.expect_closed();
    connect(server, Port::Implicit, from).expect_closed();
}

#[track_caller]
fn assert_served(server: &Server, from: &str) {
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = connect(server, port, from);
        client.settle(USER, PASSWORD);
        client.ok("QUIT", 221);
    }
}

#[track_caller]
fn assert_counted(server: &Server, series: &str, value: u64) {
    let mut seen = None;
    let counted = wait_until(PATIENCE, || {
        seen = scrape(server, series);
        seen == Some(value)
    });
    assert!(counted, "{series}: {seen:?} instead of {value}");
}

/// A wrong password; returns the code of the reply.
fn fail(client: &mut Client, user: &str) -> u16 {
    client.ok(format!("USER {user}"), 331);
    client.command("PASS wrong").code
}

#[test]
fn only_networks_that_may_connect_do() {
    let options = [
        "--allow",
        "127.0.0.0/24",
        "--deny",
        "127.0.0.8/29",
        "--allow",
        "127.0.0.9",
        "--metrics",
        "0",
    ];
    let server = Server::start(&options);
    assert_served(&server, "127.0.0.1");
    assert_served(&server, "127.0.0.9");
    for from in ["127.0.0.8", "127.0.0.10", "127.0.1.1"] {
        assert_refused(&server, from, "Not served");
    }
    assert_counted(&server, r#"refusals_total{reason="denied"}"#, 6);
    assert_counted(
        &server,
        r#"connections_total{listener="explicit",result="refused"}"#,
        3,
    );
}

#[test]
fn connections_over_a_limit_are_counted_by_reason() {
    let options = [
        "--connections-max",
        "3",
        "--connections-per-address-max",
        "2",
        "--metrics",
        "0",
    ];
    let server = Server::start(&options);
    let mut inside: Vec<Client> = (0..2)
        .map(|_| connect(&server, Port::Explicit, "127.0.0.1"))
        .collect();
    inside.iter_mut().for_each(|client| {
        client.expect(220);
    });
    assert_refused(&server, "127.0.0.1", "Too many connections");
    let mut third = connect(&server, Port::Explicit, "127.0.0.2");
    third.expect(220);
    assert_refused(&server, "127.0.0.3", "Too many connections");
    assert_counted(&server, r#"refusals_total{reason="address"}"#, 2);
    assert_counted(&server, r#"refusals_total{reason="connections"}"#, 2);
}

#[test]
fn sessions_of_a_user_have_a_limit_of_the_server_or_of_their_own() {
    let home = process_directory().join("home-sessions");
    let accounts = Accounts::single(USER, &home);
    accounts.add_with("two", &home, &["--sessions-max", "2"]);
    let users = accounts.file.to_str().unwrap();
    let options = [
        "--users",
        users,
        "--sessions-per-user-max",
        "1",
        "--metrics",
        "0",
    ];
    let server = Server::start(&options);
    let mut inside = Vec::new();
    for (user, max) in [(USER, 1), ("two", 2)] {
        for _ in 0..max {
            let mut client = Client::connect(&server, Port::Explicit);
            client.settle(user, PASSWORD);
            inside.push(client);
        }
        let mut more = Client::connect(&server, Port::Explicit);
        more.secure();
        more.ok(format!("USER {user}"), 331);
        let reply = more.ok(format!("PASS {PASSWORD}"), 421);
        assert!(reply.text().contains("Too many sessions"), "{reply:?}");
        more.expect_closed();
    }
    assert_counted(&server, r#"refusals_total{reason="sessions"}"#, 2);
}

#[test]
fn failed_logins_ban_their_address_for_a_while() {
    let options = [
        "--login-failures-max",
        "4",
        "--ban-time",
        "3s",
        "--bad-login-delay",
        "10ms",
        "--metrics",
        "0",
    ];
    let server = Server::start(&options);
    let mut bystander = connect(&server, Port::Explicit, "127.0.0.5");
    bystander.secure();
    let mut early = connect(&server, Port::Explicit, "127.0.0.4");
    early.secure();
    let mut client = connect(&server, Port::Explicit, "127.0.0.4");
    client.secure();
    assert_eq!(fail(&mut client, "a"), 530);
    assert_eq!(fail(&mut client, "b"), 530);
    assert_eq!(fail(&mut client, "c"), 421, "the third of one connection");
    let mut client = connect(&server, Port::Implicit, "127.0.0.4");
    client.secure();
    let banned = Instant::now();
    assert_eq!(fail(&mut client, USER), 421);
    client.expect_closed();
    assert_refused(&server, "127.0.0.4", "Too many failed logins");
    // Who was connected before has no further try, not even with the right password.
    early.ok(format!("USER {USER}"), 331);
    early.ok(format!("PASS {PASSWORD}"), 421);
    bystander.login(USER, PASSWORD);
    assert!(server.wait_for_log("banned: too many failed logins"));
    let log = String::from_utf8_lossy(&server.log()).into_owned();
    let line = log.lines().find(|line| line.contains("banned:")).unwrap();
    for part in ["127.0.0.4", "failures", "seconds"] {
        assert!(line.contains(part), "{line}");
    }
    assert_counted(&server, r#"bans_total{of="address"}"#, 1);
    assert_counted(&server, r#"refusals_total{reason="banned"}"#, 3);
    std::thread::sleep(Duration::from_millis(3200).saturating_sub(banned.elapsed()));
    assert_served(&server, "127.0.0.4");
}

#[test]
fn failed_logins_of_many_addresses_ban_their_network() {
    let options = [
        "--login-failures-per-network-max",
        "6",
        "--bad-login-delay",
        "10ms",
        "--metrics",
        "0",
    ];
    let server = Server::start(&options);
    for host in 1..=6 {
        let mut client = connect(&server, Port::Explicit, &format!("127.0.7.{host}"));
        client.secure();
        let code = if host == 6 { 421 } else { 530 };
        assert_eq!(fail(&mut client, "x"), code);
    }
    assert_refused(&server, "127.0.7.99", "Too many failed logins");
    assert_served(&server, "127.0.8.1");
    assert_counted(&server, r#"bans_total{of="network"}"#, 1);
}

#[test]
fn a_right_password_forgives_wrong_ones_of_that_user() {
    let options = ["--login-failures-max", "4", "--bad-login-delay", "10ms"];
    let server = Server::start(&options);
    for _ in 0..4 {
        let mut client = connect(&server, Port::Explicit, "127.0.0.6");
        client.secure();
        assert_eq!(fail(&mut client, USER), 530);
        assert_eq!(fail(&mut client, USER), 530);
        client.login(USER, PASSWORD);
    }
    assert_served(&server, "127.0.0.6");
}

#[test]
fn replies_to_wrong_passwords_come_later_and_later() {
    let options = ["--bad-login-delay", "100ms"];
    let server = Server::start(&options);
    let start = Instant::now();
    for _ in 0..3 {
        let mut client = connect(&server, Port::Explicit, "127.0.0.7");
        client.secure();
        assert_eq!(fail(&mut client, "x"), 530);
        assert_eq!(fail(&mut client, "x"), 530);
    }
    // 100 ms thrice, then 200, 400 and 800.
    assert!(
        start.elapsed() >= Duration::from_millis(1700),
        "{:?}",
        start.elapsed()
    );
    let mut client = connect(&server, Port::Explicit, "127.0.0.7");
    client.secure();
    client.login(USER, PASSWORD);
}
