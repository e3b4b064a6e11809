//! The end of a download, in a fixed order: close_notify, FIN, a wait for the client's.

use std::io;

use super::{Link, Records, lost, secure::Secured};
use crate::limits;
use crate::proto::TransferEnd;
use crate::rt::{self, Socket};
use crate::tls::Progress;

/// What the client said in its direction.
enum Heard {
    /// Octets of no interest.
    Noise,
    /// close_notify.
    Closed,
    /// FIN.
    End,
}

/// Sends what ends the stream and waits for the client to close too.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn exchange(
    socket: &Socket,
    records: &mut Records,
    link: &Link,
) -> Result<(), TransferEnd> {
    if let Records::Kernel(kernel) = records {
        kernel.close(socket, link).await?;
    }
    // Fails on a connection that was reset, even where kernel TLS has swallowed the error.
    socket.finish_sending().map_err(lost)?;
    drain(socket, records, link).await
}

/// Reads until the client has closed its direction, of TLS or of TCP: closing with its close_notify
/// unread would send RST and destroy what is still on its way to it. A reset here means that the
/// client did not want the rest.
///
/// Some clients close only when they have read the final reply. So the wait also ends, a little
/// later, when the client's kernel has acknowledged everything including our FIN; after the client's
/// close_notify, behind which nothing but FIN can follow, at once.
async fn drain(socket: &Socket, records: &mut Records, link: &Link) -> Result<(), TransferEnd> {
    let mut readiness = None;
    let mut patience = limits::DRAIN_ACKNOWLEDGED_WAIT;
    let wait = async {
        let mut octets = [0; 2048];
        // A client that sends and sends instead of closing is cut off: it must neither keep the core
        // busy for as long as it likes nor have all of it remembered.
        let mut reads_left = limits::DRAIN_READS_MAX;
        while reads_left > 0 {
            match hear(socket, records, &mut octets) {
                Ok(Heard::End) => return Ok(()),
                Ok(Heard::Closed) if socket.all_acknowledged() => return Ok(()),
                Ok(Heard::Closed) => {
                    reads_left -= 1;
                    patience = limits::DRAIN_CLOSED_WAIT;
                }
                Ok(Heard::Noise) => reads_left -= 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = if records.are_deaf() {
                        // What has come stays, and would be announced again and again.
                        rt::sleep(patience).await;
                        false
                    } else {
                        socket.readable_within(patience, &mut readiness).await?
                    };
                    if !ready && socket.all_acknowledged() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let waited = rt::within(link.settings.drain_time_max, socket, wait).await;
    // A poll may still be in flight; it holds the descriptor.
    socket.shut_down();
    match waited {
        Ok(Err(error)) => Err(lost(error)),
        // Not closed in time: every octet and the FIN have left, which is all we can do.
        Ok(Ok(())) | Err(rt::TimedOut) => link.handle.check(),
    }
}

fn hear(socket: &Socket, records: &mut Records, octets: &mut [u8]) -> io::Result<Heard> {
    if let Records::Kernel(kernel) = records {
        return Ok(match kernel.absorb(socket, octets)? {
            None => Heard::Noise,
            Some(true) => Heard::Closed,
            Some(false) => Heard::End,
        });
    }
    let count = socket.receive_now(octets)?;
    if count == 0 {
        return Ok(Heard::End);
    }
    let received = octets.get(..count).unwrap_or_default();
    let closed = match records {
        Records::User(secured) => absorb(secured, received),
        _ => false,
    };
    Ok(if closed { Heard::Closed } else { Heard::Noise })
}

/// Whether close_notify is among what the client sent; anything else of it is of no interest.
fn absorb(secured: &mut Secured, received: &[u8]) -> bool {
    let (mut ignored, mut unsent) = (Vec::new(), Vec::new());
    secured.incoming.extend_from_slice(received);
    let progress = secured
        .engine
        .process(&mut secured.incoming, &mut ignored, &mut unsent);
    matches!(progress, Ok(Progress::PeerClosed))
}
