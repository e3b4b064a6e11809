//! Rates: octets take their time on every route, both ways, and sessions share evenly.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, process_directory};
use crate::common::{Port, assert_same, pattern};

/// Octets a second, as the options below say.
const RATE: usize = 2_000_000;
/// What moves in two seconds of it.
const OCTETS: usize = 2 * RATE;
/// So much of the time is sure: what a server may make up for, and what lies in buffers, comes sooner.
const TIME_MIN: Duration = Duration::from_millis(1600);
/// Longer than this it takes only when the limit is not the reason.
const TIME_MAX: Duration = Duration::from_secs(15);

const DOWN: &str = "--download-rate-per-session";
const UP: &str = "--upload-rate-per-session";
const CLEAR: [&str; 4] = [
    "--protect-control",
    "optional",
    "--protect-data",
    "optional",
];

/// Accounts of a test, with a file to fetch.
fn accounts(name: &str) -> Accounts {
    let home = process_directory().join(format!("home-{name}"));
    let accounts = Accounts::single("ann", &home);
    std::fs::write(home.join("f"), pattern(OCTETS)).unwrap();
    accounts
}

fn server(accounts: &Accounts, options: &[&str]) -> Server {
    let users = ["--users", accounts.file.to_str().unwrap()];
    Server::start(&[&users[..], options].concat())
}

fn login(server: &Server) -> Client {
    let mut client = Client::connect(server, Port::Explicit);
    client.settle("ann", PASSWORD);
    client
}

fn login_clear(server: &Server) -> Client {
    let mut client = Client::connect(server, Port::Explicit);
    client.expect(220);
    client.login("ann", PASSWORD);
    client.ok("TYPE I", 200);
    client
}

/// How long it takes, which must be about two seconds.
fn timed(what: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let time = start.elapsed();
    assert!(time > TIME_MIN, "{what}: only {time:?}");
    assert!(time < TIME_MAX, "{what}: {time:?}");
}

#[test]
fn downloads_keep_to_the_rate_on_every_route() {
    let accounts = accounts("routes");
    for route in ["read", "sendfile", "splice"] {
        let options = [&CLEAR[..], &[DOWN, "2M", "--route", route]].concat();
        let server = server(&accounts, &options);
        for protected in [true, false] {
            let mut client = match protected {
                true => login(&server),
                false => login_clear(&server),
            };
            timed(&format!("{route}, protected: {protected}"), || {
                assert_same(&client.download("RETR f"), &pattern(OCTETS));
            });
        }
    }
}

#[test]
fn uploads_keep_to_the_rate() {
    let accounts = accounts("uploads");
    let server = server(&accounts, &[&CLEAR[..], &[UP, "2M"]].concat());
    let octets = pattern(OCTETS);
    for mut client in [login(&server), login_clear(&server)] {
        timed("upload", || {
            assert_eq!(client.upload("STOR g", &octets).code, 226);
        });
        assert_same(&std::fs::read(accounts.home.join("g")).unwrap(), &octets);
        // The other direction has no limit.
        let start = Instant::now();
        assert_same(&client.download("RETR g"), &octets);
        assert!(start.elapsed() < TIME_MAX);
    }
}

#[test]
fn small_files_one_after_the_other_share_the_rate_of_their_session() {
    let accounts = accounts("small");
    std::fs::write(accounts.home.join("s"), pattern(OCTETS / 40)).unwrap();
    let server = server(&accounts, &[DOWN, "2M"]);
    let mut client = login(&server);
    timed("small files", || {
        for _ in 0..40 {
            client.download("RETR s");
        }
    });
}

/// Octets that each client downloads until the first has everything.
fn race(clients: Vec<Client>) -> Vec<usize> {
    let end = Instant::now() + Duration::from_secs(3);
    let threads = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            let mut data = client.open("RETR large");
            let mut octets = 0;
            while Instant::now() < end {
                octets += data.take().unwrap().len();
            }
            octets
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().map(|one| one.join().unwrap()).collect()
}

fn large(accounts: &Accounts) {
    let file = std::fs::File::create(accounts.home.join("large")).unwrap();
    file.set_len(1 << 30).unwrap();
}

#[test]
fn sessions_of_a_user_share_evenly_and_other_users_have_their_own() {
    let accounts = accounts("fair");
    large(&accounts);
    accounts.add("bob", PASSWORD, &accounts.home, None);
    let server = server(&accounts, &["--download-rate-per-user", "2M"]);
    let mut clients = vec![login(&server), login(&server)];
    let mut bob = Client::connect(&server, Port::Implicit);
    bob.settle("bob", PASSWORD);
    clients.push(bob);
    let octets = race(clients);
    let [one, two, other] = octets[..] else {
        unreachable!("there are three");
    };
    // In three seconds; what the machine does not deliver is missing from all.
    assert!(one + two < 3 * RATE * 13 / 10, "{octets:?}");
    assert!(other < 3 * RATE * 13 / 10, "{octets:?}");
    assert!(one * 3 > two && two * 3 > one, "{octets:?}");
    assert!(other > one && other > two, "{octets:?}");
}

#[test]
fn the_rate_of_the_server_holds_for_all_cores_together() {
    let accounts = accounts("total");
    large(&accounts);
    let options = ["--download-rate-total", "2M", "--cores", "2"];
    let server = server(&accounts, &options);
    let octets = race((0..6).map(|_| login(&server)).collect());
    let all: usize = octets.iter().sum();
    assert!(all < 3 * RATE * 13 / 10, "{octets:?}");
    let (least, most) = (octets.iter().min().unwrap(), octets.iter().max().unwrap());
    assert!(least * 4 > *most, "{octets:?}");
}

#[test]
fn the_users_file_goes_before_the_option() {
    let home = process_directory().join("home-own");
    let accounts = Accounts::single("bob", &home);
    std::fs::write(home.join("f"), pattern(OCTETS)).unwrap();
    accounts.add_with("ann", &home, &["--rate-download", "2M"]);
    let server = server(&accounts, &["--download-rate-per-user", "100M"]);
    let mut client = login(&server);
    timed("own rate", || {
        client.download("RETR f");
    });
}

#[test]
fn a_limited_transfer_hears_abor_and_does_not_stall() {
    let accounts = accounts("abor");
    large(&accounts);
    // A piece each 50 ms, but pieces of 16 sessions wait for one another; the stall timer is short.
    let options = ["--download-rate-total", "20k", "--stall-timeout", "500ms"];
    let server = server(&accounts, &options);
    let mut clients: Vec<Client> = (0..16).map(|_| login(&server)).collect();
    let mut links: Vec<_> = clients
        .iter_mut()
        .map(|one| one.open("RETR large"))
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let start = Instant::now();
    for client in &mut clients {
        client.ok("ABOR", 426);
        client.expect(226);
    }
    assert!(start.elapsed() < TIME_MAX);
    for data in &mut links {
        data.take_all();
    }
    let log = String::from_utf8_lossy(&server.log()).into_owned();
    assert!(!log.contains("Stalled"), "{log}");
}

#[test]
fn uploads_wait_without_stalling() {
    let accounts = accounts("slow-upload");
    let options = [
        UP,
        "20k",
        "--stall-timeout",
        "300ms",
        "--idle-timeout",
        "1s",
    ];
    let server = server(&accounts, &options);
    let mut client = login(&server);
    let octets = pattern(60_000);
    assert_eq!(client.upload("STOR g", &octets).code, 226);
    let written: PathBuf = accounts.home.join("g");
    assert_same(&std::fs::read(written).unwrap(), &octets);
}

#[test]
fn kernel_tls_keeps_to_the_rate_both_ways() {
    // Set in the lab, where the kernel has it.
    if std::env::var_os("RINGFTPD_TEST_KTLS").is_none() {
        return;
    }
    let accounts = accounts("kernel-tls");
    let octets = pattern(OCTETS);
    for route in ["read", "sendfile", "splice"] {
        let options = [DOWN, "2M", UP, "2M", "--ktls", "on", "--route", route];
        let server = server(&accounts, &options);
        let mut client = login(&server);
        timed(&format!("download, {route}"), || {
            assert_same(&client.download("RETR f"), &octets);
        });
        timed(&format!("upload, {route}"), || {
            assert_eq!(client.upload("STOR g", &octets).code, 226);
        });
        assert_same(&std::fs::read(accounts.home.join("g")).unwrap(), &octets);
        for way in [&format!("ktls-{route}"), "ktls-receive"] {
            assert!(server.wait_for_log(way), "not by {way}");
        }
    }
}
