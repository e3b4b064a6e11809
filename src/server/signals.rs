//! What the main thread hears, also before it can listen.

use std::io;
use std::time::Duration;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::handover::Retirement;
use super::lifecycle::Life;
use crate::sys::signals;

/// Without handlers they would end a process that has just been started, by whom they are sent to be answered.
const ANSWERED: [Number; 3] = [Number::HUP, Number::USR1, Number::USR2];
/// They are to end the server in good order, once it has told that it is there.
const ENDING: [Number; 2] = [Number::TERM, Number::INT];

/// SIGHUP, SIGUSR1 and SIGUSR2 wait until [`super::run`] answers them. To be called first, on the main thread:
/// threads and processes that are started later do the same.
///
/// # Errors
/// The system's.
pub fn hold_signals() -> io::Result<()> {
    signals::hold(&ANSWERED)
}

/// SIGTERM and SIGINT wait, too. To be called before the first thread is started; until then they end the process at
/// once, as a start may take long.
///
/// # Errors
/// The system's.
pub fn hold_ends() -> io::Result<()> {
    signals::hold(&ENDING)
}

/// They have handlers now, which run on this thread.
fn release() -> io::Result<()> {
    signals::release(&ANSWERED)?;
    signals::release(&ENDING)
}

/// What the main thread waits for.
pub(super) enum Heard {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    HangUp,
    /// SIGUSR1.
    Report,
    /// SIGUSR2.
    Upgrade,
    /// Another process has taken over.
    Retirement(Retirement),
    /// Nothing for a while.
    Silence,
}

/// The signals that are answered.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    report: Signal,
    upgrade: Signal,
}

impl Signals {
    /// Installs the handlers, and lets come what was held.
    pub(super) fn new() -> io::Result<Self> {
        let all = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            report: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        };
        release()?;
        Ok(all)
    }

    /// Waits for the next of them, and for what else ends the waiting.
    pub(super) async fn hear(&mut self, life: &mut Life, patience: Duration) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::End,
            _ = self.interrupt.recv() => Heard::End,
            _ = self.hang_up.recv() => Heard::HangUp,
            _ = self.report.recv() => Heard::Report,
            _ = self.upgrade.recv() => Heard::Upgrade,
            retirement = life.retirement() => Heard::Retirement(retirement),
            () = tokio::time::sleep(patience) => Heard::Silence,
        }
    }
}
