//! Why a TLS connection cannot go on.

use rustls::unbuffered::EncryptError;

use crate::limits;

/// Why a TLS connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The client broke the protocol, does not support what the server needs, or sent an alert.
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    /// The client keeps sending fragments of one handshake message.
    #[error(
        "TLS: handshake message in more than {} octets of records",
        limits::TLS_HANDSHAKE_OCTETS_HELD_MAX
    )]
    HandshakeOversized,
    /// TLS 1.2 only: the keys have protected as many records as they may.
    #[error("TLS: record limit of the cipher suite reached")]
    KeysExhausted,
    /// The caller's input does not start with what the last call left; a defect of the caller.
    #[error("TLS: input left by the previous call is missing")]
    InputLost,
    /// The caller's buffer is shorter than [`super::sealed_len`].
    #[error("TLS: records need {0} octets of buffer")]
    OutputTooSmall(usize),
    /// The handshake is not complete.
    #[error("TLS: handshake not complete")]
    NotEstablished,
    /// The connection was closed by this side or has failed before.
    #[error("TLS: connection closed")]
    Closed,
}

impl TlsError {
    /// What to do about a client's certificate that is missing or not accepted; `None` when it is something else.
    pub fn certificate_remedy(&self) -> Option<&'static str> {
        match self {
            Self::Protocol(error) => super::clients::remedy(error),
            _ => None,
        }
    }

    /// Is it a fatal alert of the client?
    pub fn is_alert(&self) -> bool {
        matches!(self, Self::Protocol(rustls::Error::AlertReceived(_)))
    }
}

impl From<EncryptError> for TlsError {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::OutputTooSmall(size.required_size),
            EncryptError::EncryptExhausted => Self::KeysExhausted,
        }
    }
}
