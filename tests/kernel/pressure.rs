//! What the tests under pressure share: the ways that octets can go, what a server holds, and how long
//! its replies take.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::{sched_getaffinity, sched_setaffinity};
use socket2::{Domain, Socket, Type};

use crate::common::client::Client;
use crate::common::link::Link;
use crate::common::server::{Accounts, PASSWORD, Server, USER, wait_until};
use crate::common::tls::{Profile, Version};
use crate::common::{Port, pattern};

/// Times to wait are multiplied by this: an emulated machine is slow.
pub(crate) fn slowness() -> u32 {
    let words = std::env::var("RINGFTPD_TEST_SLOWNESS");
    words.map_or(1, |number| number.parse().unwrap())
}

/// Whether this machine is emulated: then sizes and counts are smaller.
pub(crate) fn is_slow() -> bool {
    slowness() > 1
}

/// Longest wait for anything.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(20) * slowness()
}

/// A number that a variable may change.
pub(crate) fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |number| number.parse().unwrap())
}

/// Where chance begins: `RINGFTPD_TEST_SEED`, or anywhere. A test that fails tells it.
pub(crate) fn seed() -> u64 {
    std::env::var("RINGFTPD_TEST_SEED").map_or_else(
        |_| fastrand::u64(..1_000_000_000),
        |seed| seed.parse().unwrap(),
    )
}

/// One test at a time: each takes the whole machine.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the kernel protects connections here. Where `RINGFTPD_TEST_KTLS` is 1 it must.
pub(crate) fn has_kernel_tls() -> bool {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let answer = ANSWER.get_or_init(|| {
        let built = env!("CARGO_BIN_EXE_ringftpd");
        let program = std::env::var_os("RINGFTPD_TEST_PROGRAM").unwrap_or_else(|| built.into());
        let output = Command::new(program)
            .args(["doctor", "--ktls", "on"])
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    });
    if let Err(reason) = answer {
        let wanted = std::env::var("RINGFTPD_TEST_KTLS").is_ok_and(|wanted| wanted == "1");
        assert!(!wanted, "kernel TLS must work here: {reason}");
    }
    answer.is_ok()
}

/// One way for octets to go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// The route in the log.
    pub(crate) route: &'static str,
    pub(crate) upload: bool,
    pub(crate) protected: bool,
    /// What makes the server choose it.
    options: &'static [&'static str],
}

const fn way(
    route: &'static str,
    upload: bool,
    protected: bool,
    options: &'static [&'static str],
) -> Way {
    Way {
        route,
        upload,
        protected,
        options,
    }
}

/// Every way to a client.
pub(crate) const DOWNLOADS: [Way; 7] = [
    way("user-tls", false, true, &["--ktls", "off"]),
    way("clear", false, false, &["--route", "read"]),
    way("clear-sendfile", false, false, &["--route", "sendfile"]),
    way("clear-splice", false, false, &["--route", "splice"]),
    way(
        "ktls-read",
        false,
        true,
        &["--ktls", "on", "--route", "read"],
    ),
    way(
        "ktls-sendfile",
        false,
        true,
        &["--ktls", "on", "--route", "sendfile"],
    ),
    way(
        "ktls-splice",
        false,
        true,
        &["--ktls", "on", "--route", "splice"],
    ),
];

/// Every way from a client. With the means named, the kernel takes over from the first octet on.
pub(crate) const UPLOADS: [Way; 3] = [
    way("user-tls", true, true, &["--ktls", "off"]),
    way("clear", true, false, &[]),
    way(
        "ktls-receive",
        true,
        true,
        &["--ktls", "on", "--route", "read"],
    ),
];

/// What the server chooses by itself.
pub(crate) const BY_ITSELF: Way = way("", false, true, &[]);

impl Way {
    /// Whether it can be gone here; says why not.
    pub(crate) fn is_open(self) -> bool {
        let open = !self.route.starts_with("ktls") || has_kernel_tls();
        if !open {
            eprintln!("skipped: {self}: this kernel has no kernel TLS");
        }
        open
    }

    /// A server that goes this way.
    pub(crate) fn server(self, more: &[&str]) -> Server {
        let usual = ["--protect-data", "optional", "--log-level", "info"];
        Server::start(&[&usual, self.options, more].concat())
    }

    /// A client ready to go this way.
    #[track_caller]
    pub(crate) fn client(self, server: &Server, port: Port, profile: Profile) -> Client {
        client(server, port, profile, self.protected)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.upload { "upload" } else { "download" };
        write!(f, "{direction} by {}", self.route)
    }
}

/// A client that has logged in, with or without protected data connections.
#[track_caller]
pub(crate) fn client(server: &Server, port: Port, profile: Profile, protected: bool) -> Client {
    let mut client = Client::connect_as(server, port, profile, None);
    client.settle(USER, PASSWORD);
    if !protected {
        client.ok("PROT C", 200);
        client.protected = false;
    }
    client
}

/// One of the two ports and one of the two versions, by number.
pub(crate) fn variety(number: usize) -> (Port, Profile) {
    let port = [Port::Explicit, Port::Implicit][number % 2];
    let version = [Version::Tls13, Version::Tls12][number / 2 % 2];
    (port, Profile::new(version))
}

/// Connects with a receive buffer of about so many octets, which then does not grow.
pub(crate) fn connect(address: SocketAddr, buffer: usize) -> Link {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(buffer).unwrap();
    socket.connect_timeout(&address.into(), patience()).unwrap();
    let link = Link::over(socket.into());
    link.set_patience(patience());
    link
}

/// A download up to its open data connection, which takes little before it stops the server.
#[track_caller]
pub(crate) fn open_narrow(client: &mut Client, line: &str, buffer: usize) -> Link {
    let mut data = connect(client.pasv(), buffer);
    client.ok(line, 150);
    client.secure_data(&mut data);
    data
}

/// A file in the home of all tests, with octets that differ everywhere.
pub(crate) fn put_pattern(name: &str, length: usize) -> Arc<Vec<u8>> {
    let content = Arc::new(pattern(length));
    std::fs::write(Accounts::shared().home.join(name), &**content).unwrap();
    content
}

/// Descriptors of a process by kind.
pub(crate) fn descriptors(server: &Server) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", server.pid)).unwrap() {
        // It may be closed meanwhile.
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        let kind = match target.split_once(":[") {
            Some((kind, _)) if kind != "anon_inode" => kind.to_owned(),
            Some(_) => target,
            None => format!("file {target}"),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Threads of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threads {
    /// Its own for good.
    pub(crate) own: usize,
    /// Its own for blocking work, which go when they are idle for ten seconds.
    pub(crate) pool: usize,
    /// Those of the kernel that work for its rings.
    pub(crate) ring: usize,
}

/// Counts the threads of a server.
pub(crate) fn threads(server: &Server) -> Threads {
    let mut threads = Threads {
        own: 0,
        pool: 0,
        ring: 0,
    };
    for entry in std::fs::read_dir(format!("/proc/{}/task", server.pid)).unwrap() {
        let Ok(name) = std::fs::read_to_string(entry.unwrap().path().join("comm")) else {
            continue;
        };
        if name.starts_with("iou-") {
            threads.ring += 1;
        } else if name.starts_with("blocking") {
            threads.pool += 1;
        } else {
            threads.own += 1;
        }
    }
    threads
}

/// What a server holds when nobody wants anything of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Belongings {
    descriptors: BTreeMap<String, usize>,
    /// Threads of its own, without the pool for blocking work.
    threads: usize,
}

impl Belongings {
    /// What a server holds after its first use, which may open what stays.
    #[track_caller]
    pub(crate) fn after(server: &Server, first_use: impl FnOnce()) -> Self {
        first_use();
        let mut last = descriptors(server);
        let mut since = Instant::now();
        let settled = wait_until(patience(), || {
            let now = descriptors(server);
            if now != last {
                last = now;
                since = Instant::now();
            }
            since.elapsed() > Duration::from_secs(1) * slowness()
        });
        assert!(settled, "does not settle: {last:?}");
        Self {
            descriptors: last,
            threads: threads(server).own,
        }
    }

    /// The server must come to hold the same descriptors again.
    #[track_caller]
    pub(crate) fn assert_descriptors_return(&self, server: &Server, what: &str) {
        let mut now = BTreeMap::new();
        let same = wait_until(patience(), || {
            now = descriptors(server);
            now == self.descriptors
        });
        assert!(same, "{what}: {now:?}, before {:?}", self.descriptors);
    }

    /// The same for threads: none of the pool for blocking work are left then. Of those of a ring the
    /// kernel keeps one for each kind of work (bounded, unbounded) for good, others for five seconds.
    #[track_caller]
    pub(crate) fn assert_threads_return(&self, server: &Server, rings: usize, what: &str) {
        let mut now = threads(server);
        let same = wait_until(patience() * 2, || {
            now = threads(server);
            now.own == self.threads && now.pool == 0 && now.ring <= rings * 2
        });
        assert!(same, "{what}: {now:?}, before {} own", self.threads);
    }
}

/// A transfer in the log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) name: String,
    pub(crate) octets: u64,
    pub(crate) route: String,
    pub(crate) end: String,
}

/// The transfers that a server has logged.
pub(crate) fn logged(server: &Server) -> Vec<Logged> {
    let log = server.log();
    // A last line that is still being written is not looked at.
    let whole = log.iter().rposition(|&octet| octet == b'\n').unwrap_or(0);
    let text = String::from_utf8_lossy(&log[..whole]).into_owned();
    text.lines()
        .filter_map(|line| {
            let (_, facts) = line.split_once(" transfer ")?;
            let fact = |key: &str| {
                let (_, rest) = facts.split_once(&format!(" {key}="))?;
                Some(rest.split(' ').next()?.trim_matches('"').to_owned())
            };
            Some(Logged {
                name: fact("path")?.trim_start_matches('/').to_owned(),
                octets: fact("octets")?.parse().unwrap(),
                route: fact("route")?,
                end: fact("end")?,
            })
        })
        .collect()
}

/// The last transfer of a file, once so many of it are in the log, which may lag behind the replies.
#[track_caller]
pub(crate) fn logged_last(server: &Server, name: &str, count: usize) -> Logged {
    let mut found = Vec::new();
    let there = wait_until(patience(), || {
        found = logged(server);
        found.retain(|transfer| transfer.name == name);
        found.len() >= count
    });
    assert!(there, "{count} transfers of {name}: {found:?}");
    found.pop().unwrap()
}

/// How long a server took to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latencies {
    pub(crate) median: Duration,
    pub(crate) late: Duration,
    pub(crate) longest: Duration,
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            median,
            late,
            longest,
        } = self;
        write!(f, "p50 {median:.2?}, p99 {late:.2?}, max {longest:.2?}")
    }
}

/// Times so many round trips of NOOP.
#[track_caller]
pub(crate) fn time_noops(client: &mut Client, count: usize) -> Latencies {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        times.push(time_noop(client));
    }
    times.sort_unstable();
    let at = |share: usize| times[(count - 1) * share / 1000];
    Latencies {
        median: at(500),
        late: at(990),
        longest: at(1000),
    }
}

/// Times one round trip of NOOP.
#[track_caller]
pub(crate) fn time_noop(client: &mut Client) -> Duration {
    let start = Instant::now();
    client.ok("NOOP", 200);
    start.elapsed()
}

/// Leaves the processors of the server's cores to it, if there are others: what is measured there is
/// the server then, not its clients. For the calling thread.
pub(crate) fn keep_off_cores(server: &Server) {
    let mut free = sched_getaffinity(None).unwrap();
    for entry in std::fs::read_dir(format!("/proc/{}/task", server.pid)).unwrap() {
        let directory = entry.unwrap().path();
        if let Some(processor) = pinned_to(&directory) {
            free.unset(processor);
        }
    }
    if free.count() > 0 {
        sched_setaffinity(None, &free).unwrap();
    }
}

/// The processor of a thread that serves a core.
fn pinned_to(thread: &Path) -> Option<usize> {
    let name = std::fs::read_to_string(thread.join("comm")).ok()?;
    if !name.starts_with("core-") {
        return None;
    }
    let status = std::fs::read_to_string(thread.join("status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    line.trim().parse().ok()
}
