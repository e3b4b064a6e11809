//! One TCP connection of the client, with or without TLS.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::failure::{Failure, Kind};
use super::tls::{Established, Handshake, Incoming, Step};
use crate::rt::{self, Socket, Span};
use crate::sys::socket;
use crate::tls::record::{RECORD_OCTETS_MAX, complete_len};

/// Octets of the first receive buffer: enough for a record, a handshake, a small file.
const SMALL_OCTETS: usize = 20 * 1024;
/// Octets of the buffer of a connection that fills the small one.
const LARGE_OCTETS: usize = 384 * 1024;

thread_local! {
    static SMALL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    /// The payload of the record that is being looked at.
    static PLAIN: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORD_OCTETS_MAX]);
}

fn take(octets: usize) -> Vec<u8> {
    let pool = if octets == LARGE_OCTETS {
        &LARGE
    } else {
        &SMALL
    };
    pool.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; octets])
}

fn give(buffer: Vec<u8>) {
    match buffer.len() {
        LARGE_OCTETS => LARGE.with_borrow_mut(|pool| pool.push(buffer)),
        SMALL_OCTETS => SMALL.with_borrow_mut(|pool| pool.push(buffer)),
        _ => {}
    }
}

/// What one receive has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Payload, so many octets of it; with TLS it may be none.
    Data(usize),
    /// The server has ended, with close_notify where there is TLS.
    End,
    /// FIN without close_notify.
    Cut,
}

/// A connection.
pub struct Channel {
    socket: Socket,
    tls: Option<Box<Established>>,
    /// Taken from the pool when something is to be received, so that an idle session holds none.
    incoming: Vec<u8>,
    /// What of `incoming` has come and is not done with.
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
    limit: Duration,
    /// Receiving may take any time: somebody else watches over it.
    patient: bool,
    /// Nobody looks at what is received.
    discarding: bool,
    ended: Option<Received>,
}

impl Channel {
    /// Connects. `limit` is the longest wait for anything from now on.
    ///
    /// # Errors
    /// The system's, or the time is over.
    pub async fn connect(target: SocketAddr, limit: Duration) -> Result<Self, Failure> {
        let fd = socket::start_connect_to(target)?;
        socket::tune_data(&fd);
        let socket = Socket::new(fd);
        rt::within(limit, &socket, socket.writable()).await??;
        socket::finish_connect(&socket)?;
        Ok(Self::new(socket, limit))
    }

    /// Takes over a connected socket.
    #[must_use]
    pub fn new(socket: Socket, limit: Duration) -> Self {
        Self {
            socket,
            tls: None,
            incoming: Vec::new(),
            start: 0,
            end: 0,
            outgoing: Vec::new(),
            limit,
            patient: false,
            discarding: false,
            ended: None,
        }
    }

    /// The socket, to end waits from elsewhere.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether receiving may take any time from now on: the caller watches over it.
    pub fn set_patient(&mut self, patient: bool) {
        self.patient = patient;
    }

    /// What is received from now on is counted and nothing else: where there is no TLS the kernel need
    /// not copy it. A server sends as much as ever.
    pub fn set_discarding(&mut self) {
        self.discarding = self.tls.is_none();
    }

    /// The TLS connection, once there is one.
    pub fn tls(&mut self) -> Option<&mut Established> {
        self.tls.as_deref_mut()
    }

    /// Does the handshake; tells whether a session was resumed.
    ///
    /// # Errors
    /// It failed, or took too long.
    pub async fn start_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<bool, Failure> {
        let mut handshake = Handshake::new(config, name)?;
        loop {
            let window = self.incoming.get_mut(self.start..self.end);
            let result = handshake.process(window.unwrap_or_default(), &mut self.outgoing);
            let sent = self.flush().await;
            let (consumed, step) = result?;
            sent?;
            self.start += consumed;
            if matches!(step, Step::Complete) {
                break;
            }
            if self.fill().await? == 0 {
                return Err(Failure::new(
                    Kind::Tls,
                    "the server ended the connection during the TLS handshake",
                ));
            }
        }
        let established = handshake.finish()?;
        let resumed = established.resumed();
        self.tls = Some(Box::new(established));
        Ok(resumed)
    }

    /// Sends octets, protected where there is TLS.
    ///
    /// # Errors
    /// The connection is gone, or the server takes nothing for too long.
    pub async fn send(&mut self, octets: &[u8]) -> Result<(), Failure> {
        match &mut self.tls {
            Some(tls) => tls.seal(octets, &mut self.outgoing)?,
            None => self.outgoing.extend_from_slice(octets),
        }
        self.flush().await
    }

    /// Sends octets of a file: without TLS they are not copied.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_bulk(&mut self, octets: &[u8]) -> Result<(), Failure> {
        if self.tls.is_some() {
            return self.send(octets).await;
        }
        let mut rest = octets;
        while !rest.is_empty() {
            match self.socket.send_now(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    rt::within(self.limit, &self.socket, self.socket.writable()).await??;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends what is in `outgoing`.
    async fn flush(&mut self) -> Result<(), Failure> {
        self.flush_with(Socket::send_now).await
    }

    async fn flush_with(
        &mut self,
        send: impl Fn(&Socket, &[u8]) -> io::Result<usize>,
    ) -> Result<(), Failure> {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            let rest = self.outgoing.get(sent..).unwrap_or_default();
            match send(&self.socket, rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let end = self.outgoing.len();
                    let span = Span {
                        buffer: std::mem::take(&mut self.outgoing),
                        start: sent,
                        end,
                    };
                    let sending = self.socket.send(span);
                    let (result, (_, span)) = rt::within(self.limit, &self.socket, sending).await?;
                    self.outgoing = span.buffer;
                    sent += result? as usize;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        Ok(())
    }

    /// Receives once and hands every payload that is complete to `sink`.
    ///
    /// # Errors
    /// The connection is gone, a record is bad, or nothing came for too long.
    pub async fn receive(&mut self, sink: impl FnMut(&[u8])) -> Result<Received, Failure> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        if !self.has_record() && self.fill().await? == 0 {
            let ended = match self.tls {
                Some(_) => Received::Cut,
                None => Received::End,
            };
            self.ended = Some(ended);
            return Ok(ended);
        }
        self.deliver(sink)
    }

    /// Whether a record is here already: some may have come together with the end of the handshake.
    #[must_use]
    pub fn has_record(&self) -> bool {
        let window = self.incoming.get(self.start..self.end);
        self.tls.is_some() && complete_len(window.unwrap_or_default()).is_some()
    }

    fn deliver(&mut self, sink: impl FnMut(&[u8])) -> Result<Received, Failure> {
        PLAIN.with_borrow_mut(|plain| self.open_into(plain, sink))
    }

    fn open_into(
        &mut self,
        plain: &mut [u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<Received, Failure> {
        let Some(tls) = &mut self.tls else {
            let payload = self.incoming.get(self.start..self.end).unwrap_or_default();
            let count = payload.len();
            sink(payload);
            self.start = self.end;
            return Ok(Received::Data(count));
        };
        let mut delivered = 0;
        loop {
            let window = self.incoming.get(self.start..self.end);
            let window = window.unwrap_or_default();
            let Some(length) = complete_len(window) else {
                return Ok(Received::Data(delivered));
            };
            self.start += length;
            match tls.open(window.get(..length).unwrap_or_default(), plain)? {
                Incoming::Data(payload) => {
                    delivered += payload.len();
                    sink(payload);
                }
                Incoming::Other => {}
                Incoming::Closed => {
                    self.ended = Some(Received::End);
                    return Ok(match delivered {
                        0 => Received::End,
                        count => Received::Data(count),
                    });
                }
            }
        }
    }

    /// Receives behind what is there; 0 is FIN.
    async fn fill(&mut self) -> Result<usize, Failure> {
        self.make_room();
        let span = Span {
            start: self.end,
            end: self.incoming.len(),
            buffer: std::mem::take(&mut self.incoming),
        };
        let receiving = match self.discarding {
            true => self.socket.discard(span),
            false => self.socket.receive(span),
        };
        let (result, (_, span)) = match self.patient {
            true => receiving.await,
            false => rt::within(self.limit, &self.socket, receiving).await?,
        };
        self.incoming = span.buffer;
        let count = result? as usize;
        self.end += count;
        Ok(count)
    }

    /// Moves the rest of a cut record to the front, and changes to a large buffer once the small one
    /// has been full.
    fn make_room(&mut self) {
        if self.incoming.is_empty() {
            self.incoming = take(SMALL_OCTETS);
        }
        if self.end == self.incoming.len() && self.incoming.len() < LARGE_OCTETS {
            let mut larger = take(LARGE_OCTETS);
            let rest = self.incoming.get(self.start..self.end).unwrap_or_default();
            if let Some(front) = larger.get_mut(..rest.len()) {
                front.copy_from_slice(rest);
            }
            self.end -= self.start;
            self.start = 0;
            give(std::mem::replace(&mut self.incoming, larger));
            return;
        }
        if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Gives buffers back while nothing is expected.
    pub fn rest(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            give(std::mem::take(&mut self.incoming));
            self.outgoing = Vec::new();
        }
    }

    /// Sends close_notify, where there is TLS, and FIN.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn finish_sending(&mut self) -> Result<(), Failure> {
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.outgoing)?;
            // Both in one segment.
            self.flush_with(Socket::send_more_now).await?;
        }
        Ok(self.socket.finish_sending()?)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.incoming));
    }
}
