//! Keys for the kernel. The only place that knows the crate `ktls`, which lays them out.

use std::io;
use std::os::fd::AsFd;

use ktls::CryptoInfo;
use rustls::{ConnectionTrafficSecrets, SupportedCipherSuite};

use crate::sys::ktls::{self as kernel, Half};

/// Why the kernel has no keys.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// The crate that lays keys out does not know the suite.
    #[error("no layout for keys: {0}")]
    Layout(String),
    /// The kernel refused them.
    #[error("the kernel refuses keys: {0}")]
    Kernel(#[from] io::Error),
}

/// Gives the kernel the keys of one direction. Kernel TLS must be attached to the socket.
pub(super) fn set_keys(
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
