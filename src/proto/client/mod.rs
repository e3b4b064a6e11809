//! The client side of the dialogue, without I/O: for the load generator and for simulations.
//!
//! A [`Dialogue`] logs in as [`Options`] say, then carries out one [`Request`] at a time. Calls, in
//! this order and as often as needed: `handle_octets` or `handle_tls_up` with what happened, then
//! `poll_step` until it returns `None`.

mod reply;

use std::collections::VecDeque;

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
    /// A passive transfer: EPSV, a restart marker if it is not 0, and the command.
    Transfer {
        /// For instance `RETR name`.
        command: Vec<u8>,
        /// The restart marker.
        restart: u64,
    },
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these octets.
    Send(Vec<u8>),
    /// Start a TLS handshake; then call `handle_tls_up`.
    StartTls,
    /// Connect a data connection to this port of the server.
    ConnectData(u16),
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
    transfer: Option<(Vec<u8>, u64)>,
    steps: VecDeque<Step>,
    ready: bool,
}

impl Dialogue {
    /// A dialogue at the start of a connection.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut parameters: VecDeque<&'static [u8]> = VecDeque::new();
        match (options.security, options.protect_data) {
            (Security::Explicit, true) => parameters.extend([&b"PBSZ 0"[..], b"PROT P"]),
            (Security::Explicit, false) => parameters.push_back(b"PBSZ 0"),
            // An implicit connection has PROT P from the start.
            (Security::Implicit, false) => parameters.push_back(b"PROT C"),
            (Security::Implicit, true) | (Security::None, _) => {}
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
            Request::Transfer { command, restart } => {
                self.transfer = Some((command, restart));
                self.send(b"EPSV", Awaited::ExtendedPassive);
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
            Awaited::ExtendedPassive => return self.passive(&reply),
            Awaited::Restart => self.send_transfer(),
            Awaited::Final => self.steps.push_back(Step::Finished(reply)),
        }
        Ok(())
    }

    fn passive(&mut self, reply: &Reply) -> Result<(), ClientError> {
        let port = reply
            .extended_passive_port()
            .ok_or_else(|| ClientError::Malformed(reply.text().escape_ascii().to_string()))?;
        self.steps.push_back(Step::ConnectData(port));
        match self.transfer.as_ref().map_or(0, |(_, restart)| *restart) {
            0 => self.send_transfer(),
            restart => self.send(format!("REST {restart}").as_bytes(), Awaited::Restart),
        }
        Ok(())
    }

    fn send_transfer(&mut self) {
        if let Some((command, _)) = self.transfer.take() {
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
mod tests {
    use super::*;

    #[test]
    fn an_explicit_login_and_a_restarted_transfer() {
        let mut dialogue = Dialogue::new(Options {
            security: Security::Explicit,
            protect_data: true,
            user: b"u".to_vec(),
            password: b"p w ".to_vec(),
        });
        let mut steps = Vec::new();
        let mut feed = |dialogue: &mut Dialogue, octets: &[u8]| {
            dialogue.handle_octets(octets).expect("well formed");
            while let Some(step) = dialogue.poll_step() {
                steps.push(step);
            }
        };
        feed(&mut dialogue, b"220 hello\r\n");
        feed(&mut dialogue, b"234 go\r\n");
        dialogue.handle_tls_up();
        for reply in [
            "331 x\r\n",
            "230 x\r\n",
            "200 x\r\n",
            "200 x\r\n",
            "200 x\r\n",
        ] {
            feed(&mut dialogue, reply.as_bytes());
        }
        assert!(dialogue.is_ready());
        dialogue.start(Request::Transfer {
            command: b"RETR f".to_vec(),
            restart: 7,
        });
        for reply in ["229 (|||5|)\r\n", "350 x\r\n", "150 x\r\n", "226 x\r\n"] {
            feed(&mut dialogue, reply.as_bytes());
        }
        let send = |text: &str| Step::Send([text.as_bytes(), b"\r\n"].concat());
        let done = Reply {
            code: 226,
            lines: vec![b"x".to_vec()],
        };
        let expected = vec![
            send("AUTH TLS"),
            Step::StartTls,
            send("USER u"),
            send("PASS p w "),
            send("PBSZ 0"),
            send("PROT P"),
            send("TYPE I"),
            Step::LoggedIn,
            send("EPSV"),
            Step::ConnectData(5),
            send("REST 7"),
            send("RETR f"),
            Step::DataAccepted,
            Step::Finished(done),
        ];
        assert_eq!(steps, expected);
    }
}
