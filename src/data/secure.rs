//! The TLS handshake of a data connection: we are the TLS server in passive and in active mode
//! (RFC 4217 §7).

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tracing::{debug, info};

use super::{Link, lost};
use crate::proto::TransferEnd;
use crate::rt::{self, Socket};
use crate::tls::{self, ControlTls, Engine, Progress, Role};

/// Octets received at a time during a handshake.
const HANDSHAKE_READ_OCTETS: usize = 16 * 1024;

/// What protects the data connection.
#[derive(Debug)]
pub struct Security {
    /// The server's TLS settings in force.
    pub settings: tls::Settings,
    /// The control connection's TLS session, which this connection should resume.
    pub control: Rc<ControlTls>,
    /// Tickets are sent or not according to the direction.
    pub role: Role,
}

/// A protected data connection after its handshake.
pub(super) struct Secured {
    pub(super) engine: Engine,
    /// Octets received but not opened yet: the beginning of a record.
    pub(super) incoming: Vec<u8>,
    /// Octets that the client sent right behind its Finished, opened.
    pub(super) early: Vec<u8>,
}

impl Secured {
    pub(super) fn summary(&self) -> tls::Summary {
        self.engine.summary()
    }
}

/// A handshake that has begun.
pub(super) struct Begun {
    secured: Secured,
    settings: tls::Settings,
    control: Rc<ControlTls>,
    took: Duration,
}

impl Begun {
    /// How long its beginning took.
    pub(super) fn took(&self) -> Duration {
        self.took
    }

    fn new(security: Security) -> Result<Self, TransferEnd> {
        let Security {
            settings,
            control,
            role,
        } = security;
        let engine = Engine::new(&settings, role, &control).map_err(|error| {
            debug!(%error, "no TLS connection could be made");
            TransferEnd::TlsFailed
        })?;
        let secured = Secured {
            engine,
            incoming: Vec::new(),
            early: Vec::new(),
        };
        Ok(Self {
            secured,
            settings,
            control,
            took: Duration::ZERO,
        })
    }
}

/// Answers a ClientHello that has come, or the beginning of one, and goes no further.
///
/// # Errors
/// [`TransferEnd::TlsFailed`]: it is none, or the client has gone.
pub(super) async fn begin(socket: &Socket, security: Security) -> Result<Begun, TransferEnd> {
    let role = security.role;
    let began = rt::now();
    let mut begun = Begun::new(security)?;
    let answered = async {
        receive_some(socket, &mut begun.secured.incoming).await?;
        answer(socket, &mut begun.secured, role).await
    };
    answered.await.map_err(refused)?;
    // It may wait long for its command: nothing is kept for it.
    begun.secured.incoming.shrink_to_fit();
    begun.took = super::elapsed(began);
    Ok(begun)
}

/// Performs the handshake, or the rest of it, and checks that the session is the one that policy
/// wants. `resume`: it must be resumed whatever the policy, because nothing else tells whose the connection is.
///
/// # Errors
/// [`TransferEnd::TlsFailed`], [`TransferEnd::NotResumed`].
pub(super) async fn handshake(
    socket: &Socket,
    begun: Option<Begun>,
    security: Security,
    resume: bool,
    link: &Link,
) -> Result<Secured, TransferEnd> {
    let role = security.role;
    let Begun {
        mut secured,
        settings,
        control,
        ..
    } = match begun {
        Some(begun) => begun,
        None => Begun::new(security)?,
    };
    secured.engine.set_role(role);
    let exchanged = exchange(socket, &mut secured, role);
    match rt::within(link.settings.handshake_time_max, socket, exchanged).await {
        Ok(exchanged) => exchanged.map_err(refused)?,
        Err(rt::TimedOut) => return Err(TransferEnd::TlsFailed),
    }
    let policy = if resume {
        tls::Resume::Require
    } else {
        settings.resume()
    };
    if let Err(refusal) = tls::check_resumption(policy, &control, &secured.engine) {
        info!(reason = %refusal, tls = %secured.summary(), "data connection refused");
        let mut alert = Vec::new();
        secured.engine.close(&mut alert);
        let _ = socket.send_now(&alert);
        return Err(TransferEnd::NotResumed);
    }
    Ok(secured)
}

fn refused(error: io::Error) -> TransferEnd {
    debug!(%error, "TLS handshake of a data connection failed");
    TransferEnd::TlsFailed
}

async fn exchange(socket: &Socket, secured: &mut Secured, role: Role) -> io::Result<()> {
    // A client may close its side of an empty upload in the same breath.
    while answer(socket, secured, role).await? == Progress::Handshaking {
        receive_some(socket, &mut secured.incoming).await?;
    }
    Ok(())
}

/// Processes what has come and sends what is to be said to it.
async fn answer(socket: &Socket, secured: &mut Secured, role: Role) -> io::Result<Progress> {
    let Secured {
        engine,
        incoming,
        early,
    } = secured;
    let mut outgoing = Vec::new();
    let progress = engine.process(incoming, early, &mut outgoing);
    // A ticket goes with the first octets of a download.
    let more = matches!(progress, Ok(Progress::Established)) && role != Role::Upload;
    send_all(socket, &mut outgoing, more).await?;
    if !more {
        socket.acknowledge_at_once();
    }
    progress.map_err(io::Error::other)
}

/// Sends small messages; waits where the socket's buffer is full.
async fn send_all(socket: &Socket, outgoing: &mut Vec<u8>, more: bool) -> io::Result<()> {
    let mut sent = 0;
    while let Some(rest) = outgoing.get(sent..).filter(|rest| !rest.is_empty()) {
        let now = match more {
            true => socket.send_more_now(rest),
            false => socket.send_now(rest),
        };
        match now {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    outgoing.clear();
    Ok(())
}

/// Appends what the client sent, at least one octet.
async fn receive_some(socket: &Socket, incoming: &mut Vec<u8>) -> io::Result<()> {
    let held = incoming.len();
    incoming.resize(held + HANDSHAKE_READ_OCTETS, 0);
    let received = loop {
        let room = incoming.get_mut(held..).unwrap_or_default();
        match socket.receive_now(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.readable().await?,
            other => break other,
        }
    };
    incoming.truncate(held + received.as_ref().map_or(0, |count| *count));
    match received? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

impl Secured {
    /// Opens the whole records in `incoming`, and says at once what is to be said to them: an alert, a
    /// few octets on a direction that is otherwise unused or waits for them.
    ///
    /// # Errors
    /// [`TransferEnd::ConnectionLost`]: one of them cannot be opened.
    pub(super) fn open_incoming(&mut self, socket: &Socket) -> Result<Progress, TransferEnd> {
        let Self {
            engine,
            incoming,
            early,
        } = self;
        let mut outgoing = Vec::new();
        let progress = engine.process(incoming, early, &mut outgoing);
        if !outgoing.is_empty() {
            let _ = socket.send_now(&outgoing);
        }
        progress.map_err(|error| lost(io::Error::other(error)))
    }

    /// Sends close_notify now if the socket takes it; on a connection that is about to be closed
    /// there is nobody to wait for.
    pub(super) fn close(&mut self, socket: &Socket) {
        let mut outgoing = Vec::new();
        self.engine.close(&mut outgoing);
        let _ = socket.send_now(&outgoing);
    }
}
