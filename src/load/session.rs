//! One FTP session: log in, carry out operations.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustls::ClientConfig;

use super::Shared;
use super::stats::Phase;
use super::tls;
use super::trouble::Trouble;
use super::wire::{Came, Wire};
use crate::proto::client::{Dialogue, Options, Reply, Request, Step};
use crate::rt;

/// Octets sealed and sent at a time.
const SEND_OCTETS: u64 = 256 * 1024;
/// Octets after which they are counted, for the progress and the series.
const COUNT_OCTETS: u64 = 1024 * 1024;

/// A control connection that is logged in.
pub(super) struct Session {
    shared: Shared,
    control: Wire,
    dialogue: Dialogue,
    config: Arc<ClientConfig>,
    /// When the last command left.
    sent: Instant,
}

impl Session {
    /// Connects and logs in.
    pub(super) async fn log_in(shared: &Shared) -> Result<Self, Trouble> {
        let plan = &shared.plan;
        let began = rt::now();
        let control = Wire::connect(plan.server, false, plan.patience).await?;
        shared.record(Phase::Connect, began);
        let dialogue = Dialogue::new(Options {
            security: plan.security,
            protect_data: plan.protect_data,
            user: plan.user.clone(),
            password: plan.password.clone(),
        });
        let mut session = Self {
            shared: shared.clone(),
            control,
            dialogue,
            config: tls::of_session(&plan.tls, plan.resume),
            sent: began,
        };
        match session.step().await? {
            Step::LoggedIn => {
                shared.record(Phase::Login, began);
                if let Some(suite) = session.control.suite() {
                    shared.note_suite(suite);
                }
                Ok(session)
            }
            Step::Refused(reply) => Err(session.refused(&reply)),
            _ => Err(Trouble::Protocol),
        }
    }

    /// The next step that is not done here.
    async fn step(&mut self) -> Result<Step, Trouble> {
        loop {
            while let Some(step) = self.dialogue.poll_step() {
                match step {
                    Step::Send(octets) => {
                        self.sent = rt::now();
                        self.control.send(&octets).await?;
                    }
                    Step::StartTls => {
                        let began = rt::now();
                        let name = &self.shared.plan.name;
                        let handshake = self.control.begin_tls(&self.config, name).await?;
                        let resumed = self.control.complete_tls(handshake).await?;
                        let phase = match resumed {
                            true => Phase::ControlResumed,
                            false => Phase::ControlFull,
                        };
                        self.shared.record(phase, began);
                        self.dialogue.handle_tls_up();
                    }
                    other => return Ok(other),
                }
            }
            match self.control.receive_some().await? {
                Some(octets) => self.dialogue.handle_octets(&octets)?,
                None => return Err(Trouble::Closed),
            }
        }
    }

    fn refused(&self, reply: &Reply) -> Trouble {
        let text = String::from_utf8_lossy(reply.text()).into_owned();
        self.shared.note_refusal(reply.code, text);
        Trouble::Reply(reply.code)
    }

    /// A command with one reply.
    pub(super) async fn command(&mut self, command: &str) -> Result<Reply, Trouble> {
        self.dialogue
            .start(Request::Command(command.as_bytes().to_vec()));
        match self.step().await? {
            Step::Finished(reply) if reply.is_positive() => Ok(reply),
            Step::Finished(reply) | Step::Refused(reply) => Err(self.refused(&reply)),
            _ => Err(Trouble::Protocol),
        }
    }

    /// Says goodbye.
    pub(super) async fn quit(mut self) -> Result<(), Trouble> {
        self.command("QUIT").await?;
        // The server may have closed already.
        let _ = self.control.finish().await;
        Ok(())
    }

    /// A download or listing. What comes goes to `keep`, if that is given. Returns how much it was.
    pub(super) async fn download(
        &mut self,
        command: &str,
        keep: Option<&mut Vec<u8>>,
    ) -> Result<u64, Trouble> {
        self.transfer(command, Job::Receive(keep)).await
    }

    /// An upload of so many octets.
    pub(super) async fn upload(&mut self, command: &str, octets: u64) -> Result<u64, Trouble> {
        self.transfer(command, Job::Send(octets)).await
    }

    async fn transfer(&mut self, command: &str, mut job: Job<'_>) -> Result<u64, Trouble> {
        self.dialogue.start(Request::Transfer {
            command: command.as_bytes().to_vec(),
            restart: 0,
        });
        let began = rt::now();
        let protect = self.shared.plan.protect_data;
        let (mut data, mut handshake, mut moved) = (None, None, None);
        loop {
            match self.step().await? {
                Step::ConnectData(port) => {
                    let plan = &self.shared.plan;
                    let target = SocketAddr::new(plan.server.ip(), port);
                    let mut wire = Wire::connect(target, true, plan.patience).await?;
                    self.shared.record(Phase::DataSetup, began);
                    if protect {
                        let begun = wire.begin_tls(&self.config, &plan.name).await?;
                        handshake = Some((begun, rt::now()));
                    }
                    data = Some(wire);
                }
                Step::DataAccepted => {
                    let Some(mut wire) = data.take() else {
                        return Err(Trouble::Protocol);
                    };
                    if let Some((handshake, began)) = handshake.take() {
                        let resumed = wire.complete_tls(handshake).await?;
                        let phase = match resumed {
                            true => Phase::DataResumed,
                            false => Phase::DataFull,
                        };
                        self.shared.record(phase, began);
                        if let Some(suite) = wire.suite() {
                            self.shared.note_suite(suite);
                        }
                    }
                    moved = Some(match &mut job {
                        Job::Receive(keep) => self.receive(&mut wire, keep.as_deref_mut()).await?,
                        Job::Send(octets) => self.send(&mut wire, *octets).await?,
                    });
                }
                Step::Finished(reply) if reply.is_positive() => {
                    self.shared.record(Phase::Transfer, began);
                    return moved.ok_or(Trouble::Protocol);
                }
                Step::Finished(reply) | Step::Refused(reply) => return Err(self.refused(&reply)),
                _ => return Err(Trouble::Protocol),
            }
        }
    }

    async fn receive(
        &self,
        wire: &mut Wire,
        mut keep: Option<&mut Vec<u8>>,
    ) -> Result<u64, Trouble> {
        let mut plain = rt::take_buffer();
        let (mut total, mut uncounted) = (0, 0);
        let clear = !self.shared.plan.protect_data;
        let result = loop {
            let came = match clear && keep.is_none() {
                true => wire.discard().await,
                false => wire.receive(&mut plain).await,
            };
            match came {
                Ok(Came::Octets(count)) => {
                    if total == 0 {
                        self.shared.record(Phase::FirstByte, self.sent);
                    }
                    if let Some(keep) = &mut keep {
                        keep.extend_from_slice(plain.get(..count).unwrap_or_default());
                    }
                    total += count as u64;
                    uncounted += count as u64;
                    if uncounted >= COUNT_OCTETS {
                        self.shared.count_octets(std::mem::take(&mut uncounted));
                    }
                }
                Ok(Came::End) => break Ok(()),
                Err(trouble) => break Err(trouble),
            }
        };
        rt::give_buffer(plain);
        self.shared.count_octets(uncounted);
        result?;
        // The server may not wait for it.
        let _ = wire.finish().await;
        Ok(total)
    }

    async fn send(&self, wire: &mut Wire, octets: u64) -> Result<u64, Trouble> {
        let content = content();
        let mut left = octets;
        while left > 0 {
            let count = left.min(SEND_OCTETS);
            let part = content.get(..usize::try_from(count).unwrap_or(usize::MAX));
            wire.send(part.unwrap_or(content)).await?;
            left -= count;
            self.shared.count_octets(count);
        }
        wire.finish().await?;
        // Until the server has taken everything; how it ends is told by the reply.
        let mut plain = rt::take_buffer();
        while let Ok(Came::Octets(_)) = wire.receive(&mut plain).await {}
        rt::give_buffer(plain);
        Ok(octets)
    }
}

/// What a transfer does.
enum Job<'a> {
    Receive(Option<&'a mut Vec<u8>>),
    Send(u64),
}

/// What uploads are made of: it cannot be compressed.
fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let mut content = vec![0; usize::try_from(SEND_OCTETS).unwrap_or_default()];
        // Without randomness they are zeros.
        let _ = aws_lc_rs::rand::fill(&mut content);
        content
    })
}
