//! TLS records: how long one on the wire is, and what one that the kernel has decrypted says. Pure.

use crate::limits;

/// Octets of a record's header (RFC 8446 §5.1).
const HEADER_OCTETS: usize = 5;
/// Largest fragment of a protected record: RFC 5246 §6.2.3 allows more than RFC 8446 §5.2.
const FRAGMENT_OCTETS_MAX: usize = limits::TLS_RECORD_PLAINTEXT_MAX + 2048;
/// Octets of the longest record.
pub const RECORD_OCTETS_MAX: usize = HEADER_OCTETS + FRAGMENT_OCTETS_MAX;

/// Content types (RFC 8446 §5.1).
pub const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// close_notify, at the level that every implementation sends (RFC 8446 §6.1).
pub const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// A fatal unexpected_message.
pub const UNEXPECTED_MESSAGE: [u8; 2] = [2, 10];
/// A fatal bad_record_mac.
pub const BAD_RECORD: [u8; 2] = [2, 20];
/// The alert user_canceled, which announces a close_notify (RFC 8446 §6.1).
pub const USER_CANCELED: u8 = 90;
/// KeyUpdate, update_not_requested (RFC 8446 §4.6.3).
pub const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
/// The record type that [`KEY_UPDATE`] goes in.
pub const KEY_UPDATE_TYPE: u8 = HANDSHAKE;

/// Length of the record at the front of `octets` if it is complete.
///
/// Octets that cannot be a record's header come back whole: rustls finds what is wrong with them
/// and answers with the alert for it, where waiting for their pretended length would stall.
#[must_use]
pub fn complete_len(octets: &[u8]) -> Option<usize> {
    let &[kind, major, _, high, low, ..] = octets else {
        return None;
    };
    let fragment = usize::from(u16::from_be_bytes([high, low]));
    // Content types from change_cipher_spec to heartbeat (RFC 8446 §B.1).
    if !(20..=24).contains(&kind) || major != 3 || fragment > FRAGMENT_OCTETS_MAX {
        return Some(octets.len());
    }
    let len = HEADER_OCTETS + fragment;
    (octets.len() >= len).then_some(len)
}

/// Octets that are missing until the incomplete record in `octets` is complete, as far as one can
/// tell: less than a header tells no more than itself.
#[must_use]
pub fn missing_len(octets: &[u8]) -> usize {
    let &[_, _, _, high, low, ..] = octets else {
        return HEADER_OCTETS - octets.len().min(HEADER_OCTETS);
    };
    let fragment = usize::from(u16::from_be_bytes([high, low]));
    (HEADER_OCTETS + fragment).saturating_sub(octets.len())
}

/// A record of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Octets of the file.
    Data,
    /// FIN: nothing follows, and nothing said that this would be the end.
    EndOfStream,
    /// The peer's octets end here.
    CloseNotify,
    /// The peer has failed; the number says why (RFC 8446 §6.2).
    Alert(u8),
    /// The peer's next records have new keys; perhaps it wants new ones of us, too.
    KeyUpdate {
        /// update_requested.
        requested: bool,
    },
    /// It could not be opened.
    Bad,
    /// Nothing that a client may send here: a new handshake (TLS 1.2), a ticket, a fragment of a
    /// message, an unknown type.
    Unexpected(u8),
}

impl Record {
    /// Reads a record as kernel TLS delivers it. `tls13` tells whether there are key updates.
    #[must_use]
    pub fn read(record_type: Option<u8>, payload: &[u8], tls13: bool) -> Self {
        match (record_type, payload) {
            (Some(APPLICATION_DATA) | None, [_, ..]) => Self::Data,
            // An empty record is data too (RFC 8446 §5.1); without a type it is the end.
            (Some(APPLICATION_DATA), []) => Self::Data,
            (None, []) => Self::EndOfStream,
            (Some(ALERT), [_, 0]) => Self::CloseNotify,
            (Some(ALERT), [_, description]) => Self::Alert(*description),
            (Some(HANDSHAKE), [24, 0, 0, 1, requested @ (0 | 1)]) if tls13 => Self::KeyUpdate {
                requested: *requested == 1,
            },
            (Some(other), _) => Self::Unexpected(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_record_tells_what_is_missing() {
        let record = [23, 3, 3, 1, 2, 0, 0];
        let missing: Vec<usize> = (0..8).map(|count| missing_len(&record[..count])).collect();
        assert_eq!(missing, [5, 4, 3, 2, 1, 258, 257, 256]);
        assert_eq!(complete_len(&record), None);
        let whole: Vec<u8> = record.into_iter().chain([0; 300]).collect();
        assert_eq!(complete_len(&whole), Some(5 + 258));
    }

    #[test]
    fn records_say_what_they_are() {
        let cases: [(Option<u8>, &[u8], Record); 14] = [
            (Some(23), b"octets", Record::Data),
            (Some(23), b"", Record::Data),
            (None, b"octets", Record::Data),
            (None, b"", Record::EndOfStream),
            (Some(21), &[1, 0], Record::CloseNotify),
            (Some(21), &[2, 0], Record::CloseNotify),
            (Some(21), &[2, 20], Record::Alert(20)),
            (Some(21), &[1], Record::Unexpected(21)),
            (
                Some(22),
                &[24, 0, 0, 1, 0],
                Record::KeyUpdate { requested: false },
            ),
            (
                Some(22),
                &[24, 0, 0, 1, 1],
                Record::KeyUpdate { requested: true },
            ),
            (Some(22), &[24, 0, 0, 1, 2], Record::Unexpected(22)),
            (Some(22), &[4, 0, 0, 1, 0], Record::Unexpected(22)),
            (Some(22), &[24, 0, 0, 1, 0, 24], Record::Unexpected(22)),
            (Some(77), b"", Record::Unexpected(77)),
        ];
        for (record_type, payload, expected) in cases {
            assert_eq!(
                Record::read(record_type, payload, true),
                expected,
                "{record_type:?} {payload:?}"
            );
        }
        let old = Record::read(Some(22), &[24, 0, 0, 1, 0], false);
        assert_eq!(old, Record::Unexpected(22), "TLS 1.2 has no key updates");
    }
}
