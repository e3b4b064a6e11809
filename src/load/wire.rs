//! One connection to the server, in the clear or under TLS.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::tls::{Handshake, Opened, Records};
use super::trouble::Trouble;
use crate::rt::{self, Socket};
use crate::sys::socket;
use crate::tls::record::complete_len;

/// Octets received at a time on data connections.
const BULK_OCTETS: usize = 512 * 1024;
/// More than a whole record.
const SMALL_OCTETS: usize = 20 * 1024;

thread_local! {
    /// Buffers of data connections that have ended.
    static BULK: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// So many octets at the front of the caller's buffer.
    Octets(usize),
    /// The proper end: close_notify under TLS, FIN in the clear.
    End,
}

/// A connection.
pub(super) struct Wire {
    socket: Socket,
    records: Option<Records>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    bulk: bool,
    patience: Duration,
}

impl Wire {
    /// Connects. `bulk`: for a data connection.
    pub(super) async fn connect(
        target: SocketAddr,
        bulk: bool,
        patience: Duration,
    ) -> Result<Self, Trouble> {
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let fd = socket::start_connect(any, target)?;
        let socket = Socket::new(fd);
        socket::tune_data(&socket);
        let wire = Self {
            socket,
            records: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            bulk,
            patience,
        };
        wire.wait(wire.socket.writable()).await?;
        socket::finish_connect(&wire.socket)?;
        Ok(wire)
    }

    async fn wait(&self, readiness: impl Future<Output = io::Result<()>>) -> Result<(), Trouble> {
        match rt::within(self.patience, &self.socket, readiness).await {
            Ok(ready) => Ok(ready?),
            Err(rt::TimedOut) => Err(Trouble::Timeout),
        }
    }

    /// Begins TLS: sends the ClientHello.
    pub(super) async fn begin_tls(
        &mut self,
        config: &Arc<ClientConfig>,
        server: &ServerName<'static>,
    ) -> Result<Handshake, Trouble> {
        let mut handshake = Handshake::new(config, server)?;
        let mut outgoing = Vec::new();
        handshake.process(&mut [], &mut outgoing)?;
        self.send_raw(&outgoing).await?;
        Ok(handshake)
    }

    /// Completes TLS; tells whether a session was resumed.
    pub(super) async fn complete_tls(&mut self, mut handshake: Handshake) -> Result<bool, Trouble> {
        let mut outgoing = Vec::new();
        loop {
            let incoming = self.buffer.get_mut(self.start..self.end);
            self.start += handshake.process(incoming.unwrap_or_default(), &mut outgoing)?;
            if !outgoing.is_empty() {
                self.send_raw(&outgoing).await?;
                outgoing.clear();
            }
            if handshake.is_done() {
                let (records, resumed) = handshake.finish()?;
                self.records = Some(records);
                return Ok(resumed);
            }
            if self.fill().await? == 0 {
                return Err(Trouble::Closed);
            }
        }
    }

    /// The suite in force.
    pub(super) fn suite(&self) -> Option<String> {
        self.records.as_ref().map(Records::suite)
    }

    /// The next octets, in `plain`, which has room for a whole record.
    pub(super) async fn receive(&mut self, plain: &mut [u8]) -> Result<Came, Trouble> {
        loop {
            let held = self.buffer.get(self.start..self.end).unwrap_or_default();
            match &mut self.records {
                None if held.is_empty() => {}
                None => {
                    let count = held.len().min(plain.len());
                    if let (Some(to), Some(from)) = (plain.get_mut(..count), held.get(..count)) {
                        to.copy_from_slice(from);
                    }
                    self.start += count;
                    return Ok(Came::Octets(count));
                }
                Some(records) => {
                    if let Some(length) = complete_len(held) {
                        let record = held.get(..length).unwrap_or_default();
                        let opened = records.open(record, plain)?;
                        self.start += length;
                        match opened {
                            Opened::Data(count) => return Ok(Came::Octets(count)),
                            Opened::Closed => return Ok(Came::End),
                            Opened::Other => continue,
                        }
                    }
                }
            }
            if self.fill().await? == 0 {
                return match self.records {
                    None => Ok(Came::End),
                    Some(_) => Err(Trouble::Closed),
                };
            }
        }
    }

    /// As [`Self::receive`], with a buffer that exists only once something is there; none at the end.
    pub(super) async fn receive_some(&mut self) -> Result<Option<Vec<u8>>, Trouble> {
        loop {
            let held = self.buffer.get(self.start..self.end).unwrap_or_default();
            let ready = match self.records {
                Some(_) => complete_len(held).is_some(),
                None => !held.is_empty(),
            };
            if !ready {
                if self.fill().await? == 0 {
                    return Ok(None);
                }
                continue;
            }
            let mut plain = vec![0; held.len()];
            return match self.receive(&mut plain).await? {
                Came::End => Ok(None),
                Came::Octets(count) => {
                    plain.truncate(count);
                    Ok(Some(plain))
                }
            };
        }
    }

    /// Octets in the clear that are received to be thrown away, without a copy.
    pub(super) async fn discard(&mut self) -> Result<Came, Trouble> {
        let held = self.end - self.start;
        (self.start, self.end) = (0, 0);
        let count = match held {
            0 => self.fill().await?,
            held => return Ok(Came::Octets(held)),
        };
        (self.start, self.end) = (0, 0);
        Ok(match count {
            0 => Came::End,
            count => Came::Octets(count),
        })
    }

    /// Receives more behind what is held; 0 is the end.
    async fn fill(&mut self) -> Result<usize, Trouble> {
        loop {
            self.make_room();
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.socket.receive_now(room) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.release();
                    self.wait(self.socket.readable()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Room for a whole record behind what is held.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.is_empty() {
            self.buffer = match self.bulk {
                true => BULK
                    .with_borrow_mut(Vec::pop)
                    .unwrap_or_else(|| vec![0; BULK_OCTETS]),
                false => vec![0; SMALL_OCTETS],
            };
        }
        if self.end == self.buffer.len() || self.buffer.len() - self.start < SMALL_OCTETS {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// An idle control connection holds no buffer.
    fn release(&mut self) {
        if !self.bulk && self.start == self.end {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }

    /// Sends octets, under TLS if it is up.
    pub(super) async fn send(&mut self, plain: &[u8]) -> Result<(), Trouble> {
        let Some(records) = &mut self.records else {
            return self.send_raw(plain).await;
        };
        let mut sealed = rt::take_vector();
        records.seal(plain, &mut sealed)?;
        let sent = self.send_raw(&sealed).await;
        rt::give_vector(sealed);
        sent
    }

    /// Sends close_notify, if TLS is up, and FIN.
    pub(super) async fn finish(&mut self) -> Result<(), Trouble> {
        if let Some(records) = &mut self.records {
            let mut sealed = Vec::new();
            records.close(&mut sealed)?;
            self.send_raw(&sealed).await?;
        }
        Ok(self.socket.finish_sending()?)
    }

    async fn send_raw(&self, mut octets: &[u8]) -> Result<(), Trouble> {
        while !octets.is_empty() {
            match self.socket.send_now(octets) {
                Ok(count) => octets = octets.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(self.socket.writable()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Ends polls in flight, which hold the descriptor.
        self.socket.shut_down();
        if self.bulk && !self.buffer.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            BULK.with_borrow_mut(|kept| kept.push(buffer));
        }
    }
}
