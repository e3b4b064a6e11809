//! What a server hears before it can listen.

use std::io;

use rustix::process::Signal;

use crate::sys::signals;

/// Without handlers they would end a process that has just been started, by whom they are sent to be answered.
const ANSWERED: [Signal; 3] = [Signal::HUP, Signal::USR1, Signal::USR2];
/// They are to end the server in good order, once it has told that it is there.
const ENDING: [Signal; 2] = [Signal::TERM, Signal::INT];

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
pub(super) fn release() -> io::Result<()> {
    signals::release(&ANSWERED)?;
    signals::release(&ENDING)
}
