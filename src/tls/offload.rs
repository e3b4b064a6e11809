//! From rustls to the kernel: the keys of an established data connection, and those that follow.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use ktls::CryptoInfo;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite,
};

use super::opener::{BadRecord, RecordOpener};
use super::{Engine, TlsError};
use crate::sys::ktls::{self as kernel, Half};

/// Protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Ciphers that both rustls and Linux have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

/// Version and cipher: all that kernel TLS depends on. Key exchange and certificate do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// The version.
    pub version: Version,
    /// The cipher.
    pub cipher: Cipher,
}

impl Protection {
    /// Every combination, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [
        Self::new(Version::Tls13, Cipher::Aes128Gcm),
        Self::new(Version::Tls13, Cipher::Aes256Gcm),
        Self::new(Version::Tls13, Cipher::ChaCha20Poly1305),
        Self::new(Version::Tls12, Cipher::Aes128Gcm),
        Self::new(Version::Tls12, Cipher::Aes256Gcm),
        Self::new(Version::Tls12, Cipher::ChaCha20Poly1305),
    ];

    const fn new(version: Version, cipher: Cipher) -> Self {
        Self { version, cipher }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        let version = match self.version {
            Version::Tls13 => 0,
            Version::Tls12 => 3,
        };
        version
            + match self.cipher {
                Cipher::Aes128Gcm => 0,
                Cipher::Aes256Gcm => 1,
                Cipher::ChaCha20Poly1305 => 2,
            }
    }

    /// What a negotiated suite protects with; `None` for one that is not in [`Self::ALL`].
    #[must_use]
    pub fn of(version: ProtocolVersion, suite: CipherSuite) -> Option<Self> {
        use CipherSuite as S;
        let version = match version {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            _ => return None,
        };
        let cipher = match suite {
            S::TLS13_AES_128_GCM_SHA256
            | S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
            S::TLS13_AES_256_GCM_SHA384
            | S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
            S::TLS13_CHACHA20_POLY1305_SHA256
            | S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::ChaCha20Poly1305,
            _ => return None,
        };
        Some(Self { version, cipher })
    }

    /// Do its keys wear out? ChaCha20-Poly1305 has no limit that a connection could reach
    /// (RFC 8446 §5.5).
    #[must_use]
    pub fn has_record_limit(self) -> bool {
        self.cipher != Cipher::ChaCha20Poly1305
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            Version::Tls12 => "TLSv1.2",
            Version::Tls13 => "TLSv1.3",
        };
        let cipher = match self.cipher {
            Cipher::Aes128Gcm => "AES-128-GCM",
            Cipher::Aes256Gcm => "AES-256-GCM",
            Cipher::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        };
        f.pad(&format!("{version} {cipher}"))
    }
}

/// Why the kernel did not take a connection over whose keys were given to it, or new keys of it. The
/// connection is lost: nobody has its keys any more.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// rustls does not give the keys away.
    #[error("rustls keeps the keys: {0}")]
    Extraction(#[from] TlsError),
    /// rustls cannot derive new keys.
    #[error("no new keys: {0}")]
    Update(#[from] rustls::Error),
    /// The crate that lays keys out does not know the suite.
    #[error("no layout for keys: {0}")]
    Layout(String),
    /// This process cannot open the client's records.
    #[error("no keys for receiving: {0}")]
    Opener(#[from] BadRecord),
    /// The kernel refused them.
    #[error("the kernel refuses keys: {0}")]
    Kernel(#[from] io::Error),
}

/// A connection whose records the kernel protects. What is left in this process is what computes the
/// keys of a TLS 1.3 key update (RFC 8446 §7.2).
pub struct KernelTls {
    connection: KernelConnection<ServerConnectionData>,
    protection: Protection,
    opener: Option<RecordOpener>,
    /// Records that the sending keys have protected, as far as we know: where the socket's buffer was
    /// full, records may have been cut shorter than they might be.
    sent: u64,
}

/// Who opens the client's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// The kernel.
    Kernel,
    /// This process ([`RecordOpener`]).
    Process,
}

impl KernelTls {
    /// Hands an established connection, which [`Engine::can_leave`], over to the kernel. Kernel TLS
    /// must be attached to the socket (`sys::ktls::attach`). Everything that the engine gave out must
    /// have been sent, and everything it was given processed.
    ///
    /// # Errors
    /// [`OffloadError`]; the connection is of no use any more.
    pub fn take_over(
        engine: Engine,
        protection: Protection,
        receiver: Receiver,
        socket: impl AsFd,
    ) -> Result<Self, OffloadError> {
        let (secrets, connection) = engine.into_kernel_connection()?;
        let ExtractedSecrets { tx, rx } = secrets;
        let sent = tx.0;
        let suite = connection.negotiated_cipher_suite();
        set_keys(&socket, Half::Send, suite, tx)?;
        let opener = match receiver {
            Receiver::Kernel => {
                set_keys(&socket, Half::Receive, suite, rx)?;
                None
            }
            Receiver::Process => Some(RecordOpener::new(protection.version, rx)?),
        };
        Ok(Self {
            connection,
            protection,
            opener,
            sent,
        })
    }

    /// What opens the client's records, unless the kernel does.
    pub fn opener(&mut self) -> Option<&mut RecordOpener> {
        self.opener.as_mut()
    }

    /// Version and cipher.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Are there key updates?
    #[must_use]
    pub fn is_tls13(&self) -> bool {
        self.protection.version == Version::Tls13
    }

    /// Counts records that are about to be sent; returns how many there were since the last update.
    pub fn count(&mut self, records: u64) -> u64 {
        self.sent = self.sent.saturating_add(records);
        self.sent
    }

    /// The peer has announced new keys for what it sends.
    ///
    /// # Errors
    /// [`OffloadError`]: the kernel cannot change keys.
    pub fn update_receiving(&mut self, socket: impl AsFd) -> Result<(), OffloadError> {
        let suite = self.connection.negotiated_cipher_suite();
        let secrets = self.connection.update_rx_secret()?;
        match &mut self.opener {
            Some(opener) => *opener = RecordOpener::new(self.protection.version, secrets)?,
            None => set_keys(socket, Half::Receive, suite, secrets)?,
        }
        Ok(())
    }

    /// We have announced new keys for what we send.
    ///
    /// # Errors
    /// [`OffloadError`]: the kernel cannot change keys.
    pub fn update_sending(&mut self, socket: impl AsFd) -> Result<(), OffloadError> {
        let suite = self.connection.negotiated_cipher_suite();
        let secrets = self.connection.update_tx_secret()?;
        set_keys(socket, Half::Send, suite, secrets)?;
        self.sent = 0;
        Ok(())
    }
}

impl fmt::Debug for KernelTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelTls")
            .field("protection", &self.protection)
            .finish_non_exhaustive()
    }
}

fn set_keys(
    socket: impl AsFd,
    half: Half,
    suite: SupportedCipherSuite,
    secrets: (u64, ConnectionTrafficSecrets),
) -> Result<(), OffloadError> {
    let mut keys = CryptoInfo::from_rustls(suite, secrets)
        .map_err(|error| OffloadError::Layout(error.to_string()))?;
    if half == Half::Send && matches!(suite, SupportedCipherSuite::Tls12(_)) {
        keep_nonces_apart(&mut keys);
    }
    Ok(kernel::set_keys(socket, half, &keys)?)
}

/// SECURITY: in TLS 1.2 with AES-GCM the sender chooses half of the nonce as it likes (RFC 5288 §3).
/// rustls takes a random number and the sequence, one XOR the other; Linux counts up from the number it
/// is given, whatever the sequence is, and would use those of rustls again, which gives the
/// authentication key away. The other half of the number space can never meet them.
fn keep_nonces_apart(keys: &mut CryptoInfo) {
    let explicit = match keys {
        CryptoInfo::AesGcm128(keys) => &mut keys.iv,
        CryptoInfo::AesGcm256(keys) => &mut keys.iv,
        _ => return,
    };
    if let Some(first) = explicit.first_mut() {
        *first ^= 0x80;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protection_has_its_place() {
        for (place, protection) in Protection::ALL.into_iter().enumerate() {
            assert_eq!(protection.index(), place, "{protection}");
        }
    }

    #[test]
    fn every_suite_of_the_provider_is_known() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            let version = suite.version().version;
            let protection = Protection::of(version, suite.suite());
            assert!(protection.is_some(), "{suite:?}");
        }
        assert_eq!(
            Protection::of(
                ProtocolVersion::TLSv1_3,
                CipherSuite::TLS_NULL_WITH_NULL_NULL
            ),
            None
        );
    }
}
