//! What the server tells of itself: Prometheus text, health, percentiles in the log, histogram logs; every count after known
//! operations.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests panic when they fail, and have a clock"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::client::Client;
use common::server::{Accounts, PASSWORD, Server, USER, wait_until};
use common::tls::{Profile, Version};
use common::{PATIENCE, Port, pattern};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use rustix::process::Signal;

const KIBIBYTE: usize = 1024;
/// Longer than what has a rate, and short enough to stay with rustls whatever the kernel offers.
const LONG: usize = 2 * 1024 * KIBIBYTE;

/// A server with metrics and these options. Routes are those of rustls, whatever the kernel offers.
fn start(options: &[&str]) -> (Server, SocketAddr) {
    let server = Server::start(&[&["--metrics", "0", "--ktls", "off"], options].concat());
    let address = server.metrics.expect("it says where its metrics are");
    assert!(address.ip().is_loopback());
    (server, address)
}

/// Status, headers and body.
fn get(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// The samples: name with labels, and value.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn take(address: SocketAddr) -> Self {
        let (status, head, body) = get(address, "GET /metrics");
        assert_eq!(status, 200, "{body}");
        let content = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(head.contains(content), "{head}");
        let samples = body.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    /// The value of a sample; 0 where it is not shown.
    fn at(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// As the other, of lines.
    #[track_caller]
    fn assert_all(&self, lines: &str) {
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            self.assert(&[(name, value.parse().unwrap())]);
        }
    }

    #[track_caller]
    fn assert(&self, expected: &[(&str, f64)]) {
        for (name, value) in expected {
            let name = format!("ringftpd_{name}");
            #[allow(clippy::float_cmp, reason = "counts")]
            let same = self.at(&name) == *value;
            assert!(same, "{name} is {}, not {value}: {self}", self.at(&name));
        }
    }
}

impl std::fmt::Display for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in self.0.iter().filter(|(name, _)| !name.contains("_bucket")) {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

/// Scrapes until a sample has this value: what the client has seen, the server may count a moment later.
fn scrape_when(address: SocketAddr, name: &str, value: f64) -> Scrape {
    let mut scrape = Scrape::take(address);
    let name = format!("ringftpd_{name}");
    wait_until(PATIENCE, || {
        scrape = Scrape::take(address);
        scrape.at(&name) >= value
    });
    scrape
}

fn accounts(name: &str) -> Accounts {
    let home = common::server::process_directory().join(format!("home-{name}"));
    let accounts = Accounts::single(USER, &home);
    std::fs::write(home.join("long.bin"), pattern(LONG)).unwrap();
    std::fs::write(home.join("short.bin"), pattern(KIBIBYTE)).unwrap();
    accounts
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What the dialogue below comes to. USER four times and QUIT; AUTH thrice, PBSZ and PROT twice; greetings, AUTH, 230, PBSZ and PROT,
/// TYPE, NOOP, PWD and QUIT.
const DIALOGUE: &str = r#"
connections_total{listener="explicit",result="accepted"} 3
connections_total{listener="implicit",result="accepted"} 1
connections_total{listener="explicit",result="refused"} 0
greeting_seconds_count{listener="explicit"} 3
greeting_seconds_count{listener="implicit"} 1
tls_handshake_seconds_count{connection="control",kind="full"} 4
tls_handshake_failures_total{connection="control"} 0
logins_total{result="granted"} 3
logins_total{result="refused"} 1
login_seconds_count{result="granted"} 3
commands_total{class="noop"} 65
command_seconds_count{class="noop"} 65
command_seconds_bucket{class="noop",le="+Inf"} 65
commands_total{class="password"} 4
command_seconds_count{class="password"} 0
commands_total{class="session"} 5
commands_total{class="protection"} 7
commands_total{class="parameter"} 3
commands_total{class="unknown"} 1
commands_total{class="information"} 1
commands_total{class="file"} 1
replies_total{code="3yz"} 4
replies_total{code="5yz"} 3
replies_total{code="2yz"} 84
sessions 3
open_connections 3
accepting 1
cores_silent 0
"#;

#[test]
fn logins_commands_and_replies_are_counted_exactly() {
    let (server, address) = start(&[]);
    let mut clients: Vec<Client> = Vec::new();
    for port in [Port::Explicit, Port::Explicit, Port::Implicit] {
        clients.push(Client::ready(&server, port));
    }
    let [first, ..] = &mut clients[..] else {
        unreachable!("three were made");
    };
    for _ in 0..25 {
        first.ok("NOOP", 200);
    }
    // In one segment: each is a command all the same.
    first.link.send(&b"NOOP\r\n".repeat(40)).unwrap();
    for _ in 0..40 {
        first.expect(200);
    }
    first.ok("FROB", 500);
    first.ok("PWD", 257);
    first.ok("SIZE nothing", 550);
    let mut refused = Client::connect(&server, Port::Explicit);
    refused.secure();
    refused.ok(format!("USER {USER}"), 331);
    refused.ok("PASS wrong", 530);
    refused.ok("QUIT", 221);
    refused.expect_closed();
    let scrape = scrape_when(address, r#"commands_total{class="session"}"#, 5.0);
    scrape.assert_all(DIALOGUE);
    // The sum is exact, and what lies below the longest bucket is less than that.
    let noops = scrape.at(r#"ringftpd_command_seconds_sum{class="noop"}"#);
    assert!(noops > 0.0 && noops < PATIENCE.as_secs_f64(), "{noops}");
    drop(clients);
    let gone = || Scrape::take(address).at("ringftpd_open_connections") == 0.0;
    assert!(wait_until(PATIENCE, gone));
    Scrape::take(address).assert(&[("sessions", 0.0), (r#"commands_total{class="noop"}"#, 65.0)]);
}

/// What the transfers below come to: one was long enough for a rate; a listing has no reason not to be protected by the kernel.
const TRANSFERS: &str = r#"
transfers_total{route="user-tls",kind="download",end="complete"} 4
transfers_total{route="user-tls",kind="upload",end="complete"} 1
transfers_total{route="user-tls",kind="listing",end="complete"} 1
transfers_total{route="user-tls",kind="upload",end="connection_lost"} 1
transfers_total{route="none",kind="download",end="not_connected"} 1
transferred_bytes_total{route="user-tls",kind="download"} 2100224
transferred_bytes_total{route="user-tls",kind="upload"} 3072
transferred_bytes_total{route="user-tls",kind="listing"} LISTED
transfer_seconds_count{route="user-tls",kind="download"} 4
transfer_seconds_count{route="user-tls",kind="upload"} 1
transfer_rate_bytes_per_second_count{route="user-tls",kind="download"} 1
transfer_rate_bytes_per_second_count{route="user-tls",kind="upload"} 0
data_connection_seconds_count{mode="passive"} 8
data_connection_seconds_count{mode="active"} 1
first_byte_seconds_count{kind="download"} 6
first_byte_seconds_count{kind="upload"} 1
first_byte_seconds_count{kind="listing"} 1
kernel_tls_fallbacks_total{reason="off"} 6
commands_total{class="setup"} 10
commands_total{class="download"} 8
commands_total{class="upload"} 2
commands_total{class="listing"} 1
replies_total{code="1yz"} 10
replies_total{code="4yz"} 3
running_transfers{kind="download"} 0
running_transfers{kind="upload"} 0
"#;

#[test]
fn transfers_are_counted_by_route_kind_and_end() {
    let accounts = accounts("transfers");
    let (server, address) = start(&[
        "--users",
        path(&accounts.file),
        "--protect-data",
        "optional",
    ]);
    let mut client = Client::ready(&server, Port::Explicit);
    for _ in 0..3 {
        assert_eq!(client.download("RETR short.bin").len(), KIBIBYTE);
    }
    assert_eq!(client.download("RETR long.bin").len(), LONG);
    client.upload("STOR new.bin", &pattern(3 * KIBIBYTE));
    let listed = client.download("NLST").len();
    client.ok("PROT C", 200);
    client.protected = false;
    assert_eq!(client.download("RETR short.bin").len(), KIBIBYTE);
    let data = client.open_active("PORT", "RETR short.bin");
    client.drain(data);
    // A transfer that never gets a connection.
    let listener = client.listen("PORT");
    drop(listener);
    client.ok("RETR short.bin", 150);
    client.expect(425);
    // And one that is given up.
    client.ok("PROT P", 200);
    client.protected = true;
    let data = client.open("STOR broken.bin");
    data.reset();
    client.expect(426);
    client.ok("RETR nothing", 425);

    let last = r#"transfers_total{route="user-tls",kind="upload",end="connection_lost"}"#;
    let scrape = scrape_when(address, last, 1.0);
    let expected = TRANSFERS.replace("LISTED", &listed.to_string());
    scrape.assert_all(&expected);
    let clear: f64 = scrape
        .0
        .iter()
        .filter(|(name, _)| name.starts_with(r#"ringftpd_transfers_total{route="clear"#))
        .map(|(_, number)| number)
        .sum();
    assert!((clear - 2.0).abs() < 0.1, "{clear}: {scrape}");
    let rate = scrape
        .at(r#"ringftpd_transfer_rate_bytes_per_second_sum{route="user-tls",kind="download"}"#);
    assert!(rate > 100_000.0 && rate < 1e11, "{rate}");
}

#[test]
fn handshakes_are_told_apart() {
    let accounts = accounts("handshakes");
    let (server, address) = start(&["--users", path(&accounts.file), "--resume", "off"]);
    let mut client = Client::ready(&server, Port::Explicit);
    client.download("RETR short.bin");
    client.download("RETR short.bin");
    let name = |channel, kind| {
        format!(r#"tls_handshake_seconds_count{{connection="{channel}",kind="{kind}"}}"#)
    };
    let full = name("data", "full");
    scrape_when(address, &full, 2.0).assert(&[(&full, 2.0), (&name("data", "resumed"), 0.0)]);
    drop((client, server));

    let (server, address) = start(&["--users", path(&accounts.file)]);
    let profile = Profile::new(Version::Tls12);
    let mut client = Client::connect_as(&server, Port::Explicit, profile, None);
    client.settle(USER, PASSWORD);
    client.download("RETR short.bin");
    let resumed = name("data", "resumed");
    let expected: &[(&str, f64)] = &[
        (&resumed, 1.0),
        (&name("data", "full"), 0.0),
        (&name("control", "full"), 1.0),
    ];
    scrape_when(address, &resumed, 1.0).assert(expected);

    // No ClientHello.
    let mut stranger = Client::connect(&server, Port::Explicit);
    stranger.expect(220);
    stranger.ok("AUTH TLS", 234);
    stranger.link.send_raw(b"GET / HTTP/1.1\r\n\r\n");
    let failed = r#"tls_handshake_failures_total{connection="control"}"#;
    scrape_when(address, failed, 1.0).assert(&[(failed, 1.0)]);
}

#[test]
fn health_follows_the_drain_and_figures_go_on() {
    let accounts = accounts("drain");
    let (server, address) = start(&["--users", path(&accounts.file), "--grace", "20s"]);
    let (status, _, body) = get(address, "GET /healthz");
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let mut client = Client::ready(&server, Port::Explicit);
    let mut data = client.open("STOR slow.bin");
    data.send(b"begun").unwrap();
    let running = r#"running_transfers{kind="upload"}"#;
    scrape_when(address, running, 1.0).assert(&[(running, 1.0)]);
    server.signal(Signal::TERM);
    assert!(server.wait_for_log("stopping"));
    let (status, _, body) = get(address, "GET /healthz");
    assert_eq!((status, body.as_str()), (503, "draining\n"));
    Scrape::take(address).assert(&[("accepting", 0.0), (running, 1.0), ("sessions", 1.0)]);
    data.finish_sending();
    client.expect(226);
    let status = server.wait(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    assert!(server.wait_for_log("stopped"), "not the whole log");
    // What came after the last question is in the table of the end.
    let log = String::from_utf8(server.log()).unwrap();
    let transfers = log
        .lines()
        .find(|line| line.contains("transfers") && line.contains("complete=1"));
    assert!(transfers.is_some(), "{log}");
    assert!(
        log.contains("measure=transfer_seconds;route=user-tls;kind=upload count=1 "),
        "{log}"
    );
}

/// The table of SIGUSR1: each line with these words, as fields.
fn row(log: &str, words: &str) -> BTreeMap<String, String> {
    let line = log.lines().rfind(|line| line.contains(words));
    let line = line.unwrap_or_else(|| panic!("no {words} in\n{log}"));
    let fields = line.split(' ').filter_map(|word| word.split_once('='));
    let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
    fields.collect()
}

#[test]
fn the_signal_writes_percentiles_to_the_log() {
    let accounts = accounts("signal");
    let (server, _) = start(&["--users", path(&accounts.file), "--cores", "2"]);
    let mut client = Client::ready(&server, Port::Implicit);
    for _ in 0..100 {
        client.ok("NOOP", 200);
    }
    client.download("RETR long.bin");
    client.ok("QUIT", 221);
    client.expect_closed();
    // Each core has looked how late it is.
    std::thread::sleep(Duration::from_millis(300));
    server.signal(Signal::USR1);
    assert!(server.wait_for_log("event_loop_delay_seconds;core="));
    assert!(server.wait_for_log("transfer_rate_bytes_per_second"));
    std::thread::sleep(Duration::from_millis(100));
    let log = String::from_utf8(server.log()).unwrap();
    let noop = row(&log, "measure=command_seconds;class=noop ");
    assert_eq!(noop["count"], "100");
    let number = |name: &str| noop[name].parse::<u64>().unwrap();
    let percentiles = ["p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"].map(number);
    assert!(percentiles.is_sorted(), "{percentiles:?}");
    let [.., max] = percentiles;
    assert!(max > 0 && max < 20_000_000, "{max}");
    for (words, count) in [
        ("measure=greeting_seconds;listener=implicit ", "1"),
        ("measure=login_seconds;result=granted ", "1"),
        (
            "measure=transfer_seconds;route=user-tls;kind=download ",
            "1",
        ),
        (
            "measure=transfer_rate_bytes_per_second;route=user-tls;kind=download ",
            "1",
        ),
    ] {
        assert_eq!(row(&log, words)["count"], count, "{words}");
    }
    let route = row(&log, "transfers route=\"user-tls\"");
    let octets = LONG.to_string();
    assert_eq!(
        [&route["complete"], &route["broken"], &route["octets"]],
        ["1", "0", &octets]
    );
    let reason = row(&log, "kernel TLS not used reason=\"off\"");
    assert_eq!(reason["transfers"], "1");
    let cores = log
        .lines()
        .filter(|line| line.contains("event_loop_delay_seconds;core="));
    assert_eq!(cores.count(), 2, "one line a core\n{log}");
}

/// The histograms of a log, added up by tag, and the number of intervals.
fn read_log(text: &str) -> (BTreeMap<String, Histogram<u64>>, usize) {
    let mut sums: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    let mut starts = Vec::new();
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        let LogEntry::Interval(interval) = entry.expect("a line that can be read") else {
            continue;
        };
        starts.push(interval.start_timestamp());
        let octets = base64(interval.encoded_histogram());
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &octets[..]).unwrap();
        assert!(!histogram.is_empty());
        let tag = interval.tag().expect("every line has a tag");
        match sums.get_mut(tag.as_str()) {
            Some(sum) => sum.add(histogram).unwrap(),
            None => drop(sums.insert(tag.as_str().to_owned(), histogram)),
        }
    }
    assert!(starts.is_sorted());
    starts.dedup();
    (sums, starts.len())
}

/// Decodes base64 with padding.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut octets) = (0_u32, 0, Vec::new());
    for symbol in text.bytes().filter(|&symbol| symbol != b'=') {
        let value = ALPHABET.iter().position(|&known| known == symbol).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    octets
}

#[test]
fn histogram_logs_are_read_by_others_and_hold_everything() {
    let accounts = accounts("histograms");
    let directory = tempfile::tempdir().unwrap();
    // It is made.
    let logs = directory.path().join("deep/er");
    let options = [
        "--users",
        path(&accounts.file),
        "--histogram-log",
        path(&logs),
    ];
    let (server, address) = start(&[&options[..], &["--histogram-interval", "1"]].concat());
    let mut client = Client::ready(&server, Port::Explicit);
    let entries = std::fs::read_dir(&logs).unwrap();
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    let text = || std::fs::read_to_string(file).unwrap();
    let intervals = |wanted: usize| wait_until(PATIENCE, || read_log(&text()).1 >= wanted);
    for round in 1..=3 {
        for _ in 0..10 {
            client.ok("NOOP", 200);
        }
        assert!(intervals(round));
        // Whoever else asks takes nothing away from the log.
        Scrape::take(address).assert(&[(r#"commands_total{class="noop"}"#, 10.0 * round as f64)]);
    }
    client.download("RETR long.bin");
    server.signal(Signal::TERM);
    client.expect(421);
    drop(client);
    assert!(server.wait(PATIENCE).expect("it ends").success());
    let text = text();
    assert!(
        text.starts_with("#[Histogram log format version 1.3]\n"),
        "{text}"
    );
    let (sums, _) = read_log(&text);
    let count = |tag: &str| sums.get(tag).map_or(0, Histogram::len);
    assert_eq!(count("command_seconds;class=noop"), 30);
    assert_eq!(count("login_seconds;result=granted"), 1);
    // Between the last whole interval and the end.
    assert_eq!(count("transfer_seconds;route=user-tls;kind=download"), 1);
    let rate = &sums["transfer_rate_bytes_per_second;route=user-tls;kind=download"];
    assert!(rate.max() > 100_000, "octets a second: {}", rate.max());
    let delays = sums
        .keys()
        .filter(|tag| tag.starts_with("event_loop_delay_seconds;core="));
    assert!(delays.count() >= 1, "{:?}", sums.keys());
}

#[test]
fn other_requests_are_refused_and_slow_ones_bounded() {
    let (_server, address) = start(&[]);
    assert_eq!(get(address, "GET /").0, 404);
    let (status, head, _) = get(address, "POST /metrics");
    assert_eq!(status, 405);
    assert!(head.contains("allow: GET, HEAD"), "{head}");
    let (status, _, body) = get(address, "HEAD /metrics");
    assert_eq!((status, body.as_str()), (200, ""));
    // All places are taken by clients that say nothing, and given back when their time is over.
    let silent: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut late = TcpStream::connect(address).unwrap();
    late.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    late.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut octets = [0; 64];
    assert!(late.read(&mut octets).is_err(), "served beside the others");
    late.set_read_timeout(Some(3 * PATIENCE)).unwrap();
    let count = late.read(&mut octets).unwrap();
    assert!(octets[..count].starts_with(b"HTTP/1.1 200 OK"));
    drop(silent);
}

/// Starts the program with options that it must refuse; returns its words.
fn refused(options: &[&str], status: i32) -> String {
    let directory = tempfile::tempdir().unwrap();
    let account: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["--run-as", "root"],
        false => &[],
    };
    let output = Command::new(env!("CARGO_BIN_EXE_ringftpd"))
        .arg("serve")
        .arg(directory.path())
        .args([
            "--explicit",
            "127.0.0.1:0",
            "--implicit",
            "off",
            "--ktls",
            "off",
        ])
        .args(["--log-level", "error", "--state-dir"])
        .arg(directory.path().join("state"))
        .args(account)
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{options:?}: {words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    words
}

#[test]
fn what_cannot_be_is_refused_at_the_start_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = refused(&["--metrics", &address], 71);
    assert!(
        words.contains(&address) && words.contains("--metrics PORT"),
        "{words}"
    );
    let words = refused(&["--metrics", "192.0.2.1:9121"], 71);
    assert!(words.contains("ip address"), "{words}");
    let words = refused(&["--metrics", "localhost"], 2);
    assert!(
        words.contains("127.0.0.1") && words.contains("9121"),
        "{words}"
    );
    let words = refused(&["--histogram-interval", "5"], 2);
    assert!(words.contains("--histogram-log"), "{words}");
    let words = refused(&["--histogram-log", "x", "--histogram-interval", "10ms"], 2);
    assert!(words.contains("1s to 24h"), "{words}");
    // Below a file there is no directory, whoever asks.
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("logs");
    let words = refused(&["--histogram-log", path(&below)], 73);
    assert!(
        words.contains(path(&below)) && words.contains("--histogram-log DIR"),
        "{words}"
    );
}
