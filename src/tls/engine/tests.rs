//! Tests of the record engine, against a rustls client in memory.

use aws_lc_rs::aead;
use rustls::{AlertDescription, ConnectionTrafficSecrets, version};

use super::super::Resume;
use super::super::testing::{
    Offer, Pair, Sessions, VERSIONS, client_config, control_pair, now, settings,
};
use super::*;

const SIZES: [usize; 6] = [0, 1, 16_383, 16_384, 16_385, 300_000];

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

fn pair(version: &'static rustls::SupportedProtocolVersion, role: Role, alpn: &[&str]) -> Pair {
    let settings = settings(Resume::Prefer);
    let control = ControlTls::new(&settings, now());
    let mut config = client_config(version, &Sessions::new(Offer::Newest));
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Pair::new(&settings, role, &control, config)
}

#[test]
fn octets_of_every_size_arrive_in_both_directions() {
    for version in VERSIONS {
        let mut pair = control_pair(version);
        for size in SIZES {
            let sent = pattern(size);
            pair.engine.seal(&sent, &mut pair.outgoing).unwrap();
            assert!(pair.outgoing.len() <= sealed_len(size));
            assert!(pair.deliver() == sent, "download of {size} octets");
            pair.plain.clear();
            pair.write(&sent);
            assert_eq!(pair.process().unwrap(), Progress::Established);
            assert!(pair.plain == sent, "upload of {size} octets");
            assert!(pair.incoming.is_empty());
        }
    }
}

#[test]
fn names_what_was_negotiated() {
    let engine = control_pair(&version::TLS13).engine;
    assert_eq!(engine.version(), "TLSv1.3");
    assert!(engine.suite().starts_with("TLS_"), "{}", engine.suite());
    assert!(!engine.suite().contains("TLS13"));
    assert_eq!(control_pair(&version::TLS12).engine.version(), "TLSv1.2");
    assert!(!engine.resumed() && !engine.foreign() && engine.alpn().is_none());
}

#[test]
fn records_may_be_cut_anywhere() {
    for version in VERSIONS {
        let settings = settings(Resume::Prefer);
        let control = ControlTls::new(&settings, now());
        let mut config = client_config(version, &Sessions::new(Offer::Newest));
        // Handshake messages span records, too.
        config.max_fragment_size = Some(60);
        let mut pair = Pair::new(&settings, Role::Control, &control, config);
        for round in 0..4 {
            if round == 2 {
                pair.client.refresh_traffic_keys().ok();
                pair.write(&pattern(5000));
            }
            pair.send();
            for octet in std::mem::take(&mut pair.incoming) {
                pair.incoming.push(octet);
                pair.process().unwrap();
            }
            pair.deliver();
        }
        assert!(pair.engine.is_established());
        assert!(pair.plain == pattern(5000));
    }
}

#[test]
fn many_records_in_one_slice_leave_the_incomplete_last() {
    let mut pair = control_pair(&version::TLS13);
    let sent = pattern(500_000);
    pair.write(&sent);
    let mut incoming = std::mem::take(&mut pair.incoming);
    let cut = incoming.len() - 7;
    let (consumed, progress) = pair
        .engine
        .process_slice(&mut incoming[..cut], &mut pair.plain, &mut pair.outgoing)
        .unwrap();
    assert_eq!(progress, Progress::Established);
    assert!(consumed < cut && cut - consumed < 17_000);
    let rest = &mut incoming[consumed..];
    let expected = rest.len();
    let (consumed, _) = pair
        .engine
        .process_slice(rest, &mut pair.plain, &mut pair.outgoing)
        .unwrap();
    assert_eq!(consumed, expected);
    assert!(pair.plain == sent);
}

#[test]
fn selects_only_protocols_of_ftp() {
    type Expected = Result<Option<&'static str>, ()>;
    let cases: [(Role, &[&str], Expected); 9] = [
        (Role::Control, &[], Ok(None)),
        (Role::Control, &["ftp"], Ok(Some("ftp"))),
        (Role::Control, &["x-filezilla-ftp", "ftp"], Ok(Some("ftp"))),
        (Role::Control, &["http/1.1", "h2"], Err(())),
        (Role::Control, &["ftp-data"], Err(())),
        (Role::Download, &[], Ok(None)),
        (Role::Download, &["ftp-data"], Ok(Some("ftp-data"))),
        (Role::Upload, &["ftp"], Ok(Some("ftp"))),
        (Role::Upload, &["http/1.1"], Err(())),
    ];
    for version in VERSIONS {
        for (role, offered, expected) in cases {
            let mut pair = pair(version, role, offered);
            pair.send();
            let result = pair.process();
            match expected {
                Ok(selected) => {
                    result.unwrap();
                    assert_eq!(pair.engine.alpn(), selected.map(str::as_bytes));
                }
                Err(()) => {
                    let error = result.unwrap_err();
                    assert!(
                        matches!(
                            error,
                            TlsError::Protocol(rustls::Error::NoApplicationProtocol)
                        ),
                        "{error}"
                    );
                    // In TLS 1.3 the alert is protected.
                    pair.client.read_tls(&mut &pair.outgoing[..]).unwrap();
                    let seen = pair.client.process_new_packets().unwrap_err();
                    let expected = AlertDescription::NoApplicationProtocol;
                    assert_eq!(seen, rustls::Error::AlertReceived(expected));
                }
            }
        }
    }
}

/// `outgoing` is exactly one fatal alert without protection.
fn assert_fatal_alert(outgoing: &[u8], descriptions: &[u8]) {
    let expected = matches!(
        outgoing,
        [21, 3, _, 0, 2, 2, last] if descriptions.contains(last)
    );
    assert!(expected, "{outgoing:?}");
}

fn process_alone(incoming: &[u8]) -> (Result<Progress, TlsError>, Vec<u8>, Engine) {
    let settings = settings(Resume::Prefer);
    let mut engine =
        Engine::new(&settings, Role::Control, &ControlTls::new(&settings, now())).unwrap();
    let mut outgoing = Vec::new();
    let result = engine.process(&mut incoming.to_vec(), &mut Vec::new(), &mut outgoing);
    (result, outgoing, engine)
}

#[test]
fn clients_without_tls_1_2_get_an_alert() {
    // TLS 1.1, random of zeroes, no session, AES128-SHA, no compression, no extensions.
    let mut body = vec![3, 2];
    body.extend([0; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    let (result, outgoing, _) = process_alone(&hello);
    assert!(matches!(result, Err(TlsError::Protocol(_))));
    // protocol_version, or handshake_failure for want of signature_algorithms.
    assert_fatal_alert(&outgoing, &[40, 70]);
}

#[test]
fn other_protocols_fail_at_once() {
    for octets in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        &[0; 20],
    ] {
        let (result, outgoing, mut engine) = process_alone(octets);
        assert!(matches!(result, Err(TlsError::Protocol(_))), "{result:?}");
        assert_fatal_alert(&outgoing, &[50]);
        let again = engine.process(&mut vec![22], &mut Vec::new(), &mut Vec::new());
        assert!(matches!(again, Err(TlsError::Closed)));
        let sealed = engine.seal(b"x", &mut Vec::new());
        assert!(matches!(sealed, Err(TlsError::Closed)));
    }
    let (result, ..) = process_alone(b"");
    assert_eq!(result.unwrap(), Progress::Handshaking);
}

#[test]
fn altered_records_fail_with_an_alert() {
    for version in VERSIONS {
        let mut pair = control_pair(version);
        pair.write(b"NOOP\r\n");
        *pair.incoming.last_mut().unwrap() ^= 1;
        let error = pair.process().unwrap_err();
        assert!(matches!(
            error,
            TlsError::Protocol(rustls::Error::DecryptError)
        ));
        assert!(pair.plain.is_empty());
        pair.client.read_tls(&mut &pair.outgoing[..]).unwrap();
        let seen = pair.client.process_new_packets().unwrap_err();
        assert_eq!(
            seen,
            rustls::Error::AlertReceived(AlertDescription::BadRecordMac)
        );
    }
}

#[test]
fn key_updates_of_the_client_are_answered_before_the_next_record() {
    let mut pair = control_pair(&version::TLS13);
    for round in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.write(b"NOOP\r\n");
        assert_eq!(pair.process().unwrap(), Progress::Established);
        assert_eq!(pair.plain.len(), 6 * (round + 1));
        pair.engine.seal(b"200 OK\r\n", &mut pair.outgoing).unwrap();
        // KeyUpdate: 5 octets of message, content type, tag, header.
        assert_eq!(pair.outgoing.len(), 27 + 5 + 8 + 1 + 16);
        assert_eq!(pair.deliver(), b"200 OK\r\n");
    }
    pair.client.refresh_traffic_keys().unwrap();
    pair.send();
    pair.process().unwrap();
    pair.engine.close(&mut pair.outgoing);
    pair.client.read_tls(&mut &pair.outgoing[..]).unwrap();
    assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn nothing_behind_close_notify_is_touched() {
    for version in VERSIONS {
        let mut pair = control_pair(version);
        pair.write(b"REIN\r\n");
        pair.client.send_close_notify();
        pair.send();
        let mut next = control_pair(version);
        next.write(b"anything");
        let following = next.incoming;
        pair.incoming.extend_from_slice(&following);
        assert_eq!(pair.process().unwrap(), Progress::PeerClosed);
        assert!(pair.engine.peer_closed());
        assert_eq!(pair.plain, b"REIN\r\n");
        assert_eq!(pair.incoming, following);
        assert_eq!(pair.process().unwrap(), Progress::PeerClosed);
        assert_eq!(pair.incoming, following);
        // The other half stays open until this side closes, once.
        pair.engine
            .seal(b"220 Ready\r\n", &mut pair.outgoing)
            .unwrap();
        pair.engine.close(&mut pair.outgoing);
        let len = pair.outgoing.len();
        pair.engine.close(&mut pair.outgoing);
        assert_eq!(pair.outgoing.len(), len);
        assert_eq!(pair.deliver(), b"220 Ready\r\n");
        assert!(matches!(
            pair.engine.seal(b"x", &mut Vec::new()),
            Err(TlsError::Closed)
        ));
    }
}

/// Protects a record of TLS 1.3 by hand, to send what no client library would.
fn protect(secrets: &ConnectionTrafficSecrets, sequence: u64, inner: &[u8]) -> Vec<u8> {
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
        panic!("another cipher suite");
    };
    let mut nonce = <[u8; 12]>::try_from(iv.as_ref()).unwrap();
    for (octet, counter) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *octet ^= counter;
    }
    let key = aead::UnboundKey::new(&aead::AES_128_GCM, key.as_ref()).unwrap();
    let header = [23, 3, 3, 0, inner.len() as u8 + 16];
    let mut body = inner.to_vec();
    aead::LessSafeKey::new(key)
        .seal_in_place_append_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(header),
            &mut body,
        )
        .unwrap();
    [&header[..], &body].concat()
}

#[test]
fn an_incomplete_handshake_message_does_not_hinder_sending() {
    let Pair {
        client,
        mut engine,
        mut incoming,
        mut plain,
        mut outgoing,
    } = control_pair(&version::TLS13);
    let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
    // Two octets of a KeyUpdate, then the other three, in records of their own.
    incoming.extend(protect(&secrets, sequence, &[24, 0, 22]));
    engine
        .process(&mut incoming, &mut plain, &mut outgoing)
        .unwrap();
    assert!(!incoming.is_empty(), "held by rustls");
    engine.seal(b"226 Done\r\n", &mut outgoing).unwrap();
    incoming.extend(protect(&secrets, sequence + 1, &[0, 1, 0, 22]));
    engine
        .process(&mut incoming, &mut plain, &mut outgoing)
        .unwrap();
    assert!(incoming.is_empty());
    engine.close(&mut outgoing);
    assert!(plain.is_empty());
}

#[test]
fn endless_fragments_are_refused() {
    let settings = settings(Resume::Prefer);
    let mut engine =
        Engine::new(&settings, Role::Control, &ControlTls::new(&settings, now())).unwrap();
    let mut incoming = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    for _ in 0..20_000 {
        incoming.extend([22, 3, 1, 0, 1, 0]);
        match engine.process(&mut incoming, &mut Vec::new(), &mut Vec::new()) {
            Ok(progress) => assert_eq!(progress, Progress::Handshaking),
            Err(error) => {
                assert!(matches!(error, TlsError::HandshakeOversized), "{error}");
                assert!(incoming.len() < limits::TLS_HANDSHAKE_OCTETS_HELD_MAX + 10);
                return;
            }
        }
    }
    panic!("never refused");
}

#[test]
fn a_short_buffer_is_reported_and_harmless() {
    let mut pair = control_pair(&version::TLS13);
    let mut short = [0; 20];
    let error = pair
        .engine
        .seal_into(b"220 Ready\r\n", &mut short)
        .unwrap_err();
    assert!(matches!(error, TlsError::OutputTooSmall(33)), "{error}");
    pair.engine
        .seal(b"220 Ready\r\n", &mut pair.outgoing)
        .unwrap();
    assert_eq!(pair.deliver(), b"220 Ready\r\n");
}

#[test]
fn only_established_data_connections_give_up_their_keys() {
    for version in VERSIONS {
        assert!(
            control_pair(version)
                .engine
                .into_kernel_connection()
                .is_err()
        );
        assert!(
            pair(version, Role::Upload, &[])
                .engine
                .into_kernel_connection()
                .is_err()
        );
        let mut pair = pair(version, Role::Download, &["ftp-data"]);
        assert_eq!(pair.pump().unwrap(), Progress::Established);
        assert!(pair.engine.into_kernel_connection().is_ok());
    }
}

#[test]
fn damage_after_close_notify_is_an_error_without_an_alert() {
    for version in VERSIONS {
        let mut pair = control_pair(version);
        pair.engine.close(&mut pair.outgoing);
        let sent = pair.outgoing.len();
        pair.write(b"NOOP\r\n");
        *pair.incoming.last_mut().unwrap() ^= 1;
        assert!(pair.process().is_err());
        assert_eq!(pair.outgoing.len(), sent);
    }
}
