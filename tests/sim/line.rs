//! One line of a client, and which replies it may have.

use ringftpd::limits;
use ringftpd::proto::command::{self, Verb};

/// What the rules know about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A verb of the table.
    Known(Verb),
    /// Not a verb: 500.
    Unknown,
    /// Another protocol's: before login the connection is closed.
    Foreign,
    /// Longer than allowed.
    Overlong,
    /// Nothing; it has no reply.
    Blank,
    /// Damaged on the way: it may be anything.
    Damaged,
}

/// A line as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) kind: Kind,
    /// What follows the first space.
    pub(crate) argument: Vec<u8>,
    /// What is sent: with Telnet and line end.
    pub(crate) wire: Vec<u8>,
    /// Octets that the queue holds for it.
    pub(crate) kept: usize,
    /// How many times protection had changed when it was delivered.
    pub(crate) epoch: u32,
}

impl Line {
    /// A line with nothing special about it. The text holds no line end.
    pub(crate) fn new(text: &[u8]) -> Self {
        let (verb, argument) = command::split(text);
        let kind = if text.is_empty() {
            Kind::Blank
        } else if text.len() > limits::COMMAND_LINE_OCTETS_MAX {
            Kind::Overlong
        } else if command::is_foreign(verb) {
            Kind::Foreign
        } else {
            command::find(verb).map_or(Kind::Unknown, |row| Kind::Known(row.verb))
        };
        let mut wire = Vec::with_capacity(text.len() + 2);
        for octet in text {
            wire.extend(std::iter::repeat_n(
                *octet,
                if *octet == 0xFF { 2 } else { 1 },
            ));
        }
        wire.extend_from_slice(b"\r\n");
        Self {
            kind,
            argument: argument.unwrap_or_default().to_vec(),
            kept: match kind {
                Kind::Blank => 0,
                Kind::Overlong => 1,
                _ => text.len() + 1,
            },
            wire,
            epoch: 0,
        }
    }

    pub(crate) fn verb(&self) -> Option<Verb> {
        match self.kind {
            Kind::Known(verb) => Some(verb),
            _ => None,
        }
    }

    pub(crate) fn is_bare(&self, verb: Verb) -> bool {
        self.verb() == Some(verb) && self.argument.trim_ascii().is_empty()
    }

    pub(crate) fn is_transfer(&self) -> bool {
        self.verb().is_some_and(Verb::is_transfer)
    }

    /// Whether the line may have this final reply, apart from 421.
    pub(crate) fn may_have(&self, code: u16) -> bool {
        const REFUSALS: [u16; 3] = [501, 530, 534];
        match self.kind {
            Kind::Known(verb) => REFUSALS.contains(&code) || answers(verb).contains(&code),
            Kind::Unknown | Kind::Foreign | Kind::Overlong => code == 500,
            Kind::Blank => false,
            Kind::Damaged => true,
        }
    }
}

/// The final replies of RFC 959 §5.4, RFC 2228 §5.3, RFC 2428, RFC 3659 and RFC 4217 that this
/// server uses, without those that any command may have.
fn answers(verb: Verb) -> &'static [u16] {
    match verb {
        Verb::Abor => &[226],
        Verb::Acct => &[202],
        Verb::Allo => &[202, 450, 451, 504, 550],
        Verb::Auth => &[234, 502, 504],
        Verb::Ccc => &[200, 533],
        Verb::Cdup | Verb::Cwd | Verb::Rmd | Verb::Dele | Verb::Mlst => &[250, 450, 451, 550, 553],
        Verb::Rnto => &[250, 450, 451, 452, 503, 550, 552, 553],
        Verb::Clnt | Verb::Noop | Verb::Opts => &[200],
        Verb::Eprt | Verb::Port => &[200, 502, 503, 504, 522],
        Verb::Epsv => &[200, 229, 425, 522],
        Verb::Feat => &[211],
        Verb::Help => &[214, 502],
        // 500 where there are no virtual hosts.
        Verb::Host => &[220, 500, 503, 504],
        Verb::Lang | Verb::Mode | Verb::Stru | Verb::Type => &[200, 504],
        Verb::Mdtm | Verb::Size | Verb::Mfmt => &[213, 450, 451, 550, 553],
        Verb::Mkd => &[257, 450, 451, 452, 550, 552, 553],
        Verb::Pass => &[230, 503],
        Verb::Pasv => &[227, 425, 503],
        Verb::Pbsz => &[200, 503],
        Verb::Prot => &[200, 503, 504, 536],
        Verb::Pwd => &[257],
        Verb::Quit => &[221],
        Verb::Rein => &[220],
        Verb::Rest => &[350],
        Verb::Rnfr => &[350, 450, 451, 550, 553],
        Verb::Site => &[200, 214, 450, 451, 500, 550, 553],
        Verb::Stat => &[211, 212, 213, 450, 451, 550, 553],
        Verb::Syst => &[215],
        Verb::User => &[331],
        Verb::Refused => &[502, 503],
        Verb::Appe
        | Verb::List
        | Verb::Mlsd
        | Verb::Nlst
        | Verb::Retr
        | Verb::Stor
        | Verb::Stou => &[226, 425, 426, 450, 451, 452, 522, 550, 552, 553, 554],
    }
}
