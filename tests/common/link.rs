//! One TCP connection, in the clear or under TLS, with a hand on every octet.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;

const HEADER_OCTETS: usize = 5;

/// How the peer ended a connection, or why nothing more can be read.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// close_notify: the clean end of TLS; TCP may still be open.
    CloseNotify,
    /// FIN; under TLS this is a truncation.
    Fin,
    /// RST.
    Reset,
    /// Nothing came in time.
    Timeout,
    /// A fatal alert, or octets that are no TLS.
    Tls(rustls::Error),
}

/// A control or data connection.
pub struct Link {
    /// The TCP connection below.
    pub tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Octets received and not yet given to TLS begin at `raw_start`.
    raw: Vec<u8>,
    raw_start: usize,
    /// Plaintext received and not yet taken.
    pub plain: Vec<u8>,
    /// The server's name, as the ClientHello says it.
    pub name: String,
}

impl Link {
    /// Connects, from `source` if one is given.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Ok(Self::over(socket.into()))
    }

    /// Takes over an accepted connection.
    pub fn over(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            tcp,
            tls: None,
            raw: Vec::new(),
            raw_start: 0,
            plain: Vec::new(),
            name: "localhost".to_owned(),
        }
    }

    /// Whether octets go through TLS.
    pub fn is_protected(&self) -> bool {
        self.tls.is_some()
    }

    /// Starts the client side of TLS; nothing is sent yet.
    pub fn begin_tls(&mut self, config: &Arc<ClientConfig>) {
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let tls = ClientConnection::new(config.clone(), name).unwrap();
        self.tls = Some(Box::new(tls));
    }

    /// Forgets the TLS connection; what was received behind its end stays.
    pub fn end_tls(&mut self) {
        self.tls = None;
    }

    /// What TLS wants to send now, as octets for the TCP connection.
    pub fn outgoing(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut octets).unwrap();
            }
        }
        octets
    }

    /// Protects octets without sending them. During a handshake they come out with its end.
    pub fn protect(&mut self, mut octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while !octets.is_empty() {
            let tls = self.tls.as_mut().unwrap();
            let taken = tls.writer().write(octets).unwrap();
            octets = octets.split_at(taken).1;
            out.append(&mut self.outgoing());
        }
        out
    }

    /// Completes a handshake, starting it with [`Self::begin_tls`] before.
    ///
    /// # Errors
    /// How it failed.
    pub fn complete_handshake(&mut self) -> Result<(), End> {
        loop {
            self.flush_tls()?;
            if !self.tls.as_ref().unwrap().is_handshaking() {
                return Ok(());
            }
            self.feed_record()?;
        }
    }

    /// Starts and completes a handshake.
    ///
    /// # Errors
    /// How it failed.
    pub fn handshake(&mut self, config: &Arc<ClientConfig>) -> Result<(), End> {
        self.begin_tls(config);
        self.complete_handshake()
    }

    /// Full or resumed.
    pub fn handshake_kind(&self) -> HandshakeKind {
        self.tls.as_ref().unwrap().handshake_kind().unwrap()
    }

    /// The application protocol that the server selected.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.tls.as_ref().unwrap().alpn_protocol().map(Vec::from)
    }

    /// The server's certificate.
    pub fn certificate(&self) -> Vec<u8> {
        let chain = self.tls.as_ref().unwrap().peer_certificates().unwrap();
        chain.first().unwrap().as_ref().to_vec()
    }

    /// Sends octets, protected if TLS is up.
    ///
    /// # Errors
    /// When the server has closed.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.tls.is_none() {
            return self.tcp.write_all(octets);
        }
        for chunk in octets.chunks(32 * 1024) {
            let protected = self.protect(chunk);
            self.tcp.write_all(&protected)?;
        }
        Ok(())
    }

    /// Sends octets below TLS.
    pub fn send_raw(&mut self, octets: &[u8]) {
        self.tcp.write_all(octets).unwrap();
    }

    /// The octets of a close_notify alert, not sent.
    pub fn take_close_notify(&mut self) -> Vec<u8> {
        self.tls.as_mut().unwrap().send_close_notify();
        self.outgoing()
    }

    /// Sends close_notify; an error is ignored, the server may be gone.
    pub fn close_notify(&mut self) {
        let octets = self.take_close_notify();
        let _ = self.tcp.write_all(&octets);
    }

    /// Sends FIN.
    pub fn shutdown_write(&self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Ends an upload properly: close_notify under TLS, then FIN.
    pub fn finish_sending(&mut self) {
        if self.is_protected() {
            self.close_notify();
        }
        self.shutdown_write();
    }

    /// Closes with RST.
    pub fn reset(self) {
        SockRef::from(&self.tcp)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// Waits at most this long in each read from now on.
    pub fn set_patience(&self, patience: Duration) {
        self.tcp.set_read_timeout(Some(patience)).unwrap();
    }

    /// Receives something: adds to `plain`.
    ///
    /// # Errors
    /// The end of the connection.
    pub fn receive(&mut self) -> Result<(), End> {
        let before = self.plain.len();
        while self.plain.len() == before {
            if self.tls.is_some() {
                self.feed_record()?;
                let _ = self.flush_tls();
            } else {
                if self.raw_start == self.raw.len() {
                    self.read_tcp()?;
                }
                self.plain.extend_from_slice(&self.raw[self.raw_start..]);
                self.raw.clear();
                self.raw_start = 0;
            }
        }
        Ok(())
    }

    /// Takes what has been received, or waits for more.
    ///
    /// # Errors
    /// The end of the connection.
    pub fn take(&mut self) -> Result<Vec<u8>, End> {
        if self.plain.is_empty() {
            self.receive()?;
        }
        Ok(std::mem::take(&mut self.plain))
    }

    /// Receives at least so many octets and takes exactly those.
    #[track_caller]
    pub fn take_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.plain.len() < count {
            if let Err(end) = self.receive() {
                panic!("{end:?} after {} of {count} octets", self.plain.len());
            }
        }
        let rest = self.plain.split_off(count);
        std::mem::replace(&mut self.plain, rest)
    }

    /// Everything up to the end, and the kind of end.
    pub fn take_all(&mut self) -> (Vec<u8>, End) {
        let mut octets = std::mem::take(&mut self.plain);
        loop {
            match self.take() {
                Ok(mut more) => octets.append(&mut more),
                Err(end) => return (octets, end),
            }
        }
    }

    /// Everything below TLS up to the end.
    pub fn take_all_raw(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.read_tcp() {
                return (self.raw.split_off(self.raw_start), end);
            }
        }
    }

    /// Whether the peer leaves the connection open and silent for so long.
    pub fn stays_silent(&mut self, time: Duration) -> bool {
        self.set_patience(time);
        let silent = self.raw_start == self.raw.len() && self.read_tcp() == Err(End::Timeout);
        self.set_patience(PATIENCE);
        silent
    }

    fn flush_tls(&mut self) -> Result<(), End> {
        let octets = self.outgoing();
        self.tcp.write_all(&octets).map_err(|error| ended(&error))
    }

    /// Gives TLS one record, so that what follows a close_notify is kept for the next layer.
    fn feed_record(&mut self) -> Result<(), End> {
        while self.record_octets().is_none() {
            self.read_tcp()?;
        }
        let length = self.record_octets().unwrap();
        let tls = self.tls.as_mut().unwrap();
        let mut record = &self.raw[self.raw_start..self.raw_start + length];
        self.raw_start += length;
        let mut outcome = Ok(());
        while !record.is_empty() && outcome.is_ok() {
            tls.read_tls(&mut record).unwrap();
            outcome = match tls.process_new_packets() {
                Ok(state) if state.peer_has_closed() => Err(End::CloseNotify),
                Ok(_) => Ok(()),
                Err(error) => Err(End::Tls(error)),
            };
            match tls.reader().read_to_end(&mut self.plain) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => panic!("{error}"),
                _ => {}
            }
        }
        if matches!(outcome, Err(End::Tls(_))) {
            let _ = self.flush_tls();
        }
        outcome
    }

    /// The length of the first record if it has arrived as a whole.
    fn record_octets(&self) -> Option<usize> {
        let waiting = &self.raw[self.raw_start..];
        let header = waiting.get(..HEADER_OCTETS)?;
        let body = usize::from(u16::from_be_bytes([header[3], header[4]]));
        (waiting.len() >= HEADER_OCTETS + body).then_some(HEADER_OCTETS + body)
    }

    fn read_tcp(&mut self) -> Result<(), End> {
        if self.raw_start > 0 {
            self.raw.drain(..self.raw_start);
            self.raw_start = 0;
        }
        let old = self.raw.len();
        self.raw.resize(old + 64 * 1024, 0);
        let outcome = self.tcp.read(&mut self.raw[old..]);
        self.raw.truncate(old + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => Err(End::Fin),
            Ok(_) => Ok(()),
            Err(error) => Err(ended(&error)),
        }
    }
}

fn ended(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => End::Timeout,
        _ => End::Reset,
    }
}
