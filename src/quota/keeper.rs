//! The threads that work for quotas: one writes counts to the state directory, one scans homes. Neither runs
//! before there is a session with a quota. After a hand-over there is a third for a while (`hand_over`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::ledger::{Ledger, unix_now};
use super::run_file::Others;
use super::store::{Count, Store, Stored};
use crate::limits;
use crate::rt;
use crate::sys::host;

/// To a thread: ledgers to be looked after.
type Queue = OnceLock<Option<Sender<Arc<Ledger>>>>;

/// Keeps counts in the state directory, and makes them anew.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: Option<PathBuf>,
    /// Opened with the first count.
    store: OnceLock<Option<Arc<Store>>>,
    writer: Queue,
    scanner: Queue,
    stop: Arc<AtomicBool>,
    /// The end of other processes is looked for.
    looks: AtomicBool,
}

impl Keeper {
    pub(super) fn new(directory: Option<&Path>) -> Self {
        Self {
            directory: directory.map(Path::to_path_buf),
            store: OnceLock::new(),
            writer: OnceLock::new(),
            scanner: OnceLock::new(),
            stop: Arc::default(),
            looks: AtomicBool::new(false),
        }
    }

    /// The stored count of a home, if there is a usable one. Blocks.
    pub(super) fn read(&self, home: &Path) -> Option<Count> {
        match self.store()?.read(home) {
            Stored::Count(count) => Some(count),
            Stored::Missing => None,
            Stored::Damaged => {
                tracing::warn!(
                    home = %home.display(),
                    "the stored count of a home is damaged: its files are counted again"
                );
                None
            }
        }
    }

    fn store(&self) -> Option<&Arc<Store>> {
        let open = || {
            let directory = self.directory.as_deref()?;
            match Store::open(directory, unix_now()) {
                Ok(store) => Some(Arc::new(store)),
                Err(error) => {
                    tracing::warn!(
                        directory = %directory.display(),
                        %error,
                        "counts for quotas cannot be kept, homes are counted anew by each process: \
                         let the server's account write there, or name another directory with --state-dir"
                    );
                    None
                }
            }
        };
        self.store.get_or_init(open).as_ref()
    }

    /// Counts that were scanned before this moment may be wrong.
    pub(super) fn trusted_from(&self) -> u64 {
        let store = self.store.get().and_then(Option::as_ref);
        store.map_or(0, |store| store.trusted_from())
    }

    /// Whether there are or were other processes that use the same counts, whose end somebody must look for. Said once,
    /// until that is found.
    pub(super) fn begins_look(&self) -> bool {
        let store = self.store.get().and_then(Option::as_ref);
        store.is_some_and(|store| store.has_others()) && !self.looks.swap(true, Ordering::Relaxed)
    }

    /// What became of the processes that used the same counts. Blocks.
    pub(super) fn look(&self) -> Others {
        let Some(store) = self.store.get().and_then(Option::as_ref) else {
            return Others::Ended;
        };
        let others = store.look(unix_now()).unwrap_or_else(|error| {
            tracing::debug!(%error, "whether other processes use the same counts for quotas is not known");
            Others::Live
        });
        if others != Others::Live {
            // More may come.
            self.looks.store(false, Ordering::Relaxed);
        }
        others
    }

    /// Writes a count, and learns what other processes have added. Blocks.
    pub(super) fn sync(&self, ledger: &Ledger) {
        if let Some(store) = self.store.get().and_then(Option::as_ref) {
            // The next change tries it again, and says so.
            let _ = ledger.sync(store);
        }
    }

    /// Whether the process ends.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Has a home counted in the background; tells whether that is under way. Not so soon after the last time.
    pub(super) fn scan(&self, ledger: &Arc<Ledger>) -> bool {
        if !ledger.begin_scan() {
            return false;
        }
        let scanner = self.scanner.get_or_init(|| {
            let store = self.store().map(Arc::clone);
            let stop = Arc::clone(&self.stop);
            start("quota-scan", move |ledgers| {
                scan_all(&ledgers, store.as_deref(), &stop);
            })
        });
        let sent = scanner.as_ref().map(|queue| queue.send(Arc::clone(ledger)));
        let begun = matches!(sent, Some(Ok(())));
        if !begun {
            ledger.give_up_scan();
        }
        begun
    }

    /// Has a count written soon.
    pub(super) fn write(&self, ledger: &Arc<Ledger>) {
        let Some(store) = self.store.get().and_then(Option::as_ref) else {
            return;
        };
        let writer = self.writer.get_or_init(|| {
            let store = Arc::clone(store);
            start("quota", move |ledgers| write_all(&ledgers, &store))
        });
        if let Some(queue) = writer {
            // Fails only when the thread has died; the end writes what is left.
            let _ = queue.send(Arc::clone(ledger));
        }
    }

    /// Writes what is left to be written, and marks the counts as complete unless they are not.
    pub(super) fn finish(&self, ledgers: &[Arc<Ledger>], mut complete: bool) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(store) = self.store.get().and_then(Option::as_ref) else {
            return;
        };
        for ledger in ledgers.iter().filter(|ledger| ledger.is_unwritten()) {
            if let Err(error) = ledger.sync(store) {
                tracing::warn!(home = %ledger.home.display(), %error, "a count was not written");
                complete = false;
            }
        }
        if complete {
            store.end();
        }
    }
}

fn start(
    name: &str,
    work: impl FnOnce(Receiver<Arc<Ledger>>) + Send + 'static,
) -> Option<Sender<Arc<Ledger>>> {
    let (sender, receiver) = channel();
    spawn(name, move || work(receiver)).then_some(sender)
}

/// Starts a thread that works for quotas; tells whether it runs.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody waits for it, so cores go first. Refused, it is in their way a little more.
        let _ = host::unpin_thread();
        let _ = rustix::process::setpriority_process(None, NICE);
        work();
    });
    if let Err(error) = &spawned {
        tracing::warn!(%error, thread = name, "a thread for quotas cannot be started");
    }
    spawned.is_ok()
}

/// On Linux each thread has its own.
const NICE: i32 = 10;

fn scan_all(ledgers: &Receiver<Arc<Ledger>>, store: Option<&Store>, stop: &AtomicBool) {
    while let Ok(ledger) = ledgers.recv() {
        ledger.scan(stop);
        if let Some(store) = store {
            // The next change tries it again, and says so.
            let _ = ledger.sync(store);
        }
    }
}

fn write_all(ledgers: &Receiver<Arc<Ledger>>, store: &Store) {
    let mut failing = false;
    while let Ok(first) = ledgers.recv() {
        // What changes meanwhile is written together.
        sleep(limits::QUOTA_WRITE_INTERVAL);
        for ledger in std::iter::once(first).chain(ledgers.try_iter()) {
            let result = ledger.sync(store);
            match &result {
                Err(error) if !failing => tracing::warn!(
                    home = %ledger.home.display(),
                    %error,
                    "counts for quotas cannot be written: make room in the state directory; if the process ends \
                     before that, homes are counted again"
                ),
                Ok(()) if failing => tracing::info!("counts for quotas are written again"),
                _ => {}
            }
            failing = result.is_err();
        }
    }
}

/// Lets this thread rest, which is no core's.
pub(super) fn sleep(time: Duration) {
    let end = rt::now() + time;
    loop {
        let left = end.saturating_duration_since(rt::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
