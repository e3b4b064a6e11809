//! A client's side of the dialogue.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::link::{End, Link};
use super::server::{PASSWORD, Server, USER};
use super::tls::Profile;
use super::{PATIENCE, Port};

/// One reply, every octet kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    /// All lines with their line ends.
    pub raw: Vec<u8>,
}

impl Reply {
    /// All lines as text, octets that are no UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// The lines without their ends.
    pub fn lines(&self) -> Vec<String> {
        self.text()
            .split_terminator("\r\n")
            .map(str::to_owned)
            .collect()
    }

    /// The octets after code and space of a reply of one line.
    pub fn message(&self) -> Vec<u8> {
        assert!(!self.is_long(), "{self:?} has more than one line");
        self.raw[4..self.raw.len() - 2].to_vec()
    }

    /// The lines between the first and the last.
    pub fn inner(&self) -> Vec<String> {
        let lines = self.lines();
        lines[1..lines.len() - 1].to_vec()
    }

    fn is_long(&self) -> bool {
        self.raw.get(3) == Some(&b'-')
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.raw.escape_ascii())
    }
}

/// A control connection.
pub struct Client {
    pub link: Link,
    pub port: Port,
    /// How this client does TLS, with the sessions it may resume.
    pub profile: Profile,
    /// Whether data connections are protected: the client's own idea of PROT.
    pub protected: bool,
    source: Option<IpAddr>,
    dialogue: Vec<String>,
}

impl Client {
    /// Connects; nothing is received or sent.
    #[track_caller]
    pub fn connect(server: &Server, port: Port) -> Self {
        Self::connect_as(server, port, Profile::usual(), None)
    }

    /// Connects and logs in, with protected data and TYPE I.
    #[track_caller]
    pub fn ready(server: &Server, port: Port) -> Self {
        let mut client = Self::connect(server, port);
        client.settle(USER, PASSWORD);
        client
    }

    /// From the connection to protected data and TYPE I.
    #[track_caller]
    pub fn settle(&mut self, user: &str, password: &str) {
        self.secure();
        self.login(user, password);
        if self.port == Port::Explicit {
            self.protect();
        }
        self.ok("TYPE I", 200);
    }

    /// Connects from a given address with a given idea of TLS.
    #[track_caller]
    pub fn connect_as(
        server: &Server,
        port: Port,
        profile: Profile,
        source: Option<IpAddr>,
    ) -> Self {
        Self {
            link: Link::connect(server.address(port), source).unwrap(),
            port,
            profile,
            protected: port == Port::Implicit,
            source,
            dialogue: Vec::new(),
        }
    }

    /// Goes on until TLS is up and the greeting has come, the way of the port.
    #[track_caller]
    pub fn secure(&mut self) {
        if self.port == Port::Explicit {
            self.expect(220);
            self.auth_tls();
        } else {
            self.handshake();
            self.expect(220);
        }
    }

    /// AUTH TLS and the handshake.
    #[track_caller]
    pub fn auth_tls(&mut self) {
        self.ok("AUTH TLS", 234);
        self.handshake();
    }

    /// The handshake on the control connection; its session is what data connections resume.
    #[track_caller]
    pub fn handshake(&mut self) {
        let outcome = self.link.handshake(&self.profile.resuming());
        assert_eq!(outcome, Ok(()), "control handshake\n{}", self.story());
    }

    /// USER and PASS.
    #[track_caller]
    pub fn login(&mut self, user: &str, password: &str) {
        self.ok(format!("USER {user}"), 331);
        self.ok(format!("PASS {password}"), 230);
    }

    /// PBSZ 0 and PROT P.
    #[track_caller]
    pub fn protect(&mut self) {
        self.ok("PBSZ 0", 200);
        self.ok("PROT P", 200);
        self.protected = true;
    }

    /// Sends one command line.
    #[track_caller]
    pub fn send(&mut self, line: impl AsRef<[u8]>) {
        let mut octets = line.as_ref().to_vec();
        self.note(">", &octets);
        octets.extend_from_slice(b"\r\n");
        if let Err(error) = self.link.send(&octets) {
            panic!("{error}\n{}", self.story());
        }
    }

    /// The next reply.
    ///
    /// # Errors
    /// The end of the connection.
    #[track_caller]
    pub fn try_reply(&mut self) -> Result<Reply, End> {
        let mut raw = Vec::new();
        let mut code = Vec::new();
        loop {
            let line = self.line()?;
            self.note("<", &line);
            if code.is_empty() {
                let digits = line.len() >= 4 && line[..3].iter().all(u8::is_ascii_digit);
                let sound = digits && matches!(line[3], b' ' | b'-');
                assert!(sound, "no reply: {}\n{}", line.escape_ascii(), self.story());
                code = line[..3].to_vec();
            }
            raw.extend_from_slice(&line);
            if line.starts_with(&code) && line.get(3) == Some(&b' ') {
                let code = String::from_utf8(code).unwrap().parse().unwrap();
                return Ok(Reply { code, raw });
            }
        }
    }

    /// One line with its CRLF.
    #[track_caller]
    fn line(&mut self) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.link.plain.iter().position(|&octet| octet == b'\n') {
                let rest = self.link.plain.split_off(at + 1);
                let line = std::mem::replace(&mut self.link.plain, rest);
                assert!(line.ends_with(b"\r\n"), "bare LF: {}", line.escape_ascii());
                return Ok(line);
            }
            self.link.receive()?;
        }
    }

    /// The next reply, which must come.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        match self.try_reply() {
            Ok(reply) => reply,
            Err(end) => panic!("{end:?} instead of a reply\n{}", self.story()),
        }
    }

    /// The next reply, which must have this code.
    #[track_caller]
    pub fn expect(&mut self, code: u16) -> Reply {
        let reply = self.reply();
        let story = self.story();
        assert_eq!(reply.code, code, "expected {code}, got {reply:?}\n{story}");
        reply
    }

    /// Sends a command and takes its reply.
    #[track_caller]
    pub fn command(&mut self, line: impl AsRef<[u8]>) -> Reply {
        self.send(line);
        self.reply()
    }

    /// Sends a command whose reply must have this code.
    #[track_caller]
    pub fn ok(&mut self, line: impl AsRef<[u8]>, code: u16) -> Reply {
        self.send(line);
        self.expect(code)
    }

    /// Sends commands one after the other, each with the code of its reply.
    #[track_caller]
    pub fn dialogue(&mut self, steps: &[(&str, u16)]) {
        for (line, code) in steps {
            self.ok(line, *code);
        }
    }

    /// The server must close without another reply.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.try_reply() {
            Err(End::CloseNotify | End::Fin | End::Reset | End::Tls(_)) => {}
            other => panic!("{other:?} instead of a close\n{}", self.story()),
        }
    }

    /// The server says 421, or nothing, and closes.
    #[track_caller]
    pub fn expect_thrown_out(&mut self) {
        match self.try_reply() {
            Ok(reply) => {
                assert_eq!(reply.code, 421, "{reply:?}\n{}", self.story());
                self.expect_closed();
            }
            Err(End::Timeout) => panic!("still open\n{}", self.story()),
            Err(_) => {}
        }
    }

    /// The server's close_notify must come next; answers it and goes on in the clear.
    #[track_caller]
    pub fn leave_tls(&mut self) {
        assert_eq!(self.try_reply(), Err(End::CloseNotify), "{}", self.story());
        self.link.close_notify();
        self.link.end_tls();
    }

    /// PASV: where to connect.
    #[track_caller]
    pub fn pasv(&mut self) -> SocketAddr {
        let reply = self.ok("PASV", 227);
        let text = reply.text();
        let inner = text.split(['(', ')']).nth(1).unwrap_or_default();
        let numbers: Vec<u8> = inner.split(',').filter_map(|n| n.parse().ok()).collect();
        let Ok([a, b, c, d, high, low]) = <[u8; 6]>::try_from(numbers) else {
            panic!("no six numbers in {reply:?}");
        };
        SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
    }

    /// EPSV: where to connect.
    #[track_caller]
    pub fn epsv(&mut self) -> SocketAddr {
        let reply = self.ok("EPSV", 229);
        let text = reply.text();
        let inner = text.split(['(', ')']).nth(1).unwrap_or_default();
        let port = inner
            .strip_prefix("|||")
            .and_then(|rest| rest.strip_suffix('|'));
        let Some(port) = port.and_then(|digits| digits.parse().ok()) else {
            panic!("no port in {reply:?}");
        };
        SocketAddr::new(self.link.tcp.peer_addr().unwrap().ip(), port)
    }

    /// Connects to a passive port.
    #[track_caller]
    pub fn data(&self, address: SocketAddr) -> Link {
        let mut link = Link::connect(address, self.source).unwrap();
        link.name.clone_from(&self.link.name);
        link
    }

    /// Protects a data connection if PROT says so, resuming a session.
    #[track_caller]
    pub fn secure_data(&self, data: &mut Link) {
        if self.protected {
            let outcome = data.handshake(&self.profile.resuming());
            assert_eq!(outcome, Ok(()), "data handshake\n{}", self.story());
        }
    }

    /// A transfer command up to its open data connection, passive.
    #[track_caller]
    pub fn open(&mut self, line: impl AsRef<[u8]>) -> Link {
        let address = if self.link.tcp.peer_addr().unwrap().is_ipv4() {
            self.pasv()
        } else {
            self.epsv()
        };
        let mut data = self.data(address);
        self.ok(line, 150);
        self.secure_data(&mut data);
        data
    }

    /// A transfer command up to its open data connection, active (`PORT` or `EPRT`).
    #[track_caller]
    pub fn open_active(&mut self, verb: &str, line: impl AsRef<[u8]>) -> Link {
        let listener = self.listen(verb);
        self.ok(line, 150);
        let mut data = accept(&listener);
        self.secure_data(&mut data);
        data
    }

    /// Listens and tells the server where.
    #[track_caller]
    pub fn listen(&mut self, verb: &str) -> TcpListener {
        let own = self.link.tcp.local_addr().unwrap().ip();
        let listener = TcpListener::bind((own, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let line = match verb {
            "PORT" => format!("PORT {}", host_port(address)),
            _ => format!("EPRT {}", extended(address)),
        };
        self.ok(line, 200);
        listener
    }

    /// A whole download; the data connection must end properly.
    #[track_caller]
    pub fn download(&mut self, line: impl AsRef<[u8]>) -> Vec<u8> {
        let data = self.open(line);
        self.drain(data)
    }

    /// Receives all, checks the end of the data connection and the final reply.
    #[track_caller]
    pub fn drain(&mut self, mut data: Link) -> Vec<u8> {
        let (octets, end) = data.take_all();
        assert_eq!(end, self.clean_end(), "end of data\n{}", self.story());
        if data.is_protected() {
            data.close_notify();
        }
        drop(data);
        self.expect(226);
        octets
    }

    /// How the server ends a data connection properly.
    pub fn clean_end(&self) -> End {
        if self.protected {
            End::CloseNotify
        } else {
            End::Fin
        }
    }

    /// A whole upload with a proper end.
    #[track_caller]
    pub fn upload(&mut self, line: impl AsRef<[u8]>, octets: &[u8]) -> Reply {
        let mut data = self.open(line);
        data.send(octets).unwrap();
        data.finish_sending();
        let reply = self.expect(226);
        drop(data);
        reply
    }

    /// The last lines of the dialogue.
    pub fn story(&self) -> String {
        let from = self.dialogue.len().saturating_sub(24);
        self.dialogue[from..].join("\n")
    }

    fn note(&mut self, direction: &str, octets: &[u8]) {
        let shown = octets.get(..300).unwrap_or(octets).escape_ascii();
        self.dialogue.push(format!("  {direction} {shown}"));
    }
}

/// The argument of PORT.
pub fn host_port(address: SocketAddr) -> String {
    let IpAddr::V4(host) = address.ip() else {
        panic!("PORT knows no IPv6");
    };
    let [a, b, c, d] = host.octets();
    let [high, low] = address.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

/// The argument of EPRT.
pub fn extended(address: SocketAddr) -> String {
    let family = if address.is_ipv4() { 1 } else { 2 };
    format!("|{family}|{}|{}|", address.ip(), address.port())
}

/// The loopback address of strangers.
pub const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Accepts a data connection.
#[track_caller]
pub fn accept(listener: &TcpListener) -> Link {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((tcp, _)) => {
                tcp.set_nonblocking(false).unwrap();
                return Link::over(tcp);
            }
            Err(error) => assert!(start.elapsed() < PATIENCE, "nobody connected: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
