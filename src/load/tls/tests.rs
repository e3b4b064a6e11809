//! The client's TLS against rustls' server, through memory.

use std::io::{Read, Write};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::*;
use crate::load::failure::{Failure, Kind};
use crate::tls::record::complete_len;

struct Identity {
    certificate: CertificateDer<'static>,
    server: Arc<ServerConfig>,
}

fn identity(tickets: usize) -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certificate = made.cert.der().clone();
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.send_tls13_tickets = tickets;
    Identity {
        certificate,
        server: Arc::new(server),
    }
}

/// Both ends, and what the server has sent that the client has not opened yet.
struct Pair {
    client: Established,
    server: ServerConnection,
    incoming: Vec<u8>,
}

fn connect(identity: &Identity, config: Arc<ClientConfig>) -> Result<Pair, Failure> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut handshake = Handshake::new(config, name)?;
    let mut server = ServerConnection::new(Arc::clone(&identity.server)).unwrap();
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let (consumed, step) = handshake.process(&mut incoming, &mut outgoing)?;
        incoming.drain(..consumed);
        give(&mut server, &mut outgoing);
        while server.wants_write() {
            server.write_tls(&mut incoming).unwrap();
        }
        if matches!(step, Step::Complete) {
            return Ok(Pair {
                client: handshake.finish()?,
                server,
                incoming,
            });
        }
    }
    panic!("no end of the handshake");
}

fn give(server: &mut ServerConnection, outgoing: &mut Vec<u8>) {
    let mut rest = outgoing.as_slice();
    while !rest.is_empty() {
        server.read_tls(&mut rest).unwrap();
        server.process_new_packets().unwrap();
    }
    outgoing.clear();
}

impl Pair {
    /// Opens everything that the server has to say; tells whether it has closed.
    fn receive(&mut self, plain: &mut Vec<u8>) -> Result<bool, Failure> {
        while self.server.wants_write() {
            self.server.write_tls(&mut self.incoming).unwrap();
        }
        while let Some(length) = complete_len(&self.incoming) {
            let record: Vec<u8> = self.incoming.drain(..length).collect();
            let mut opened = vec![0; length];
            match self.client.open(&record, &mut opened)? {
                Incoming::Data(payload) => plain.extend_from_slice(payload),
                Incoming::Other => {}
                Incoming::Closed => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Sends octets to the server, which must get them.
    fn send(&mut self, octets: &[u8]) {
        let mut outgoing = Vec::new();
        self.client.seal(octets, &mut outgoing).unwrap();
        self.server.set_buffer_limit(None);
        let mut came = Vec::new();
        for part in outgoing.chunks(9000) {
            give(&mut self.server, &mut part.to_vec());
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = self.server.reader().read(&mut buffer) {
                came.extend_from_slice(&buffer[..count]);
            }
        }
        assert!(
            came == octets,
            "{} octets instead of {}",
            came.len(),
            octets.len()
        );
    }
}

const ALL: [(Version, Suite); 6] = [
    (Version::Tls12, Suite::Aes128),
    (Version::Tls12, Suite::Aes256),
    (Version::Tls12, Suite::Chacha20),
    (Version::Tls13, Suite::Aes128),
    (Version::Tls13, Suite::Aes256),
    (Version::Tls13, Suite::Chacha20),
];

#[test]
fn octets_go_both_ways_in_every_protection_and_sessions_resume() {
    let identity = identity(2);
    let octets: Vec<u8> = (0..70_000_u32).map(|number| (number % 251) as u8).collect();
    for (version, suite) in ALL {
        let trust = Trust::Roots(vec![identity.certificate.clone()]);
        let tls = ClientTls::new("localhost", Some(version), Some(suite), &trust).unwrap();
        let cache = Arc::<SessionCache>::default();
        for round in 0..3 {
            let mut pair = connect(&identity, tls.resuming(&cache)).unwrap();
            let what = format!("{} in round {round}", pair.client.protection());
            assert_eq!(pair.client.resumed(), round > 0, "{what}");
            pair.send(&octets);
            pair.send(b"x");
            pair.server.writer().write_all(&octets[..20_000]).unwrap();
            pair.server.send_close_notify();
            let mut plain = Vec::new();
            assert!(pair.receive(&mut plain).unwrap(), "{what}");
            assert!(plain == octets[..20_000], "{what}");
            assert!(!cache.is_empty(), "{what}");
            let mut outgoing = Vec::new();
            pair.client.close(&mut outgoing).unwrap();
            let mut rest = outgoing.as_slice();
            pair.server.read_tls(&mut rest).unwrap();
            let state = pair.server.process_new_packets().unwrap();
            assert!(state.peer_has_closed(), "{what}");
        }
        let fresh = connect(&identity, tls.fresh()).unwrap();
        assert!(!fresh.client.resumed());
    }
}

#[test]
fn the_newest_ticket_is_offered_again_when_no_other_is_left() {
    let identity = identity(1);
    let tls = ClientTls::new("localhost", Some(Version::Tls13), None, &Trust::Anybody).unwrap();
    let cache = Arc::<SessionCache>::default();
    let mut control = connect(&identity, tls.resuming(&cache)).unwrap();
    control.receive(&mut Vec::new()).unwrap();
    assert!(!cache.is_empty());
    // What they bring themselves is not looked at, as an upload's client does not.
    drop(connect(&identity, tls.resuming(&cache)).unwrap());
    assert!(cache.is_empty());
    control.client.offer_ticket_again();
    assert!(!cache.is_empty());
    // rustls' server takes a ticket of its memory once, so this one is a full handshake; ringftpd and
    // servers over OpenSSL take it any number of times.
    drop(connect(&identity, tls.resuming(&cache)).unwrap());
    assert!(cache.is_empty(), "it was offered");
}

#[test]
fn keys_change_when_the_server_changes_them() {
    let identity = identity(0);
    let tls = ClientTls::new("localhost", Some(Version::Tls13), None, &Trust::Anybody).unwrap();
    let mut pair = connect(&identity, tls.fresh()).unwrap();
    for _ in 0..3 {
        pair.server.refresh_traffic_keys().unwrap();
        pair.server.writer().write_all(b"behind").unwrap();
        let mut plain = Vec::new();
        pair.receive(&mut plain).unwrap();
        assert_eq!(plain, b"behind");
        // The server has asked for new keys, too: it opens this with them.
        pair.send(b"answer");
    }
}

#[test]
fn strangers_are_refused_unless_anybody_will_do() {
    let (ours, other) = (identity(0), identity(0));
    let trust = Trust::Roots(vec![other.certificate]);
    let tls = ClientTls::new("localhost", None, None, &trust).unwrap();
    let refused = connect(&ours, tls.fresh()).err().unwrap();
    assert_eq!(refused.kind, Kind::Tls, "{refused:?}");
    let tls = ClientTls::new("localhost", None, None, &Trust::Anybody).unwrap();
    assert!(connect(&ours, tls.fresh()).is_ok());
    assert!(ClientTls::new("localhost", None, None, &Trust::Roots(Vec::new())).is_err());
    assert!(ClientTls::new("no host", None, None, &Trust::Anybody).is_err());
}

#[test]
fn a_changed_record_is_noticed() {
    let identity = identity(0);
    let tls = ClientTls::new("localhost", None, None, &Trust::Anybody).unwrap();
    let mut pair = connect(&identity, tls.fresh()).unwrap();
    pair.server.writer().write_all(b"octets").unwrap();
    while pair.server.wants_write() {
        pair.server.write_tls(&mut pair.incoming).unwrap();
    }
    *pair.incoming.last_mut().unwrap() ^= 1;
    let failure = pair.receive(&mut Vec::new()).unwrap_err();
    assert_eq!(failure.kind, Kind::Tls);
}
