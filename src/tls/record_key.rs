//! One direction's key of a connection that rustls has given away: what sealing and opening share.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::protection::Version;

/// Octets of a record's header (RFC 8446 §5.1).
pub(super) const HEADER_OCTETS: usize = 5;
/// Octets of the tag of every cipher here.
pub(super) const TAG_OCTETS: usize = 16;
/// Octets of the nonce that come with the record in TLS 1.2 with AES-GCM (RFC 5288 §3).
pub(super) const EXPLICIT_OCTETS: usize = 8;
/// The type on the wire of every protected record of TLS 1.3 (RFC 8446 §5.2).
pub(super) const APPLICATION_DATA: u8 = 23;

/// Keys of a cipher that is not known here, or used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("TLS: no usable key for records")]
pub struct BadKey;

/// A key, and the number of the next record.
pub(super) struct RecordKey {
    pub(super) aead: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    pub(super) version: Version,
    /// Does a record bring a part of its nonce?
    pub(super) explicit: bool,
}

impl RecordKey {
    /// Takes what rustls gave away.
    pub(super) fn new(
        version: Version,
        secrets: (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, BadKey> {
        use ConnectionTrafficSecrets as S;
        let (sequence, secrets) = secrets;
        let (key, iv, gcm) = match &secrets {
            S::Aes128Gcm { key, iv } | S::Aes256Gcm { key, iv } => (key, iv, true),
            S::Chacha20Poly1305 { key, iv } => (key, iv, false),
            _ => return Err(BadKey),
        };
        // In TLS 1.2 rustls gives AES-256 away under the name of AES-128.
        let algorithm = match (gcm, key.as_ref().len()) {
            (true, 16) => &AES_128_GCM,
            (true, _) => &AES_256_GCM,
            (false, _) => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| BadKey)?;
        Ok(Self {
            aead: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| BadKey)?,
            sequence,
            version,
            explicit: gcm && version == Version::Tls12,
        })
    }

    /// The number of the next record, which is never given out again.
    pub(super) fn next_sequence(&mut self) -> Result<u64, BadKey> {
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(BadKey)?;
        Ok(sequence)
    }

    /// The nonce that follows from a record's number (RFC 8446 §5.3, RFC 7905 §2). rustls makes the
    /// explicit half of TLS 1.2 with AES-GCM in the same way, from an IV of twelve octets; going on like
    /// that never repeats one of its nonces.
    pub(super) fn implicit_nonce(&self, sequence: u64) -> [u8; 12] {
        let mut nonce = self.iv;
        let last = nonce.iter_mut().skip(12 - EXPLICIT_OCTETS);
        for (place, octet) in last.zip(sequence.to_be_bytes()) {
            *place ^= octet;
        }
        nonce
    }

    /// The nonce of a record that brings its half of it.
    pub(super) fn explicit_nonce(&self, half: &[u8]) -> Nonce {
        let mut nonce = self.iv;
        let last = nonce.iter_mut().skip(12 - EXPLICIT_OCTETS);
        for (place, octet) in last.zip(half) {
            *place = *octet;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What TLS 1.2 authenticates beside the payload (RFC 5246 §6.2.3.3).
pub(super) fn associated_data(sequence: u64, record_type: u8, length: u16) -> [u8; 13] {
    let mut associated = [0; 13];
    let parts = sequence
        .to_be_bytes()
        .into_iter()
        .chain([record_type, 3, 3])
        .chain(length.to_be_bytes());
    for (place, octet) in associated.iter_mut().zip(parts) {
        *place = octet;
    }
    associated
}
