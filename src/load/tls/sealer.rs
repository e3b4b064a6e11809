//! Seals records with the keys that rustls gave away.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use crate::limits::TLS_RECORD_PLAINTEXT_MAX;
use crate::tls::{BadRecord, Version};

const HEADER_OCTETS: usize = 5;
const TAG_OCTETS: usize = 16;
const NONCE_OCTETS: usize = 12;
/// The part of a nonce that differs from record to record.
const EXPLICIT_OCTETS: usize = 8;
/// The type on the wire of every protected record of TLS 1.3 (RFC 8446 §5.2).
const APPLICATION_DATA: u8 = 23;

/// Most octets that a record has beyond its payload.
const OVERHEAD_OCTETS_MAX: usize = HEADER_OCTETS + EXPLICIT_OCTETS + TAG_OCTETS;

/// Octets that are always enough for the records of so much plaintext.
#[must_use]
const fn sealed_len_max(plain: usize) -> usize {
    plain + (plain.div_ceil(TLS_RECORD_PLAINTEXT_MAX) + 1) * OVERHEAD_OCTETS_MAX
}

/// The sending half of a connection.
pub(super) struct RecordSealer {
    key: LessSafeKey,
    iv: [u8; NONCE_OCTETS],
    sequence: u64,
    version: Version,
    /// Does a record bring a part of its nonce (RFC 5288 §3)?
    explicit: bool,
}

impl RecordSealer {
    /// Takes the keys that rustls gave away.
    ///
    /// # Errors
    /// They are for no cipher that is known here.
    pub(super) fn new(
        version: Version,
        secrets: (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, BadRecord> {
        use ConnectionTrafficSecrets as S;
        let (sequence, secrets) = secrets;
        let (key, iv, gcm) = match &secrets {
            S::Aes128Gcm { key, iv } | S::Aes256Gcm { key, iv } => (key, iv, true),
            S::Chacha20Poly1305 { key, iv } => (key, iv, false),
            _ => return Err(BadRecord),
        };
        // In TLS 1.2 rustls gives AES-256 away under the name of AES-128.
        let algorithm = match (gcm, key.as_ref().len()) {
            (true, 16) => &AES_128_GCM,
            (true, _) => &AES_256_GCM,
            (false, _) => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| BadRecord)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| BadRecord)?,
            sequence,
            version,
            explicit: gcm && version == Version::Tls12,
        })
    }

    /// Appends records with this payload.
    ///
    /// # Errors
    /// The sequence is used up, or the cipher failed.
    pub(super) fn seal(
        &mut self,
        record_type: u8,
        payload: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), BadRecord> {
        outgoing.reserve(sealed_len_max(payload.len()));
        for part in payload.chunks(TLS_RECORD_PLAINTEXT_MAX) {
            self.seal_record(record_type, part, outgoing)?;
        }
        Ok(())
    }

    fn seal_record(
        &mut self,
        record_type: u8,
        payload: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), BadRecord> {
        let mut nonce = self.iv;
        let last = nonce.iter_mut().skip(NONCE_OCTETS - EXPLICIT_OCTETS);
        for (place, octet) in last.zip(self.sequence.to_be_bytes()) {
            *place ^= octet;
        }
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(BadRecord)?;
        // TLS 1.3 hides the type behind the payload.
        let hidden = usize::from(self.version == Version::Tls13);
        let explicit = if self.explicit { EXPLICIT_OCTETS } else { 0 };
        let length = u16::try_from(explicit + payload.len() + hidden + TAG_OCTETS);
        let [high, low] = length.map_err(|_| BadRecord)?.to_be_bytes();
        let wire_type = if hidden == 1 {
            APPLICATION_DATA
        } else {
            record_type
        };
        let header = [wire_type, 3, 3, high, low];
        outgoing.extend_from_slice(&header);
        let (_, tail) = nonce.split_at(NONCE_OCTETS - EXPLICIT_OCTETS);
        outgoing.extend_from_slice(tail.get(..explicit).unwrap_or_default());
        let start = outgoing.len();
        outgoing.extend_from_slice(payload);
        if hidden == 1 {
            outgoing.push(record_type);
        }
        let body = outgoing.get_mut(start..).ok_or(BadRecord)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = if hidden == 1 {
            self.key
                .seal_in_place_separate_tag(nonce, Aad::from(header), body)
        } else {
            // RFC 5246 §6.2.3.3.
            let [high, low] = u16::try_from(payload.len())
                .map_err(|_| BadRecord)?
                .to_be_bytes();
            let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
            let associated = [a, b, c, d, e, f, g, h, record_type, 3, 3, high, low];
            self.key
                .seal_in_place_separate_tag(nonce, Aad::from(associated), body)
        };
        outgoing.extend_from_slice(tag.map_err(|_| BadRecord)?.as_ref());
        Ok(())
    }
}
