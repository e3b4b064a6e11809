//! Signals held back until somebody handles them.
//!
//! What SIGHUP, SIGUSR1 and SIGUSR2 do to a process without handlers is to end it, and whoever sends them cannot know
//! when a server that has just been started has its handlers.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::process::Signal;

/// Holds these signals back from this thread and from those that it starts; a blocked signal waits, and is
/// delivered once [`release`] lets it.
///
/// # Errors
/// The system's: a number that is no signal.
pub fn hold(signals: &[Signal]) -> io::Result<()> {
    change(libc::SIG_BLOCK, signals)
}

/// Lets these signals come to this thread: those that wait, at once.
///
/// # Errors
/// As [`hold`].
pub fn release(signals: &[Signal]) -> io::Result<()> {
    change(libc::SIG_UNBLOCK, signals)
}

fn change(how: libc::c_int, signals: &[Signal]) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes the whole set that the pointer is valid for.
    check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    // SAFETY: it was filled above.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: the set is initialised and valid for the whole call.
        check(unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) })?;
    }
    // SAFETY: the set is only read; no old mask is asked for.
    match unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this thread: held back and waiting.
    fn sets() -> [u64; 2] {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        ["SigBlk:", "SigPnd:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
        })
    }

    #[test]
    fn a_signal_waits_while_it_is_held_back() {
        let bit = 1 << (Signal::URG.as_raw() - 1);
        // The others of this process are not touched. SIGURG does nothing by itself.
        std::thread::spawn(move || {
            hold(&[Signal::URG]).unwrap();
            // SAFETY: sends a signal to this thread, nothing else.
            assert_eq!(unsafe { libc::raise(libc::SIGURG) }, 0);
            assert_eq!(sets().map(|set| set & bit), [bit, bit]);
            release(&[Signal::URG]).unwrap();
            assert_eq!(sets().map(|set| set & bit), [0, 0]);
        })
        .join()
        .unwrap();
    }
}
