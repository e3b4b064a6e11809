//! Octets of the control connection to command lines: bounded, with the Telnet octets taken out.
//!
//! A line ends at LF; CRs before it are stripped (RFC 959 §5.3 asks for CRLF, many clients and
//! test tools send LF alone). Reads never align with lines (RFC 1123 §4.1.2.10), and a Telnet
//! sequence may span reads (RFC 1123 §4.1.2.12).

use zeroize::{Zeroize, Zeroizing};

use crate::limits;

/// Capacity in octets that an empty splitter may keep; more is given back.
const CAPACITY_KEPT_MAX: usize = 128;
const CR: u8 = b'\r';
const LF: u8 = b'\n';
const IAC: u8 = 0xFF;
const DONT: u8 = 0xFE;
const DO: u8 = 0xFD;
const WONT: u8 = 0xFC;
const WILL: u8 = 0xFB;
const SUBNEGOTIATION: u8 = 0xFA;
const SUBNEGOTIATION_END: u8 = 0xF0;
const INTERRUPT_PROCESS: u8 = 0xF4;
const DATA_MARK: u8 = 0xF2;
/// Telnet commands begin here (EOF of RFC 1184 §2.1); lower octets after IAC are no command.
const FIRST_COMMAND: u8 = 0xEC;

/// One line of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The octets without their line end, at least one; wiped when dropped, since it may be a
    /// password.
    Command(Zeroizing<Vec<u8>>),
    /// More than `COMMAND_LINE_OCTETS_MAX` octets; they are gone.
    Overlong,
}

/// Where in a Telnet sequence the input stands (RFC 854).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telnet {
    Data,
    Command,
    /// After IAC WILL, WONT, DO or DONT: the option is next.
    Option(u8),
    Subnegotiation,
    SubnegotiationCommand,
}

/// Splits octets into lines and queues them.
///
/// Complete lines and the incomplete one share one buffer; an overlong line is queued as an empty
/// one, which cannot be mistaken since blank lines are not queued.
#[derive(Debug)]
pub struct LineSplitter {
    buffer: Vec<u8>,
    /// Where the first queued line begins.
    head: usize,
    /// Where the last queued line ends and the incomplete one begins.
    complete: usize,
    lines: usize,
    blank_lines: u32,
    telnet: Telnet,
    /// The incomplete line is overlong: its octets are dropped up to the line end.
    discarding: bool,
    /// Octets came after the last queued line, be they blank lines or Telnet.
    trailing: bool,
    answers: Vec<u8>,
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl LineSplitter {
    /// An empty splitter; it allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            head: 0,
            complete: 0,
            lines: 0,
            blank_lines: 0,
            telnet: Telnet::Data,
            discarding: false,
            trailing: false,
            answers: Vec::new(),
        }
    }

    /// Takes in octets, all of them, whether or not [`Self::is_full`].
    pub fn push(&mut self, octets: &[u8]) {
        if self.head > 0 {
            self.buffer.drain(..self.head);
            self.complete -= self.head;
            self.head = 0;
        }
        let mut rest = octets;
        while let Some((&octet, tail)) = rest.split_first() {
            self.trailing = true;
            if self.telnet == Telnet::Data {
                let plain = rest
                    .iter()
                    .position(|octet| matches!(*octet, LF | IAC))
                    .unwrap_or(rest.len());
                if plain > 0 {
                    let (text, after) = rest.split_at(plain);
                    self.take_text(text);
                    rest = after;
                    continue;
                }
            }
            rest = tail;
            self.take_special(octet);
        }
        self.release();
    }

    /// LF, IAC, or an octet inside a Telnet sequence.
    fn take_special(&mut self, octet: u8) {
        self.telnet = match self.telnet {
            Telnet::Data if octet == IAC => Telnet::Command,
            Telnet::Data => {
                self.end_line();
                Telnet::Data
            }
            Telnet::Command => match octet {
                IAC => {
                    self.take_text(&[IAC]);
                    Telnet::Data
                }
                WILL | WONT | DO | DONT => Telnet::Option(octet),
                SUBNEGOTIATION => Telnet::Subnegotiation,
                FIRST_COMMAND.. => Telnet::Data,
                _ => {
                    self.take_after_stray(octet);
                    Telnet::Data
                }
            },
            Telnet::Option(command) => {
                self.answer(command, octet);
                Telnet::Data
            }
            Telnet::Subnegotiation if octet == IAC => Telnet::SubnegotiationCommand,
            // No subnegotiation was agreed to: a line end is the end of the nonsense.
            Telnet::Subnegotiation if octet == LF => {
                self.end_line();
                Telnet::Data
            }
            Telnet::Subnegotiation => Telnet::Subnegotiation,
            Telnet::SubnegotiationCommand if octet == SUBNEGOTIATION_END => Telnet::Data,
            Telnet::SubnegotiationCommand => Telnet::Subnegotiation,
        };
    }

    /// An octet after an IAC that begins no command. At the start of a line the IAC is what is
    /// left of a Synch whose Data Mark went out of band; in a name it is a `0xFF` that the client
    /// did not double.
    fn take_after_stray(&mut self, octet: u8) {
        if self.buffer.len() > self.complete {
            self.take_text(&[IAC]);
        }
        if octet == LF {
            self.end_line();
        } else {
            self.take_text(&[octet]);
        }
    }

    /// Refuses every option; refusals of the client need no answer (RFC 854, RFC 1123 §4.1.2.12).
    fn answer(&mut self, command: u8, option: u8) {
        match command {
            WILL => self.answers.extend_from_slice(&[IAC, DONT, option]),
            DO => self.answers.extend_from_slice(&[IAC, WONT, option]),
            _ => {}
        }
    }

    fn take_text(&mut self, text: &[u8]) {
        if self.discarding {
            return;
        }
        let mut text = text;
        if self.buffer.len() == self.complete {
            while let Some((&(INTERRUPT_PROCESS | DATA_MARK), tail)) = text.split_first() {
                text = tail;
            }
        }
        let length = self.buffer.len() - self.complete + text.len();
        // One more than the limit may be the CR of the line end.
        if length > limits::COMMAND_LINE_OCTETS_MAX + 1 {
            self.discarding = true;
            self.buffer.truncate(self.complete);
        } else {
            self.buffer.extend_from_slice(text);
        }
    }

    fn end_line(&mut self) {
        while self.buffer.len() > self.complete && self.buffer.last() == Some(&CR) {
            self.buffer.pop();
        }
        let length = self.buffer.len() - self.complete;
        if self.discarding || length > limits::COMMAND_LINE_OCTETS_MAX {
            self.discarding = false;
            self.buffer.truncate(self.complete);
        } else if length == 0 {
            self.blank_lines = self.blank_lines.saturating_add(1);
            return;
        }
        self.buffer.push(LF);
        self.complete = self.buffer.len();
        self.lines += 1;
        self.trailing = false;
    }

    /// Takes the first queued line.
    pub fn next_line(&mut self) -> Option<Line> {
        let queued = self.buffer.get_mut(self.head..self.complete)?;
        let length = queued.iter().position(|octet| *octet == LF)?;
        let (line, _) = queued.split_at_mut(length);
        let taken = Zeroizing::new(line.to_vec());
        line.zeroize();
        self.head += length + 1;
        self.lines -= 1;
        self.release();
        Some(if taken.is_empty() {
            Line::Overlong
        } else {
            Line::Command(taken)
        })
    }

    /// An empty splitter holds no memory to speak of.
    fn release(&mut self) {
        if self.head == self.buffer.len() {
            self.head = 0;
            self.complete = 0;
            if self.buffer.capacity() > CAPACITY_KEPT_MAX {
                self.buffer = Vec::new();
            } else {
                self.buffer.clear();
            }
        }
    }

    /// The queued lines in order, an overlong one as an empty slice.
    pub fn queued(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer
            .get(self.head..self.complete)
            .unwrap_or_default()
            .split_inclusive(|octet| *octet == LF)
            .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
    }

    /// Whether reading should pause until lines are taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lines >= limits::COMMAND_QUEUE_LINES_MAX
            || self.buffer.len() - self.head >= limits::COMMAND_QUEUE_OCTETS_MAX
    }

    /// Whether any octet came after the line taken last: another line, a piece of one, a blank
    /// line or Telnet.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.lines > 0 || self.trailing
    }

    /// Takes the answers to Telnet options, to be sent as they are; empty when there are none.
    #[must_use]
    pub fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }

    /// Takes the number of blank lines since the last call.
    pub fn take_blank_lines(&mut self) -> u32 {
        std::mem::take(&mut self.blank_lines)
    }
}
