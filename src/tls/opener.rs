//! Opens the records that a client sends on a connection that rustls has given away.
//!
//! Where the kernel seals, it is not asked to open, although it could: a client that sends empty records
//! in quick succession keeps the kernel inside one receive call, and with it the core.

use aws_lc_rs::aead::{Aad, Nonce};
use rustls::ConnectionTrafficSecrets;

use super::protection::Version;
use super::record_key::{
    APPLICATION_DATA, BadKey, EXPLICIT_OCTETS, HEADER_OCTETS, RecordKey, TAG_OCTETS,
    associated_data,
};

/// A record that could not be opened: changed, out of order, or under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("TLS: a record could not be opened")]
pub struct BadRecord;

/// The receiving half of a connection.
pub struct RecordOpener(RecordKey);

impl RecordOpener {
    /// Takes the keys that rustls gave away.
    ///
    /// # Errors
    /// They are for no cipher that is known here.
    pub fn new(version: Version, secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, BadKey> {
        RecordKey::new(version, secrets).map(Self)
    }

    /// Opens a whole record into the front of `out`: its type, and how many octets its payload has. What
    /// follows the payload in `out` may have been overwritten, as far as the record is long.
    ///
    /// # Errors
    /// [`BadRecord`]; nothing that follows can be opened. It also means that `out` is shorter than the
    /// record.
    pub fn open(&mut self, record: &[u8], out: &mut [u8]) -> Result<(u8, usize), BadRecord> {
        let key = &mut self.0;
        let (header, body) = record.split_at_checked(HEADER_OCTETS).ok_or(BadRecord)?;
        let header: [u8; HEADER_OCTETS] = header.try_into().map_err(|_| BadRecord)?;
        let [wire_type, ..] = header;
        let sequence = key.next_sequence().map_err(|_| BadRecord)?;
        let nonce = Nonce::assume_unique_for_key(key.implicit_nonce(sequence));
        let (nonce, sealed) = match key.explicit {
            false => (nonce, body),
            true => {
                let (half, sealed) = body.split_at_checked(EXPLICIT_OCTETS).ok_or(BadRecord)?;
                (key.explicit_nonce(half), sealed)
            }
        };
        let length = sealed.len().checked_sub(TAG_OCTETS).ok_or(BadRecord)?;
        let (sealed, tag) = sealed.split_at_checked(length).ok_or(BadRecord)?;
        let out = out.get_mut(..length).ok_or(BadRecord)?;
        let aead = &key.aead;
        if key.version == Version::Tls12 {
            let length_octets = u16::try_from(length).map_err(|_| BadRecord)?;
            let associated = associated_data(sequence, wire_type, length_octets);
            aead.open_separate_gather(nonce, Aad::from(associated), sealed, tag, out)
                .map_err(|_| BadRecord)?;
            return Ok((wire_type, length));
        }
        if wire_type != APPLICATION_DATA {
            return Err(BadRecord);
        }
        aead.open_separate_gather(nonce, Aad::from(header), sealed, tag, out)
            .map_err(|_| BadRecord)?;
        // Behind the payload the type, behind that padding (RFC 8446 §5.2).
        let end = out.iter().rposition(|octet| *octet != 0).ok_or(BadRecord)?;
        Ok((*out.get(end).ok_or(BadRecord)?, end))
    }
}
