//! Gathers what the cores have recorded, on the main thread, and tells it: to Prometheus, to the log,
//! to a histogram log.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use super::watchdog::Pulse;
use super::{Command, http};
use crate::control::Core;
use crate::logging;
use crate::metrics::{self, Books, Catalogue, IntervalLog, Process, Series, Totals};
use crate::status::{self, Distribution};
use crate::{limits, rt};

/// Where the figures go, beside the log.
#[derive(Debug, Default)]
pub struct Outlets {
    /// Answers `/metrics` and `/healthz`.
    pub listener: Option<TcpListener>,
    /// Gets the distributions of each interval of this length.
    pub interval_log: Option<(IntervalLog, Duration)>,
}

/// A core, seen from the main thread.
struct Link {
    commands: mpsc::UnboundedSender<Command>,
    /// Empty books for the next exchange.
    spare: Option<Books>,
    /// The filled ones, asked for.
    due: Option<oneshot::Receiver<Books>>,
}

impl Link {
    fn ask(&mut self, catalogue: &Arc<Catalogue>) {
        if self.due.is_some() {
            return;
        }
        let (sender, receiver) = oneshot::channel();
        let spare = self.spare.take().unwrap_or_else(|| Books::new(catalogue));
        if self.commands.send(Command::Report(spare, sender)).is_ok() {
            self.due = Some(receiver);
        }
    }
}

/// The sums, and how to get more.
struct Gathered {
    catalogue: Arc<Catalogue>,
    cores: Vec<Link>,
    /// Since the start.
    totals: Totals,
    /// Since the last interval, with a histogram log.
    interval: Option<Interval>,
}

struct Interval {
    log: IntervalLog,
    totals: Totals,
    began: Instant,
    /// The last one was lost, and that was said.
    lost: bool,
}

/// Shared by whoever asks on the main thread; no core ever waits for it.
pub(super) struct Monitor {
    gathered: Mutex<Gathered>,
    accepting: AtomicBool,
    started: SystemTime,
    began: Instant,
}

impl Monitor {
    /// Of cores on these processors, which are told by these channels.
    pub(super) fn new(
        catalogue: &Arc<Catalogue>,
        cpus: &[usize],
        commands: &[mpsc::UnboundedSender<Command>],
        interval_log: Option<IntervalLog>,
    ) -> Self {
        let began = Instant::now();
        let link = |commands: &mpsc::UnboundedSender<Command>| Link {
            commands: commands.clone(),
            spare: None,
            due: None,
        };
        let interval = |log| Interval {
            log,
            totals: Totals::new(catalogue, cpus),
            began,
            lost: false,
        };
        Self {
            gathered: Mutex::new(Gathered {
                catalogue: Arc::clone(catalogue),
                cores: commands.iter().map(link).collect(),
                totals: Totals::new(catalogue, cpus),
                interval: interval_log.map(interval),
            }),
            accepting: AtomicBool::new(true),
            started: SystemTime::now(),
            began,
        }
    }

    /// New connections are not taken any more.
    pub(super) fn drain(&self) {
        self.accepting.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }

    /// The text for Prometheus.
    pub(super) async fn text(&self) -> Result<String, std::fmt::Error> {
        let mut gathered = self.gathered.lock().await;
        let cores_silent = gathered.gather().await;
        let process = Process {
            accepting: self.is_accepting(),
            started: self.started,
            cores_silent,
            lines_lost: logging::lines_lost(),
        };
        metrics::encode(&gathered.totals, process)
    }

    /// What is known of each core, as far as it is recorded in books; cores that do not answer are not `answered`.
    pub(super) async fn cores(&self) -> Vec<status::Core> {
        let mut gathered = self.gathered.lock().await;
        gathered.gather().await;
        let distribution = |series: &Series| Distribution(series.buckets());
        let figures = gathered.totals.cores().zip(&gathered.cores);
        let cores = figures.map(|(core, link)| {
            let [downloads, uploads, listings] = core.gauges.transfers;
            status::Core {
                core: core.name.to_owned(),
                answered: link.due.is_none(),
                connections: core.gauges.connections,
                sessions: core.gauges.sessions,
                downloads,
                uploads,
                listings,
                commands: core.command_count,
                command: distribution(core.commands),
                handshake: distribution(core.handshakes),
                delay: distribution(core.delay),
                ..status::Core::default()
            }
        });
        cores.collect()
    }

    /// The names of the cores.
    pub(super) async fn names(&self) -> Vec<String> {
        let gathered = self.gathered.lock().await;
        let names = gathered.totals.cores().map(|core| core.name.to_owned());
        names.collect()
    }

    /// How long the process has run.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Tells the log.
    pub(super) async fn log(&self) {
        let mut gathered = self.gathered.lock().await;
        gathered.gather().await;
        metrics::log(&gathered.totals);
    }

    /// Ends an interval of the histogram log.
    async fn end_interval(&self) {
        let mut gathered = self.gathered.lock().await;
        gathered.gather().await;
        gathered.write_interval(self.began);
    }

    /// The cores have ended and left these books: tells the log, and ends the last interval.
    pub(super) async fn finish(&self, last: Vec<Option<Books>>) {
        let mut gathered = self.gathered.lock().await;
        // What was asked for and is on its way.
        gathered.gather().await;
        for (place, books) in last.into_iter().enumerate() {
            if let Some(books) = books {
                gathered.add(place, &books);
            }
        }
        gathered.write_interval(self.began);
        metrics::log(&gathered.totals);
    }
}

impl Gathered {
    /// Asks every core, waits a little, and adds up what came; returns how many did not answer. What
    /// comes later is for the next time, so nothing is lost and nothing counted twice.
    async fn gather(&mut self) -> usize {
        for core in &mut self.cores {
            core.ask(&self.catalogue);
        }
        let deadline = Instant::now() + limits::METRICS_ANSWER_TIME;
        let mut silent = 0;
        for place in 0..self.cores.len() {
            let Some(due) = self.cores.get_mut(place).and_then(|core| core.due.as_mut()) else {
                continue;
            };
            let Ok(answer) = tokio::time::timeout_at(deadline, due).await else {
                silent += 1;
                continue;
            };
            // A core that has ended leaves its books to `finish`.
            let spare = answer.ok().map(|mut books| {
                self.add(place, &books);
                books.reset();
                books
            });
            if let Some(core) = self.cores.get_mut(place) {
                core.due = None;
                core.spare = spare;
            }
        }
        silent
    }

    fn add(&mut self, place: usize, books: &Books) {
        self.totals.add(place, books);
        if let Some(interval) = &mut self.interval {
            interval.totals.add(place, books);
        }
    }

    fn write_interval(&mut self, start: Instant) {
        let Some(interval) = &mut self.interval else {
            return;
        };
        let now = Instant::now();
        let since = interval.began.duration_since(start);
        let length = now.duration_since(interval.began);
        match interval.log.write(&interval.totals, since, length) {
            Ok(()) => interval.lost = false,
            Err(error) if !interval.lost => {
                let path = interval.log.path().display();
                warn!(%path, %error, "histograms not written: make room, or start again with another --histogram-log");
                interval.lost = true;
            }
            Err(_) => {}
        }
        interval.totals.reset();
        interval.began = now;
    }
}

/// Starts what tells the figures on the runtime of the main thread; what answers at the address can be ended.
///
/// # Errors
/// The listener cannot be used.
pub(super) fn start(
    monitor: &Arc<Monitor>,
    listener: Option<TcpListener>,
    interval: Option<Duration>,
) -> std::io::Result<Option<AbortHandle>> {
    let mut answering = None;
    if let Some(listener) = listener {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let task = tokio::spawn(http::serve(listener, Arc::clone(monitor)));
        answering = Some(task.abort_handle());
    }
    if let Some(length) = interval {
        let monitor = Arc::clone(monitor);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(Instant::now() + length, length);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                monitor.end_interval().await;
            }
        });
    }
    Ok(answering)
}

/// On a core: shows that it is there, and looks now and then how late it is. Costs one timer of the ring each time, which is exact
/// to the microsecond where those of the runtime are to the millisecond.
pub(super) async fn watch_delay(core: Rc<Core>, pulse: Pulse) {
    let interval = limits::LOOP_DELAY_INTERVAL;
    let mut now = rt::now();
    loop {
        pulse.beat();
        let due = now + interval;
        rt::pause(interval).await;
        now = rt::now();
        let late = now.saturating_duration_since(due);
        core.metrics.loop_delay(late, interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::metrics::{Class, Recorder};

    #[test]
    fn a_silent_core_is_told_and_its_figures_come_later() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let catalogue = Arc::new(Catalogue::new(&data::names()));
        let (busy, mut from_busy) = mpsc::unbounded_channel();
        let (gone, from_gone) = mpsc::unbounded_channel();
        drop(from_gone);
        let monitor = Monitor::new(&catalogue, &[0, 1], &[busy, gone], None);
        let recorder = Recorder::new(&catalogue);
        recorder.command(Class::Noop, Duration::from_micros(3));
        let noops = |text: &str, number: u64| {
            let line = format!("ringftpd_commands_total{{class=\"noop\"}} {number}\n");
            assert!(text.contains(&line), "{number}: {text}");
        };
        runtime.block_on(async {
            let text = monitor.text().await.unwrap();
            assert!(text.contains("ringftpd_cores_silent 1.0\n"), "{text}");
            noops(&text, 0);
            // It was asked once, however often somebody wanted to know.
            monitor.log().await;
            let Ok(Command::Report(books, reply)) = from_busy.try_recv() else {
                panic!("it was not asked");
            };
            assert!(from_busy.try_recv().is_err());
            reply.send(recorder.exchange(books, 1)).unwrap();
            let text = monitor.text().await.unwrap();
            assert!(text.contains("ringftpd_cores_silent 0.0\n"), "{text}");
            noops(&text, 1);
            // What it recorded last comes by another way, and counts once.
            recorder.command(Class::Noop, Duration::from_micros(3));
            drop(from_busy);
            let last = recorder.exchange(Books::new(&catalogue), 0);
            monitor.finish(vec![Some(last), None]).await;
            noops(&monitor.text().await.unwrap(), 2);
        });
    }
}
