//! TLS versions and ciphers that a data connection can be protected with.

use std::fmt;

use rustls::{CipherSuite, ProtocolVersion};

/// Protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Ciphers that both rustls and Linux have, and this process can use by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

/// Version and cipher: all that the protection of records depends on. Key exchange and certificate do not matter.
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
