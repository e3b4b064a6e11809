//! What may be seen of a connection from outside its task, and how it is ended from there.
//!
//! A seat is written by its connection, a plain store each time that something changes, and read on the same core
//! when somebody asks: so nobody's task is woken to tell, and one that waits shows what it waits for.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::{Core, Letter, actions};
use crate::auth::Account;
use crate::data;
use crate::proto::Transfer;
use crate::proto::command::Verb;
use crate::proto::session::ChannelKind;
use crate::rt::Mailbox;
use crate::status::{self, Phase, Selected};
use crate::{limits, tls, vhosts};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Accepted, nothing said.
    New,
    Handshake,
    Open,
    Closing,
}

/// One connection.
pub(super) struct Seat {
    pub(super) mailbox: Rc<Mailbox<Letter>>,
    kind: ChannelKind,
    peer: SocketAddr,
    server: SocketAddr,
    accepted: Instant,
    pub(super) stage: Cell<Stage>,
    pub(super) user: RefCell<Option<Arc<Account>>>,
    /// The virtual host of that user.
    pub(super) host: RefCell<Option<Arc<vhosts::Host>>>,
    pub(super) tls: Cell<Option<tls::Summary>>,
    /// A command is not answered yet.
    pub(super) busy: Cell<bool>,
    /// The last one that was.
    pub(super) verb: Cell<Option<Verb>>,
    /// When replies left last.
    pub(super) answered: Cell<Instant>,
    /// What is opened or runs.
    pub(super) transfer: RefCell<Option<Transfer>>,
    pub(super) running: RefCell<Option<Running>>,
}

/// A transfer under way.
pub(super) struct Running {
    handle: Rc<data::Handle>,
    upload: bool,
    total: Option<u64>,
    asked: Instant,
}

impl Seat {
    /// Of a connection between these two ends.
    pub(super) fn new(
        mailbox: &Rc<Mailbox<Letter>>,
        kind: ChannelKind,
        (peer, server): (SocketAddr, SocketAddr),
        accepted: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            mailbox: Rc::clone(mailbox),
            kind,
            peer,
            server,
            accepted,
            stage: Cell::new(Stage::New),
            user: RefCell::default(),
            host: RefCell::default(),
            tls: Cell::new(None),
            busy: Cell::new(false),
            verb: Cell::new(None),
            answered: Cell::new(accepted),
            transfer: RefCell::default(),
            running: RefCell::default(),
        })
    }

    /// This transfer begins.
    pub(super) fn begins(&self, handle: &Rc<data::Handle>, job: &data::Job) {
        let total = match &job.opened {
            data::Opened::Download { offset, end, .. } => end.checked_sub(*offset),
            data::Opened::Listing(_) | data::Opened::Upload(_) => None,
        };
        self.running.replace(Some(Running {
            handle: Rc::clone(handle),
            upload: matches!(job.opened, data::Opened::Upload(_)),
            total,
            asked: job.asked,
        }));
    }

    fn is_selected(&self, number: u64, selected: &Selected) -> bool {
        let user = self.user.borrow();
        let user = user.as_ref().map(|account| account.name.as_str());
        let host = self.host.borrow();
        let host = host.as_ref().map(|host| &*host.name);
        selected.holds(number, user, host, self.peer.ip())
    }

    fn describe(&self, number: u64, now: Instant) -> status::Session {
        let since = |then: Instant| now.saturating_duration_since(then).as_secs_f64();
        let transfer = self.transfer(now);
        let user = self.user.borrow();
        let phase = match self.stage.get() {
            Stage::New => Phase::Greeting,
            Stage::Handshake => Phase::Handshake,
            Stage::Closing => Phase::Closing,
            Stage::Open if transfer.is_some() => Phase::Transfer,
            Stage::Open if self.busy.get() => Phase::Command,
            Stage::Open if user.is_none() => Phase::Login,
            Stage::Open => Phase::Idle,
        };
        let command = match &transfer {
            Some(transfer) => Some(transfer.command.clone()),
            None => self.verb.get().and_then(Verb::name).map(str::to_owned),
        };
        status::Session {
            session: number,
            user: user.as_ref().map(|account| account.name.clone()),
            host: self.host.borrow().as_ref().map(|one| one.name.to_string()),
            address: self.peer.ip().to_canonical(),
            port: self.peer.port(),
            server: SocketAddr::new(self.server.ip().to_canonical(), self.server.port())
                .to_string(),
            listener: match self.kind {
                ChannelKind::Explicit => "explicit",
                ChannelKind::Implicit => "implicit",
            }
            .to_owned(),
            tls: self.tls.get().map(|summary| status::Tls {
                version: summary.version.to_owned(),
                suite: summary.suite.to_owned(),
                resumed: summary.resumed,
            }),
            seconds: since(self.accepted),
            idle_seconds: since(self.answered.get()),
            phase,
            command,
            transfer,
        }
    }

    fn transfer(&self, now: Instant) -> Option<status::Transfer> {
        let (transfer, running) = (self.transfer.borrow(), self.running.borrow());
        let (transfer, running) = (transfer.as_ref()?, running.as_ref()?);
        let octets = transfer.path.as_bytes();
        Some(status::Transfer {
            command: actions::verb(&transfer.kind).to_owned(),
            path: String::from_utf8_lossy(octets).into_owned(),
            path_hex: std::str::from_utf8(octets).is_err().then(|| hex(octets)),
            upload: running.upload,
            protected: transfer.protected,
            octets: running.handle.octets(),
            total: running.total,
            seconds: now.saturating_duration_since(running.asked).as_secs_f64(),
            route: running.handle.route().map(str::to_owned),
        })
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Some of a core's sessions.
#[derive(Debug, Default)]
pub struct Page {
    /// What they do.
    pub sessions: Vec<status::Session>,
    /// Where the next page begins, unless this is the last.
    pub next: Option<u64>,
}

impl Core {
    /// Those of the selected sessions from a number on that can be described in one turn of the core.
    #[must_use]
    pub fn page(&self, from: u64, selected: &Selected, now: Instant) -> Page {
        let connections = self.connections.borrow();
        let mut page = Page::default();
        let seats = connections.range((Bound::Included(from), Bound::Unbounded));
        for (looked, (number, seat)) in seats.enumerate() {
            if looked >= limits::STATUS_SEATS_PER_TURN
                || page.sessions.len() >= limits::STATUS_SESSIONS_PER_TURN
            {
                page.next = Some(*number);
                break;
            }
            if seat.is_selected(*number, selected) {
                page.sessions.push(seat.describe(*number, now));
            }
        }
        page
    }

    /// Tells the selected sessions to end, and returns their numbers.
    #[must_use]
    pub fn kill(&self, selected: &Selected) -> Vec<u64> {
        let connections = self.connections.borrow();
        let selected = connections
            .iter()
            .filter(|(number, seat)| seat.is_selected(**number, selected));
        let tell = |(number, seat): (&u64, &Rc<Seat>)| {
            seat.mailbox.post(Letter::Kill);
            *number
        };
        selected.map(tell).collect()
    }

    /// Octets that this core has sent and received for transfers, also for those that run.
    #[must_use]
    pub fn moved(&self) -> [u64; 2] {
        let [mut sent, mut received] = self.metrics.moved();
        for seat in self.connections.borrow().values() {
            if let Some(running) = &*seat.running.borrow()
                && !running.handle.is_over()
            {
                let sum = if running.upload {
                    &mut received
                } else {
                    &mut sent
                };
                *sum = sum.saturating_add(running.handle.octets());
            }
        }
        [sent, received]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    #[test]
    fn phases_follow_the_connection() {
        let ends = ("[::ffff:192.0.2.7]:4000", "192.0.2.1:21");
        let ends = (ends.0.parse().unwrap(), ends.1.parse().unwrap());
        let seat = Seat::new(&Mailbox::new(), ChannelKind::Explicit, ends, rt::now());
        let address = seat.describe(1, rt::now()).address;
        assert_eq!(address.to_string(), "192.0.2.7");
        let phase = || seat.describe(1, rt::now()).phase;
        assert_eq!(phase(), Phase::Greeting);
        seat.stage.set(Stage::Handshake);
        assert_eq!(phase(), Phase::Handshake);
        seat.stage.set(Stage::Open);
        assert_eq!(phase(), Phase::Login);
        seat.busy.set(true);
        assert_eq!(phase(), Phase::Command);
        seat.stage.set(Stage::Closing);
        assert_eq!(phase(), Phase::Closing);
    }
}
