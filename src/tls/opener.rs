//! Opens the few records that a client sends on a connection whose other half the kernel protects:
//! alerts, key updates, whatever else.
//!
//! The kernel is not asked to, although it could: a client that sends empty records in quick succession
//! keeps the kernel inside one receive call, and with it the core.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::offload::Version;

const HEADER_OCTETS: usize = 5;
const TAG_OCTETS: usize = 16;
/// Octets of the nonce that come from the record in TLS 1.2 with AES-GCM (RFC 5288 §3).
const EXPLICIT_OCTETS: usize = 8;
/// The type on the wire of every protected record of TLS 1.3 (RFC 8446 §5.2).
const APPLICATION_DATA: u8 = 23;

/// A record that could not be opened: changed, out of order, or under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("TLS: a record could not be opened")]
pub struct BadRecord;

/// The receiving half of a connection.
pub struct RecordOpener {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    version: Version,
    /// Does a record bring a part of its nonce?
    explicit: bool,
}

impl RecordOpener {
    /// Takes the keys that rustls gave away.
    ///
    /// # Errors
    /// They are for no cipher that is known here.
    pub fn new(
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

    /// Opens a whole record in place: its type and its payload.
    ///
    /// # Errors
    /// [`BadRecord`]; nothing that follows can be opened.
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<(u8, &'a [u8]), BadRecord> {
        let (header, body) = record
            .split_at_mut_checked(HEADER_OCTETS)
            .ok_or(BadRecord)?;
        let header: [u8; HEADER_OCTETS] = (&*header).try_into().map_err(|_| BadRecord)?;
        let nonce = self.nonce(body);
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(BadRecord)?;
        let [wire_type, ..] = header;
        if self.version == Version::Tls13 {
            if wire_type != APPLICATION_DATA {
                return Err(BadRecord);
            }
            let opened = self.key.open_in_place(nonce, Aad::from(header), body);
            let plain: &'a [u8] = opened.map_err(|_| BadRecord)?;
            // Behind the payload the type, behind that padding (RFC 8446 §5.2).
            let end = plain.iter().rposition(|octet| *octet != 0);
            let (payload, rest) = plain.split_at(end.ok_or(BadRecord)?);
            return Ok((*rest.first().ok_or(BadRecord)?, payload));
        }
        let prefix = if self.explicit { EXPLICIT_OCTETS } else { 0 };
        let sealed = body.get_mut(prefix..).ok_or(BadRecord)?;
        let length = sealed.len().checked_sub(TAG_OCTETS).ok_or(BadRecord)?;
        let length = u16::try_from(length).map_err(|_| BadRecord)?;
        // RFC 5246 §6.2.3.3.
        let mut associated = [0; 13];
        let parts = sequence
            .to_be_bytes()
            .into_iter()
            .chain([wire_type, 3, 3])
            .chain(length.to_be_bytes());
        for (place, octet) in associated.iter_mut().zip(parts) {
            *place = octet;
        }
        let opened = self.key.open_in_place(nonce, Aad::from(associated), sealed);
        let plain: &'a [u8] = opened.map_err(|_| BadRecord)?;
        Ok((wire_type, plain))
    }

    fn nonce(&self, body: &[u8]) -> Nonce {
        let mut nonce = self.iv;
        let last = nonce.iter_mut().skip(nonce_offset());
        if self.explicit {
            for (place, octet) in last.zip(body.iter().take(EXPLICIT_OCTETS)) {
                *place = *octet;
            }
        } else {
            for (place, octet) in last.zip(self.sequence.to_be_bytes()) {
                *place ^= octet;
            }
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Where the eight octets begin that differ from record to record.
const fn nonce_offset() -> usize {
    12 - EXPLICIT_OCTETS
}

#[cfg(test)]
mod tests {
    use rustls::ClientConfig;
    use rustls::crypto::aws_lc_rs;

    use super::super::record::{ALERT, CLOSE_NOTIFY, complete_len};
    use super::super::testing::{Pair, now, pem, settings};
    use super::super::{ControlTls, Resume, Role};
    use super::*;

    /// What a rustls client sends is what comes out, for every protection.
    #[test]
    fn opens_what_rustls_seals() {
        let mut seen = 0;
        for suite in aws_lc_rs::ALL_CIPHER_SUITES {
            // The suites of RSA certificates have the same ciphers.
            let name = format!("{:?}", suite.suite());
            if name.contains("_RSA_") {
                continue;
            }
            let settings = settings(Resume::Off);
            let control = ControlTls::new(&settings, now());
            let provider = rustls::crypto::CryptoProvider {
                cipher_suites: vec![*suite],
                ..aws_lc_rs::default_provider()
            };
            let config = ClientConfig::builder_with_provider(provider.into())
                .with_protocol_versions(&[suite.version()])
                .unwrap()
                .with_root_certificates(roots())
                .with_no_client_auth();
            check(Pair::established(
                &settings,
                Role::Download,
                &control,
                config,
            ));
            seen += 1;
        }
        assert_eq!(seen, 6);
    }

    fn roots() -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        let (certificate, _) = pem(0);
        for certificate in rustls_pemfile::certs(&mut certificate.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        roots
    }

    fn check(mut pair: Pair) {
        pair.write(b"first");
        pair.write(&[7; 3000]);
        pair.client.send_close_notify();
        pair.send();
        let Pair {
            engine, incoming, ..
        } = pair;
        let protection = engine.protection().unwrap();
        let (secrets, _) = engine.into_kernel_connection().unwrap();
        let mut opener = RecordOpener::new(protection.version, secrets.rx).unwrap();
        let mut rest = incoming;
        let mut records = Vec::new();
        while let Some(length) = complete_len(&rest) {
            let mut record: Vec<u8> = rest.drain(..length).collect();
            let (record_type, payload) = opener.open(&mut record).unwrap();
            records.push((record_type, payload.to_vec()));
        }
        let expected = [
            (APPLICATION_DATA, b"first".to_vec()),
            (APPLICATION_DATA, vec![7; 3000]),
            (ALERT, CLOSE_NOTIFY.to_vec()),
        ];
        assert_eq!(records, expected, "{protection}");
        for length in [0, 3, 5, 6, 20, 30] {
            assert_eq!(opener.open(&mut vec![23; length]), Err(BadRecord));
        }
    }
}
