//! A client drawn from the seed: mostly sensible, sometimes rude.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use ringftpd::limits;
use ringftpd::proto::ChannelKind;
use ringftpd::proto::command::{TABLE, Verb};

use crate::line::{Kind, Line};
use crate::tree;

/// What a client does.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Sends these lines, in the clear or not.
    Send { clear: bool, lines: Vec<Line> },
    /// Sends octets that end no line.
    Begin { clear: bool, octets: Vec<u8> },
    /// Takes part in a handshake.
    Hello,
    /// Ends TLS.
    CloseNotify,
    /// Closes its side.
    Finish,
    /// The connection breaks.
    Reset,
    /// Connects a data connection to this port.
    Connect(u16),
    /// Has its turn again after this time.
    Turn(Duration),
}

/// What a client notices.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Its turn.
    Turn,
    /// Octets from the server.
    Octets(Vec<u8>),
    /// The server waits for a handshake.
    StartTls,
    /// The handshake is complete.
    TlsUp,
    /// The server ends TLS; whether a new greeting was asked for.
    EndTls { restart: bool },
}

/// A client.
pub(crate) trait Client {
    /// What it does about it.
    fn notice(&mut self, notice: Notice, random: &mut Rng) -> Vec<Deed>;
}

const ARGUMENTS: [&[u8]; 32] = [
    b"f",
    b"d",
    b"d/f",
    b"g",
    b"",
    b"/",
    b"..",
    b"a\"b",
    b"\xC3\xA4 \xFF",
    b"-la d",
    b"TLS",
    b"0",
    b"5",
    b"P",
    b"C",
    b"A",
    b"I",
    b"S",
    b"F",
    b"ALL",
    b"1",
    b"2",
    b"|1|10.0.0.9|2000|",
    b"10,0,0,9,8,0",
    b"20200101000000 f",
    b"MLST type;",
    b"UTF8 ON",
    b"UTF8 OFF",
    b"d/\xCE\xC4",
    b"CHMOD 644 f",
    b"UTIME 202001010000 f",
    b"99999999999999999999",
];
const SET_UPS: [&[u8]; 4] = [
    b"PASV",
    b"EPSV",
    b"PORT 10,0,0,9,8,0",
    b"EPRT |1|10.0.0.9|2000|",
];
const TRANSFERS: [&[u8]; 8] = [
    b"RETR f",
    b"RETR d/f",
    b"STOR g",
    b"APPE g",
    b"STOU",
    b"LIST",
    b"NLST d",
    b"MLSD",
];
const COMPANIONS: [&[u8]; 7] = [b"STAT", b"STAT", b"ABOR", b"ABOR", b"NOOP", b"QUIT", b"PWD"];

/// A random client.
pub(crate) struct Stranger {
    kind: ChannelKind,
    plan: VecDeque<Line>,
    /// Waits for each reply before the next command.
    patient: bool,
    /// How often out of 256 it does what it must not.
    rude: u8,
    protected: bool,
    hello_sent: bool,
    /// Commands without a final reply, as far as it knows.
    pending: usize,
    waiting: bool,
    /// A command that changes TLS has no reply yet.
    changing: bool,
    /// TLS changes now.
    between: bool,
    last_code: u8,
}

impl Stranger {
    pub(crate) fn new(kind: ChannelKind, random: &mut Rng) -> Self {
        let mut stranger = Self {
            kind,
            plan: VecDeque::new(),
            patient: random.bool(),
            rude: if random.u8(..3) == 0 { 10 } else { 1 },
            protected: false,
            hello_sent: false,
            // The greeting.
            pending: 1,
            waiting: false,
            changing: false,
            between: kind == ChannelKind::Implicit,
            last_code: 0,
        };
        if random.u8(..16) > 0 {
            stranger.plan_login(random);
        }
        for _ in 0..random.usize(..30) {
            stranger.plan_more(random);
        }
        stranger
    }

    fn plan(&mut self, text: &[u8]) {
        self.plan.push_back(Line::new(text));
    }

    fn plan_login(&mut self, random: &mut Rng) {
        if self.kind == ChannelKind::Explicit && random.u8(..10) > 0 {
            self.plan(b"AUTH TLS");
        }
        for _ in 0..random.usize(..5) * random.usize(..2) {
            self.plan(b"USER anna");
            self.plan(b"PASS wrong");
        }
        let user = if random.u8(..40) == 0 {
            tree::BUSY
        } else {
            tree::USER
        };
        self.plan(&[b"USER ", user].concat());
        self.plan(&[b"PASS ", tree::PASSWORD].concat());
        if random.u8(..8) > 0 {
            self.plan(b"PBSZ 0");
            self.plan(b"PROT P");
        }
    }

    fn plan_more(&mut self, random: &mut Rng) {
        match random.u8(..100) {
            0..30 => self.plan_transfer(random),
            30..32 => {
                self.plan(b"REIN");
                self.plan_login(random);
            }
            32..34 => self.plan(b"CCC"),
            34..36 => {
                self.plan(b"AUTH TLS");
                self.plan_login(random);
            }
            36..38 => self.plan_login(random),
            38..40 => self.plan(b""),
            40..41 => {
                let length = limits::COMMAND_LINE_OCTETS_MAX + random.usize(..3);
                self.plan(&vec![b'x'; length]);
            }
            41..42 => self.plan(b"GET / HTTP/1.1"),
            42..44 => {
                let mut text = vec![b'Z'];
                let octets = (0..random.usize(..40)).map(|_| random.u8(..));
                text.extend(octets.filter(|octet| !matches!(octet, b'\n' | b'\r' | b' ' | b':')));
                self.plan(&text);
            }
            44..46 => {
                for _ in 0..random.usize(..60) {
                    self.plan(b"NOOP");
                }
            }
            46..52 => {
                let octets = random.u64(..100);
                self.plan(format!("REST {octets}").as_bytes());
            }
            52..56 => {
                self.plan(b"RNFR f");
                self.plan(b"RNTO g");
            }
            _ => {
                let row = random.choice(TABLE).expect("not empty");
                if matches!(row.verb, Verb::Quit | Verb::Rein | Verb::User) {
                    return;
                }
                let mut text = random
                    .choice(row.names)
                    .expect("not empty")
                    .as_bytes()
                    .to_vec();
                if random.bool() {
                    text.make_ascii_lowercase();
                }
                if random.u8(..3) > 0 {
                    text.push(b' ');
                    text.extend_from_slice(random.choice(ARGUMENTS).expect("not empty"));
                }
                self.plan(&text);
            }
        }
    }

    fn plan_transfer(&mut self, random: &mut Rng) {
        self.plan(random.choice(SET_UPS).expect("not empty"));
        if random.u8(..4) == 0 {
            self.plan(b"TYPE I");
            self.plan(b"REST 3");
        }
        self.plan(random.choice(TRANSFERS).expect("not empty"));
        let companions = if random.bool() { random.usize(..4) } else { 0 };
        for _ in 0..companions {
            let text = random.choice(COMPANIONS).expect("not empty");
            if text == b"QUIT" && random.u8(..4) > 0 {
                continue;
            }
            let mut line = Line::new(text);
            if line.verb() == Some(Verb::Abor) && random.bool() {
                // IAC IP, then a Synch (RFC 959 §4.1.3).
                line.wire.splice(..0, *b"\xFF\xF4\xFF\xF2");
            }
            self.plan.push_back(line);
        }
    }

    fn is_rude(&self, random: &mut Rng) -> bool {
        random.u8(..) < self.rude
    }

    fn turn(&mut self, random: &mut Rng) -> Vec<Deed> {
        self.waiting = false;
        let clear = !self.protected;
        if self.is_rude(random) {
            return self.misbehave(random);
        }
        if self.plan.is_empty() {
            return match random.u8(..4) {
                0 => vec![Deed::Finish],
                1 => vec![Deed::Reset],
                2 => vec![Deed::CloseNotify, Deed::Finish],
                _ => Vec::new(),
            };
        }
        let busy = self.pending > 0 && (self.patient || self.plan_changes_tls());
        if busy || self.between || self.changing {
            self.waiting = true;
            return Vec::new();
        }
        let mut lines = Vec::new();
        for _ in 0..if self.patient { 1 } else { random.usize(1..8) } {
            let Some(mut line) = self.plan.pop_front() else {
                break;
            };
            if random.u8(..40) == 0 {
                // IAC WILL, DO, or a sequence of two octets.
                let telnet = [&b"\xFF\xFB\x01"[..], b"\xFF\xFD\x03", b"\xFF\xF1"];
                let telnet = random.choice(telnet).expect("not empty");
                line.wire.splice(..0, telnet.iter().copied());
            }
            if random.u8(..10) == 0 {
                let end = line.wire.len() - 2;
                line.wire.truncate(end);
                line.wire.push(b'\n');
            }
            self.pending += usize::from(line.kind != Kind::Blank);
            let changes = changes_tls(&line);
            lines.push(line);
            self.changing |= changes;
            if (changes || self.plan_changes_tls()) && !self.is_rude(random) {
                break;
            }
        }
        vec![Deed::Send { clear, lines }, Deed::Turn(pause(random))]
    }

    fn plan_changes_tls(&self) -> bool {
        self.plan.front().is_some_and(changes_tls)
    }

    fn misbehave(&mut self, random: &mut Rng) -> Vec<Deed> {
        let clear = random.bool();
        let line = |text: &[u8]| Deed::Send {
            clear,
            lines: vec![Line::new(text)],
        };
        match random.u8(..9) {
            0 => vec![Deed::Hello, Deed::Turn(pause(random))],
            1 => vec![Deed::CloseNotify, Deed::Turn(pause(random))],
            2 => vec![Deed::Finish],
            3 => vec![Deed::Reset],
            4 => vec![line(b"USER anna"), line(b"PASS injected"), line(b"DELE f")],
            5 => vec![line(b"DELE f"), Deed::Hello, Deed::Turn(pause(random))],
            6 => {
                let octets = b"STO".to_vec();
                vec![Deed::Begin { clear, octets }, Deed::Turn(pause(random))]
            }
            7 => vec![Deed::CloseNotify, Deed::Hello, line(b"NOOP")],
            _ => Vec::new(),
        }
    }

    /// Counts the final replies, read in whatever pieces they come.
    fn read(&mut self, octets: &[u8]) {
        let text = crate::model::without_telnet(octets);
        for line in text.split_inclusive(|octet| *octet == b'\n') {
            let final_line = line.get(3) == Some(&b' ') && line[..3].iter().all(u8::is_ascii_digit);
            if final_line && !line.starts_with(b"1") {
                self.last_code = line[0];
                self.pending = self.pending.saturating_sub(1);
            }
        }
    }
}

impl Client for Stranger {
    fn notice(&mut self, notice: Notice, random: &mut Rng) -> Vec<Deed> {
        match notice {
            Notice::Turn => self.turn(random),
            Notice::Octets(octets) => {
                self.read(&octets);
                if self.pending == 0 && std::mem::take(&mut self.changing) {
                    self.between = self.last_code == b'2';
                }
                if self.between && !self.protected && self.kind == ChannelKind::Explicit {
                    // 234, or the 220 of a REIN that changes nothing.
                    self.between = octets.starts_with(b"234");
                }
                if self.waiting && self.pending == 0 {
                    return self.turn(random);
                }
                Vec::new()
            }
            Notice::StartTls | Notice::EndTls { .. } if self.is_rude(random) => {
                self.misbehave(random)
            }
            Notice::StartTls => {
                self.protected = true;
                if std::mem::take(&mut self.hello_sent) {
                    return Vec::new();
                }
                vec![Deed::Hello]
            }
            Notice::EndTls { restart } => {
                self.protected = false;
                self.between = restart && self.kind == ChannelKind::Implicit;
                if !self.between {
                    return vec![Deed::CloseNotify, Deed::Turn(pause(random))];
                }
                // The greeting of the next TLS session.
                self.pending += 1;
                self.hello_sent = random.bool();
                if self.hello_sent {
                    return vec![Deed::CloseNotify, Deed::Hello];
                }
                vec![Deed::CloseNotify]
            }
            Notice::TlsUp => {
                self.between = false;
                vec![Deed::Turn(pause(random))]
            }
        }
    }
}

fn changes_tls(line: &Line) -> bool {
    matches!(line.verb(), Some(Verb::Auth | Verb::Ccc | Verb::Rein))
}

fn pause(random: &mut Rng) -> Duration {
    match random.u8(..32) {
        0 => Duration::from_secs(random.u64(..400)),
        1..5 => Duration::from_millis(random.u64(..20_000)),
        _ => Duration::from_micros(random.u64(..50_000)),
    }
}
