//! The client side of the dialogue, without I/O: for the load generator and for simulations.
//!
//! A [`Dialogue`] logs in as [`Options`] say, then carries out one [`Request`] at a time. Calls, in
//! this order and as often as needed: `handle_octets` or `handle_tls_up` with what happened, then
//! `poll_step` until it returns `None`.

mod reply;

use std::collections::VecDeque;
use std::net::SocketAddr;

pub use reply::{ClientError, Reply, ReplyReader};

/// How the control connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// AUTH TLS after the greeting (RFC 4217).
    Explicit,
    /// TLS before the greeting.
    Implicit,
    /// No TLS.
    None,
}

/// How to log in.
#[derive(Debug, Clone)]
pub struct Options {
    /// Protection of the control connection.
    pub security: Security,
    /// PROT P; else PROT C.
    pub protect_data: bool,
    /// USER.
    pub user: Vec<u8>,
    /// PASS.
    pub password: Vec<u8>,
}

/// What to do next; one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// One command with one final reply.
    Command(Vec<u8>),
    /// A transfer: its set-up, a restart marker if it is not 0, and the command.
    Transfer {
        /// For instance `RETR name`.
        command: Vec<u8>,
        /// The restart marker.
        restart: u64,
        /// Who connects.
        mode: Mode,
    },
}

/// Who opens a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The client: EPSV, or PASV where that is refused.
    Passive,
    /// The server, to this address, where the client listens: EPRT, or PORT where that is refused.
    Active(SocketAddr),
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these octets.
    Send(Vec<u8>),
    /// Start a TLS handshake; then call `handle_tls_up`.
    StartTls,
    /// Connect a data connection to this port of the server. The address in a 227 reply does not
    /// count: behind address translation it is wrong, and only the server itself is to be trusted.
    ConnectData(u16),
    /// Expect the server's data connection: the address was accepted.
    AwaitData,
    /// The transfer may begin: 150 has come.
    DataAccepted,
    /// Logged in: the first request may be started.
    LoggedIn,
    /// The request is finished with this reply, good or bad.
    Finished(Reply),
    /// The server refused the login; the connection is of no use.
    Refused(Reply),
}

/// What the next final reply belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Awaited {
    Greeting,
    Auth,
    User,
    Password,
    Parameter,
    ExtendedPassive,
    Passive,
    ExtendedPort,
    Port,
    Restart,
    Final,
}

/// One control connection, seen from the client.
#[derive(Debug)]
pub struct Dialogue {
    options: Options,
    reader: ReplyReader,
    awaited: Option<Awaited>,
    parameters: VecDeque<&'static [u8]>,
    transfer: Option<(Vec<u8>, u64, Mode)>,
    /// The server has refused EPSV or EPRT once; it is not asked again.
    extended_refused: bool,
    steps: VecDeque<Step>,
    ready: bool,
}

impl Dialogue {
    /// A dialogue at the start of a connection.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut parameters: VecDeque<&'static [u8]> = VecDeque::new();
        // Some servers begin an implicit connection with PROT C, some with PROT P: so it is always
        // said.
        match (options.security, options.protect_data) {
            (Security::Explicit | Security::Implicit, true) => {
                parameters.extend([&b"PBSZ 0"[..], b"PROT P"]);
            }
            (Security::Explicit | Security::Implicit, false) => {
                parameters.extend([&b"PBSZ 0"[..], b"PROT C"]);
            }
            (Security::None, _) => {}
        }
        parameters.push_back(b"TYPE I");
        let mut steps = VecDeque::new();
        if options.security == Security::Implicit {
            steps.push_back(Step::StartTls);
        }
        Self {
            options,
            reader: ReplyReader::default(),
            awaited: Some(Awaited::Greeting),
            parameters,
            transfer: None,
            extended_refused: false,
            steps,
            ready: false,
        }
    }

    /// Whether a request may be started.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && self.awaited.is_none()
    }

    /// Starts a request; ignored unless the dialogue is ready.
    pub fn start(&mut self, request: Request) {
        if !self.is_ready() {
            return;
        }
        match request {
            Request::Command(command) => self.send(&command, Awaited::Final),
            Request::Transfer {
                command,
                restart,
                mode,
            } => {
                self.transfer = Some((command, restart, mode));
                match mode {
                    Mode::Passive if self.extended_refused => self.send(b"PASV", Awaited::Passive),
                    Mode::Passive => self.send(b"EPSV", Awaited::ExtendedPassive),
                    Mode::Active(address) => self.send_address(address),
                }
            }
        }
    }

    fn send_address(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(address) if self.extended_refused => {
                let [a, b, c, d] = address.ip().octets();
                let [high, low] = address.port().to_be_bytes();
                let command = format!("PORT {a},{b},{c},{d},{high},{low}");
                self.send(command.as_bytes(), Awaited::Port);
            }
            _ => {
                let family = if address.is_ipv4() { 1 } else { 2 };
                let command = format!("EPRT |{family}|{}|{}|", address.ip(), address.port());
                self.send(command.as_bytes(), Awaited::ExtendedPort);
            }
        }
    }

    /// The handshake of [`Step::StartTls`] is complete.
    pub fn handle_tls_up(&mut self) {
        if self.options.security == Security::Explicit {
            self.send_user();
        }
    }

    /// Takes octets of the control connection.
    ///
    /// # Errors
    /// What the server must not send; the connection is of no use then.
    pub fn handle_octets(&mut self, octets: &[u8]) -> Result<(), ClientError> {
        self.reader.push(octets);
        while let Some(reply) = self.reader.take()? {
            self.handle_reply(reply)?;
        }
        Ok(())
    }

    /// What to do next.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn handle_reply(&mut self, reply: Reply) -> Result<(), ClientError> {
        let Some(awaited) = self.awaited.take() else {
            return Err(ClientError::Unexpected(reply.code));
        };
        if reply.is_preliminary() {
            // 120 before the greeting, 150 before the final reply of a transfer.
            if awaited == Awaited::Final {
                self.steps.push_back(Step::DataAccepted);
            }
            self.awaited = Some(awaited);
            return Ok(());
        }
        if !reply.is_positive() {
            if self.retry_old_command(&awaited, &reply) {
                return Ok(());
            }
            self.transfer = None;
            let step = if self.ready {
                Step::Finished(reply)
            } else {
                Step::Refused(reply)
            };
            self.steps.push_back(step);
            return Ok(());
        }
        match awaited {
            Awaited::Greeting if self.options.security == Security::Explicit => {
                self.send(b"AUTH TLS", Awaited::Auth);
            }
            Awaited::Greeting => self.send_user(),
            Awaited::Auth => self.steps.push_back(Step::StartTls),
            Awaited::User if reply.code == 331 => {
                let password = [b"PASS ", self.options.password.as_slice()].concat();
                self.send(&password, Awaited::Password);
            }
            Awaited::User | Awaited::Password | Awaited::Parameter => self.next_parameter(),
            Awaited::ExtendedPassive => {
                return self.passive(&reply, reply.extended_passive_port());
            }
            Awaited::Passive => {
                let address = reply.passive_address();
                return self.passive(&reply, address.map(|address| address.port()));
            }
            Awaited::ExtendedPort | Awaited::Port => {
                self.steps.push_back(Step::AwaitData);
                self.prepare_transfer();
            }
            Awaited::Restart => self.send_transfer(),
            Awaited::Final => self.steps.push_back(Step::Finished(reply)),
        }
        Ok(())
    }

    /// A server that does not know RFC 2428 (5yz to EPSV, EPRT) is asked with the commands of RFC 959.
    fn retry_old_command(&mut self, awaited: &Awaited, reply: &Reply) -> bool {
        let mode = self.transfer.as_ref().map(|(_, _, mode)| *mode);
        if reply.code < 500 {
            return false;
        }
        match (awaited, mode) {
            (Awaited::ExtendedPassive, Some(Mode::Passive)) => {
                self.extended_refused = true;
                self.send(b"PASV", Awaited::Passive);
                true
            }
            (Awaited::ExtendedPort, Some(Mode::Active(address @ SocketAddr::V4(_)))) => {
                self.extended_refused = true;
                self.send_address(address);
                true
            }
            _ => false,
        }
    }

    fn passive(&mut self, reply: &Reply, port: Option<u16>) -> Result<(), ClientError> {
        let port =
            port.ok_or_else(|| ClientError::Malformed(reply.text().escape_ascii().to_string()))?;
        self.steps.push_back(Step::ConnectData(port));
        self.prepare_transfer();
        Ok(())
    }

    fn prepare_transfer(&mut self) {
        match self.transfer.as_ref().map_or(0, |(_, restart, _)| *restart) {
            0 => self.send_transfer(),
            restart => self.send(format!("REST {restart}").as_bytes(), Awaited::Restart),
        }
    }

    fn send_transfer(&mut self) {
        if let Some((command, ..)) = self.transfer.take() {
            self.send(&command, Awaited::Final);
        }
    }

    fn send_user(&mut self) {
        let user = [b"USER ", self.options.user.as_slice()].concat();
        self.send(&user, Awaited::User);
    }

    fn next_parameter(&mut self) {
        match self.parameters.pop_front() {
            Some(parameter) => self.send(parameter, Awaited::Parameter),
            None => {
                self.ready = true;
                self.steps.push_back(Step::LoggedIn);
            }
        }
    }

    fn send(&mut self, command: &[u8], awaited: Awaited) {
        self.steps
            .push_back(Step::Send([command, b"\r\n"].concat()));
        self.awaited = Some(awaited);
    }
}

#[cfg(test)]
mod tests;
