//! Drives one control connection: octets to the session, actions to the world, events back.
//!
//! The connection is one task. It waits for four things at once: the socket (readiness through
//! the ring), letters from the tasks it started (a transfer, a request on files, a password
//! check), the session's deadline, and the server's drain. Everything that takes time is a task
//! of its own that posts a letter, so the loop never blocks and ABOR is always heard.

mod actions;
mod certificate;
mod channel;
mod core;
mod failures;
mod hints;
mod host;
mod log;
mod marks;
mod passive;
mod quota;
mod roots;
mod seat;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tracing::debug;

use crate::auth::FileRules;
use crate::bandwidth::Bandwidth;
use crate::logging::{self, TransferLog};
use crate::proto::session::{self, ChannelKind, Session};
use crate::proto::{Event, FileError, LoginVerdict, TransferReady};
use crate::rt::{self, Alarm, Mailbox, Readiness, Socket};
use crate::{data, tls, vfs};

pub use core::Core;
pub use host::Host;
pub use seat::Page;

use actions::Login;
use channel::{Change, Channel};
use marks::Marks;
use seat::{Seat, Stage};

/// What the operator sets for control connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the session may and must do.
    pub session: Arc<session::Settings>,
    /// What data connections may and must do.
    pub data: Arc<data::Settings>,
    /// How fast transfers may go.
    pub bandwidth: Arc<Bandwidth>,
    /// What files look like.
    pub files: Rc<vfs::Settings>,
    /// Rules for the files of every account.
    pub file_rules: Arc<FileRules>,
    /// Wait for a TLS handshake on the control connection.
    pub handshake_time_max: Duration,
    /// Wait for the client's close_notify after CCC and REIN.
    pub close_time_max: Duration,
    /// Wait for the client to close after QUIT.
    pub drain_time_max: Duration,
    /// Gets a line for each transfer.
    pub transfer_log: Option<Arc<TransferLog>>,
    /// Certificates and TLS policy.
    pub tls: tls::Settings,
    /// Virtual hosts, in the order of their names' indices.
    pub hosts: Arc<[Host]>,
}

/// What reaches a connection's task from other tasks of its core.
enum Letter {
    Event(Event),
    Opened(Result<(data::Opened, TransferReady), FileError>),
    LoggedIn(Result<Login, LoginVerdict>),
    Certified(Result<Login, LoginVerdict>),
    Ended(data::Outcome),
    ShutDown {
        force: bool,
    },
    /// The operator ends this session.
    Kill,
}

/// Why a connection's task woke.
enum Wake {
    Readable,
    Writable,
    Letter(Letter),
    Deadline,
}

struct Connection {
    core: Rc<Core>,
    /// Those that were in force when it was accepted.
    settings: Rc<Settings>,
    channel: Channel,
    session: Session,
    mailbox: Rc<Mailbox<Letter>>,
    /// What others on this core may see of it.
    seat: Rc<Seat>,
    /// The socket's own address.
    local: SocketAddr,
    /// The address that the client connected to, where a proxy has announced it.
    shown: Option<SocketAddr>,
    /// The client, as its proxy announced it if there is one.
    peer: SocketAddr,
    number: u64,
    login: Option<Login>,
    setup: Option<data::Setup>,
    opened: Option<data::Opened>,
    running: Option<Rc<data::Handle>>,
    /// Set once the session wants to close: when to stop waiting for the last reply to leave.
    closing: Option<Instant>,
    readable: Option<Readiness>,
    writable: Option<Readiness>,
    marks: Marks,
    totals: log::Totals,
}

/// The two ends of a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub peer: SocketAddr,
    /// Where it connected to, when that is an address of a proxy.
    pub shown: Option<SocketAddr>,
}

/// Serves one control connection, accepted at that time, until it is closed. What is logged meanwhile bears the
/// session's number.
pub fn serve(
    core: Rc<Core>,
    socket: Socket,
    ends: Ends,
    kind: ChannelKind,
    accepted: Instant,
) -> impl Future<Output = ()> {
    let number = logging::next_session();
    let served = serve_numbered(core, socket, ends, kind, accepted, number);
    logging::in_session(number, served)
}

async fn serve_numbered(
    core: Rc<Core>,
    socket: Socket,
    Ends { peer, shown }: Ends,
    kind: ChannelKind,
    accepted: Instant,
    number: u64,
) {
    core.taken(kind);
    let Ok(local) = socket.local_address() else {
        return;
    };
    let mailbox = Mailbox::new();
    let server = shown.unwrap_or(local);
    let seat = Seat::new(&mailbox, kind, (peer, server), accepted);
    core.connections
        .borrow_mut()
        .insert(number, Rc::clone(&seat));
    let settings = core.settings();
    let session = Session::new(Arc::clone(&settings.session), kind, server, peer, rt::now());
    let mut connection = Connection {
        channel: Channel::new(socket, accepted),
        session,
        mailbox,
        seat,
        local,
        shown,
        peer,
        number,
        login: None,
        setup: None,
        opened: None,
        running: None,
        closing: None,
        readable: None,
        writable: None,
        marks: Marks {
            accepted: Some(accepted),
            ..Marks::default()
        },
        totals: log::Totals::default(),
        settings,
        core,
    };
    if connection.core.draining.get() {
        connection.session.handle_shutdown(false, rt::now());
    }
    debug!(%peer, ?kind, "control connection opened");
    if let Err(error) = connection.run().await {
        debug!(%peer, %error, "control connection broke");
        connection.log_refused_certificate(&error);
        // A fatal alert may be queued.
        let _ = connection.channel.flush();
    }
    connection.handshake_given_up();
    connection.end().await;
    connection.log_end(accepted);
    connection.part().await;
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        let mut alarm = Alarm::default();
        loop {
            let acted = self.act();
            // Whatever went wrong, what is queued (an alert, a last reply) should leave.
            match self.is_parting() {
                true => self.channel.flush_last()?,
                false => self.channel.flush()?,
            }
            self.observe();
            let more = acted?;
            if self.closing.is_some() && !self.channel.has_outgoing() {
                return Ok(());
            }
            if more && !self.channel.is_congested() {
                rt::yield_to_ring().await;
                continue;
            }
            let deadline = self.deadline();
            let wake = std::future::poll_fn(|cx| self.poll_wake(cx, &mut alarm, deadline));
            match wake.await {
                Wake::Readable => self.receive()?,
                Wake::Writable => {}
                Wake::Letter(letter) => self.open_letter(letter),
                Wake::Deadline => self.time_out()?,
            }
        }
    }

    /// Whether what is queued is the last, and nothing has to end before FIN follows.
    fn is_parting(&self) -> bool {
        let transfer = self.running.is_some() || self.opened.is_some();
        self.closing.is_some() && !transfer
    }

    /// When something is due at the latest.
    fn deadline(&self) -> Option<Instant> {
        if self.closing.is_some() {
            return self.closing;
        }
        [self.session.poll_deadline(), self.channel.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll_wake(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        deadline: Option<Instant>,
    ) -> Poll<Wake> {
        if let Poll::Ready(letter) = self.mailbox.poll_take(cx) {
            return Poll::Ready(Wake::Letter(letter));
        }
        if self.channel.has_outgoing()
            && poll_ready(&mut self.writable, self.channel.socket(), rt::WRITABLE, cx)
        {
            return Poll::Ready(Wake::Writable);
        }
        let wanted = self.closing.is_none()
            && !self.channel.is_congested()
            && (self.channel.wants_octets() || self.session.wants_octets());
        if wanted && poll_ready(&mut self.readable, self.channel.socket(), rt::READABLE, cx) {
            return Poll::Ready(Wake::Readable);
        }
        alarm.poll_at(deadline, cx).map(|()| Wake::Deadline)
    }

    fn receive(&mut self) -> io::Result<()> {
        // What opening the records takes is the command's time.
        let now = rt::now();
        if let Some(answered) = self.marks.answered.take() {
            rt::note_answer(now.saturating_duration_since(answered), now);
        }
        let mut plain = Vec::new();
        let change = self.channel.receive(&mut plain);
        if let Some(beginning) = self.channel.take_beginning() {
            beginning.tell(self.peer);
        }
        self.absorb(change, &plain, now)
    }

    /// Octets held back while the layer changed.
    fn receive_held(&mut self, now: Instant) -> io::Result<()> {
        let mut plain = Vec::new();
        let change = self.channel.receive_held(&mut plain);
        self.absorb(change, &plain, now)
    }

    fn absorb(&mut self, change: io::Result<Change>, plain: &[u8], now: Instant) -> io::Result<()> {
        let change = match change {
            Ok(change) => change,
            Err(error) => {
                self.session.handle_closed();
                return Err(error);
            }
        };
        if change == Change::Up {
            if let Some(summary) = self.channel.summary() {
                self.handshake_ended(summary.resumed);
                self.seat.tls.set(Some(summary));
                self.seat.stage.set(Stage::Open);
                debug!(peer = %self.peer, %summary, "control connection protected");
            }
            self.take_server_name();
            self.take_certificate()?;
            self.session.handle_event(Event::TlsUp, now);
        }
        if !plain.is_empty() {
            self.session.handle_octets(plain, now);
        }
        match change {
            Change::Down => {
                self.seat.tls.set(None);
                self.session.handle_event(Event::TlsDown, now);
                // The session says whether a handshake or clear text is next; then what came
                // behind close_notify can be taken as that.
                self.act()?;
                return self.receive_held(now);
            }
            Change::Closed => self.session.handle_closed(),
            Change::None | Change::Up => {}
        }
        Ok(())
    }

    fn open_letter(&mut self, letter: Letter) {
        let now = rt::now();
        match letter {
            Letter::Event(event) => self.session.handle_event(event, now),
            // The session has ended meanwhile: nobody is let in any more.
            Letter::LoggedIn(Ok(_)) | Letter::Certified(Ok(_)) if self.closing.is_some() => {}
            Letter::LoggedIn(login) => self.logged_in(login, now),
            Letter::Certified(login) => self.certified(login, now),
            Letter::Opened(result) => {
                match &result {
                    Ok((_, ready)) => self.name_transfer(ready),
                    Err(error) => self.log_refused_transfer(*error),
                }
                let event = result.map(|(opened, ready)| {
                    self.opened = Some(opened);
                    ready
                });
                self.session.handle_event(Event::TransferReady(event), now);
            }
            Letter::Ended(outcome) => {
                self.running = None;
                self.seat.running.take();
                self.log_transfer(&outcome);
                self.session
                    .handle_event(Event::TransferEnded(outcome.end), now);
            }
            Letter::ShutDown { force } => self.session.handle_shutdown(force, now),
            Letter::Kill => self.killed(now),
        }
    }

    fn time_out(&mut self) -> io::Result<()> {
        let now = rt::now();
        let channel_late = self
            .channel
            .deadline()
            .is_some_and(|deadline| deadline <= now);
        if channel_late || self.closing.is_some() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.session.handle_timeout(now);
        Ok(())
    }

    /// Ends whatever still runs, then closes so that the last reply arrives: FIN, and a short wait
    /// for the client's, because a close with unread octets would send RST.
    async fn end(&mut self) {
        self.seat.stage.set(Stage::Closing);
        self.setup = None;
        if let Some(running) = self.running.take() {
            running.abort();
            let outcome = loop {
                if let Letter::Ended(outcome) = self.take_letter().await {
                    break outcome;
                }
            };
            self.log_transfer(&outcome);
        }
        let left = self.mailbox.close();
        let opened = left.into_iter().filter_map(|letter| match letter {
            Letter::Opened(Ok((opened, _))) => Some(opened),
            _ => None,
        });
        for opened in opened.chain(self.opened.take()) {
            actions::give_up(opened).await;
        }
        self.core.connections.borrow_mut().remove(&self.number);
    }

    /// Lets the client close first, for a while: what it may still send would be answered with a reset.
    async fn part(&self) {
        let socket = self.channel.socket().clone();
        if socket.finish_sending().is_ok() {
            let wait = async {
                let mut octets = [0; 1024];
                // Bounded: a client that goes on sending is cut off.
                for _ in 0..64 {
                    match socket.receive_now(&mut octets) {
                        Ok(0) => return,
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            if socket.readable().await.is_err() {
                                return;
                            }
                        }
                        Err(_) => return,
                    }
                }
            };
            let _ = rt::within(self.settings.drain_time_max, &socket, wait).await;
        }
        // Ends the polls in flight, which hold the descriptor.
        socket.shut_down();
    }

    async fn take_letter(&self) -> Letter {
        std::future::poll_fn(|cx| self.mailbox.poll_take(cx)).await
    }
}

/// Polls the readiness under way, or starts one.
fn poll_ready(
    under_way: &mut Option<Readiness>,
    socket: &Socket,
    events: i16,
    cx: &mut Context<'_>,
) -> bool {
    let readiness = under_way.get_or_insert_with(|| Box::pin(socket.ready(events)));
    let ready = readiness.as_mut().poll(cx).is_ready();
    if ready {
        *under_way = None;
    }
    ready
}
