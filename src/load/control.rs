//! One session: its control connection, and the transfers that it asks for.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use super::channel::{Channel, Received};
use super::core::Core;
use super::data::{self, Source, Work};
use super::failure::{Failure, Kind};
use super::statistics::Phase;
use super::tls::SessionCache;
use crate::proto::client::{Dialogue, Mode, Options, Reply, Request, Step};
use crate::rt::{self, Socket, TimedOut};
use crate::sys::socket;

/// Connections that may wait in the listener of an active transfer.
const BACKLOG: i32 = 4;

/// A session that is logged in.
pub struct Control {
    channel: Channel,
    dialogue: Dialogue,
    cache: Arc<SessionCache>,
    /// For data connections; `None` where they have no TLS.
    data_tls: Option<Arc<ClientConfig>>,
    local: SocketAddr,
}

/// What a transfer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Octets that were moved.
    pub octets: u64,
    /// It was cut off because the run is over.
    pub cut: bool,
}

impl Control {
    /// Connects and logs in. With `timed` the phases count when measuring is on; without, always: what
    /// opens a session for other work is over before measuring begins.
    ///
    /// # Errors
    /// Whatever prevented it.
    pub async fn open(
        core: &Core,
        cache: &Arc<SessionCache>,
        timed: bool,
    ) -> Result<Self, Failure> {
        let settings = core.settings();
        let note = |phase, since| match timed {
            true => core.note(phase, since),
            false => core.note_always(phase, since),
        };
        let begun = rt::now();
        let channel = Channel::connect(settings.server, settings.timeout).await?;
        note(Phase::Connect, begun);
        let local = channel.socket().local_address()?;
        let config = core.shared.tls.as_ref().map(|tls| tls.resuming(cache));
        let data_tls = match (&core.shared.tls, settings.protect_data, settings.resume) {
            (Some(_), true, true) => config.clone(),
            (Some(tls), true, false) => Some(tls.fresh()),
            _ => None,
        };
        let mut control = Self {
            channel,
            dialogue: Dialogue::new(Options {
                security: settings.security,
                protect_data: settings.protect_data,
                user: settings.user.clone().into_bytes(),
                password: settings.password.clone().into_bytes(),
            }),
            cache: Arc::clone(cache),
            data_tls,
            local,
        };
        control.log_in(core, config, note).await?;
        Ok(control)
    }

    async fn log_in(
        &mut self,
        core: &Core,
        config: Option<Arc<ClientConfig>>,
        note: impl Fn(Phase, Instant),
    ) -> Result<(), Failure> {
        let mut login_begun = None;
        loop {
            match self.dialogue.poll_step() {
                None => self.listen().await?,
                Some(Step::Send(octets)) => {
                    if octets.starts_with(b"USER ") {
                        login_begun = Some(rt::now());
                    } else if !octets.starts_with(b"PASS ")
                        && let Some(begun) = login_begun.take()
                    {
                        note(Phase::Login, begun);
                    }
                    self.channel.send(&octets).await?;
                }
                Some(Step::StartTls) => {
                    let tls = core.shared.tls.as_ref().zip(config.clone());
                    let (tls, config) =
                        tls.ok_or_else(|| Failure::new(Kind::Protocol, "no TLS was asked for"))?;
                    let begun = rt::now();
                    let resumed = self.channel.start_tls(config, tls.name().clone()).await?;
                    note(
                        match resumed {
                            true => Phase::HandshakeControlResumed,
                            false => Phase::HandshakeControlFull,
                        },
                        begun,
                    );
                    self.dialogue.handle_tls_up();
                }
                Some(Step::LoggedIn) => return Ok(()),
                Some(Step::Refused(reply)) => {
                    let mut failure = Failure::reply(&reply).of("login");
                    failure.usable = false;
                    return Err(failure);
                }
                Some(other) => return Err(unexpected(&other)),
            }
        }
    }

    /// Receives once for the dialogue.
    async fn listen(&mut self) -> Result<(), Failure> {
        let dialogue = &mut self.dialogue;
        let mut heard = Ok(());
        let received = self.channel.receive(|octets| {
            if heard.is_ok() {
                heard = dialogue.handle_octets(octets);
            }
        });
        let received = received.await?;
        heard?;
        match received {
            Received::Data(_) => Ok(()),
            Received::End | Received::Cut => Err(Failure::new(
                Kind::Closed,
                "the server closed the control connection",
            )),
        }
    }

    /// Sends a command and waits for its final reply, good or bad.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub async fn command(&mut self, command: &str) -> Result<Reply, Failure> {
        let command = command.as_bytes().to_vec();
        self.dialogue.start(Request::Command(command));
        loop {
            match self.dialogue.poll_step() {
                None => self.listen().await?,
                Some(Step::Send(octets)) => self.channel.send(&octets).await?,
                Some(Step::Finished(reply)) => return Ok(reply),
                Some(Step::DataAccepted) => {}
                Some(other) => return Err(unexpected(&other)),
            }
        }
    }

    /// Transfers; the time of the whole counts from `intended`.
    ///
    /// # Errors
    /// Whatever prevented it; see [`Failure::usable`].
    pub async fn transfer(
        &mut self,
        core: &Core,
        slot: usize,
        command: String,
        work: &mut Work<'_>,
        intended: Instant,
    ) -> Result<Outcome, Failure> {
        let begun = rt::now();
        let listener = match core.settings().active {
            true => Some(self.listener()?),
            false => None,
        };
        let mode = match &listener {
            Some(listener) => Mode::Active(listener.local_address()?),
            None => Mode::Passive,
        };
        let upload = matches!(work, Work::Send { .. });
        self.dialogue.start(Request::Transfer {
            command: command.into_bytes(),
            restart: 0,
            mode,
        });
        let source = self.set_up(core, listener).await?;
        if matches!(source, Source::Connected(_)) {
            core.note(Phase::DataConnection, begun);
        }
        let security = self.data_security(core);
        core.hold(slot, Some(source.socket().clone()));
        let refused = Cell::new(false);
        let moving = data::run(core, slot, source, security, work, begun);
        let (moved, reply) = self.run_both(core, slot, upload, &refused, moving).await;
        core.hold(slot, None);
        let reply = reply?;
        match moved {
            Ok(outcome) if outcome.cut => Ok(outcome),
            // What we had to say about the data comes before what the server says about its end.
            Err(failure) if !refused.get() => Err(Failure {
                usable: true,
                ..failure
            }),
            _ if !reply.is_positive() => Err(Failure::reply(&reply)),
            Ok(outcome) => {
                core.note(Phase::Transfer, intended);
                Ok(outcome)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Moves the data and listens to the server at the same time. The final reply may come at any time
    /// before the data's end, and must come within `--timeout` after it.
    async fn run_both(
        &mut self,
        core: &Core,
        slot: usize,
        upload: bool,
        refused: &Cell<bool>,
        moving: impl Future<Output = Result<Outcome, Failure>>,
    ) -> (Result<Outcome, Failure>, Result<Reply, Failure>) {
        let limit = core.settings().timeout;
        let socket = self.channel.socket().clone();
        self.channel.set_patient(true);
        let mut moving = pin!(moving);
        let mut reply = None;
        let both = {
            let mut ending = pin!(self.final_reply(core, slot, upload, refused));
            let moved = loop {
                tokio::select! {
                    biased;
                    moved = moving.as_mut() => break moved,
                    ended = ending.as_mut(), if reply.is_none() => reply = Some(ended),
                }
            };
            let reply = match reply {
                Some(reply) => reply,
                None => match tokio::time::timeout(limit, ending.as_mut()).await {
                    Ok(reply) => reply,
                    Err(_) => {
                        socket.shut_down();
                        let _ = ending.await;
                        Err(TimedOut.into())
                    }
                },
            };
            (moved, reply)
        };
        self.channel.set_patient(false);
        both
    }

    fn listener(&self) -> Result<Socket, Failure> {
        let mut address = self.local;
        address.set_port(0);
        let fd = socket::listen(address, BACKLOG, false)?;
        socket::tune_data(&fd);
        Ok(Socket::new(fd))
    }

    /// Drives the dialogue until the transfer command is sent and the data connection is, or can be,
    /// there.
    async fn set_up(
        &mut self,
        core: &Core,
        mut listener: Option<Socket>,
    ) -> Result<Source, Failure> {
        let mut source = None;
        loop {
            match self.dialogue.poll_step() {
                // The transfer command follows its set-up at once.
                None => match source.take() {
                    Some(source) => return Ok(source),
                    None => self.listen().await?,
                },
                Some(Step::Send(octets)) => self.channel.send(&octets).await?,
                Some(Step::ConnectData(port)) => {
                    let mut target = core.settings().server;
                    target.set_port(port);
                    let channel = Channel::connect(target, core.settings().timeout).await;
                    let channel = channel.map_err(|failure| failure.of("data connection"))?;
                    source = Some(Source::Connected(channel));
                }
                Some(Step::AwaitData) => source = listener.take().map(Source::Listening),
                Some(Step::Finished(reply)) => return Err(Failure::reply(&reply)),
                Some(other) => return Err(unexpected(&other)),
            }
        }
    }

    fn data_security(&mut self, core: &Core) -> Option<data::Security> {
        let tls = core.shared.tls.as_ref()?;
        let config = self.data_tls.clone()?;
        if core.settings().resume
            && self.cache.is_empty()
            && let Some(connection) = self.channel.tls()
        {
            connection.offer_ticket_again();
        }
        Some(data::Security {
            config,
            name: tls.name().clone(),
        })
    }

    /// Waits for the final reply; ends the data connection when it is bad, and after an upload when it
    /// is good. `refused` says that the former has happened.
    async fn final_reply(
        &mut self,
        core: &Core,
        slot: usize,
        upload: bool,
        refused: &Cell<bool>,
    ) -> Result<Reply, Failure> {
        let result = loop {
            match self.dialogue.poll_step() {
                None => {
                    if let Err(failure) = self.listen().await {
                        break Err(failure);
                    }
                }
                Some(Step::DataAccepted) => {}
                Some(Step::Finished(reply)) => break Ok(reply),
                Some(other) => break Err(unexpected(&other)),
            }
        };
        let bad = result.as_ref().map_or(true, |reply| !reply.is_positive());
        if bad || upload {
            refused.set(bad);
            core.cut(slot);
        }
        result
    }

    /// Leaves politely.
    ///
    /// # Errors
    /// The server did not answer.
    pub async fn quit(mut self) -> Result<(), Failure> {
        self.command("QUIT").await?;
        let _ = self.channel.finish_sending().await;
        Ok(())
    }

    /// Gives buffers back for as long as nothing is said, and waits until something is.
    ///
    /// # Errors
    /// The kernel refused to poll.
    pub async fn rest(&mut self) -> Result<(), Failure> {
        self.channel.rest();
        Ok(self.channel.socket().readable().await?)
    }

    /// How the control connection is protected, in words.
    pub fn protection(&mut self) -> Option<String> {
        self.channel.tls().map(|tls| tls.protection())
    }
}

fn unexpected(step: &Step) -> Failure {
    Failure::new(
        Kind::Protocol,
        format!("the dialogue has no place for {step:?}"),
    )
}
