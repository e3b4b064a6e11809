//! Files on a slow disk: whoever waits for it, the core does not.
//!
//! While one session downloads a file of which nothing is in memory, another one on the same core sends
//! NOOP after NOOP. The disk takes a known time for a chunk; each reply must come in a fraction of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::server::{Accounts, Server, USER};
use crate::common::{Port, assert_same, pattern, skip};
use crate::pressure::{
    BY_ITSELF, DOWNLOADS, Way, alone, client, logged_last, patience, time_noop, variety,
};
use crate::slow_device::{SlowDevice, chunk_time};

const CHUNK_OCTETS: usize = 256 * 1024;
const FILE_OCTETS: usize = 5 * CHUNK_OCTETS;
/// The disk must take so long for a chunk, or nothing could be told from anything else.
const CHUNK_TIME_MIN: Duration = Duration::from_millis(250);
const SHARE_MAX: u32 = 3;
const ATTEMPTS: usize = 3;

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

/// A core that waits for the disk does so for every file; a machine that has no time for it just then,
/// not for three.
#[track_caller]
fn assert_core_stays_free(
    (server, client): (&Server, &mut Client),
    name: &str,
    content: &[u8],
    routes: &[&str],
    prepare: impl Fn(&str),
) {
    for attempt in 0..ATTEMPTS {
        let file = file_name(name, attempt);
        prepare(&file);
        let seen = watch(server, client, &file);
        let transfer = logged_last(server, &file, 1);
        let Seen {
            chunk,
            longest,
            noops,
            ..
        } = seen;
        eprintln!(
            "{name}, {}: disk {chunk:.0?} for 256 KiB, longest of {noops} NOOPs {longest:.1?}",
            transfer.route
        );
        assert_same(&seen.octets, content);
        assert_eq!(transfer.end, "Complete");
        assert!(routes.contains(&&*transfer.route), "{transfer:?}");
        assert!(chunk >= CHUNK_TIME_MIN, "the disk is not slow");
        if longest < chunk / SHARE_MAX {
            return;
        }
    }
    panic!("{name}: the core waited for the disk");
}

fn file_name(name: &str, attempt: usize) -> String {
    format!("{name}-{attempt}")
}

/// A file of its own for each attempt of each name: what was read once is in memory.
fn files(names: &[&str]) -> Vec<String> {
    let attempts = |name| (0..ATTEMPTS).map(move |attempt| file_name(name, attempt));
    names.iter().copied().flat_map(attempts).collect()
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

/// The file that is read before another one.
fn tiring(name: &str) -> String {
    format!("before-{name}")
}

/// Downloads by each of these ways from the slow disk.
fn watch_disk(ways: impl Iterator<Item = Way>, prepare: impl Fn(&SlowDevice, &str)) {
    let _alone = alone();
    let content = pattern(FILE_OCTETS);
    let ways: Vec<Way> = ways.filter(|way| way.is_open()).collect();
    let routes: Vec<&str> = ways.iter().map(|way| way.route).collect();
    let mut names = files(&routes);
    names.extend(files(&routes).iter().map(|name| tiring(name)));
    let Some((device, accounts)) = set_up(SlowDevice::disk(&names, &content)) else {
        return;
    };
    for (number, way) in ways.into_iter().enumerate() {
        let server = server(&accounts, way);
        let (port, profile) = variety(number);
        let mut client = way.client(&server, port, profile);
        let both = (&server, &mut client);
        assert_core_stays_free(both, way.route, &content, &[way.route], |name| {
            prepare(&device, name);
            device.tire(&tiring(name));
        });
    }
    device.end();
}

#[test]
fn a_cold_file_stops_no_core() {
    watch_disk(DOWNLOADS.into_iter(), |_, _| {});
}

/// The ends of each chunk are in memory, where the server looks first; what is between them is not.
#[test]
fn a_file_with_holes_in_memory_stops_no_core() {
    let by_sendfile = |way: &Way| way.route.ends_with("sendfile");
    watch_disk(DOWNLOADS.into_iter().filter(by_sendfile), |device, name| {
        for chunk in 0..FILE_OCTETS / CHUNK_OCTETS {
            let start = (chunk * CHUNK_OCTETS) as u64;
            device.touch(name, start);
            device.touch(name, start + CHUNK_OCTETS as u64 - 1);
        }
    });
}

/// Of a file system on the network nobody knows what is in memory: the server reads through the ring.
#[test]
fn a_file_system_that_does_not_tell_stops_no_core() {
    let _alone = alone();
    let content = pattern(FILE_OCTETS);
    for answer_time in [Duration::ZERO, chunk_time() * 2] {
        let names = ["protected", "clear"];
        let made = SlowDevice::fuse(&files(&names), &content, answer_time);
        let Some((device, accounts)) = set_up(made) else {
            return;
        };
        let server = server(&accounts, BY_ITSELF);
        for name in names {
            let (port, profile) = variety(0);
            let mut client = client(&server, port, profile, name == "protected");
            let routes = ["user-tls", "ktls-read", "clear"];
            let both = (&server, &mut client);
            assert_core_stays_free(both, name, &content, &routes, |_| {});
        }
        device.end();
    }
}
