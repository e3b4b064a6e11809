//! What does an octet cost each way? Rounds alternate between the ways, so that what disturbs the
//! machine hits all of them; the cheapest round of each counts, for noise only adds.
//!
//! Measured is the thread's CPU time while it does what the server would do, and not what the client
//! at the other end of the same thread does.

use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt;
use rustls::ClientConnection;

use super::link::{self, Bench, Content, Ends, Link};
use super::{Costs, Problem, SuiteReport, attach, refused, wrong};
use crate::limits;
use crate::sys::host::thread_cpu_time;
use crate::sys::{ktls, sendfile, socket};
use crate::tls::record::complete_len;
use crate::tls::{
    BadRecord, Cipher, DetachedTls, Parties, Protection, RecordOpener, Version, sealed_len,
};

/// All measuring together: no suite is begun after that. The server starts so much later, and on a slow
/// machine later by the fewest rounds of one suite.
pub(super) const TIME_MAX: Duration = Duration::from_millis(120);
/// Octets of one round.
const CHUNK_OCTETS: usize = limits::TRANSFER_CHUNK_OCTETS;
/// Rounds of one suite.
const ROUNDS_MAX: usize = 8;
/// Fewer say nothing: the first one runs with cold caches.
const ROUNDS_MIN: usize = 2;
/// As clients choose: OpenSSL, GnuTLS and Schannel all prefer AES-256. Where time runs out, the last
/// ones stay unmeasured.
const ORDER: [(Version, Cipher); Protection::ALL.len()] = [
    (Version::Tls13, Cipher::Aes256Gcm),
    (Version::Tls13, Cipher::Aes128Gcm),
    (Version::Tls12, Cipher::Aes256Gcm),
    (Version::Tls12, Cipher::Aes128Gcm),
    (Version::Tls13, Cipher::ChaCha20Poly1305),
    (Version::Tls12, Cipher::ChaCha20Poly1305),
];

/// Measures all suites that work.
pub(super) fn compare(bench: &Bench, suites: &mut [SuiteReport]) {
    let deadline = link::now() + TIME_MAX;
    let mut buffers = Buffers::new();
    for (place, (version, cipher)) in ORDER.into_iter().enumerate() {
        let protection = Protection { version, cipher };
        let Some(suite) = suites.get_mut(protection.index()) else {
            continue;
        };
        if suite.problem.is_some() {
            continue;
        }
        // What is left is shared out anew, for what one suite did not use is the others'.
        let now = link::now();
        if now >= deadline {
            return;
        }
        let left = u32::try_from(ORDER.len() - place).unwrap_or(1);
        let share = now + deadline.saturating_duration_since(now) / left;
        match Race::new(bench, suite) {
            Ok(race) => race.run(suite, &mut buffers, share),
            // It has worked a moment ago, so it cannot be relied on.
            Err(problem) => suite.problem = Some(problem),
        }
    }
}

/// CPU time of the side under test.
#[derive(Default)]
struct Spent(Duration);

impl Spent {
    fn on<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let before = thread_cpu_time();
        let result = action();
        self.0 += thread_cpu_time().saturating_sub(before);
        result
    }
}

/// The rounds of one way.
#[derive(Default)]
struct Rounds {
    best: Option<Duration>,
    count: usize,
    problem: Option<Problem>,
}

impl Rounds {
    fn note(&mut self, result: Result<Duration, Problem>) {
        match result {
            Ok(time) => {
                self.best = Some(self.best.map_or(time, |best| best.min(time)));
                self.count += 1;
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn cost(&self) -> Option<f64> {
        let best = self.best.filter(|_| self.count >= ROUNDS_MIN)?;
        Some(best.as_secs_f64() * 1e9 / CHUNK_OCTETS as f64)
    }
}

/// Memory that all ways use in turn, as the server's transfers do.
struct Buffers {
    plain: Vec<u8>,
    records: Vec<u8>,
    /// What the client has to send.
    written: Vec<u8>,
    /// What the client's end receives and nobody looks at.
    drained: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            plain: vec![0; CHUNK_OCTETS],
            records: vec![0; sealed_len(CHUNK_OCTETS)],
            written: Vec::new(),
            drained: vec![0; CHUNK_OCTETS],
        }
    }
}

/// One suite on connections of its own, which differ only in who protects them.
struct Race<'a> {
    content: &'a Content,
    user: User,
    kernel: Kernel,
    receives: bool,
}

/// The results of one suite.
#[derive(Default)]
struct Results {
    user_send: Rounds,
    kernel_read: Rounds,
    kernel_sendfile: Rounds,
    user_receive: Rounds,
    kernel_receive: Rounds,
}

impl<'a> Race<'a> {
    fn new(bench: &'a Bench, suite: &SuiteReport) -> Result<Self, Problem> {
        let protection = suite.protection;
        Ok(Self {
            content: &bench.content,
            user: User::new(bench, protection)?,
            kernel: Kernel::new(bench, protection)?,
            receives: suite.receive_problem.is_none(),
        })
    }

    /// As many rounds as fit into its share of the time, but at least the fewest that say something.
    fn run(mut self, suite: &mut SuiteReport, buffers: &mut Buffers, share: Instant) {
        let mut results = Results::default();
        for round in 0..ROUNDS_MAX {
            let now = link::now();
            if round >= ROUNDS_MIN && now >= share {
                break;
            }
            let chunks = self.content.octets.len() / CHUNK_OCTETS;
            self.round(round % chunks * CHUNK_OCTETS, buffers, &mut results);
            if results.failed() {
                break;
            }
        }
        results.report(suite);
    }

    fn round(&mut self, start: usize, buffers: &mut Buffers, results: &mut Results) {
        let Self {
            content,
            user,
            kernel,
            ..
        } = self;
        results.user_send.note(user.send(content, start, buffers));
        results
            .kernel_read
            .note(kernel.send(content, start, buffers));
        let sent = kernel.send_file(content, start, buffers);
        results.kernel_sendfile.note(sent);
        if !self.receives {
            return;
        }
        let received = user.receive(content, start, buffers);
        results.user_receive.note(received);
        let received = kernel.receive(content, start, buffers);
        results.kernel_receive.note(received);
    }
}

impl Results {
    fn failed(&self) -> bool {
        let ways = [
            &self.user_send,
            &self.kernel_read,
            &self.kernel_sendfile,
            &self.user_receive,
            &self.kernel_receive,
        ];
        ways.iter().any(|way| way.problem.is_some())
    }

    fn report(self, suite: &mut SuiteReport) {
        suite.costs = Costs {
            user_send: self.user_send.cost(),
            kernel_read: self.kernel_read.cost(),
            kernel_sendfile: self.kernel_sendfile.cost(),
            user_receive: self.user_receive.cost(),
            kernel_receive: self.kernel_receive.cost(),
        };
        // Under load the kernel must be right, too.
        suite.problem = self.kernel_read.problem.or(self.kernel_sendfile.problem);
        suite.receive_problem = suite.receive_problem.take().or(self.kernel_receive.problem);
    }
}

/// The way through this process.
struct User {
    link: Link,
    client: ClientConnection,
    tls: DetachedTls,
    opened: Vec<u8>,
}

impl User {
    fn new(bench: &Bench, protection: Protection) -> Result<Self, Problem> {
        let Ends {
            link,
            client,
            engine,
        } = bench.connect(protection)?;
        let tls = DetachedTls::new(engine, protection, Parties::PROCESS, &link.ours);
        Ok(Self {
            tls: tls.map_err(|error| refused(error, protection))?,
            link,
            client,
            opened: vec![0; sealed_len(CHUNK_OCTETS)],
        })
    }

    fn send(
        &mut self,
        content: &Content,
        start: usize,
        buffers: &mut Buffers,
    ) -> Result<Duration, Problem> {
        let mut spent = Spent::default();
        let Buffers {
            plain,
            records,
            drained,
            ..
        } = buffers;
        spent
            .on(|| content.file.read_exact_at(plain, start as u64))
            .map_err(wrong("reading"))?;
        let sealer = self.tls.sealer().ok_or_else(nobody)?;
        let count = spent
            .on(|| sealer.seal_data(plain, records))
            .map_err(wrong("sealing"))?;
        let records = records.get(..count).unwrap_or_default();
        let send = |at: usize| {
            let rest = records.get(at..).unwrap_or_default();
            spent.on(|| socket::send_now(&self.link.ours, rest))
        };
        send_out(&self.link, count, drained, send)?;
        Ok(spent.0)
    }

    fn receive(
        &mut self,
        content: &Content,
        start: usize,
        buffers: &mut Buffers,
    ) -> Result<Duration, Problem> {
        let mut spent = Spent::default();
        let expected = content.part(start, CHUNK_OCTETS);
        write(&mut self.client, expected, &mut buffers.written)?;
        let (mut written, records) = (&buffers.written[..], &mut buffers.records);
        let (mut done, mut held) = (0, 0);
        while done < CHUNK_OCTETS {
            link::feed(&self.link.theirs, &mut written)?;
            let free = records.get_mut(held..).unwrap_or_default();
            let Some(count) = received(spent.on(|| socket::receive_now(&self.link.ours, free)))?
            else {
                link::wait(&self.link.ours, PollFlags::IN).map_err(wrong("receiving"))?;
                continue;
            };
            let Self { tls, opened, .. } = self;
            let opener = tls.opener().ok_or_else(nobody)?;
            let incoming = records.get(..held + count).unwrap_or_default();
            let (consumed, filled) = spent
                .on(|| open(opener, incoming, opened))
                .map_err(wrong("opening"))?;
            records.copy_within(consumed..held + count, 0);
            held = held + count - consumed;
            done += same(opened.get(..filled).unwrap_or_default(), expected, done)?;
        }
        Ok(spent.0)
    }
}

/// Opens the whole records; returns how many octets they took, and how many they held.
fn open(
    opener: &mut RecordOpener,
    incoming: &[u8],
    opened: &mut [u8],
) -> Result<(usize, usize), BadRecord> {
    let (mut consumed, mut filled) = (0, 0);
    while let Some(length) = complete_len(incoming.get(consumed..).unwrap_or_default()) {
        let record = incoming
            .get(consumed..consumed + length)
            .unwrap_or_default();
        let free = opened.get_mut(filled..).unwrap_or_default();
        filled += opener.open(record, free)?.1;
        consumed += length;
    }
    Ok((consumed, filled))
}

fn nobody() -> Problem {
    Problem::Wrong("nobody here protects the connection".to_owned())
}

/// The way through the kernel's TLS.
struct Kernel {
    link: Link,
    client: ClientConnection,
}

impl Kernel {
    fn new(bench: &Bench, protection: Protection) -> Result<Self, Problem> {
        let Ends {
            link,
            client,
            engine,
        } = bench.connect(protection)?;
        attach(&link)?;
        DetachedTls::new(engine, protection, super::KERNEL, &link.ours)
            .map_err(|error| refused(error, protection))?;
        Ok(Self { link, client })
    }

    fn send(
        &mut self,
        content: &Content,
        start: usize,
        buffers: &mut Buffers,
    ) -> Result<Duration, Problem> {
        let mut spent = Spent::default();
        let Buffers { plain, drained, .. } = buffers;
        spent
            .on(|| content.file.read_exact_at(plain, start as u64))
            .map_err(wrong("reading"))?;
        let send = |at: usize| {
            let rest = plain.get(at..).unwrap_or_default();
            spent.on(|| socket::send_now(&self.link.ours, rest))
        };
        send_out(&self.link, CHUNK_OCTETS, drained, send)?;
        Ok(spent.0)
    }

    fn send_file(
        &mut self,
        content: &Content,
        start: usize,
        buffers: &mut Buffers,
    ) -> Result<Duration, Problem> {
        let mut spent = Spent::default();
        let (ours, drained) = (&self.link.ours, &mut buffers.drained);
        let send = |at: usize| {
            let offset = (start + at) as u64;
            spent.on(|| sendfile::send_file(ours, &content.file, offset, CHUNK_OCTETS - at))
        };
        send_out(&self.link, CHUNK_OCTETS, drained, send)?;
        Ok(spent.0)
    }

    fn receive(
        &mut self,
        content: &Content,
        start: usize,
        buffers: &mut Buffers,
    ) -> Result<Duration, Problem> {
        let mut spent = Spent::default();
        let expected = content.part(start, CHUNK_OCTETS);
        write(&mut self.client, expected, &mut buffers.written)?;
        let (mut written, plain) = (&buffers.written[..], &mut buffers.plain);
        let mut done = 0;
        while done < CHUNK_OCTETS {
            link::feed(&self.link.theirs, &mut written)?;
            let result = spent.on(|| ktls::receive_record(&self.link.ours, plain));
            let Some(count) = received(result.map(|received| received.count))? else {
                link::wait(&self.link.ours, PollFlags::IN).map_err(wrong("receiving"))?;
                continue;
            };
            done += same(plain.get(..count).unwrap_or_default(), expected, done)?;
        }
        Ok(spent.0)
    }
}

/// Sends a round's octets, and empties the client's socket of them.
///
/// Over loopback each record of the kernel would go through the receiver's half of TCP as a segment of
/// its own, where the user's way has four large ones. On a connection that a network limits, both
/// leave in large segments, as they do here while the socket is corked.
fn send_out(
    link: &Link,
    count: usize,
    drained: &mut [u8],
    send: impl FnMut(usize) -> io::Result<usize>,
) -> Result<(), Problem> {
    let cork = |on| sockopt::set_tcp_cork(&link.ours, on).map_err(wrong("corking a socket"));
    cork(true)?;
    link::send_all(link, count, send, || drain(link, drained))?;
    cork(false)?;
    drain(link, drained)
}

/// The client's records of the octets.
fn write(
    client: &mut ClientConnection,
    octets: &[u8],
    written: &mut Vec<u8>,
) -> Result<(), Problem> {
    written.clear();
    link::write_records(client, octets, written).map_err(wrong("writing"))
}

/// How many octets came; `None` when there are none now.
fn received(result: io::Result<usize>) -> Result<Option<usize>, Problem> {
    match result {
        Ok(0) => Err(Problem::Wrong("the stream ended".to_owned())),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(wrong("receiving")(error)),
    }
}

/// Are these the octets expected there? Returns how many they are.
fn same(actual: &[u8], expected: &[u8], start: usize) -> Result<usize, Problem> {
    if expected.get(start..start + actual.len()) != Some(actual) {
        return Err(Problem::Wrong(
            "octets received are not those sent".to_owned(),
        ));
    }
    Ok(actual.len())
}

/// Empties the client's socket.
fn drain(link: &Link, drained: &mut [u8]) -> Result<(), Problem> {
    loop {
        match socket::receive_now(&link.theirs, drained) {
            Ok(0) => {
                return Err(Problem::Wrong(
                    "the kernel closed the connection".to_owned(),
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(wrong("draining")(error)),
        }
    }
}
