//! The control session: what the client may do when, and what the driver is to do about it.
//!
//! Three machines run beside each other (RFC 2228 §6, RFC 4217, RFC 959 §6):
//!
//! ```text
//! channel   Clear --AUTH--> (handshake) --> Protected --CCC--> Cleared
//!             ^----------------REIN------------'-----------------'    implicit: REIN --> handshake
//! login     None --USER--> Named --PASS--> Granted        USER, REIN, AUTH: back
//! waiting   Nothing --command--> one answer (file, login, TLS, transfer) --> Nothing
//! ```
//!
//! One command runs at a time. Lines queue in the splitter and are taken when nothing is awaited;
//! of those queued behind a transfer only ABOR, STAT and NOOP are looked at.

mod channel;
mod dispatch;
mod files;
mod hosts;
mod information;
mod ledger;
mod login;
mod names;
mod output;
mod parameters;
mod quota;
mod settings;
#[cfg(test)]
mod tests;
mod transfers;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use hosts::Hosts;
pub use ledger::Answered;
pub use settings::{ChannelKind, Requirement, Settings};

use self::channel::{AfterTls, Channel};
use self::files::FilePurpose;
use self::ledger::Ledger;
use self::login::Login;
use self::names::Names;
use self::parameters::Parameters;
use self::transfers::{Opening, Running};
use super::event::{Action, Event};
use super::line::LineSplitter;
use crate::limits;
use crate::vhosts::Host;

/// Octets of replies gathered before the driver is asked to send them.
const REPLY_BATCH_OCTETS: usize = 4096;
/// Actions gathered before the driver is asked to perform them.
const ACTION_BATCH: usize = 8;
/// The first octet of a TLS record that holds a handshake message (RFC 8446 §5.1).
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// The answer that the session waits for; commands queue meanwhile.
#[derive(Debug)]
enum Waiting {
    /// None: the next command may run.
    Nothing,
    /// [`Event::TlsUp`].
    TlsUp,
    /// [`Event::TlsDown`].
    TlsDown(AfterTls),
    /// [`Event::LoginChecked`].
    Login,
    /// [`Event::CertificateChecked`].
    Certificate,
    /// The time to refuse a wrong password.
    Refusal(Instant),
    /// [`Event::FileDone`].
    File(FilePurpose),
    /// [`Event::PassiveReady`].
    Passive {
        /// EPSV, not PASV.
        extended: bool,
    },
    /// [`Event::TransferReady`].
    Opening(Opening),
    /// [`Event::TransferEnded`].
    Transfer(Running),
}

/// How the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Without an end in sight.
    Open,
    /// The server drains: ends after what is awaited.
    Draining,
    /// The server drains and waits for no transfer.
    Forced,
    /// The client sends nothing more: ends after the commands that it has sent.
    Ending,
    /// The client is gone: ends when the transfer has ended.
    Abandoned,
    /// [`Action::Close`] was asked for.
    Closed,
}

/// One control connection's protocol state. The order of calls is in [`super`].
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    kind: ChannelKind,
    local: IpAddr,
    peer: IpAddr,
    splitter: LineSplitter,
    actions: VecDeque<Action>,
    waiting: Waiting,
    life: Life,
    channel: Channel,
    /// The client has shown a certificate on this TLS session.
    certified: bool,
    /// The login was by certificate alone.
    by_certificate: bool,
    /// PBSZ was given on this TLS session (RFC 2228 §3).
    buffer_size_given: bool,
    /// PROT P.
    data_protected: bool,
    /// The virtual host in force.
    host: Option<Arc<Host>>,
    /// The one that TLS has named.
    server_name: Option<Arc<Host>>,
    login: Login,
    /// Lines for the next reply to a login.
    welcome: Option<Arc<str>>,
    names: Names,
    parameters: Parameters,
    /// The driver holds a listener or an address for the next transfer.
    setup: bool,
    /// An octet has come in.
    heard: bool,
    /// The client has closed its side: there is nothing to read but the end, again and again.
    finished: bool,
    /// The operator wants it to end.
    killed: bool,
    /// A password was right at least once.
    logged_in_before: bool,
    failures: u32,
    passwords_rejected: u32,
    delay_ratio: u32,
    lines_overlong: u32,
    ledger: Ledger,
    started: Instant,
    active: Instant,
    now: Instant,
}

impl Session {
    /// A session on a connection just accepted. An explicit one greets at once, an implicit one
    /// after [`Event::TlsUp`] (MS-FTPS 3.2.5.1).
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        kind: ChannelKind,
        local: SocketAddr,
        peer: SocketAddr,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            settings,
            kind,
            local: local.ip().to_canonical(),
            peer: peer.ip().to_canonical(),
            splitter: LineSplitter::new(),
            actions: VecDeque::new(),
            waiting: Waiting::Nothing,
            life: Life::Open,
            channel: Channel::Clear,
            certified: false,
            by_certificate: false,
            buffer_size_given: false,
            data_protected: false,
            host: None,
            server_name: None,
            login: Login::None,
            welcome: None,
            names: Names::default(),
            parameters: Parameters::default(),
            setup: false,
            heard: false,
            finished: false,
            killed: false,
            logged_in_before: false,
            failures: 0,
            passwords_rejected: 0,
            delay_ratio: 1,
            lines_overlong: 0,
            ledger: Ledger::default(),
            started: now,
            active: now,
            now,
        };
        match kind {
            ChannelKind::Explicit => session.greet(),
            ChannelKind::Implicit => session.start_tls(),
        }
        session
    }

    /// Takes octets of the control connection, TLS already taken off; all of them are kept.
    pub fn handle_octets(&mut self, octets: &[u8], now: Instant) {
        self.now = now;
        let Some(first) = octets.first() else { return };
        if self.is_over() || self.finished {
            return;
        }
        self.active = now;
        match self.waiting {
            // SECURITY: octets between AUTH and the handshake were injected in the clear, or the
            // driver has lost count; nothing can be said in the clear any more.
            Waiting::TlsUp => return self.close(),
            Waiting::TlsDown(_) => return self.depart("No commands behind this one."),
            _ => {}
        }
        if !self.heard && self.channel == Channel::Clear && *first == TLS_HANDSHAKE_RECORD {
            return self.close();
        }
        self.heard = true;
        self.splitter.take_iac_for_letter(self.charset().has_iac());
        self.splitter.push(octets);
        let answers = self.splitter.take_answers();
        if !answers.is_empty() {
            self.send(|out| out.extend_from_slice(&answers));
        }
        let blank_lines = self.splitter.take_blank_lines();
        if !self.is_logged_in() {
            self.failures = self.failures.saturating_add(blank_lines);
            if self.failures >= limits::COMMANDS_FAILED_BEFORE_LOGIN_MAX {
                self.depart("Too many commands before login.");
            }
        }
    }

    /// Takes the answer to an action. An answer that is not awaited any more is dropped.
    pub fn handle_event(&mut self, event: Event, now: Instant) {
        self.now = now;
        if self.life == Life::Closed {
            return;
        }
        if self.life == Life::Abandoned {
            if matches!(event, Event::TransferEnded(_)) {
                self.close();
            }
            return;
        }
        self.active = now;
        match (
            std::mem::replace(&mut self.waiting, Waiting::Nothing),
            event,
        ) {
            (Waiting::TlsUp, Event::TlsUp) => self.on_tls_up(),
            (Waiting::TlsDown(after), Event::TlsDown) => self.on_tls_down(after),
            (Waiting::Login, Event::LoginChecked(verdict)) => self.on_login_checked(verdict),
            (Waiting::Certificate, Event::CertificateChecked(verdict)) => {
                self.on_certificate_checked(verdict);
            }
            (Waiting::File(purpose), Event::FileDone(result)) => self.on_file_done(purpose, result),
            (Waiting::Passive { extended }, Event::PassiveReady(result)) => {
                self.on_passive_ready(extended, result);
            }
            (Waiting::Opening(opening), Event::TransferReady(result)) => {
                self.on_transfer_ready(opening, result);
            }
            (Waiting::Transfer(running), Event::TransferEnded(end)) => {
                self.on_transfer_ended(running, end);
            }
            (Waiting::Transfer(running), Event::Progress(octets)) => {
                self.on_progress(running, octets);
            }
            (waiting, _) => self.waiting = waiting,
        }
    }

    /// Acts on the deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.is_over() {
            return;
        }
        if let Waiting::Refusal(at) = self.waiting
            && now >= at
        {
            self.waiting = Waiting::Nothing;
            self.refuse_login();
            if self.is_over() {
                return;
            }
        }
        if self
            .login_deadline()
            .is_some_and(|deadline| now >= deadline)
        {
            match self.waiting {
                Waiting::TlsUp | Waiting::TlsDown(_) => self.close(),
                _ => self.depart("Login timed out."),
            }
        } else if self.idle_deadline().is_some_and(|deadline| now >= deadline) {
            self.depart("Idle for too long.");
        }
    }

    /// The client closed its side of the control connection. A running transfer is aborted, and
    /// [`Action::Close`] follows its end. Else what the client sent before is still carried out,
    /// apart from transfers, and then [`Action::Close`] follows.
    pub fn handle_closed(&mut self) {
        if self.is_over() {
            return;
        }
        self.finished = true;
        match &mut self.waiting {
            Waiting::Transfer(running) => {
                if !std::mem::replace(&mut running.aborted, true) {
                    self.actions.push_back(Action::AbortTransfer);
                }
                self.splitter = LineSplitter::new();
                self.life = Life::Abandoned;
            }
            Waiting::TlsUp | Waiting::TlsDown(_) | Waiting::Opening(_) => self.close(),
            _ if self.life == Life::Open => self.life = Life::Ending,
            _ => {}
        }
    }

    /// The server drains. Without a transfer: 421 and [`Action::Close`], after the answer that is
    /// awaited if it is one on files; with one: after its final reply. `force` aborts the transfer and
    /// waits for no file: a disk may never answer. A login is not waited for, and during a handshake
    /// the connection is just closed.
    pub fn handle_shutdown(&mut self, force: bool, now: Instant) {
        self.now = now;
        if self.is_over() {
            return;
        }
        match &mut self.waiting {
            Waiting::TlsUp | Waiting::TlsDown(_) => return self.close(),
            Waiting::Nothing | Waiting::Refusal(_) | Waiting::Login | Waiting::Certificate => {
                return self.depart_shutdown();
            }
            // What is opened all the same is taken back.
            Waiting::File(_) | Waiting::Opening(_) if force => return self.depart_shutdown(),
            Waiting::Transfer(running) if force && !running.aborted => {
                running.aborted = true;
                self.actions.push_back(Action::AbortTransfer);
            }
            _ => {}
        }
        self.life = if force || self.life == Life::Forced {
            Life::Forced
        } else {
            Life::Draining
        };
    }

    /// The operator ends this session: as [`Self::handle_shutdown`] with `force`, and the client is told whose wish it is.
    pub fn handle_kill(&mut self, now: Instant) {
        self.killed = true;
        self.handle_shutdown(true, now);
    }

    /// The next action, if there is one; commands run when nothing is awaited.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            self.advance();
        }
        self.poll_due_action()
    }

    /// The next action that is due already. No further command runs: for a client that does not
    /// read its replies. A forced end is due, too.
    pub fn poll_due_action(&mut self) -> Option<Action> {
        if self.actions.is_empty()
            && self.life == Life::Forced
            && matches!(self.waiting, Waiting::Nothing)
        {
            self.depart_shutdown();
        }
        let action = self.actions.pop_front();
        if self.actions.is_empty() && self.actions.capacity() > 0 {
            // An idle session keeps no buffer.
            self.actions = VecDeque::new();
        }
        action
    }

    /// When `handle_timeout` is due at the latest.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        let refusal = match self.waiting {
            Waiting::Refusal(at) => Some(at),
            _ => None,
        };
        [refusal, self.login_deadline(), self.idle_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the driver should read: not while the queue is full, TLS changes, or the session
    /// ends.
    #[must_use]
    pub fn wants_octets(&self) -> bool {
        !self.is_over()
            && !self.finished
            && !matches!(self.waiting, Waiting::TlsUp | Waiting::TlsDown(_))
            && !self.splitter.is_full()
    }

    /// The user named last, logged in or not.
    #[must_use]
    pub fn user(&self) -> Option<&[u8]> {
        self.login.name()
    }

    /// Whether the answer to PASV, which names an address, is what is awaited.
    #[must_use]
    pub const fn awaits_address(&self) -> bool {
        matches!(self.waiting, Waiting::Passive { extended: false })
    }

    /// Whether a user is logged in.
    #[must_use]
    pub const fn is_logged_in(&self) -> bool {
        matches!(self.login, Login::Granted(_))
    }

    /// Whether PROT P is in force.
    #[must_use]
    pub const fn is_data_protected(&self) -> bool {
        self.data_protected
    }

    /// The kind of the control connection.
    #[must_use]
    pub const fn kind(&self) -> ChannelKind {
        self.kind
    }

    const fn is_over(&self) -> bool {
        matches!(self.life, Life::Closed | Life::Abandoned)
    }

    /// Runs queued commands until one must be waited for or enough has gathered. Each turn of the
    /// loop takes a line.
    fn advance(&mut self) {
        while !self.is_over() && self.has_room() {
            match self.waiting {
                Waiting::Nothing if matches!(self.life, Life::Draining | Life::Forced) => {
                    self.depart_shutdown();
                }
                Waiting::Nothing => match self.splitter.next_line() {
                    Some(line) => self.run_line(&line),
                    None if self.life == Life::Ending => self.close(),
                    None => return,
                },
                Waiting::Transfer(_) => return self.look_ahead(),
                _ => return,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.actions.len() < ACTION_BATCH
            && !matches!(self.actions.back(), Some(Action::Send(octets)) if octets.len() >= REPLY_BATCH_OCTETS)
    }

    fn login_deadline(&self) -> Option<Instant> {
        (!self.logged_in_before)
            .then(|| after(self.started, self.settings.login_time_max))
            .flatten()
    }

    /// Idle time runs only between commands, never during a transfer (RFC 1123 §4.1.3.2).
    fn idle_deadline(&self) -> Option<Instant> {
        matches!(self.waiting, Waiting::Nothing)
            .then(|| after(self.active, self.settings.idle_time_max))
            .flatten()
    }

    /// Forgets the set-up, if there is one.
    fn drop_setup(&mut self) {
        if std::mem::take(&mut self.setup) {
            self.actions.push_back(Action::DropSetup);
        }
    }
}

/// `None` when the sum is past what the clock can express: never, then.
fn after(start: Instant, duration: Duration) -> Option<Instant> {
    start.checked_add(duration)
}
