//! A client of TLS 1.3 that makes its records itself, of whatever type, size and key. rustls does its
//! handshake; what follows is derived from the traffic secrets (RFC 8446 §7).

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, KeyLog};
use socket2::SockRef;

use crate::common::tls::Profile;
use crate::pressure::patience;

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
pub(crate) const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// KeyUpdate, update_not_requested.
pub(crate) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
/// KeyUpdate, update_requested.
pub(crate) const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];
/// Plaintext of a full record.
const RECORD_MAX: usize = 16 * 1024;

/// A client that speaks the one suite this file knows.
pub(crate) fn profile() -> Profile {
    Profile::of(TLS13_AES_128_GCM_SHA256)
}

/// The traffic secrets of one handshake, both sides'.
#[derive(Debug, Default)]
struct Secrets(Mutex<(Vec<u8>, Vec<u8>)>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let mut secrets = self.0.lock().unwrap();
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => secrets.0 = secret.to_vec(),
            "SERVER_TRAFFIC_SECRET_0" => secrets.1 = secret.to_vec(),
            _ => {}
        }
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context.
fn expand(secret: &[u8], label: &str, length: usize) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let info = [
        &u16::try_from(length).unwrap().to_be_bytes()[..],
        &[u8::try_from(label.len()).unwrap()],
        label.as_bytes(),
        &[0],
    ];
    let mut out = vec![0; length];
    Prk::new_less_safe(HKDF_SHA256, secret)
        .expand(&info, Length(length))
        .unwrap()
        .fill(&mut out)
        .unwrap();
    out
}

/// What protects one direction.
struct Keys {
    secret: Vec<u8>,
    key: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Keys {
    fn new(secret: Vec<u8>) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &expand(&secret, "key", 16)).unwrap();
        Self {
            key: LessSafeKey::new(key),
            iv: expand(&secret, "iv", 12),
            secret,
            sequence: 0,
        }
    }

    fn next(&self) -> Self {
        Self::new(expand(&self.secret, "traffic upd", 32))
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce: [u8; 12] = self.iv.clone().try_into().unwrap();
        for (octet, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *octet ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// A connection as a stream of records.
pub(crate) struct Records {
    tcp: TcpStream,
    received: Vec<u8>,
}

impl Records {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(patience())).unwrap();
        tcp.set_nodelay(true).unwrap();
        Self {
            tcp,
            received: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.tcp.write_all(octets).unwrap();
    }

    /// The next record; `None` at the end of the stream, or after a reset.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        loop {
            if let [_, _, _, high, low, ..] = self.received[..] {
                let length = 5 + usize::from(u16::from_be_bytes([high, low]));
                if self.received.len() >= length {
                    let rest = self.received.split_off(length);
                    return Some(std::mem::replace(&mut self.received, rest));
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.tcp.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// A data connection.
pub(crate) struct Raw {
    records: Records,
    /// The end of the handshake, not sent yet.
    pub(crate) finished: Vec<u8>,
    sending: Keys,
    receiving: Keys,
}

impl Raw {
    /// Does the handshake up to the client's own end of it.
    pub(crate) fn begin(tcp: TcpStream, profile: &Profile) -> Self {
        let secrets = Arc::new(Secrets::default());
        let mut config: ClientConfig = (*profile.full()).clone();
        config.key_log = Arc::clone(&secrets) as Arc<dyn KeyLog>;
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut raw = Self {
            records: Records::new(tcp),
            finished: Vec::new(),
            sending: Keys::new(vec![0; 32]),
            receiving: Keys::new(vec![0; 32]),
        };
        while tls.is_handshaking() {
            let hello = outgoing(&mut tls);
            raw.send(&hello);
            let record = raw.records.take().expect("a record of the handshake");
            tls.read_tls(&mut &record[..]).unwrap();
            tls.process_new_packets().unwrap();
        }
        raw.finished = outgoing(&mut tls);
        let secrets = std::mem::take(&mut *secrets.0.lock().unwrap());
        raw.sending = Keys::new(secrets.0);
        raw.receiving = Keys::new(secrets.1);
        raw
    }

    /// The whole handshake.
    pub(crate) fn handshake(tcp: TcpStream, profile: &Profile) -> Self {
        let mut raw = Self::begin(tcp, profile);
        let finished = std::mem::take(&mut raw.finished);
        raw.send(&finished);
        raw
    }

    /// Sends octets as they are.
    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.records.send(octets);
    }

    /// A record of this type, with so many octets of padding.
    pub(crate) fn seal(&mut self, record_type: u8, payload: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = payload.to_vec();
        inner.push(record_type);
        inner.resize(inner.len() + padding, 0);
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [DATA, 3, 3, length[0], length[1]];
        let nonce = self.sending.nonce();
        self.sending
            .key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut inner)
            .unwrap();
        [&header[..], &inner].concat()
    }

    /// Octets of a file in records of at most so much.
    pub(crate) fn seal_data(&mut self, octets: &[u8], record: usize) -> Vec<u8> {
        let parts = octets.chunks(record.min(RECORD_MAX));
        parts.flat_map(|part| self.seal(DATA, part, 0)).collect()
    }

    /// What ends the stream properly.
    pub(crate) fn seal_end(&mut self) -> Vec<u8> {
        self.seal(ALERT, &CLOSE_NOTIFY, 0)
    }

    pub(crate) fn finish(&self) {
        let _ = self.records.tcp.shutdown(Shutdown::Write);
    }

    /// From here on what is sent has new keys.
    pub(crate) fn update_sending(&mut self) {
        self.sending = self.sending.next();
    }

    /// The next record of the server, opened: its type and what it holds. `None` at the end of the
    /// stream, or after a reset.
    pub(crate) fn open(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let record = self.records.take()?;
            let (header, body) = record.split_at(5);
            // change_cipher_spec (RFC 8446 §D.4).
            if header[0] == 20 {
                continue;
            }
            let mut body = body.to_vec();
            let nonce = self.receiving.nonce();
            let plain = self
                .receiving
                .key
                .open_in_place(nonce, Aad::from(header), &mut body)
                .expect("a record with the right key");
            let end = plain.iter().rposition(|&octet| octet != 0).unwrap();
            let opened = (plain[end], plain[..end].to_vec());
            if opened.0 == HANDSHAKE && opened.1.first() == Some(&24) {
                self.receiving = self.receiving.next();
            }
            return Some(opened);
        }
    }

    /// Everything up to the end: octets of data, records of other types, and whether close_notify was
    /// the last of them.
    pub(crate) fn open_all(&mut self) -> Everything {
        let mut all = Everything::default();
        while let Some((record_type, payload)) = self.open() {
            if record_type == DATA {
                all.data.extend_from_slice(&payload);
            } else if (record_type, &payload[..]) == (ALERT, &CLOSE_NOTIFY[..]) {
                all.closed = true;
            } else {
                all.others.push((record_type, payload));
            }
        }
        all
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        SockRef::from(&self.records.tcp)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
    }
}

/// What a server sent.
#[derive(Default)]
pub(crate) struct Everything {
    pub(crate) data: Vec<u8>,
    pub(crate) others: Vec<(u8, Vec<u8>)>,
    pub(crate) closed: bool,
}

impl fmt::Debug for Everything {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            data,
            others,
            closed,
        } = self;
        write!(f, "{} octets, {others:?}, closed: {closed}", data.len())
    }
}

pub(crate) fn outgoing(tls: &mut ClientConnection) -> Vec<u8> {
    let mut octets = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut octets).unwrap();
    }
    octets
}
