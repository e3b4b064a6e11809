//! Data connections that have left rustls after their handshake: their keys, and those that follow.

use std::fmt;
use std::os::fd::AsFd;

use rustls::ExtractedSecrets;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::offload::{OffloadError, set_keys};
use super::opener::RecordOpener;
use super::protection::{Protection, Version};
use super::record_key::BadKey;
use super::sealer::RecordSealer;
use super::{Engine, TlsError};
use crate::sys::ktls::Half;

/// Why a connection could not leave rustls, or go on with new keys. It is lost: nobody has its keys any
/// more.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// rustls does not give the keys away.
    #[error("rustls keeps the keys: {0}")]
    Extraction(#[from] TlsError),
    /// rustls cannot derive new keys.
    #[error("no new keys: {0}")]
    Update(#[from] rustls::Error),
    /// This process cannot use them.
    #[error(transparent)]
    Process(#[from] BadKey),
    /// The kernel cannot use them.
    #[error(transparent)]
    Kernel(#[from] OffloadError),
}

/// Who protects one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The kernel.
    Kernel,
    /// This process.
    Process,
}

/// Who protects which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parties {
    /// Seals our records.
    pub seals: Party,
    /// Opens the client's.
    pub opens: Party,
}

impl Parties {
    /// This process does everything.
    pub const PROCESS: Self = Self {
        seals: Party::Process,
        opens: Party::Process,
    };
}

/// A connection that rustls has given away. What is left of rustls computes the keys of a TLS 1.3 key
/// update (RFC 8446 §7.2).
pub struct DetachedTls {
    connection: KernelConnection<ServerConnectionData>,
    protection: Protection,
    sealer: Option<RecordSealer>,
    opener: Option<RecordOpener>,
    /// Records that the sending keys have protected, as far as we know: where the socket's buffer was
    /// full, the kernel may have cut records shorter than they might be.
    sent: u64,
}

impl DetachedTls {
    /// Takes an established connection, which [`Engine::can_leave`], out of rustls. Where the kernel is to
    /// have a part, kernel TLS must be attached to the socket (`sys::ktls::attach`). Everything that the
    /// engine gave out must have been sent, and everything it was given processed.
    ///
    /// # Errors
    /// [`DetachError`]; the connection is of no use any more.
    pub fn new(
        engine: Engine,
        protection: Protection,
        parties: Parties,
        socket: impl AsFd,
    ) -> Result<Self, DetachError> {
        let (secrets, connection) = engine.into_kernel_connection()?;
        let ExtractedSecrets { tx, rx } = secrets;
        let sent = tx.0;
        let suite = connection.negotiated_cipher_suite();
        let version = protection.version;
        let sealer = match parties.seals {
            Party::Process => Some(RecordSealer::new(version, tx)?),
            Party::Kernel => {
                set_keys(&socket, Half::Send, suite, tx)?;
                None
            }
        };
        let opener = match parties.opens {
            Party::Process => Some(RecordOpener::new(version, rx)?),
            Party::Kernel => {
                set_keys(&socket, Half::Receive, suite, rx)?;
                None
            }
        };
        Ok(Self {
            connection,
            protection,
            sealer,
            opener,
            sent,
        })
    }

    /// What seals our records, unless the kernel does.
    pub fn sealer(&mut self) -> Option<&mut RecordSealer> {
        self.sealer.as_mut()
    }

    /// What opens the client's records, unless the kernel does.
    pub fn opener(&mut self) -> Option<&mut RecordOpener> {
        self.opener.as_mut()
    }

    /// Who protects which direction.
    #[must_use]
    pub fn parties(&self) -> Parties {
        let party = |here| match here {
            true => Party::Process,
            false => Party::Kernel,
        };
        Parties {
            seals: party(self.sealer.is_some()),
            opens: party(self.opener.is_some()),
        }
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
    /// [`DetachError`]: they cannot be changed.
    pub fn update_receiving(&mut self, socket: impl AsFd) -> Result<(), DetachError> {
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
    /// [`DetachError`]: they cannot be changed.
    pub fn update_sending(&mut self, socket: impl AsFd) -> Result<(), DetachError> {
        let suite = self.connection.negotiated_cipher_suite();
        let secrets = self.connection.update_tx_secret()?;
        match &mut self.sealer {
            Some(sealer) => *sealer = RecordSealer::new(self.protection.version, secrets)?,
            None => set_keys(socket, Half::Send, suite, secrets)?,
        }
        self.sent = 0;
        Ok(())
    }
}

impl fmt::Debug for DetachedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedTls")
            .field("protection", &self.protection)
            .field("parties", &self.parties())
            .finish_non_exhaustive()
    }
}
