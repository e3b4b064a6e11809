//! Out of rustls, to the kernel or to our own sealing and opening.

use std::io;

use tracing::debug;

use super::detached::{Detached, failed};
use super::kernel::Traits;
use super::route::Fallback;
use super::secure::Secured;
use super::{Link, lost};
use crate::proto::TransferEnd;
use crate::rt::Socket;
use crate::tls::record;
use crate::tls::{DetachedTls, Parties, Party};

/// What became of a take-over.
pub(super) enum TakeOver {
    /// rustls has given the keys away.
    Done {
        /// The connection.
        detached: Box<Detached>,
        /// What the client sent before, opened.
        early: Vec<u8>,
    },
    /// It stays with rustls, as it was.
    Declined {
        /// The connection.
        secured: Box<Secured>,
        /// Why.
        reason: Fallback,
    },
}

/// Takes a connection out of rustls, between two records of the client.
///
/// Nothing is lost: where the kernel is to open records, rustls is given the rest of one that has come in
/// part, and its plaintext is handed on. Whatever speaks against the take-over is found before the keys
/// leave rustls, as far as it can be; the connection then stays with rustls.
///
/// # Errors
/// The kernel refused after all, or the client broke off.
pub(super) async fn take_over(
    socket: &Socket,
    mut secured: Box<Secured>,
    parties: Parties,
    link: &Link,
) -> Result<TakeOver, TransferEnd> {
    let declined = |secured, reason| Ok(TakeOver::Declined { secured, reason });
    let Some(protection) = secured.engine.protection() else {
        return declined(secured, Fallback::Unsupported);
    };
    if parties != Parties::PROCESS
        && let Err(error) = socket.attach_kernel_tls()
    {
        debug!(%error, "kernel TLS not attached");
        // After the client's FIN the kernel takes nobody over; all that it sent is here already.
        let reason = match error.kind() {
            io::ErrorKind::NotConnected => Fallback::Late,
            _ => Fallback::Refused,
        };
        return declined(secured, reason);
    }
    if parties.opens == Party::Kernel {
        complete_record(socket, &mut secured, link).await?;
        if !secured.incoming.is_empty() {
            return declined(secured, Fallback::Late);
        }
    }
    if !secured.engine.can_leave() {
        return declined(secured, Fallback::Late);
    }
    let policy = &link.settings.kernel_tls;
    let traits = match parties.seals {
        Party::Kernel => policy.traits(protection),
        Party::Process => Traits::of_process(protection),
    };
    let Secured {
        engine,
        early,
        incoming,
    } = *secured;
    match DetachedTls::new(engine, protection, parties, socket) {
        Ok(tls) => Ok(TakeOver::Done {
            detached: Box::new(Detached::new(tls, traits, incoming)),
            early,
        }),
        Err(error) => Err(failed(&error, protection, link)),
    }
}

/// Receives the rest of a record that has come in part, and no octet more.
async fn complete_record(
    socket: &Socket,
    secured: &mut Secured,
    link: &Link,
) -> Result<(), TransferEnd> {
    while !secured.incoming.is_empty() && secured.engine.can_leave() {
        let held = secured.incoming.len();
        let missing = record::missing_len(&secured.incoming);
        secured.incoming.resize(held + missing, 0);
        let room = secured.incoming.get_mut(held..).unwrap_or_default();
        let received = socket.receive_now(room);
        let count = received.as_ref().map_or(0, |count| *count);
        secured.incoming.truncate(held + count);
        match received {
            // The end, in the middle of a record: whoever reads next will find it again.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.unstalled(socket, socket.readable())
                    .await?
                    .map_err(lost)?;
                link.handle.check()?;
                continue;
            }
            Err(error) => return Err(lost(error)),
        }
        secured.open_incoming(socket)?;
    }
    Ok(())
}
