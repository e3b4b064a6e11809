//! A queue of lines and the thread that writes them.
//!
//! Whoever logs never waits: a line is put into a bounded queue without a lock, and the thread is woken only if
//! it sleeps. After it has written it looks again [`limits::LOG_WINDOW`] later, so a busy server costs one
//! system call for many lines, and an idle one none. What the disk does not take stays in the queue until it does;
//! when the queue is full, lines are lost, counted, and told of.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::sink::Sink;
use crate::limits;

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// The log of the server.
    Server,
    /// The transfer log.
    Transfers,
}

impl Name {
    /// For the label of a metric.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Transfers => "transfers",
        }
    }
}

/// What the writing thread and the others share.
#[derive(Debug, Default)]
struct State {
    /// Octets in the queue, or taken out of it and not written.
    waiting: AtomicUsize,
    lost: AtomicU64,
    /// The thread sleeps until it is woken.
    asleep: AtomicBool,
    reopen: AtomicBool,
    end: AtomicBool,
}

/// The way of lines to a sink.
#[derive(Debug)]
pub(super) struct Outlet {
    name: Name,
    queue: SyncSender<Vec<u8>>,
    state: Arc<State>,
    /// Until the thread has it.
    receiver: Mutex<Option<Receiver<Vec<u8>>>>,
    writer: OnceLock<Running>,
}

#[derive(Debug)]
struct Running {
    thread: Thread,
    /// Disconnected when it has ended.
    ended: Mutex<Receiver<()>>,
}

impl Outlet {
    /// A queue; lines wait in it until [`Outlet::start`].
    pub(super) fn new(name: Name) -> Arc<Self> {
        let (queue, receiver) = mpsc::sync_channel(limits::LOG_QUEUE_LINES_MAX);
        Arc::new(Self {
            name,
            queue,
            state: Arc::default(),
            receiver: Mutex::new(Some(receiver)),
            writer: OnceLock::new(),
        })
    }

    /// Starts the thread that writes to this sink. A second call changes nothing.
    pub(super) fn start(&self, sink: Sink) -> io::Result<()> {
        let receiver = lock(&self.receiver).take();
        let Some(receiver) = receiver else {
            return Ok(());
        };
        let (alive, ended) = mpsc::channel();
        let mut writer = Writer {
            name: self.name,
            receiver,
            state: Arc::clone(&self.state),
            sink,
            lines: VecDeque::new(),
            from: 0,
            failing: false,
            lost_told: 0,
        };
        let thread = thread::Builder::new()
            .name(format!("log-{}", self.name.label()))
            .spawn(move || {
                writer.run();
                drop(alive);
            })?;
        let _ = self.writer.set(Running {
            thread: thread.thread().clone(),
            ended: Mutex::new(ended),
        });
        Ok(())
    }

    pub(super) fn is_started(&self) -> bool {
        self.writer.get().is_some()
    }

    /// Queues a line, which ends with a line end (or is an entry of the journal). Never waits.
    pub(super) fn send(&self, line: Vec<u8>) {
        let octets = line.len();
        let before = self.state.waiting.fetch_add(octets, Ordering::Relaxed);
        let room = before.saturating_add(octets) <= limits::LOG_QUEUE_OCTETS_MAX;
        if !room || self.queue.try_send(line).is_err() {
            self.state.waiting.fetch_sub(octets, Ordering::Relaxed);
            self.state.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Either this sees that the thread sleeps, or the thread sees the line before it does.
        fence(Ordering::SeqCst);
        if self.state.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.state.asleep.store(false, Ordering::Relaxed);
        if let Some(writer) = self.writer.get() {
            writer.thread.unpark();
        }
    }

    /// Lines that were queued before go to the old file, the others to the one of that name then.
    pub(super) fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes what is queued and ends the thread; waits for that, though not for ever.
    pub(super) fn finish(&self) {
        self.state.end.store(true, Ordering::Release);
        self.wake();
        if let Some(writer) = self.writer.get() {
            // Nothing is ever sent: it answers by its end.
            let _ = lock(&writer.ended).recv_timeout(limits::LOG_FINISH_TIME_MAX);
        }
    }

    pub(super) fn name(&self) -> Name {
        self.name
    }

    /// Lines that found no room.
    pub(super) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of an attempt to write everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    Nothing,
    All,
    /// The rest is to be tried again after that time.
    Stalled(Duration),
}

/// The thread.
struct Writer {
    name: Name,
    receiver: Receiver<Vec<u8>>,
    state: Arc<State>,
    sink: Sink,
    /// Taken from the queue and not written; of the first, everything from an octet on.
    lines: VecDeque<Vec<u8>>,
    from: usize,
    /// The last attempt failed, and that was told.
    failing: bool,
    lost_told: u64,
}

impl Writer {
    fn run(&mut self) {
        loop {
            // Looked at first: what was queued before is written before.
            let reopen = self.state.reopen.swap(false, Ordering::AcqRel);
            let end = self.state.end.load(Ordering::Acquire);
            let drained = self.drain();
            if reopen {
                self.reopen();
            }
            if end {
                self.end();
                return;
            }
            match drained {
                Drained::Stalled(_) if reopen => {}
                Drained::Stalled(pause) => thread::park_timeout(pause),
                Drained::All => thread::park_timeout(limits::LOG_WINDOW),
                Drained::Nothing => self.sleep(),
            }
        }
    }

    fn sleep(&mut self) {
        self.state.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let state = &self.state;
        let called = state.reopen.load(Ordering::Relaxed) || state.end.load(Ordering::Relaxed);
        if !called && !self.take() {
            thread::park();
        }
        self.state.asleep.store(false, Ordering::Relaxed);
    }

    /// Takes lines from the queue; returns whether there are any.
    fn take(&mut self) -> bool {
        while self.lines.len() < limits::LOG_LINES_PER_WRITE
            && let Ok(line) = self.receiver.try_recv()
        {
            self.lines.push_back(line);
        }
        !self.lines.is_empty()
    }

    fn drain(&mut self) -> Drained {
        let mut drained = Drained::Nothing;
        while self.take() {
            match self.sink.write(&self.lines, self.from) {
                Ok(octets) => {
                    self.advance(octets);
                    drained = Drained::All;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match self.failed(&error) {
                    Some(pause) => return Drained::Stalled(pause),
                    None => drained = Drained::All,
                },
            }
        }
        if drained == Drained::All {
            self.tell_better();
        }
        drained
    }

    /// So many octets are written.
    fn advance(&mut self, octets: usize) {
        let mut end = self.from + octets;
        while let Some(line) = self.lines.front() {
            if end < line.len() {
                break;
            }
            end -= line.len();
            self.state.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.lines.pop_front();
        }
        self.from = end;
    }

    /// Returns how long to wait before the next attempt; `None` when these lines are lost.
    fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        match (&self.sink, error.kind()) {
            // A pipe that somebody made non-blocking.
            (_, io::ErrorKind::WouldBlock) => return Some(limits::LOG_WINDOW),
            (Sink::Stderr, _) => {
                self.discard();
                // There is nobody to be told.
                self.lost_told = self.state.lost.load(Ordering::Relaxed);
                return None;
            }
            _ => {}
        }
        if !std::mem::replace(&mut self.failing, true) {
            let remedy = match &self.sink {
                Sink::Journal { .. } => "see that systemd-journald runs",
                _ if full => "make room on its file system",
                _ => {
                    "see that its file system is there and that the server's account may write to it, then send SIGHUP"
                }
            };
            self.tell(&format!(
                "log not written: {error}; {remedy}; transfers go on, and the latest lines wait in memory until it can be written"
            ));
        }
        if !full {
            // A stale handle, or another file by now. If it cannot be opened the old one is tried again.
            self.renew().ok();
        }
        Some(limits::LOG_RETRY_INTERVAL)
    }

    /// Lines that nobody will read.
    fn discard(&mut self) {
        let octets = self.lines.iter().map(Vec::len).sum();
        self.state.waiting.fetch_sub(octets, Ordering::Relaxed);
        let lines = self.lines.len() as u64;
        self.state.lost.fetch_add(lines, Ordering::Relaxed);
        self.lines.clear();
        self.from = 0;
    }

    fn renew(&mut self) -> io::Result<()> {
        if self.sink.reopen()? {
            // A line that was cut goes whole into the new file.
            self.from = 0;
        }
        Ok(())
    }

    fn reopen(&mut self) {
        if let Err(error) = self.renew() {
            self.tell(&format!(
                "log not reopened, the old file stays: {error}; let the server's account write there, then send SIGHUP again"
            ));
        }
    }

    /// Tells of trouble with this log in the server's log; of that one itself, on standard error.
    fn tell(&self, what: &str) {
        let path = self.sink.name();
        match self.name {
            Name::Transfers => tracing::error!(%path, "transfer {what}"),
            // Whether that is read, or there at all, does not matter here.
            Name::Server => {
                let _ = writeln!(io::stderr(), "ringftpd: {path}: {what}");
            }
        }
    }

    fn tell_better(&mut self) {
        let path = self.sink.name();
        if std::mem::take(&mut self.failing) {
            tracing::info!(%path, "log written again");
        }
        let lost = self.state.lost.load(Ordering::Relaxed);
        let lines = lost - self.lost_told;
        self.lost_told = lost;
        if lines > 0 {
            tracing::warn!(%path, lines, "log lines lost: they came faster than they could be written, or while they could not");
        }
    }

    /// Writes what is left, if that is possible.
    fn end(&mut self) {
        for _ in 0..limits::LOG_END_ATTEMPTS {
            match self.drain() {
                Drained::Nothing => return,
                Drained::All => {}
                Drained::Stalled(_) if self.failing => break,
                Drained::Stalled(pause) => thread::park_timeout(pause),
            }
        }
        let mut lines = 0;
        while self.take() {
            lines += self.lines.len();
            self.discard();
        }
        if lines > 0 {
            let path = self.sink.name();
            let _ = writeln!(io::stderr(), "ringftpd: {path}: {lines} lines not written");
        }
    }
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
