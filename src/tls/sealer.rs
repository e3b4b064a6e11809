//! Seals records in this process with the keys that rustls gave away, from one buffer into another: the
//! cipher is the only thing that touches the octets. rustls would copy them twice besides.

use aws_lc_rs::aead::{Aad, Nonce};
use rustls::ConnectionTrafficSecrets;

use super::protection::Version;
use super::record_key::{
    APPLICATION_DATA, BadKey, EXPLICIT_OCTETS, HEADER_OCTETS, RecordKey, TAG_OCTETS,
    associated_data,
};
use crate::limits;

/// The sending half of a connection.
pub struct RecordSealer(RecordKey);

impl RecordSealer {
    /// Takes the keys that rustls gave away.
    ///
    /// # Errors
    /// They are for no cipher that is known here.
    pub fn new(version: Version, secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, BadKey> {
        RecordKey::new(version, secrets).map(Self)
    }

    /// Seals application data into records as large as possible at the front of `out`, which should
    /// have [`super::sealed_len`] octets; returns how many it took.
    ///
    /// # Errors
    /// [`BadKey`]: `out` is too small, or the numbers of records are used up.
    pub fn seal_data(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, BadKey> {
        let mut end = 0;
        for payload in plain.chunks(limits::TLS_RECORD_PLAINTEXT_MAX) {
            let free = out.get_mut(end..).unwrap_or_default();
            end += self.seal(APPLICATION_DATA, payload, free)?;
        }
        Ok(end)
    }

    /// Seals one record at the front of `out`; returns its length.
    ///
    /// # Errors
    /// As [`Self::seal_data`].
    pub fn seal(
        &mut self,
        record_type: u8,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, BadKey> {
        let key = &mut self.0;
        let sequence = key.next_sequence()?;
        let tls13 = key.version == Version::Tls13;
        let prefix = if key.explicit { EXPLICIT_OCTETS } else { 0 };
        // TLS 1.3 hides the type behind the payload (RFC 8446 §5.2).
        let hidden = [record_type];
        let (wire_type, inner) = match tls13 {
            true => (APPLICATION_DATA, hidden.as_slice()),
            false => (record_type, [].as_slice()),
        };
        let fragment = prefix + payload.len() + inner.len() + TAG_OCTETS;
        let fragment_octets = u16::try_from(fragment).map_err(|_| BadKey)?;
        let record = out.get_mut(..HEADER_OCTETS + fragment).ok_or(BadKey)?;
        let (header, body) = record.split_at_mut_checked(HEADER_OCTETS).ok_or(BadKey)?;
        let [high, low] = fragment_octets.to_be_bytes();
        let head = [wire_type, 3, 3, high, low];
        header.copy_from_slice(&head);
        let nonce = key.implicit_nonce(sequence);
        let (explicit, body) = body.split_at_mut_checked(prefix).ok_or(BadKey)?;
        explicit.copy_from_slice(nonce.get(12 - prefix..).ok_or(BadKey)?);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (sealed, end) = body.split_at_mut_checked(payload.len()).ok_or(BadKey)?;
        let aead = &key.aead;
        let done = if tls13 {
            aead.seal_out_of_place_scatter(nonce, Aad::from(head), payload, sealed, inner, end)
        } else {
            let length = u16::try_from(payload.len()).map_err(|_| BadKey)?;
            let associated = Aad::from(associated_data(sequence, record_type, length));
            aead.seal_out_of_place_scatter(nonce, associated, payload, sealed, inner, end)
        };
        done.map_err(|_| BadKey)?;
        Ok(HEADER_OCTETS + fragment)
    }
}
