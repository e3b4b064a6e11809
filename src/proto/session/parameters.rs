//! Transfer parameters and options: TYPE, STRU, MODE, REST, OPTS, LANG.

use super::Session;
use crate::proto::facts;
use crate::proto::listing::FactSet;
use crate::proto::path::VirtualPath;
use crate::proto::reply::Code;

/// Largest restart marker: file offsets are signed 64-bit numbers.
const RESTART_MAX: u64 = i64::MAX as u64;

/// What commands set for later ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameters {
    /// TYPE A; else I.
    pub(super) ascii: bool,
    /// EPSV ALL was given: no other set-up any more (RFC 2428 §4).
    pub(super) extended_passive_only: bool,
    /// The facts of MLSD and MLST.
    pub(super) facts: FactSet,
    /// The restart marker in octets, 0 for none.
    pub(super) restart: u64,
    /// The current directory.
    pub(super) directory: VirtualPath,
    /// What RNFR named.
    pub(super) rename_from: Option<VirtualPath>,
    /// OPTS UTF8 ON: names are UTF-8, whatever the account's are.
    pub(super) utf8: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            ascii: true,
            extended_passive_only: false,
            facts: FactSet::DEFAULT,
            restart: 0,
            directory: VirtualPath::root(),
            rename_from: None,
            utf8: false,
        }
    }
}

/// Decimal digits only, at most `max`.
pub(super) fn parse_decimal(digits: &[u8], max: u64) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |value, octet| {
            let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
            value.checked_mul(10)?.checked_add(digit)
        })
        .filter(|value| *value <= max)
}

/// Splits at the first space and drops more spaces after it.
pub(super) fn split_word(words: &[u8]) -> (&[u8], &[u8]) {
    let end = words
        .iter()
        .position(|octet| *octet == b' ')
        .unwrap_or(words.len());
    let (word, rest) = words.split_at(end);
    (word, rest.trim_ascii_start())
}

impl Session {
    /// TYPE. `L8` and `L 8` are the same as I (RFC 959 §3.1.1.4); form T is ours as well as N,
    /// since no one prints here.
    pub(super) fn set_type(&mut self, argument: &[u8]) {
        let upper = argument.to_ascii_uppercase();
        let (code, second) = split_word(&upper);
        let ascii = match (code, second) {
            (b"A", b"" | b"N" | b"T") => true,
            (b"I", b"" | b"N") | (b"L", b"8") | (b"L8", b"") => false,
            (b"A", b"C") | (b"E", b"" | b"N" | b"T" | b"C") => {
                return self.reply(Code::ParameterNotImplemented, "Type not implemented.");
            }
            (b"L", size) if parse_decimal(size, u64::MAX).is_some() => {
                return self.reply(Code::ParameterNotImplemented, "Only octets of 8 bits.");
            }
            _ => return self.reply(Code::BadArgument, "Type not known."),
        };
        self.parameters.ascii = ascii;
        self.reply(
            Code::Okay,
            if ascii {
                "Type is ASCII."
            } else {
                "Type is binary."
            },
        );
    }

    pub(super) fn set_structure(&mut self, argument: &[u8]) {
        match argument.to_ascii_uppercase().as_slice() {
            b"F" => self.reply(Code::Okay, "Structure is file."),
            b"R" | b"P" => self.reply(Code::ParameterNotImplemented, "Only file structure."),
            _ => self.reply(Code::BadArgument, "Structure not known."),
        }
    }

    pub(super) fn set_mode(&mut self, argument: &[u8]) {
        match argument.to_ascii_uppercase().as_slice() {
            b"S" => self.reply(Code::Okay, "Mode is stream."),
            b"B" | b"C" | b"Z" => self.reply(Code::ParameterNotImplemented, "Only stream mode."),
            _ => self.reply(Code::BadArgument, "Mode not known."),
        }
    }

    /// REST: the range is judged at the transfer (RFC 3659 §5.3).
    pub(super) fn set_restart(&mut self, argument: &[u8]) {
        match parse_decimal(argument, RESTART_MAX) {
            Some(octets) => {
                self.parameters.restart = octets;
                self.reply(Code::NeedMore, &format!("Restarting at {octets}."));
            }
            None => self.reply(Code::BadArgument, "Not a restart marker."),
        }
    }

    /// OPTS (RFC 2389 §4): 501 for all that is not known.
    pub(super) fn set_option(&mut self, argument: &[u8]) {
        let (name, value) = split_word(argument);
        match name.to_ascii_uppercase().as_slice() {
            b"UTF8" | b"UTF-8" => self.choose_utf8(value),
            b"MLST" => match facts::parse_selection(value) {
                Some(chosen) => {
                    self.parameters.facts = chosen;
                    self.reply(Code::Okay, &facts::selection_text(chosen));
                }
                None => self.reply(Code::BadArgument, "No spaces between facts."),
            },
            _ => self.reply(Code::BadArgument, "Option not known."),
        }
    }

    /// LANG (RFC 2640 §4.1): replies are English.
    pub(super) fn set_language(&mut self, argument: &[u8]) {
        let well_formed = argument.split(|octet| *octet == b'-').all(|part| {
            (1..=8).contains(&part.len()) && part.iter().all(u8::is_ascii_alphanumeric)
        });
        let primary = argument
            .split(|octet| *octet == b'-')
            .next()
            .unwrap_or_default();
        if argument.is_empty() || (well_formed && primary.eq_ignore_ascii_case(b"EN")) {
            self.reply(Code::Okay, "Replies are in English.");
        } else if well_formed && primary.iter().all(u8::is_ascii_alphabetic) {
            self.reply(Code::ParameterNotImplemented, "Language not available.");
        } else {
            self.reply(Code::BadArgument, "Not a language tag.");
        }
    }
}
