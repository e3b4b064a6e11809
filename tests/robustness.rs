//! What the server leaves behind after rude clients, what an idle session costs, and how it stops
//! and reloads.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

mod common;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use common::client::Client;
use common::link::{End, Link};
use common::server::{Accounts, PASSWORD, Server, USER, process_directory, wait_until};
use common::tls::Identity;
use common::{Port, assert_same, pattern};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

const UNLIMITED: &[&str] = &[
    "--connections-max",
    "20000",
    "--connections-per-address-max",
    "20000",
    "--sessions-per-user-max",
    "20000",
];
const BOTH: [Port; 2] = [Port::Explicit, Port::Implicit];
const LARGE: u64 = 64 << 20;

/// Gives this process, and the servers it starts, all the descriptors it may have.
fn raise_descriptor_limit(needed: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
    assert!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "needs {needed} descriptors, the hard limit is {maximum:?}"
    );
}

fn server(options: &[&str]) -> Server {
    raise_descriptor_limit(2600);
    Server::start(&[UNLIMITED, options].concat())
}

/// Descriptors of a server that has served and is idle again.
fn settled_descriptors(server: &Server) -> usize {
    for port in BOTH {
        let mut client = Client::ready(server, port);
        client.download("NLST");
        client.ok("QUIT", 221);
    }
    let mut count = server.descriptors();
    wait_until(Duration::from_secs(5), || {
        std::thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut count, server.descriptors());
        before == count
    });
    count
}

/// Nothing must stay open, and the server must still serve.
fn assert_recovered(server: &Server, idle: usize) {
    let back = wait_until(Duration::from_secs(20), || server.descriptors() <= idle);
    assert!(
        back,
        "{} descriptors, {idle} at first",
        server.descriptors()
    );
    for port in BOTH {
        Client::ready(server, port).download("NLST");
    }
}

/// A file in the home of all tests.
fn put_zeros(name: &str, length: u64) {
    let path = Accounts::shared().home.join(name);
    std::fs::File::create(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

#[test]
fn a_thousand_simultaneous_connects_leave_nothing_behind() {
    let server = server(&[]);
    let idle = settled_descriptors(&server);
    for _ in 0..2 {
        let links: Vec<Link> = (0..1000)
            .map(|number| Link::connect(server.address(BOTH[number % 2]), None).unwrap())
            .collect();
        let accepted = wait_until(Duration::from_secs(20), || {
            server.descriptors() >= idle + 1000
        });
        assert!(accepted, "{} descriptors", server.descriptors());
        for (number, mut link) in links.into_iter().enumerate() {
            if number % 2 == 0 {
                assert!(link.take_exactly(4).starts_with(b"220 "));
            }
            if number % 3 == 0 {
                link.reset();
            }
        }
        assert_recovered(&server, idle);
    }
}

#[test]
fn half_open_handshakes_are_closed() {
    let server = server(&["--handshake-timeout", "1s"]);
    let idle = settled_descriptors(&server);
    let mut links = Vec::new();
    for number in 0..300 {
        let port = BOTH[number % 2];
        let mut client = Client::connect(&server, port);
        if port == Port::Explicit {
            client.expect(220);
            client.ok("AUTH TLS", 234);
        }
        client.link.begin_tls(&client.profile.full());
        let hello = client.link.outgoing();
        client
            .link
            .send_raw(&hello[..hello.len() * (number % 5) / 5]);
        match number % 3 {
            0 => client.link.reset(),
            1 => client.link.shutdown_write(),
            _ => links.push(client.link),
        }
    }
    for link in &mut links {
        let (_, end) = link.take_all_raw();
        assert_ne!(end, End::Timeout);
    }
    assert_recovered(&server, idle);
}

#[test]
fn clients_killed_in_a_transfer_leave_nothing_behind() {
    put_zeros("killed", LARGE);
    let server = server(&[]);
    let idle = settled_descriptors(&server);
    let mut running = Vec::new();
    for number in 0..60 {
        let mut client = Client::ready(&server, BOTH[number % 2]);
        if number % 3 == 0 {
            let mut data = client.open("RETR killed");
            data.take_exactly(100_000);
            running.push((client, Some(data)));
        } else if number % 3 == 1 {
            let mut data = client.open(format!("STOR killed-{number}"));
            data.send(b"some").unwrap();
            running.push((client, Some(data)));
        } else {
            // Set up, never connected.
            client.pasv();
            client.ok("RETR killed", 150);
            running.push((client, None));
        }
    }
    assert!(server.descriptors() >= idle + 100);
    for (number, (client, data)) in running.into_iter().enumerate() {
        if number % 2 == 0 {
            client.link.reset();
        }
        if let Some(data) = data
            && number % 4 < 2
        {
            data.reset();
        }
    }
    assert_recovered(&server, idle);
}

/// An anonymous login: no password is hashed, whose memory would hide that of the sessions.
fn login_anonymous(server: &Server, port: Port) -> Client {
    let mut client = Client::connect(server, port);
    client.secure();
    client.login("anonymous", "nobody@localhost");
    client
}

#[test]
fn an_idle_session_costs_little_memory() {
    const OCTETS_MAX: u64 = 20 * 1024;
    const THREADS: usize = 4;
    let sessions: usize =
        std::env::var("RINGFTPD_TEST_SESSIONS").map_or(2000, |number| number.parse().unwrap());
    raise_descriptor_limit(sessions as u64 + 600);
    let server = Server::start(&[UNLIMITED, &["--anonymous"]].concat());
    let fresh = server.resident();
    let clients = Mutex::new(Vec::with_capacity(sessions));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (server, clients) = (&server, &clients);
            scope.spawn(move || {
                for number in (thread..sessions).step_by(THREADS) {
                    let client = login_anonymous(server, BOTH[number / THREADS % 2]);
                    clients.lock().unwrap().push(client);
                }
            });
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let grown = server.resident().saturating_sub(fresh);
    let each = grown / sessions as u64;
    println!("{sessions} idle sessions: {each} octets each, {grown} together");
    assert!(each < OCTETS_MAX, "{each} octets for an idle session");
    for client in clients.into_inner().unwrap().iter_mut().take(20) {
        client.ok("NOOP", 200);
    }
}

#[test]
fn sigterm_lets_transfers_finish() {
    let content = pattern(24 << 20);
    std::fs::write(Accounts::shared().home.join("drained"), &content).unwrap();
    let server = server(&["--grace", "20s"]);
    let mut idle: Vec<Client> = BOTH.map(|port| Client::ready(&server, port)).into();
    let mut busy: Vec<(Client, Link)> = BOTH
        .map(|port| {
            let mut client = Client::ready(&server, port);
            let data = client.open("RETR drained");
            (client, data)
        })
        .into();
    let mut upload = Client::ready(&server, Port::Implicit);
    let mut data = upload.open("STOR drained-upload");
    data.send(b"first, ").unwrap();
    server.signal(Signal::TERM);
    for client in &mut idle {
        client.expect(421);
        client.expect_closed();
    }
    let refused = wait_until(Duration::from_secs(5), || {
        Link::connect(server.explicit, None).is_err()
    });
    assert!(refused, "still accepting");
    data.send(b"second").unwrap();
    data.finish_sending();
    upload.expect(226);
    upload.expect_thrown_out();
    for (client, data) in &mut busy {
        let (octets, end) = data.take_all();
        assert_same(&octets, &content);
        assert_eq!(end, End::CloseNotify);
        data.close_notify();
        data.shutdown_write();
        client.expect(226);
        client.expect_thrown_out();
    }
    let status = server.wait(Duration::from_secs(10)).expect("still running");
    assert_eq!(status.code(), Some(0));
    let uploaded = std::fs::read(Accounts::shared().home.join("drained-upload")).unwrap();
    assert_eq!(uploaded, b"first, second");
}

#[test]
fn sigterm_cuts_transfers_after_the_grace_period() {
    put_zeros("cut", LARGE);
    let server = server(&["--grace", "1s"]);
    let mut client = Client::ready(&server, Port::Explicit);
    let mut data = client.open("RETR cut");
    data.take_exactly(1000);
    server.signal(Signal::TERM);
    client.expect(426);
    client.expect(421);
    client.expect_closed();
    let status = server.wait(Duration::from_secs(10)).expect("still running");
    assert_eq!(status.code(), Some(0));
}

/// A server with files of its own, to be changed under it.
struct Reloadable {
    identity: Identity,
    accounts: Accounts,
    server: Server,
}

impl Reloadable {
    fn start(name: &str) -> Self {
        let directory = process_directory().join(name);
        std::fs::create_dir(&directory).unwrap();
        let identity = Identity::generate(&directory, "own");
        let accounts = Accounts::single(USER, &directory.join("home"));
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let server = Server::start(&[
            "--users",
            &path(&accounts.file),
            "--cert",
            &path(&identity.certificate_file),
            "--key",
            &path(&identity.key_file),
        ]);
        Self {
            identity,
            accounts,
            server,
        }
    }

    /// The certificate that a new connection is shown.
    fn certificate(&self, port: Port) -> Vec<u8> {
        let mut client = Client::connect(&self.server, port);
        client.secure();
        client.link.certificate()
    }
}

#[test]
fn sighup_reloads_certificate_and_users() {
    let own = Reloadable::start("reload");
    std::fs::write(own.accounts.home.join("f"), b"content").unwrap();
    let mut clients: Vec<Client> = BOTH.map(|port| Client::ready(&own.server, port)).into();
    let old = own.certificate(Port::Implicit);
    assert_eq!(old, own.identity.der.as_ref());
    let new = Identity::generate(&process_directory().join("reload"), "new");
    std::fs::copy(&new.certificate_file, &own.identity.certificate_file).unwrap();
    std::fs::copy(&new.key_file, &own.identity.key_file).unwrap();
    own.accounts
        .add("newcomer", PASSWORD, &own.accounts.home, None);
    own.server.signal(Signal::HUP);
    for port in BOTH {
        let changed = wait_until(Duration::from_secs(10), || {
            own.certificate(port) == new.der.as_ref()
        });
        assert!(changed, "{port:?}: the old certificate after SIGHUP");
        let mut client = Client::connect(&own.server, port);
        client.secure();
        client.login("newcomer", PASSWORD);
    }
    for client in &mut clients {
        client.ok("NOOP", 200);
        assert_eq!(client.download("RETR f"), b"content");
    }
}

#[test]
fn sighup_with_bad_files_keeps_the_old_ones() {
    let own = Reloadable::start("bad-reload");
    let mut clients: Vec<Client> = BOTH.map(|port| Client::ready(&own.server, port)).into();
    let logged = own.server.log().len();
    std::fs::write(&own.identity.certificate_file, "no certificate\n").unwrap();
    std::fs::write(&own.accounts.file, "no = [users\n").unwrap();
    own.server.signal(Signal::HUP);
    let said = wait_until(Duration::from_secs(10), || own.server.log().len() > logged);
    assert!(said, "not a word about the bad files");
    std::thread::sleep(Duration::from_millis(500));
    for port in BOTH {
        assert_eq!(own.certificate(port), own.identity.der.as_ref());
        Client::ready(&own.server, port).download("NLST");
    }
    for client in &mut clients {
        client.ok("NOOP", 200);
        client.download("NLST");
    }
    own.server.signal(Signal::TERM);
    let status = own.server.wait(Duration::from_secs(10));
    assert_eq!(status.expect("still running").code(), Some(0));
}
