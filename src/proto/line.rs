//! Octets of the control connection to command lines: bounded, with the Telnet octets taken out.
//!
//! A line ends at LF; CRs before it are stripped (RFC 959 §5.3 asks for CRLF, many clients and
//! test tools send LF alone). Reads never align with lines (RFC 1123 §4.1.2.10), and a Telnet
//! sequence may span reads (RFC 1123 §4.1.2.12).

use std::fmt;

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
#[derive(Clone, PartialEq, Eq)]
pub enum Line {
    /// The octets without their line end, at least one; wiped when dropped, since it may be a
    /// password.
    Command(Zeroizing<Vec<u8>>),
    /// More than `COMMAND_LINE_OCTETS_MAX` octets; they are gone.
    Overlong,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SECURITY: a line may be a password and must not reach a log this way.
        f.write_str(match self {
            Self::Command(_) => "Command",
            Self::Overlong => "Overlong",
        })
    }
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
    /// 0xFF is a letter to the client, unless it begins a line.
    letters: bool,
    answers: Vec<u8>,
}

impl fmt::Debug for LineSplitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SECURITY: the octets may hold a password.
        f.debug_struct("LineSplitter")
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
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
            letters: false,
            answers: Vec::new(),
        }
    }

    /// Whether 0xFF is a letter to the client, as `я` of windows-1251. Few programs that write it double it, as they
    /// should (RFC 854), and `яя` is no `я`: so each within a line is a letter then, and there is no Telnet in it. What
    /// Telnet has for FTP, the Synch before ABOR, begins a line. Holds for what is pushed from now on.
    pub const fn take_iac_for_letter(&mut self, so: bool) {
        self.letters = so;
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
            Telnet::Data if octet == IAC && self.letters && self.is_within_line() => {
                self.take_text(&[IAC]);
                Telnet::Data
            }
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

    /// Whether the incomplete line has begun.
    const fn is_within_line(&self) -> bool {
        self.discarding || self.buffer.len() > self.complete
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

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(splitter: &mut LineSplitter) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| splitter.next_line())
            .map(|line| match line {
                Line::Command(octets) => octets.to_vec(),
                Line::Overlong => b"(overlong)".to_vec(),
            })
            .collect()
    }

    fn split(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = LineSplitter::new();
        for part in parts {
            splitter.push(part);
        }
        commands(&mut splitter)
    }

    #[test]
    fn lines_do_not_depend_on_the_cut() {
        let input = b"A\r\nb c\n\r\n\r\r\nD\xFF\xFFe\r\xFF\xF4\xFF\xF2f\r\n\xFF\xFB\x01\xFF\xFA\x01x\xFF\xF0g\n";
        let expected: Vec<Vec<u8>> = [&b"A"[..], b"b c", b"D\xFFe\rf", b"g"]
            .iter()
            .map(|line| line.to_vec())
            .collect();
        assert_eq!(split(&[input]), expected);
        for first in 0..input.len() {
            for second in first..input.len() {
                let parts = [&input[..first], &input[first..second], &input[second..]];
                assert_eq!(split(&parts), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn taking_and_pushing_may_alternate() {
        let mut splitter = LineSplitter::new();
        splitter.push(b"a\nb\nc");
        assert_eq!(
            splitter.next_line(),
            Some(Line::Command(Zeroizing::new(b"a".to_vec())))
        );
        splitter.push(b"d\ne");
        assert_eq!(commands(&mut splitter), [&b"b"[..], b"cd"]);
        splitter.push(b"\n");
        assert_eq!(commands(&mut splitter), [b"e"]);
    }

    #[test]
    fn c124_overlong_lines() {
        let line = |length: usize| {
            let mut line = vec![b'x'; length];
            line.extend_from_slice(b"\r\nA\r\n");
            split(&[&line])
                .into_iter()
                .map(|line| line.len())
                .collect::<Vec<_>>()
        };
        let max = limits::COMMAND_LINE_OCTETS_MAX;
        assert_eq!(line(max), [max, 1]);
        assert_eq!(line(max + 1), [10, 1]);
        assert_eq!(line(5 * max), [10, 1]);
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut splitter = LineSplitter::new();
        for _ in 0..1000 {
            splitter.push(&[b'x'; 4096]);
            assert!(splitter.buffer.capacity() <= 4 * limits::COMMAND_LINE_OCTETS_MAX);
        }
        splitter.push(b"\n");
        assert_eq!(commands(&mut splitter), [b"(overlong)"]);
        assert!(splitter.buffer.capacity() <= CAPACITY_KEPT_MAX);
    }

    #[test]
    fn c010_every_octet_behind_a_line_shows() {
        for behind in [&b"x"[..], b"\n", b"\r\n", b"\xFF\xF1", b"\xFF", b"NOOP\r\n"] {
            let mut splitter = LineSplitter::new();
            splitter.push(b"\r\nAUTH TLS\r\n");
            splitter.push(behind);
            splitter.next_line();
            assert!(splitter.has_more(), "{}", behind.escape_ascii());
        }
        let mut splitter = LineSplitter::new();
        splitter.push(b"\r\nAUTH TLS\r\n");
        splitter.next_line();
        assert!(!splitter.has_more());
    }

    #[test]
    fn c127_options_are_refused() {
        let mut splitter = LineSplitter::new();
        splitter.push(b"\xFF\xFB\x01\xFF\xFC\x01\xFF\xFD\x02\xFF\xFE\x02");
        assert_eq!(splitter.take_answers(), b"\xFF\xFE\x01\xFF\xFC\x02");
        assert!(splitter.take_answers().is_empty());
        splitter.push(b"\n\n");
        assert_eq!(splitter.take_blank_lines(), 2);
    }

    #[test]
    fn what_is_left_of_a_synch_is_dropped() {
        assert_eq!(split(&[b"\xF4\xF2ABOR\n"]), [b"ABOR"]);
        assert_eq!(split(&[b"\xFFABOR\n"]), [b"ABOR"]);
        assert_eq!(split(&[b"CWD \xFFa\n"]), [b"CWD \xFFa"]);
        assert_eq!(split(&[b"CWD \xF2\n"]), [b"CWD \xF2"]);
    }

    #[test]
    fn a_letter_is_not_taken_for_a_command() {
        let input =
            b"\xFF\xF4\xFF\xF2ABOR\r\n\xFF\xFB\x01CWD \xFF\xED\xFF\xFB\xFF\xFF\xF4\xFF\r\nb\xFF\xFF\n";
        let expected: [&[u8]; 3] = [
            b"ABOR",
            b"CWD \xFF\xED\xFF\xFB\xFF\xFF\xF4\xFF",
            b"b\xFF\xFF",
        ];
        for cut in 0..input.len() {
            let mut splitter = LineSplitter::new();
            splitter.take_iac_for_letter(true);
            splitter.push(&input[..cut]);
            splitter.push(&input[cut..]);
            assert_eq!(commands(&mut splitter), expected, "cut at {cut}");
            assert_eq!(splitter.take_answers(), b"\xFF\xFE\x01");
        }
    }

    #[test]
    fn letters_of_an_overlong_line_do_not_eat_its_end() {
        let long = vec![b'x'; 2 * limits::COMMAND_LINE_OCTETS_MAX];
        for end in [
            &b"\xFF\n"[..],
            b"\xFF\xFB\n",
            b"\xFF\xFA\r\n",
            b"\xFF\xFF\n",
        ] {
            let input = [&long[..], end, b"NOOP\r\n"].concat();
            for cut in long.len()..input.len() {
                let mut splitter = LineSplitter::new();
                splitter.take_iac_for_letter(true);
                splitter.push(&input[..cut]);
                splitter.push(&input[cut..]);
                assert_eq!(commands(&mut splitter), [&b"(overlong)"[..], b"NOOP"]);
                assert!(splitter.take_answers().is_empty());
            }
        }
    }

    #[test]
    fn c129_full_by_lines_and_by_octets() {
        let mut splitter = LineSplitter::new();
        for _ in 0..limits::COMMAND_QUEUE_LINES_MAX {
            assert!(!splitter.is_full());
            splitter.push(b"A\n");
        }
        assert!(splitter.is_full());
        splitter.next_line();
        assert!(!splitter.is_full());
        commands(&mut splitter);
        splitter.push(&vec![b'x'; 8000]);
        splitter.push(b"\n");
        splitter.push(&vec![b'x'; 8000]);
        splitter.push(b"\n");
        assert!(!splitter.is_full());
        splitter.push(&vec![b'x'; 400]);
        assert!(splitter.is_full());
    }
}
