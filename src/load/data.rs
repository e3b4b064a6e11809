//! One data connection.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::channel::{Channel, Received};
use super::control::Outcome;
use super::core::Core;
use super::failure::{Failure, Kind};
use super::statistics::Phase;
use crate::rt::{self, Socket};
use crate::sys::socket;

/// Octets of a listing that are kept.
const KEPT_OCTETS_MAX: usize = 256 * 1024 * 1024;

/// Where the connection comes from.
pub enum Source {
    /// It is up.
    Connected(Channel),
    /// The server will connect.
    Listening(Socket),
}

impl Source {
    /// The socket whose end ends every wait.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Connected(channel) => channel.socket(),
            Self::Listening(socket) => socket,
        }
    }
}

/// TLS for one data connection.
pub struct Security {
    /// How.
    pub config: Arc<ClientConfig>,
    /// With whom.
    pub name: ServerName<'static>,
}

/// What becomes of the octets that arrive.
pub enum Sink {
    /// They are counted.
    Count,
    /// They are hashed.
    Hash(Box<Context>),
    /// They are kept.
    Keep(Vec<u8>),
}

impl Sink {
    /// One that hashes with SHA-256.
    #[must_use]
    pub fn hash() -> Self {
        Self::Hash(Box::new(Context::new(&SHA256)))
    }

    fn take(&mut self, payload: &[u8]) {
        match self {
            Self::Count => {}
            Self::Hash(context) => context.update(payload),
            Self::Keep(kept) => {
                let room = KEPT_OCTETS_MAX - kept.len();
                kept.extend_from_slice(payload.get(..room).unwrap_or(payload));
            }
        }
    }
}

/// What to do with the connection.
pub enum Work<'a> {
    /// Receive to the end.
    Receive(&'a mut Sink),
    /// Send so many octets: the block again and again.
    Send {
        /// In all.
        octets: u64,
        /// Their contents.
        block: &'a [u8],
    },
}

/// Makes the connection and does the work. `begun` is when the transfer began.
///
/// # Errors
/// Whatever went wrong.
pub async fn run(
    core: &Core,
    slot: usize,
    source: Source,
    security: Option<Security>,
    work: &mut Work<'_>,
    begun: Instant,
) -> Result<Outcome, Failure> {
    let commanded = rt::now();
    let mut channel = match source {
        Source::Connected(channel) => channel,
        Source::Listening(listener) => {
            let channel = accept(core, &listener).await?;
            core.hold(slot, Some(channel.socket().clone()));
            core.note(Phase::DataConnection, begun);
            channel
        }
    };
    let result = work_on(core, &mut channel, security, work, commanded).await;
    core.hold(slot, None);
    match result {
        // The end of the run has cut it.
        Err(_) if core.is_over() => Ok(Outcome {
            octets: 0,
            cut: true,
        }),
        other => other.map_err(|failure| failure.of("data connection")),
    }
}

async fn work_on(
    core: &Core,
    channel: &mut Channel,
    security: Option<Security>,
    work: &mut Work<'_>,
    commanded: Instant,
) -> Result<Outcome, Failure> {
    if let Some(Security { config, name }) = security {
        let begun = rt::now();
        let phase = match channel.start_tls(config, name).await? {
            true => Phase::HandshakeDataResumed,
            false => Phase::HandshakeDataFull,
        };
        core.note(phase, begun);
    }
    match work {
        Work::Receive(sink) => receive(core, channel, sink, commanded).await,
        Work::Send { octets, block } => send(core, channel, *octets, block).await,
    }
}

/// Waits for the server, and for nobody else, to connect.
async fn accept(core: &Core, listener: &Socket) -> Result<Channel, Failure> {
    let limit = core.settings().timeout;
    loop {
        rt::within(limit, listener, listener.readable()).await??;
        match socket::accept(listener) {
            Ok((fd, peer)) if peer.ip() == core.settings().server.ip() => {
                return Ok(Channel::new(Socket::new(fd), limit));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn receive(
    core: &Core,
    channel: &mut Channel,
    sink: &mut Sink,
    commanded: Instant,
) -> Result<Outcome, Failure> {
    let mut octets = 0;
    loop {
        match channel.receive(|payload| sink.take(payload)).await? {
            Received::Data(0) => {}
            Received::Data(count) => {
                let now = rt::now();
                if octets == 0 {
                    core.note(Phase::FirstByte, commanded);
                }
                octets += count as u64;
                core.count_octets(count as u64, now);
            }
            Received::End => break,
            Received::Cut => {
                core.statistics.borrow_mut().unclosed += 1;
                break;
            }
        }
        if core.is_over() {
            return Ok(Outcome { octets, cut: true });
        }
    }
    // The server may be gone already: it has said that it would send nothing more.
    let _ = channel.finish_sending().await;
    Ok(Outcome { octets, cut: false })
}

async fn send(
    core: &Core,
    channel: &mut Channel,
    octets: u64,
    block: &[u8],
) -> Result<Outcome, Failure> {
    if block.is_empty() {
        return Err(Failure::new(Kind::System, "nothing to send"));
    }
    let mut sent = 0;
    while sent < octets && !core.is_over() {
        let count = usize::try_from(octets - sent).unwrap_or(usize::MAX);
        let part = block.get(..count).unwrap_or(block);
        channel.send_bulk(part).await?;
        sent += part.len() as u64;
        core.count_octets(part.len() as u64, rt::now());
    }
    channel.finish_sending().await?;
    // Tickets may come, and must be read: closing a socket with unread octets resets the connection,
    // which could destroy what is still on its way. The final reply ends this, too.
    while let Ok(Received::Data(_)) = channel.receive(|_| {}).await {}
    Ok(Outcome {
        octets: sent,
        cut: sent < octets,
    })
}
