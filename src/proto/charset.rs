//! Character sets of names on the wire, for clients that know nothing of UTF-8 (RFC 2640 §2).
//!
//! Names here are octets, UTF-8 by custom. A session with a character set has the names in commands decoded, before
//! anything is looked for in them, and those in replies and listings encoded, at the edge of [`super::session`]; nobody
//! in between knows of it.
//!
//! # What a character set cannot express
//!
//! Every name on disk has exactly one form on the wire, and that form leads back to it and to no other: a file can be
//! reached whatever it is called, and a listing never shows a name that means another file. So
//!
//! - a character that the set lacks is written `(U+6F22)`, an octet that is not UTF-8 `(0xE4)`: characters that file
//!   names may have everywhere, URLs and shell patterns included;
//! - the same text in a name on disk has its parenthesis written `(U+0028)`;
//! - a character counts as lacking unless some octets mean just it: Shift_JIS has one code for `\` and `¥`.
//!
//! What a client writes in its set comes back in its set, but for characters with several codes, which come back in the
//! usual one; GBK is that of two octets, and text with the four of gb18030 is none.
//!
//! Neither `?`, which many servers write, nor the octets of UTF-8 would do: both may be the name of another file.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use encoding_rs::{Encoding, GBK, ISO_2022_JP, REPLACEMENT, UTF_8, X_USER_DEFINED};

use table::Table;

/// How names are written on the wire. Every one of them leaves ASCII as it is, so that `/` and line ends are found in
/// octets of the wire as they are in names.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Charset(Option<&'static Table>);

/// Why a label names no character set that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// It is none of the WHATWG's.
    #[error("there is no character set `{}`{}", shown(label), hint(near))]
    Unknown {
        /// As it was given.
        label: String,
        /// What may have been meant, likeliest first.
        near: Vec<&'static str>,
    },
    /// It has other uses for the octets of ASCII.
    #[error(
        "names cannot be in {0}, whose characters contain the octets of `/` and of line ends; give another character set"
    )]
    NotAscii(&'static str),
}

/// The sets by the names that the WHATWG's Encoding Standard gives them; labels of that standard are understood too.
const NAMES: [&str; 36] = [
    "UTF-8",
    "GBK",
    "gb18030",
    "Big5",
    "Shift_JIS",
    "EUC-JP",
    "EUC-KR",
    "windows-874",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "ISO-8859-2",
    "ISO-8859-3",
    "ISO-8859-4",
    "ISO-8859-5",
    "ISO-8859-6",
    "ISO-8859-7",
    "ISO-8859-8",
    "ISO-8859-8-I",
    "ISO-8859-10",
    "ISO-8859-13",
    "ISO-8859-14",
    "ISO-8859-15",
    "ISO-8859-16",
    "KOI8-R",
    "KOI8-U",
    "IBM866",
    "macintosh",
    "x-mac-cyrillic",
    "latin1",
];

/// Code pages of Windows by their numbers, as `chcp` tells them, where the standard has no such label.
const CODE_PAGES: [(&str, &str); 4] = [
    ("cp932", "Shift_JIS"),
    ("cp936", "GBK"),
    ("cp949", "EUC-KR"),
    ("cp950", "Big5"),
];

/// How many alternatives an error names.
const NEAR_MAX: usize = 3;
/// Longest label that is compared with others, and shown, in characters.
const LABEL_SHOWN_MAX: usize = 40;

impl Default for Charset {
    fn default() -> Self {
        Self::UTF_8
    }
}

impl PartialEq for Charset {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Charset {}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Charset {
    type Err = CharsetError;

    /// The character set of a label, in any case: those of the WHATWG's Encoding Standard, and `cp932`, `cp936`, `cp949`,
    /// `cp950`. A set named for the first time takes a few milliseconds.
    fn from_str(label: &str) -> Result<Self, CharsetError> {
        let known = CODE_PAGES
            .iter()
            .find(|(page, _)| page.eq_ignore_ascii_case(label.trim()))
            .map_or(label, |(_, name)| name);
        match Encoding::for_label(known.as_bytes()) {
            None => Err(CharsetError::Unknown {
                label: label.to_owned(),
                near: near(label),
            }),
            Some(set) if set == REPLACEMENT || set == X_USER_DEFINED => {
                Err(CharsetError::Unknown {
                    label: label.to_owned(),
                    near: Vec::new(),
                })
            }
            Some(set) if set == ISO_2022_JP || !set.is_ascii_compatible() => {
                Err(CharsetError::NotAscii(set.name()))
            }
            Some(set) if set == UTF_8 => Ok(Self::UTF_8),
            Some(set) => Ok(Self(Some(Table::of(set)))),
        }
    }
}

impl TryFrom<String> for Charset {
    type Error = CharsetError;

    fn try_from(label: String) -> Result<Self, CharsetError> {
        label.parse()
    }
}

impl Charset {
    /// Octets as they are.
    pub const UTF_8: Self = Self(None);

    /// The standard's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.map_or(UTF_8, |table| table.set).name()
    }

    /// Whether names pass unchanged.
    #[must_use]
    pub const fn is_utf8(self) -> bool {
        self.0.is_none()
    }

    /// Whether 0xFF is a character, which is IAC to Telnet.
    #[must_use]
    pub const fn has_iac(self) -> bool {
        match self.0 {
            Some(table) => table.has_iac,
            None => false,
        }
    }

    /// The name that these octets of the wire mean; `None` when they are no text of this set.
    #[must_use]
    pub fn decode(self, wire: &[u8]) -> Option<Cow<'_, [u8]>> {
        let Some(table) = self.0 else {
            return Some(Cow::Borrowed(wire));
        };
        let text = table
            .set
            .decode_without_bom_handling_and_without_replacement(wire)?;
        // Its decoder is that of gb18030.
        if table.set == GBK && !text.chars().all(|character| table.has(character)) {
            return None;
        }
        if !may_hold_escape(text.as_bytes()) {
            return Some(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
        }
        let mut name = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, behind)) = rest.split_first() {
            match table.escape_at(rest) {
                Some((escaped, behind)) => {
                    escaped.append(&mut name);
                    rest = behind;
                }
                None => {
                    name.push(*first);
                    rest = behind;
                }
            }
        }
        Some(Cow::Owned(name))
    }

    /// The octets of the wire for a name, or for text with names in it; [`Self::decode`] leads back.
    #[must_use]
    pub fn encode(self, name: &[u8]) -> Cow<'_, [u8]> {
        if self.is_plain(name) {
            return Cow::Borrowed(name);
        }
        let mut wire = Vec::with_capacity(name.len());
        self.encode_into(name, &mut wire);
        Cow::Owned(wire)
    }

    /// Appends the same.
    pub fn encode_into(self, name: &[u8], wire: &mut Vec<u8>) {
        let Some(table) = self.0 else {
            return wire.extend_from_slice(name);
        };
        for chunk in name.utf8_chunks() {
            table.append(chunk.valid(), wire);
            for octet in chunk.invalid() {
                Escaped::Octet(*octet).write(wire);
            }
        }
    }

    /// Whether this name is written as it is.
    #[must_use]
    pub fn is_plain(self, name: &[u8]) -> bool {
        self.is_utf8() || (name.is_ascii() && !may_hold_escape(name))
    }
}

impl Table {
    fn append(&self, text: &str, wire: &mut Vec<u8>) {
        let mut rest = text;
        loop {
            let special = |octet: &u8| !octet.is_ascii() || *octet == b'(';
            let plain = rest.as_bytes().iter().position(special);
            let Some((plain, special)) = rest.split_at_checked(plain.unwrap_or(rest.len())) else {
                return;
            };
            wire.extend_from_slice(plain.as_bytes());
            let mut characters = special.chars();
            let Some(character) = characters.next() else {
                return;
            };
            rest = characters.as_str();
            if character == '(' {
                match self.escape_at(special.as_bytes()) {
                    Some(_) => Escaped::Character(character).write(wire),
                    None => wire.push(b'('),
                }
            } else if let Some(code) = self.code_of_pair(character, characters.next()) {
                table::append(code, wire);
                rest = characters.as_str();
            } else if let Some(code) = self.code(character) {
                table::append(code, wire);
            } else {
                Escaped::Character(character).write(wire);
            }
        }
    }

    fn has(&self, character: char) -> bool {
        character.is_ascii() || self.code(character).is_some()
    }

    /// What is written at the beginning of this text, and what follows it. Only what [`Charset::encode`] writes counts, so
    /// neither `/` nor any other character that the set has can come from it.
    fn escape_at<'text>(&self, text: &'text [u8]) -> Option<(Escaped, &'text [u8])> {
        let inner = text.strip_prefix(b"(")?;
        let end = inner.iter().take(9).position(|octet| *octet == b')')?;
        let (inner, rest) = inner.split_at_checked(end)?;
        let rest = rest.strip_prefix(b")")?;
        let escaped = match inner.split_at_checked(2)? {
            (b"U+", digits @ ([_, _, _, _] | [b'1'..=b'9' | b'A'..=b'F', _, _, _, _, ..])) => {
                Escaped::Character(char::from_u32(hexadecimal(digits)?)?)
            }
            (b"0x", digits @ [b'8'..=b'9' | b'A'..=b'F', _]) => {
                Escaped::Octet(u8::try_from(hexadecimal(digits)?).ok()?)
            }
            _ => return None,
        };
        match escaped {
            Escaped::Character('(') | Escaped::Octet(_) => Some((escaped, rest)),
            Escaped::Character(character) => (!self.has(character)).then_some((escaped, rest)),
        }
    }
}

/// What is written in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaped {
    /// Of no use to the set.
    Character(char),
    /// No part of UTF-8, above 0x7F.
    Octet(u8),
}

impl Escaped {
    fn write(self, wire: &mut Vec<u8>) {
        let (start, value, least) = match self {
            Self::Character(character) => (b"(U+", u32::from(character), 4),
            Self::Octet(octet) => (b"(0x", octet.into(), 2),
        };
        wire.extend_from_slice(start);
        let digits = (8 - value.leading_zeros() / 4).max(least);
        for place in (0..digits).rev() {
            let digit = u8::try_from(value >> (4 * place) & 0xF).unwrap_or_default();
            wire.push(digit + if digit < 10 { b'0' } else { b'A' - 10 });
        }
        wire.push(b')');
    }

    fn append(self, name: &mut Vec<u8>) {
        match self {
            Self::Character(character) => {
                name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Self::Octet(octet) => name.push(octet),
        }
    }
}

fn may_hold_escape(name: &[u8]) -> bool {
    let escapes = |window: &[u8]| matches!(window, b"(U+" | b"(0x");
    name.contains(&b'(') && name.windows(3).any(escapes)
}

/// Digits and capitals.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        value.checked_mul(16)?.checked_add(digit.into())
    })
}

/// Names that are like this label, likeliest first.
fn near(label: &str) -> Vec<&'static str> {
    let normal = |name: &str| {
        let name: String = name.chars().take(LABEL_SHOWN_MAX).collect();
        name.to_lowercase().replace(['_', ' '], "-")
    };
    let label = normal(label.trim());
    let distance = |name: &str| {
        let name = normal(name);
        let distance = strsim::damerau_levenshtein(&label, &name);
        (distance <= (name.len() / 3).max(1)).then_some(distance)
    };
    let pages = CODE_PAGES.iter().map(|(page, _)| *page);
    let mut alike: Vec<_> = NAMES
        .into_iter()
        .chain(pages)
        .filter_map(|name| Some((distance(name)?, name)))
        .collect();
    alike.sort_by_key(|(distance, _)| *distance);
    let names = alike.into_iter().map(|(_, name)| name);
    names.take(NEAR_MAX).collect()
}

fn shown(label: &str) -> String {
    let label: String = label.chars().take(LABEL_SHOWN_MAX).collect();
    label.escape_debug().collect()
}

fn hint(near: &[&str]) -> String {
    let known = "give a label of the WHATWG Encoding Standard, as GBK, Shift_JIS, Big5, EUC-KR, windows-1252 or UTF-8";
    match near {
        [] => format!("; {known}"),
        [one] => format!("; did you mean `{one}`? Or {known}"),
        several => format!("; did you mean `{}`? Or {known}", several.join("`, `")),
    }
}

mod table;
#[cfg(test)]
mod tests;
