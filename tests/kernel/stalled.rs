//! One core, and 32 clients that have begun a download and do not read: they cost nobody anything.
//!
//! What NOOP takes meanwhile is printed; the figures mean something on an otherwise idle machine, with
//! `--test-threads 1`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::link::Link;
use crate::common::server::{Accounts, Server, wait_until};
use crate::common::{Port, assert_same};
use crate::pressure::{
    BY_ITSELF, Belongings, Threads, alone, client, is_slow, keep_off_cores, logged, open_narrow,
    patience, put_pattern, slowness, threads, time_noops, variety,
};

const CLIENTS: usize = 32;
/// Receive buffer of a client that stalls; the kernel doubles it.
const BUFFER: usize = 32 * 1024;
/// No reply is ever later than this.
const LATENCY_MAX: Duration = Duration::from_secs(2);
/// Threads of a ring that stay idle by design of the kernel.
const RING_THREADS_IDLE: usize = 2;

/// More than the buffers of both sides hold.
fn file_octets() -> usize {
    if is_slow() { 8 << 20 } else { 64 << 20 }
}

fn round_trips() -> usize {
    if is_slow() { 200 } else { 2000 }
}

/// A client that does not read, for now.
struct Stalled {
    client: Client,
    data: Link,
}

impl Stalled {
    /// The first half protected, the others in the clear.
    fn begin(server: &Server, number: usize) -> Self {
        let (port, profile) = variety(number);
        let protected = number < CLIENTS / 2;
        let mut client = client(server, port, profile, protected);
        client.link.set_patience(patience());
        let data = open_narrow(&mut client, "RETR stalled", BUFFER);
        Self { client, data }
    }

    /// Reads everything, and compares it while it comes.
    fn resume(mut self, content: &[u8]) {
        let mut taken = 0;
        let end = loop {
            match self.data.take() {
                Ok(octets) => {
                    let expected = content.get(taken..).unwrap_or_default();
                    assert_same(&octets, &expected[..octets.len().min(expected.len())]);
                    taken += octets.len();
                }
                Err(end) => break end,
            }
        };
        assert_eq!(end, self.client.clean_end(), "after {taken} octets");
        assert_eq!(taken, content.len());
        if self.data.is_protected() {
            self.data.close_notify();
        }
        drop(self.data);
        self.client.expect(226);
        self.client.ok("QUIT", 221);
    }
}

/// Begins all of them, and waits until the server can send to none of them.
fn stall(server: &Server) -> Vec<Stalled> {
    let stalled: Vec<_> = (0..CLIENTS)
        .map(|number| Stalled::begin(server, number))
        .collect();
    let unread = || -> Vec<u64> {
        let links = stalled.iter().map(|stalled| &stalled.data.tcp);
        links
            .map(|tcp| rustix::io::ioctl_fionread(tcp).unwrap())
            .collect()
    };
    let mut last = unread();
    let mut since = Instant::now();
    let full = wait_until(patience(), || {
        let now = unread();
        if now != last || now.contains(&0) {
            last = now;
            since = Instant::now();
        }
        since.elapsed() > Duration::from_millis(300) * slowness()
    });
    assert!(full, "{last:?} octets wait");
    stalled
}

fn resume(stalled: Vec<Stalled>, content: &[u8]) {
    std::thread::scope(|scope| {
        for stalled in stalled {
            scope.spawn(|| stalled.resume(content));
        }
    });
}

/// Clients that transfer as fast as they can, and what they got done.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    octets: AtomicUsize,
    /// Transfers of each of the four.
    transfers: [AtomicUsize; 4],
}

/// Ends the load in any case: its threads are waited for.
struct EndOfLoad<'a>(&'a Load);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// Two that download and two that upload, one of each protected.
    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        server: &'scope Server,
        content: &'scope [u8],
    ) {
        for number in 0..self.transfers.len() {
            scope.spawn(move || {
                keep_off_cores(server);
                let (port, profile) = variety(number / 2);
                let mut client = client(server, port, profile, number % 2 == 0);
                client.link.set_patience(patience());
                while !self.over.load(Ordering::Relaxed) {
                    if number < 2 {
                        let data = client.open("RETR stalled");
                        self.read(&mut client, data, content);
                    } else {
                        let part = &content[..content.len() / 8];
                        client.upload(format!("STOR load-{number}"), part);
                        self.octets.fetch_add(part.len(), Ordering::Relaxed);
                        let kept = Accounts::shared().home.join(format!("load-{number}"));
                        assert_same(&std::fs::read(kept).unwrap(), part);
                    }
                    self.transfers[number].fetch_add(1, Ordering::Relaxed);
                }
                client.ok("QUIT", 221);
            });
        }
    }

    fn read(&self, client: &mut Client, mut data: Link, content: &[u8]) {
        data.set_patience(patience());
        let mut taken = 0;
        loop {
            match data.take() {
                Ok(octets) => {
                    assert_same(&octets, &content[taken..taken + octets.len()]);
                    taken += octets.len();
                    self.octets.fetch_add(octets.len(), Ordering::Relaxed);
                }
                Err(end) => {
                    assert_eq!(end, client.clean_end());
                    break;
                }
            }
        }
        assert_eq!(taken, content.len());
        drop(data);
        client.expect(226);
    }

    fn transfers(&self) -> Vec<usize> {
        let transfers = self.transfers.iter();
        transfers
            .map(|transfers| transfers.load(Ordering::Relaxed))
            .collect()
    }
}

/// The latency of NOOP while four clients transfer at full speed.
fn time_noops_under_load(server: &Server, noops: &mut Client, content: &[u8], when: &str) {
    let load = Load::default();
    std::thread::scope(|scope| {
        let end = EndOfLoad(&load);
        load.start(scope, server, content);
        // Each of them has got something done before, and does so again meanwhile.
        let done = |more: &[usize]| {
            let now = load.transfers();
            now.iter().zip(more).all(|(now, before)| now > before)
        };
        assert!(wait_until(patience() * 3, || done(&[0; 4])), "no transfers");
        let before = load.transfers();
        let (octets, start) = (load.octets.load(Ordering::Relaxed), Instant::now());
        let latencies = time_noops(noops, round_trips());
        let moved = load.octets.load(Ordering::Relaxed) - octets;
        let speed = moved as f64 / start.elapsed().as_secs_f64() / 1e6;
        eprintln!("NOOP, {when}, four transferring {speed:.0} MB/s: {latencies}");
        assert!(
            latencies.longest < LATENCY_MAX * slowness(),
            "{latencies:?}"
        );
        let going_on = wait_until(patience() * 3, || done(&before));
        assert!(
            going_on,
            "{:?} transfers, {before:?} before",
            load.transfers()
        );
        drop(end);
    });
}

fn time_noops_alone(noops: &mut Client, when: &str) {
    let latencies = time_noops(noops, round_trips());
    eprintln!("NOOP, {when}: {latencies}");
    assert!(
        latencies.longest < LATENCY_MAX * slowness(),
        "{latencies:?}"
    );
}

#[test]
fn clients_that_do_not_read_take_no_thread_and_delay_nobody() {
    let _alone = alone();
    let content = put_pattern("stalled", file_octets());
    let server = BY_ITSELF.server(&["--cores", "1"]);
    let belongings = Belongings::after(&server, || {
        Stalled::begin(&server, 0).resume(&content);
        Stalled::begin(&server, CLIENTS - 1).resume(&content);
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut noops = Client::ready(&server, Port::Explicit);
            time_noops_alone(&mut noops, "nobody else");
            time_noops_under_load(&server, &mut noops, &content, "nobody stalled");
            let before = threads(&server);
            let stalled = stall(&server);
            time_noops_alone(&mut noops, "32 stalled");
            time_noops_under_load(&server, &mut noops, &content, "32 stalled");
            let during = quiet_threads(&server);
            eprintln!("threads: {before:?}, with 32 stalled {during:?}");
            assert_eq!(during.own, before.own);
            resume(stalled, &content);
        });
    });
    assert_all_complete(&server, &["user-tls", "ktls"], &["clear-sendfile"]);
    belongings.assert_descriptors_return(&server, "after 32 stalled");
    belongings.assert_threads_return(&server, 1, "after 32 stalled");
}

/// The threads once those that are idle have gone, if not more are busy than stay idle for good.
#[track_caller]
fn quiet_threads(server: &Server) -> Threads {
    let mut last = threads(server);
    let quiet = wait_until(patience() * 2, || {
        last = threads(server);
        last.pool == 0 && last.ring <= RING_THREADS_IDLE
    });
    assert!(quiet, "{last:?} for clients that do not read");
    last
}

/// Every download was whole, and went one of these ways.
fn assert_all_complete(server: &Server, protected: &[&str], clear: &[&str]) {
    let mut downloads = Vec::new();
    // The log may lag behind the replies.
    let all = wait_until(patience(), || {
        downloads = logged(server);
        downloads.retain(|transfer| transfer.name == "stalled");
        downloads.len() >= CLIENTS
    });
    assert!(all, "{}", downloads.len());
    for download in downloads {
        let expected = protected.iter().chain(clear);
        let known = expected
            .into_iter()
            .any(|way| download.route.starts_with(way));
        assert!(known && download.end == "Complete", "{download:?}");
    }
}

#[test]
fn clients_that_do_not_read_from_splice_get_everything_in_the_end() {
    let _alone = alone();
    let content = put_pattern("stalled", file_octets());
    let server = BY_ITSELF.server(&["--cores", "1", "--route", "splice"]);
    let belongings = Belongings::after(&server, || {
        Stalled::begin(&server, 0).resume(&content);
        Stalled::begin(&server, CLIENTS - 1).resume(&content);
    });
    let before = threads(&server);
    let stalled = stall(&server);
    let mut noops = Client::ready(&server, Port::Implicit);
    time_noops_alone(&mut noops, "32 stalled, --route splice");
    // Each client in the clear keeps one thread of the kernel, each protected one too if the kernel
    // protects it. That is why splice is not the default.
    eprintln!(
        "threads: {before:?}, with 32 stalled {:?}",
        threads(&server)
    );
    resume(stalled, &content);
    noops.ok("QUIT", 221);
    assert_all_complete(&server, &["user-tls", "ktls-splice"], &["clear-splice"]);
    belongings.assert_descriptors_return(&server, "after splice");
    belongings.assert_threads_return(&server, 1, "after splice");
}
