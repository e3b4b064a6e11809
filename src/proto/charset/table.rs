//! What a set writes for each character: its decoder turned round.
//!
//! The standard's encoders write less than its decoders read: EUC-JP without JIS X 0212, Big5 without most of HKSCS.
//! What a client writes has to come back as it wrote it, or a program that compares names uploads for ever. Looking a
//! character up takes a few nanoseconds besides, where some of those encoders search a whole table for each.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use encoding_rs::{DecoderResult, EUC_JP, EncoderResult, Encoding, GB18030};

/// Characters of a page.
const PAGE: usize = 256;
/// Pages of the planes that have characters in tables: U+0000 to U+2FFFF.
const PAGES: usize = 0x300;
/// Codes of four octets that gb18030 has for the first plane, in their order.
const FIRST_PLANE: u32 = 39_420;
/// The one that gb18030 has for U+10000; those of the other planes follow without a gap.
const OTHER_PLANES: u32 = 189_000;
/// More than a code is, or means, and what the coders want to be sure of.
const ROOM: usize = 32;

/// The inverse of a decoder: at most 16 KiB for a set of one octet, 400 KiB for others.
pub(super) struct Table {
    pub(super) set: &'static Encoding,
    /// Whether 0xFF is a character.
    pub(super) has_iac: bool,
    /// Which of `codes` each page is; the first for those without any.
    pages: Vec<u16>,
    /// Octets as a number, the first one highest; 0 where the set has none. Every one means its character exactly.
    codes: Vec<[u32; PAGE]>,
    /// Codes that mean two characters.
    pairs: Vec<([char; 2], u32)>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.set.name())
    }
}

impl Table {
    /// The one of this set. Made when it is asked for first, which takes some milliseconds, and kept: there are no more
    /// than sets.
    pub(super) fn of(set: &'static Encoding) -> &'static Self {
        static MADE: Mutex<Vec<&'static Table>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = made.iter().find(|table| table.set == set) {
            return table;
        }
        let table: &'static Self = Box::leak(Box::new(Self::new(set)));
        made.push(table);
        table
    }

    fn new(set: &'static Encoding) -> Self {
        let mut table = Self {
            set,
            has_iac: meaning(set, &[0xFF], &mut [0; ROOM]).is_some(),
            pages: vec![0; PAGES],
            codes: vec![[0; PAGE]],
            pairs: Vec::new(),
        };
        for first in 0x80..=0xFF {
            if table.learn(&[first]) || set.is_single_byte() {
                continue;
            }
            for second in 0x30..=0xFF {
                table.learn(&[first, second]);
            }
        }
        if set == EUC_JP {
            for second in 0xA1..=0xFE {
                for third in 0xA1..=0xFE {
                    table.learn(&[0x8F, second, third]);
                }
            }
        }
        if set == GB18030 {
            for index in 0..FIRST_PLANE {
                table.learn(&four_octets(index).to_be_bytes());
            }
        }
        table.codes.shrink_to_fit();
        table
    }

    /// Enters what these octets mean; whether they mean anything.
    fn learn(&mut self, octets: &[u8]) -> bool {
        let mut room = [0; ROOM];
        let Some(text) = meaning(self.set, octets, &mut room) else {
            return false;
        };
        let code = octets.iter().fold(0, |code, o| code << 8 | u32::from(*o));
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => self.enter(character, code),
            (Some(one), Some(two)) => self.pairs.push(([one, two], code)),
            _ => {}
        }
        true
    }

    /// Of several codes the one that the standard's encoder writes, as other programs do.
    fn enter(&mut self, character: char, code: u32) {
        let (page, place) = position(character);
        let Some(page) = self.pages.get_mut(page) else {
            return;
        };
        if *page == 0 {
            *page = u16::try_from(self.codes.len()).unwrap_or(0);
            self.codes.push([0; PAGE]);
        }
        let page = self.codes.get_mut(usize::from(*page));
        if let Some(known) = page.and_then(|codes| codes.get_mut(place))
            && (*known == 0 || usual(self.set, character) == Some(code))
        {
            *known = code;
        }
    }

    /// What the set writes for a character that is not of ASCII.
    pub(super) fn code(&self, character: char) -> Option<u32> {
        let (page, place) = position(character);
        let page = self.pages.get(page).copied().unwrap_or(0);
        match self.codes.get(usize::from(page))?.get(place)? {
            0 if self.set == GB18030 => {
                let index = u32::from(character).checked_sub(0x1_0000)?;
                Some(four_octets(OTHER_PLANES + index))
            }
            0 => None,
            code => Some(*code),
        }
    }

    /// What it writes for two characters together.
    pub(super) fn code_of_pair(&self, one: char, two: Option<char>) -> Option<u32> {
        let pair = [one, two.filter(|_| !self.pairs.is_empty())?];
        let known = self.pairs.iter().find(|(known, _)| *known == pair);
        known.map(|(_, code)| *code)
    }
}

/// The octets of a code.
pub(super) fn append(code: u32, wire: &mut Vec<u8>) {
    match code.to_be_bytes() {
        [0, 0, 0, octet] => wire.push(octet),
        [0, 0, octets @ ..] => wire.extend_from_slice(&octets),
        [0, octets @ ..] => wire.extend_from_slice(&octets),
        octets => wire.extend_from_slice(&octets),
    }
}

/// The page of a character, and its place there.
const fn position(character: char) -> (usize, usize) {
    let scalar = character as usize;
    (scalar / PAGE, scalar % PAGE)
}

/// What octets mean, all of them together.
fn meaning<'room>(
    set: &'static Encoding,
    octets: &[u8],
    room: &'room mut [u8; ROOM],
) -> Option<&'room str> {
    let mut decoder = set.new_decoder_without_bom_handling();
    let (result, _, length) = decoder.decode_to_utf8_without_replacement(octets, room, true);
    let text = room.get(..length)?;
    (result == DecoderResult::InputEmpty).then_some(std::str::from_utf8(text).ok()?)
}

/// What the standard's encoder writes.
fn usual(set: &'static Encoding, character: char) -> Option<u32> {
    let (mut text, mut room) = ([0; 4], [0; ROOM]);
    let text = character.encode_utf8(&mut text);
    let mut encoder = set.new_encoder();
    let (result, _, length) = encoder.encode_from_utf8_without_replacement(text, &mut room, true);
    let octets = room.get(..length)?.iter();
    (result == EncoderResult::InputEmpty)
        .then(|| octets.fold(0, |code, octet| code << 8 | u32::from(*octet)))
}

/// A code of gb18030 by its place in their order.
fn four_octets(index: u32) -> u32 {
    let (index, fourth) = (index / 10, index % 10);
    let (index, third) = (index / 126, index % 126);
    let (first, second) = (index / 10, index % 10);
    (0x81 + first) << 24 | (0x30 + second) << 16 | (0x81 + third) << 8 | (0x30 + fourth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_small_as_they_are_said_to_be() {
        for name in crate::proto::charset::NAMES.into_iter().skip(1) {
            let Some(set) = Encoding::for_label(name.as_bytes()) else {
                panic!("{name}");
            };
            let table = Table::of(set);
            assert!(std::ptr::eq(table, Table::of(set)), "{name} is made once");
            let octets = table.codes.len() * size_of::<[u32; PAGE]>() + PAGES * 2;
            let most = if set.is_single_byte() { 16 } else { 400 };
            assert!(octets <= most << 10, "{name}: {octets}");
        }
    }
}
