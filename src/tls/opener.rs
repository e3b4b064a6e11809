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
    pub(super) fn new(
        version: Version,
        secrets: (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, BadKey> {
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
        let (header, body) = record
            .split_at_checked(HEADER_OCTETS)
            .ok_or(BadRecord)?;
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
            let record: Vec<u8> = rest.drain(..length).collect();
            let mut payload = record.clone();
            let (record_type, count) = opener.open(&record, &mut payload).unwrap();
            payload.truncate(count);
            records.push((record_type, payload));
        }
        let expected = [
            (APPLICATION_DATA, b"first".to_vec()),
            (APPLICATION_DATA, vec![7; 3000]),
            (ALERT, CLOSE_NOTIFY.to_vec()),
        ];
        assert_eq!(records, expected, "{protection}");
        for length in [0, 3, 5, 6, 20, 30] {
            assert_eq!(opener.open(&vec![23; length], &mut [0; 99]), Err(BadRecord));
        }
    }
}
