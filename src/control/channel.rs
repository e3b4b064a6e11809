//! The octets of a control connection: clear, in a handshake, protected, or leaving protection.
//!
//! ```text
//!            start_tls            Finished verified
//!  Clear ───────────────> Handshake ───────────────> Protected
//!    ^                                                   │ end_tls
//!    └──────────────── Ending <──────────────────────────┘
//!        client's close_notify
//! ```
//!
//! Nothing here waits. While it is idle a channel owns no buffer: octets are received into a buffer
//! of the core, and what is queued for sending is freed once it has left.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::hints::Beginning;
use crate::limits;
use crate::rt::Socket;
use crate::tls::{self, ControlTls, Engine, Progress, Role};
use crate::vhosts::Host;

/// Octets queued for a client that does not read, before its commands have to wait.
const OUTGOING_OCTETS_MAX: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::CONTROL_READ_OCTETS]);
}

enum Layer {
    Clear,
    Handshake(Box<Engine>),
    Protected(Box<Engine>),
    Ending(Box<Engine>),
}

/// What octets from the client meant for the channel itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing; there may be octets for the session.
    None,
    /// The handshake is complete.
    Up,
    /// TLS has ended in order; the next octets are clear, or a new handshake.
    Down,
    /// The client has closed, in order or not.
    Closed,
}

/// One control connection's socket and protection.
pub(super) struct Channel {
    socket: Socket,
    layer: Layer,
    /// Received, not opened yet: a part of a record, or what follows the end of TLS.
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    /// What is queued are session tickets, which leave with the next reply: a send of their own would
    /// cost both sides a segment, and nobody uses a ticket before the login.
    tickets_only: bool,
    /// The client's answer to what is sent ends the handshake.
    awaited: bool,
    control_tls: Option<Rc<ControlTls>>,
    /// Something has come.
    heard: bool,
    /// The first of it was what does not belong there.
    beginning: Option<Beginning>,
    /// When the handshake, or the wait for close_notify, is given up.
    deadline: Option<Instant>,
    opened: Instant,
}

impl Channel {
    /// The channel of a connection that was accepted at that time.
    pub(super) fn new(socket: Socket, opened: Instant) -> Self {
        Self {
            socket,
            opened,
            layer: Layer::Clear,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            tickets_only: false,
            awaited: false,
            control_tls: None,
            heard: false,
            beginning: None,
            deadline: None,
        }
    }

    /// What the client began with, if it does not belong there; told once.
    pub(super) fn take_beginning(&mut self) -> Option<Beginning> {
        self.beginning.take()
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The current TLS session, or after CCC the last one.
    pub(super) fn control_tls(&self) -> Option<&Rc<ControlTls>> {
        self.control_tls.as_ref()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the channel itself needs octets, whatever the session wants.
    pub(super) fn wants_octets(&self) -> bool {
        matches!(self.layer, Layer::Handshake(_) | Layer::Ending(_))
    }

    /// Whether so much waits for the client to read that its commands should wait too.
    pub(super) fn is_congested(&self) -> bool {
        self.outgoing.len() - self.sent > OUTGOING_OCTETS_MAX
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.tickets_only && self.sent < self.outgoing.len()
    }

    /// Queues octets, protected as the channel is now.
    pub(super) fn queue(&mut self, octets: &[u8]) -> io::Result<()> {
        self.tickets_only = false;
        match &mut self.layer {
            Layer::Clear => self.outgoing.extend_from_slice(octets),
            Layer::Protected(engine) => {
                engine
                    .seal(octets, &mut self.outgoing)
                    .map_err(io::Error::other)?;
            }
            // Between the layers there is nothing to say (MS-FTPS: no text in a handshake).
            Layer::Handshake(_) | Layer::Ending(_) => {}
        }
        Ok(())
    }

    /// Goes over to TLS, as the host that HOST has chosen. Octets that came behind the end of an earlier TLS session are the
    /// beginning of the handshake.
    pub(super) fn start_tls(
        &mut self,
        settings: &tls::Settings,
        host: Option<Arc<Host>>,
        deadline: Instant,
    ) -> io::Result<()> {
        let control = ControlTls::new(settings, self.opened);
        control.set_host(host);
        let engine = Engine::new(settings, Role::Control, &control).map_err(io::Error::other)?;
        self.layer = Layer::Handshake(Box::new(engine));
        self.control_tls = Some(control);
        self.deadline = Some(deadline);
        Ok(())
    }

    /// Sends close_notify and waits for the client's.
    pub(super) fn end_tls(&mut self, deadline: Instant) {
        self.tickets_only = false;
        if let Layer::Protected(mut engine) = std::mem::replace(&mut self.layer, Layer::Clear) {
            engine.close(&mut self.outgoing);
            self.layer = Layer::Ending(engine);
            self.deadline = Some(deadline);
        }
    }

    /// Queues close_notify, if the channel is protected.
    pub(super) fn close(&mut self) {
        self.tickets_only = false;
        if let Layer::Protected(engine) | Layer::Handshake(engine) = &mut self.layer {
            engine.close(&mut self.outgoing);
        }
    }

    /// Receives what is there and appends what is for the session to `plain`.
    pub(super) fn receive(&mut self, plain: &mut Vec<u8>) -> io::Result<Change> {
        SCRATCH.with_borrow_mut(|scratch| match self.socket.receive_now(scratch) {
            Ok(0) => Ok(Change::Closed),
            Ok(count) => {
                let received = scratch.get(..count).unwrap_or_default();
                if !self.heard {
                    self.heard = true;
                    let handshake = matches!(self.layer, Layer::Handshake(_));
                    self.beginning = Beginning::of(received, handshake);
                }
                if matches!(self.layer, Layer::Clear) {
                    plain.extend_from_slice(received);
                    return Ok(Change::None);
                }
                self.incoming.extend_from_slice(received);
                self.process(plain)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Change::None),
            Err(error) => Err(error),
        })
    }

    /// Processes octets that were received before the layer changed.
    pub(super) fn receive_held(&mut self, plain: &mut Vec<u8>) -> io::Result<Change> {
        if self.incoming.is_empty() {
            return Ok(Change::None);
        }
        if matches!(self.layer, Layer::Clear) {
            plain.append(&mut self.incoming);
            self.incoming = Vec::new();
            return Ok(Change::None);
        }
        self.process(plain)
    }

    fn process(&mut self, plain: &mut Vec<u8>) -> io::Result<Change> {
        let first = self.incoming.first();
        if matches!(self.layer, Layer::Ending(_))
            && first.is_some_and(|octet| !tls::RECORD_TYPES.contains(octet))
        {
            // Some clients go on in the clear without a close_notify of their own (curl with
            // --ftp-ssl-ccc). Nothing is lost with it: whoever could forge these octets could as
            // well wait for it.
            self.layer = Layer::Clear;
            self.deadline = None;
            return Ok(Change::Down);
        }
        let (Layer::Handshake(engine) | Layer::Protected(engine) | Layer::Ending(engine)) =
            &mut self.layer
        else {
            return Ok(Change::None);
        };
        let queued = self.outgoing.len();
        let progress = engine.process(&mut self.incoming, plain, &mut self.outgoing);
        let answered = self.outgoing.len() > queued;
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        let progress = progress.map_err(|error| {
            // An alert is queued.
            self.tickets_only = false;
            io::Error::other(error)
        })?;
        match (progress, &self.layer) {
            (Progress::PeerClosed, Layer::Ending(_)) => {
                self.layer = Layer::Clear;
                self.deadline = None;
                Ok(Change::Down)
            }
            (Progress::PeerClosed, _) => Ok(Change::Closed),
            (Progress::Established, Layer::Handshake(_)) => {
                if let Layer::Handshake(engine) = std::mem::replace(&mut self.layer, Layer::Clear) {
                    // In TLS 1.3 only tickets follow the client's Finished, in TLS 1.2 ours does.
                    self.tickets_only = engine.is_tls13() && queued == 0;
                    self.layer = Layer::Protected(engine);
                }
                self.deadline = None;
                Ok(Change::Up)
            }
            (_, layer) => {
                self.awaited |= answered && matches!(layer, Layer::Handshake(_));
                Ok(Change::None)
            }
        }
    }

    /// Sends as much of the queue as the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.flush_with(Socket::send_now)
    }

    /// As [`Self::flush`], where FIN follows at once: the last reply leaves in the same segment.
    pub(super) fn flush_last(&mut self) -> io::Result<()> {
        self.flush_with(Socket::send_more_now)
    }

    fn flush_with(&mut self, send: impl Fn(&Socket, &[u8]) -> io::Result<usize>) -> io::Result<()> {
        if self.tickets_only {
            return Ok(());
        }
        while let Some(rest) = self
            .outgoing
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            match send(&self.socket, rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.forget_sent();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if std::mem::take(&mut self.awaited) {
            self.socket.acknowledge_at_once();
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// Frees what has left, once it is worth it: with a client that is always a little behind, the
    /// queue never runs empty.
    fn forget_sent(&mut self) {
        if self.sent > OUTGOING_OCTETS_MAX {
            self.outgoing.drain(..self.sent);
            self.outgoing.shrink_to(2 * OUTGOING_OCTETS_MAX);
            self.sent = 0;
        }
    }

    /// The certificate that the client has shown in the handshake that is complete now.
    pub(super) fn client_certificate(
        &self,
        clients: &tls::Clients,
    ) -> Result<Option<tls::ClientCertificate>, tls::TlsError> {
        match &self.layer {
            Layer::Protected(engine) => engine.client_certificate(clients),
            _ => Ok(None),
        }
    }

    /// The TLS session, while the channel is protected by it.
    pub(super) fn protected_by(&self) -> Option<&Rc<ControlTls>> {
        let protected = matches!(self.layer, Layer::Protected(_));
        self.control_tls.as_ref().filter(|_| protected)
    }

    /// The TLS version and cipher suite in force, for the log.
    pub(super) fn summary(&self) -> Option<tls::Summary> {
        match &self.layer {
            Layer::Protected(engine) => Some(engine.summary()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn queue_for_a_client_always_behind_stays_small() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        socket2::SockRef::from(&ours)
            .set_send_buffer_size(4096)
            .unwrap();
        let mut channel = Channel::new(Socket::new(ours.into()), crate::rt::now());
        let mut read = [0; 1024];
        for _ in 0..10_000 {
            channel.queue(&[b'x'; 1024]).unwrap();
            channel.flush().unwrap();
            if channel.is_congested() {
                theirs.read_exact(&mut read).unwrap();
            }
            assert!(channel.outgoing.capacity() <= 8 * OUTGOING_OCTETS_MAX);
        }
        assert!(channel.has_outgoing(), "the client is behind");
    }
}
