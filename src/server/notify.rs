//! What a supervisor is told (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names. The socket is connected
//! at the start, so that it can be used after rights were given away. Without a supervisor nothing happens.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::{debug, warn};

/// A supervisor is asked for so much more time to end, again and again.
const EXTENSION: Duration = Duration::from_secs(15);

/// The way to the supervisor.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    status: String,
}

impl Notifier {
    /// As the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        let Ok(name) = env::var("NOTIFY_SOCKET") else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self {
                socket: Some(socket),
                watchdog: watchdog(
                    env::var("WATCHDOG_USEC").ok().as_deref(),
                    env::var("WATCHDOG_PID").ok().as_deref(),
                    std::process::id(),
                ),
                status: String::new(),
            },
            Err(error) => {
                warn!(%error, %name, "the supervisor is told nothing: NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    /// How often the supervisor wants to hear that the server works.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The server serves, again or for the first time.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Files are read again; [`Self::ready`] ends that.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::try_from(now).unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The server ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The end takes longer, for a good reason.
    pub(super) fn extend(&self) {
        self.tell(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
    }

    /// Every part of the server works.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Another process is the service from now on. Nothing of this one counts then, so nothing more is told.
    pub(super) fn hand_over(&mut self, process: u32) {
        self.tell(&format!("MAINPID={process}"));
        self.socket = None;
    }

    /// What the server does, in words; told when it is something new.
    pub(super) fn status(&mut self, status: String) {
        if self.status != status {
            self.tell(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    fn tell(&self, words: &str) {
        let Some((socket, address)) = &self.socket else {
            return;
        };
        let mut sent = socket.send(words.as_bytes());
        if let Err(error) = &sent
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // The supervisor was itself started again, and has another socket there.
            sent = socket
                .connect_addr(address)
                .and_then(|()| socket.send(words.as_bytes()));
        }
        if let Err(error) = sent {
            debug!(%error, words, "the supervisor was not told");
        }
    }
}

/// `@` stands for the zero octet of an abstract address (unix(7)).
fn connect(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // The main thread must not wait for a supervisor that does not read.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// sd_watchdog_enabled(3).
fn watchdog(microseconds: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    if process.is_some_and(|process| process.parse() != Ok(own)) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|number| *number > 0)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(name: &str) -> Notifier {
        Notifier {
            socket: Some(connect(name).unwrap()),
            ..Notifier::default()
        }
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut octets = [0; 512];
        let count = socket.recv(&mut octets).unwrap();
        String::from_utf8(octets[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_supervisor_hears_each_thing_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        supervisor
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut notifier = notifier(path.to_str().unwrap());
        notifier.ready();
        assert_eq!(heard(&supervisor), "READY=1");
        notifier.reloading();
        let words = heard(&supervisor);
        let time = words.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0, "{words}");
        notifier.status("3 connections".into());
        notifier.status("3 connections".into());
        notifier.stopping();
        assert_eq!(heard(&supervisor), "STATUS=3 connections");
        assert_eq!(heard(&supervisor), "STOPPING=1");
        // It was started again: the same path, another socket.
        drop(supervisor);
        std::fs::remove_file(&path).unwrap();
        notifier.extend();
        let supervisor = UnixDatagram::bind(&path).unwrap();
        notifier.alive();
        assert_eq!(heard(&supervisor), "WATCHDOG=1");
        notifier.hand_over(77);
        notifier.stopping();
        assert_eq!(heard(&supervisor), "MAINPID=77");
        supervisor.set_nonblocking(true).unwrap();
        let more = supervisor.recv(&mut [0; 10]).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn abstract_addresses_are_understood_and_others_are_not() {
        let name = format!("ringftpd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let supervisor = UnixDatagram::bind_addr(&address).unwrap();
        notifier(&format!("@{name}")).ready();
        assert_eq!(heard(&supervisor), "READY=1");
        assert!(connect("vsock:2:1").is_err());
        // Nobody listens: nothing happens.
        Notifier::default().ready();
    }

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let interval = |microseconds, process| watchdog(microseconds, process, 5);
        assert_eq!(
            interval(Some("2000000"), Some("5")),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            interval(Some("2000000"), None),
            Some(Duration::from_secs(2))
        );
        assert_eq!(interval(Some("2000000"), Some("6")), None);
        for none in [None, Some("0"), Some(""), Some("soon")] {
            assert_eq!(interval(none, None), None);
        }
    }
}
