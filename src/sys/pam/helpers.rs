//! The processes that ask PAM.
//!
//! A module may sleep, wait for a network, or crash; pam_unix must be root. So before the server gives root away it forks
//! one small process, the starter, that keeps what it has. Over a socket it takes requests for helpers, each with the
//! other end of a socket pair, and forks a helper for it. A helper answers one question at a time. The starter ends a
//! helper when the server asks for another in its place, since the server has no right to.
//!
//! The service and the lowest user id are those of the start: a server that is taken over can try passwords, and nothing
//! else. A process that takes over from a server of another account than root gets the starter with its environment.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, kill_process_group, set_dumpable_behavior,
    set_parent_process_death_signal, setsid, waitpid,
};
use socket2::{Domain, Socket, Type};
use zeroize::Zeroizing;

use super::{Answer, Question, Terms, check};
use crate::limits;
use crate::sys::{identity, keeper, pass_fds};

/// Tells the next process which descriptor leads to the starter, and on which terms.
const VARIABLE: &str = "RINGFTPD_PAM_STARTER";
/// Of messages and the variable. A program with another one starts without the old starter.
const VERSION: &str = "1";

/// The way to the starter.
#[derive(Debug)]
pub struct Helpers {
    starter: OwnedFd,
    /// Whether helpers are root, as pam_unix wants it.
    root: bool,
}

/// A helper process. It ends when this is dropped, if it waits for a question.
#[derive(Debug)]
pub struct Helper {
    socket: OwnedFd,
}

impl Helpers {
    /// The starter that the process before this one had, if it is on these terms and this process cannot have one that
    /// is root. Without terms it is let go. To be called before any thread is started.
    #[must_use]
    pub fn inherited(terms: Option<&Terms>) -> Option<Self> {
        let value = std::env::var(VARIABLE).ok()?;
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::remove_var(VARIABLE) };
        let (fd, told) = parse(&value)?;
        // SAFETY: borrowed for two calls only, which fail for a number that is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        if !matches!(sockopt::socket_type(borrowed), Ok(SocketType::SEQPACKET)) {
            return None;
        }
        // SAFETY: it is open, was passed to this process for that, and is taken once.
        let starter = unsafe { OwnedFd::from_raw_fd(fd) };
        if identity::is_root() || terms != Some(&told) {
            return None;
        }
        let helpers = Self {
            starter,
            root: true,
        };
        helpers.bequeath(&told).ok()?;
        Some(helpers)
    }

    /// Forks the starter. To be called before root is given away and before any thread is started.
    ///
    /// # Errors
    /// The system's.
    pub fn fork(terms: &Terms) -> io::Result<Self> {
        let (ours, theirs) = pair()?;
        // SAFETY: the process has one thread, so the child may do whatever the parent may.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                drop(ours);
                let status = i32::from(run_starter(terms, theirs.as_fd()).is_err());
                // SAFETY: `_exit` ends the child without the parent's clean-up.
                unsafe { libc::_exit(status) }
            }
            _ => {}
        }
        let helpers = Self {
            starter: ours,
            root: identity::is_root(),
        };
        // Whoever is not root now can fork one that is as good.
        if helpers.root {
            helpers.bequeath(terms)?;
        }
        Ok(helpers)
    }

    /// Leaves the starter to a process that takes over.
    fn bequeath(&self, terms: &Terms) -> io::Result<()> {
        let value = format!(
            "{VERSION} {} {} {}",
            self.starter.as_raw_fd(),
            terms.user_id_min,
            terms.service.to_string_lossy()
        );
        rustix::io::fcntl_setfd(&self.starter, FdFlags::empty())?;
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::set_var(VARIABLE, value) };
        Ok(())
    }

    /// Whether helpers are root.
    #[must_use]
    pub fn are_root(&self) -> bool {
        self.root
    }

    /// Starts the helper of this number, in place of the one that there may be.
    ///
    /// # Errors
    /// The system's; `BrokenPipe` and `ConnectionReset` when the starter has ended.
    pub fn start(&self, number: usize) -> io::Result<Helper> {
        let (ours, theirs) = pair()?;
        // Processes that take over from one another share the starter.
        let name = format!("{}.{number}", std::process::id());
        pass_fds::send(&self.starter, &name, Some(theirs.as_fd()))?;
        Ok(Helper { socket: ours })
    }
}

/// `1 FD USER-ID-MIN SERVICE`.
fn parse(value: &str) -> Option<(i32, Terms)> {
    let mut words = value.split(' ');
    (words.next()? == VERSION).then_some(())?;
    let fd: i32 = words.next()?.parse().ok().filter(|fd| *fd > 2)?;
    let user_id_min = words.next()?.parse().ok()?;
    let service = CString::new(words.next()?).ok()?;
    words.next().is_none().then_some((
        fd,
        Terms {
            service,
            user_id_min,
        },
    ))
}

impl Helper {
    /// Asks. The answer must be waited for before the next question.
    ///
    /// # Errors
    /// The helper has ended before it got the question.
    pub fn ask(&self, question: &Question) -> io::Result<()> {
        let message = question.to_message();
        if message.len() > limits::PAM_MESSAGE_OCTETS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::net::send(&self.socket, &message, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the answer. Blocks.
    ///
    /// # Errors
    /// `WouldBlock` when the time is over, `UnexpectedEof` when the helper has ended; it is of no use then.
    pub fn answer(&self, limit: Duration) -> io::Result<Answer> {
        pass_fds::set_limit(&self.socket, limit)?;
        let message = receive(self.socket.as_fd())?;
        Answer::from_message(&message).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Two ends that keep message boundaries.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
    Ok((one.into(), other.into()))
}

/// The next message; it may hold a password.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut message = Zeroizing::new(vec![0; limits::PAM_MESSAGE_OCTETS_MAX]);
    let received = loop {
        match rustix::net::recv(socket, &mut message[..], RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            // Closed with a question unread: it has ended.
            Err(rustix::io::Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            other => break other?.0,
        }
    };
    message.truncate(received);
    Ok(message)
}

/// The starter: forks helpers until all servers that know it are gone.
fn run_starter(terms: &Terms, socket: BorrowedFd<'_>) -> io::Result<()> {
    settle(socket, c"ringftpd-pam")?;
    let mut helpers = HashMap::new();
    loop {
        let (name, theirs) = match pass_fds::receive(socket) {
            Ok((name, Some(theirs))) => (name, theirs),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok((_, None)) => continue,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
            Err(error) => return Err(error),
        };
        if let Some(old) = helpers.get(&name) {
            // With what its modules have started. It may have ended; its number is its own until it is waited for.
            let _ = kill_process_group(*old, Signal::KILL);
        }
        helpers.retain(|_, helper| {
            matches!(waitpid(Some(*helper), WaitOptions::NOHANG), Ok(None)) // it runs still
        });
        if helpers.len() >= limits::PAM_PROCESSES_MAX {
            continue;
        }
        // SAFETY: this process has one thread, so the child may do whatever its parent may.
        match unsafe { libc::fork() } {
            // The server notices that nobody has the other end.
            -1 => {}
            0 => {
                let status = i32::from(run_helper(terms, theirs.as_fd()).is_err());
                // SAFETY: `_exit` ends the child without the parent's clean-up.
                unsafe { libc::_exit(status) }
            }
            child => {
                // One that the kernel has not ended yet stays to be waited for, under a name that nobody asks for.
                if let (Some(old), Some(pid)) = (helpers.remove(&name), Pid::from_raw(child)) {
                    helpers.insert(format!("{name} before {pid}"), old);
                }
                if let Some(pid) = Pid::from_raw(child) {
                    helpers.insert(name, pid);
                }
            }
        }
    }
}

/// A helper: answers until the server closes its end.
fn run_helper(terms: &Terms, socket: BorrowedFd<'_>) -> io::Result<()> {
    settle(socket, c"pam-helper")?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    loop {
        let message = match receive(socket) {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let question = Question::from_message(&message).ok_or(io::ErrorKind::InvalidData)?;
        drop(message);
        let answer = check(terms, &question);
        drop(question);
        rustix::net::send(socket, &answer.to_message(), SendFlags::NOSIGNAL)?;
    }
}

/// What a process of PAM is made: modules start programs, and those expect what programs usually find.
fn settle(socket: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    keeper::close_others(socket.as_raw_fd());
    let null = loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
        if null.as_raw_fd() > 2 {
            break null;
        }
        // Standard input, output and error; the programs of modules inherit them.
        let _ = null.into_raw_fd();
    };
    drop(null);
    // SAFETY: no other thread runs.
    unsafe { std::env::remove_var(VARIABLE) };
    // Told apart from the server in process lists; a failure is of no importance.
    let _ = rustix::thread::set_name(name);
    // A terminal's signals are for the server. It is a group of its own, too.
    let _ = setsid();
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // SECURITY: memory holds passwords.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    for signal in [
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGTERM,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ] {
        // What ends, reloads or asks the server is not for these: they end with it. Handled, not ignored: programs that
        // modules start would inherit that.
        // SAFETY: the handler does nothing, which it may do at any time.
        unsafe { libc::signal(signal, nothing as extern "C" fn(i32) as libc::sighandler_t) };
    }
    // The server, whose fork this is, holds some of them; programs that modules start would inherit that, too.
    super::super::signals::release(&[Signal::HUP, Signal::USR1, Signal::USR2])?;
    // SAFETY: the default action, which programs of modules expect, in place of what Rust's start sets.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    Ok(())
}

extern "C" fn nothing(_: i32) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_a_descriptor_and_the_terms() {
        let terms = Terms {
            service: c"ringftpd".to_owned(),
            user_id_min: 1000,
        };
        assert_eq!(parse("1 7 1000 ringftpd"), Some((7, terms)));
        for bad in [
            "",
            "1",
            "2 7 1000 ringftpd",
            "1 2 1000 ringftpd",
            "1 -7 1000 ringftpd",
            "1 7 x ringftpd",
            "1 7 1000",
            "1 7 1000 ringftpd more",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_waited_for_and_an_end_is_noticed() {
        let (ours, theirs) = pair().unwrap();
        let helper = Helper { socket: ours };
        let question = Question {
            user: c"ann".to_owned(),
            password: Zeroizing::new(b"secret".to_vec()),
            address: c"192.0.2.1".to_owned(),
        };
        helper.ask(&question).unwrap();
        let late = helper.answer(Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        let message = receive(theirs.as_fd()).unwrap();
        assert!(Question::from_message(&message).unwrap() == question);
        let answer = Answer::Failed {
            reason: "x".to_owned(),
        };
        rustix::net::send(&theirs, &answer.to_message(), SendFlags::empty()).unwrap();
        assert_eq!(helper.answer(Duration::from_secs(10)).unwrap(), answer);
        helper.ask(&question).unwrap();
        drop(theirs);
        let ended = helper.answer(Duration::from_secs(10)).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
        assert!(helper.ask(&question).is_err());
    }
}
