//! Starting a process that is nobody's child: it outlives this one, and whoever supervises both hears of its end.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::identity;

/// A process started by [`start`], until this is dropped.
#[derive(Debug)]
pub struct Started {
    /// Its standard input: closed at the other end when it has ended.
    alive: PipeWriter,
}

impl Started {
    /// Whether it runs still.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(
            self.alive.as_fd(),
            PollFlags::empty(),
        )];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // An end without a reader is in error (pipe(7)).
        let _ = rustix::event::poll(&mut polled, Some(&now));
        let events = polled
            .first()
            .map_or(PollFlags::empty(), |polled| polled.revents());
        !events.contains(PollFlags::ERR)
    }
}

/// Starts the program so that the nearest reaper (init, systemd) is its parent. It inherits standard output and
/// standard error.
///
/// # Errors
/// The system's: there is no such program, it cannot be executed.
pub fn start(command: &mut Command) -> io::Result<Started> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::from(OwnedFd::from(reader)));
    // SAFETY: the hook runs in a process of one thread and makes system calls only; the process that goes on
    // to execute the program is the one that this returns Ok in.
    unsafe { command.pre_exec(leave_parent) };
    // The child that is known here ends at once.
    let mut between = command.spawn()?;
    between.wait()?;
    Ok(Started { alive: writer })
}

/// Goes on as a child of the process that ends here, with the right to bind low ports if there is one.
fn leave_parent() -> io::Result<()> {
    identity::pass_bind_service();
    // Not fork(3), which runs the handlers of libraries: this process has copied a single thread of several.
    // SAFETY: without flags and with no stack of its own, clone(2) is fork(2); every architecture takes these zeros.
    match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        // SAFETY: ends this process without clean-up, which is its parent's.
        _ => unsafe { libc::_exit(0) },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests have a clock")]
    fn the_end_of_a_process_that_is_nobodys_child_is_noticed() {
        let missing = start(&mut Command::new("/no/such/program")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let (mut words, theirs) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "read line; echo $PPID $line"]);
        command.stdout(Stdio::from(OwnedFd::from(theirs)));
        let mut started = start(&mut command).unwrap();
        drop(command);
        assert!(started.is_alive());
        io::Write::write_all(&mut started.alive, b"end\n").unwrap();
        let mut told = String::new();
        words.read_to_string(&mut told).unwrap();
        let parent = told.strip_suffix(" end\n").unwrap();
        assert_ne!(parent, std::process::id().to_string());
        let begin = Instant::now();
        while started.is_alive() {
            assert!(begin.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
