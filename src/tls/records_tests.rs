//! What rustls seals is what we open, and the reverse, for every protection.

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;

use super::opener::{BadRecord, RecordOpener};
use super::record::{ALERT, CLOSE_NOTIFY, KEY_UPDATE, KEY_UPDATE_TYPE, complete_len};
use super::record_key::{APPLICATION_DATA, BadKey};
use super::sealer::RecordSealer;
use super::testing::{Pair, now, pem, settings};
use super::{ControlTls, Resume, Role, sealed_len};

/// Runs the check with a connection of each protection.
fn for_every_protection(check: impl Fn(Pair)) {
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
        let pair = Pair::established(&settings, Role::Download, &control, config);
        check(pair);
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

#[test]
fn opens_what_rustls_seals() {
    for_every_protection(|mut pair| {
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
            let bad = opener.open(&vec![23; length], &mut [0; 99]);
            assert_eq!(bad, Err(BadRecord));
        }
    });
}

#[test]
fn rustls_opens_what_is_sealed() {
    for_every_protection(|mut pair| {
        // rustls has sealed something before: the numbers go on behind it.
        let mut before = Vec::new();
        pair.engine.seal(b"by rustls", &mut before).unwrap();
        let Pair {
            engine, mut client, ..
        } = pair;
        let protection = engine.protection().unwrap();
        let (secrets, mut connection) = engine.into_kernel_connection().unwrap();
        let mut sealer = RecordSealer::new(protection.version, secrets.tx).unwrap();
        let content: Vec<u8> = (0..70_000_u32).map(|number| number as u8).collect();
        let mut records = vec![0; 2 * sealed_len(content.len())];
        let mut end = 0;
        for count in [1, 16_383, 16_384, 16_385, 0, 70_000] {
            end += sealer
                .seal_data(&content[..count], &mut records[end..])
                .unwrap();
        }
        // New keys, where there are any.
        if protection.version == super::Version::Tls13 {
            end += sealer
                .seal(KEY_UPDATE_TYPE, &KEY_UPDATE, &mut records[end..])
                .unwrap();
            let secrets = connection.update_tx_secret().unwrap();
            sealer = RecordSealer::new(protection.version, secrets).unwrap();
        }
        end += sealer.seal_data(b"last", &mut records[end..]).unwrap();
        end += sealer
            .seal(ALERT, &CLOSE_NOTIFY, &mut records[end..])
            .unwrap();
        let mut expected = b"by rustls".to_vec();
        for count in [1, 16_383, 16_384, 16_385, 70_000] {
            expected.extend_from_slice(&content[..count]);
        }
        expected.extend_from_slice(b"last");
        let sealed = [before.as_slice(), &records[..end]].concat();
        let (plain, closed) = open(&mut client, &sealed);
        assert!(plain == expected && closed, "{protection}");
        let short = sealer.seal(APPLICATION_DATA, b"octets", &mut [0; 20]);
        assert_eq!(short, Err(BadKey));
    });
}

/// What the client makes of the records, and whether the last of them was close_notify.
fn open(client: &mut rustls::ClientConnection, mut records: &[u8]) -> (Vec<u8>, bool) {
    use std::io::Read;
    let mut plain = Vec::new();
    loop {
        if !records.is_empty() {
            client.read_tls(&mut records).unwrap();
        }
        let state = client.process_new_packets().unwrap();
        let held = plain.len();
        plain.resize(held + state.plaintext_bytes_to_read(), 0);
        client.reader().read_exact(&mut plain[held..]).unwrap();
        if records.is_empty()
            && client
                .process_new_packets()
                .unwrap()
                .plaintext_bytes_to_read()
                == 0
        {
            return (plain, state.peer_has_closed());
        }
    }
}
