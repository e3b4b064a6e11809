//! Files on a slow disk: whoever waits for it, the core does not.
//!
//! While one session downloads a file of which nothing is in memory, another one on the same core sends
//! NOOP after NOOP. The disk takes a known time for a chunk; each reply must come in a fraction of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::server::{Accounts, Server, USER};
use crate::common::{Port, assert_same, pattern, skip};
use crate::pressure::{DOWNLOADS, Way, alone, client, logged, patience, time_noop, variety};
use crate::slow_device::SlowDevice;

const CHUNK_OCTETS: usize = 256 * 1024;
const FILE_OCTETS: usize = 6 * CHUNK_OCTETS;
/// The disk must take so long for a chunk, or nothing could be told from anything else.
const CHUNK_TIME_MIN: Duration = Duration::from_millis(250);
const SHARE_MAX: u32 = 3;

/// What was seen of a download beside NOOPs.
struct Seen {
    octets: Vec<u8>,
    /// What the disk took for a chunk, by the time of the whole file.
    chunk: Duration,
    longest: Duration,
    noops: usize,
}

/// Downloads a file that is not in memory, and times NOOPs all the while.
fn watch(server: &Server, client: &mut Client, name: &str) -> Seen {
    let over = AtomicBool::new(false);
    let mut noops = Client::ready(server, Port::Explicit);
    noops.link.set_patience(patience());
    client.link.set_patience(patience());
    std::thread::scope(|scope| {
        let noops = scope.spawn(|| {
            let (mut longest, mut count) = (Duration::ZERO, 0);
            while !over.load(Ordering::Relaxed) {
                longest = longest.max(time_noop(&mut noops));
                count += 1;
            }
            (longest, count)
        });
        let start = Instant::now();
        let data = client.open(format!("RETR {name}"));
        data.set_patience(patience());
        let octets = client.drain(data);
        let chunk = start.elapsed() * CHUNK_OCTETS as u32 / octets.len() as u32;
        over.store(true, Ordering::Relaxed);
        let (longest, noops) = noops.join().unwrap();
        Seen {
            octets,
            chunk,
            longest,
            noops,
        }
    })
}

impl Seen {
    #[track_caller]
    fn assert_core_was_free(&self, server: &Server, what: &str, content: &[u8], routes: &[&str]) {
        let Self {
            chunk,
            longest,
            noops,
            ..
        } = self;
        let transfer = logged(server).pop().unwrap();
        let route = &transfer.route;
        eprintln!(
            "{what}, {route}: disk {chunk:.0?} for 256 KiB, longest of {noops} NOOPs {longest:.1?}"
        );
        assert_same(&self.octets, content);
        assert_eq!(transfer.end, "Complete");
        assert!(routes.contains(&&**route), "{transfer:?}");
        assert!(*chunk >= CHUNK_TIME_MIN, "the disk is not slow");
        assert!(
            *longest < *chunk / SHARE_MAX,
            "the core waited for the disk"
        );
    }
}

/// The device and the users file of an account that has it as its home, unless this machine cannot
/// have one.
fn set_up(made: Result<SlowDevice, String>) -> Option<(SlowDevice, Accounts)> {
    let device = made
        .map_err(|lacks| skip(&format!("no slow disk: {lacks}")))
        .ok()?;
    let accounts = Accounts::single(USER, &device.directory);
    Some((device, accounts))
}

fn server(accounts: &Accounts, way: Way) -> Server {
    let users = accounts.file.to_str().unwrap();
    way.server(&["--cores", "1", "--users", users])
}

#[test]
fn a_cold_file_stops_no_core() {
    let _alone = alone();
    let content = pattern(FILE_OCTETS);
    let ways: Vec<Way> = DOWNLOADS.into_iter().filter(|way| way.is_open()).collect();
    let files: Vec<_> = ways.iter().map(|way| (way.route, &*content)).collect();
    let Some((device, accounts)) = set_up(SlowDevice::disk(&files)) else {
        return;
    };
    for (number, way) in ways.into_iter().enumerate() {
        let server = server(&accounts, way);
        let (port, profile) = variety(number);
        let mut client = way.client(&server, port, profile);
        let seen = watch(&server, &mut client, way.route);
        seen.assert_core_was_free(&server, "cold", &content, &[way.route]);
    }
    device.end();
}

/// The ends of each chunk are in memory, where the server looks first; what is between them is not.
#[test]
fn a_file_with_holes_in_memory_stops_no_core() {
    let _alone = alone();
    let content = pattern(FILE_OCTETS);
    let by_sendfile = |way: &Way| way.route.ends_with("sendfile") && way.is_open();
    let ways: Vec<Way> = DOWNLOADS.into_iter().filter(by_sendfile).collect();
    let files: Vec<_> = ways.iter().map(|way| (way.route, &*content)).collect();
    let Some((device, accounts)) = set_up(SlowDevice::disk(&files)) else {
        return;
    };
    for (number, way) in ways.into_iter().enumerate() {
        for chunk in 0..FILE_OCTETS / CHUNK_OCTETS {
            let start = (chunk * CHUNK_OCTETS) as u64;
            device.touch(way.route, start);
            device.touch(way.route, start + CHUNK_OCTETS as u64 - 1);
        }
        let server = server(&accounts, way);
        let (port, profile) = variety(number);
        let mut client = way.client(&server, port, profile);
        let seen = watch(&server, &mut client, way.route);
        seen.assert_core_was_free(&server, "holes", &content, &[way.route]);
    }
    device.end();
}

/// Of a file system on the network nobody knows what is in memory: the server reads through the ring.
#[test]
fn a_file_system_that_does_not_tell_stops_no_core() {
    let _alone = alone();
    let content = pattern(FILE_OCTETS);
    let names = ["protected", "clear", "protected-slow", "clear-slow"];
    let files = names.map(|name| (name, &*content));
    let answer_time = [Duration::ZERO, CHUNK_TIME_MIN * 2];
    for (number, name) in names.into_iter().enumerate() {
        let Some((device, accounts)) = set_up(SlowDevice::fuse(&files, answer_time[number / 2]))
        else {
            return;
        };
        let users = accounts.file.to_str().unwrap();
        let server = Server::start(&[
            "--cores",
            "1",
            "--users",
            users,
            "--protect-data",
            "optional",
            "--log-level",
            "info",
        ]);
        let (port, profile) = variety(number);
        let mut client = client(&server, port, profile, number % 2 == 0);
        let seen = watch(&server, &mut client, name);
        let routes = ["user-tls", "ktls-read", "clear"];
        seen.assert_core_was_free(&server, "does not tell", &content, &routes);
        device.end();
    }
}
