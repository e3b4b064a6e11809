//! The end of a download, in a fixed order: close_notify, FIN, a wait for the client's.

use std::io;

use super::detached::Heard;
use super::{Link, Records, elapsed, lost, secure::Secured};
use crate::limits;
use crate::proto::TransferEnd;
use crate::rt::{self, Socket};
use crate::tls::Progress;

/// Sends what ends the stream and waits for the client to close too.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn exchange(
    socket: &Socket,
    records: &mut Records,
    link: &Link,
) -> Result<(), TransferEnd> {
    if let Records::Detached(detached) = records {
        detached.close(socket, link).await?;
    }
    // Fails on a connection that was reset, even where kernel TLS has swallowed the error.
    socket.finish_sending().map_err(lost)?;
    drain(socket, records, link).await
}

/// Waits until the client's kernel has acknowledged everything, and a little for the client to close.
///
/// What the client says meanwhile is read: closing with its close_notify unread would send RST and
/// destroy what is still on its way to it. Its own end of TLS or of TCP tells nothing about what it has
/// received, as it may end its direction before it reads. A reset means that it did not want the rest.
///
/// Some clients close only when they have read the final reply. So the wait also ends, a little
/// later, without their close; after it, behind which nothing can follow, at once.
async fn drain(socket: &Socket, records: &mut Records, link: &Link) -> Result<(), TransferEnd> {
    let drained = await_delivery(socket, records, link).await;
    // A poll may still be in flight; it holds the descriptor.
    socket.shut_down();
    drained
}

async fn await_delivery(
    socket: &Socket,
    records: &mut Records,
    link: &Link,
) -> Result<(), TransferEnd> {
    let mut readiness = None;
    let mut patience = limits::DRAIN_ACKNOWLEDGED_WAIT;
    // Its own end tells nothing that could be waited for: the rest is asked for now and then.
    let mut pause = limits::DRAIN_CLOSED_WAIT;
    let mut octets = [0; 2048];
    // A client that sends and sends instead of closing is cut off: it must neither keep the core
    // busy for as long as it likes nor have all of it remembered.
    let mut reads_left = limits::DRAIN_READS_MAX;
    let mut progress = (socket.unacknowledged(), rt::now());
    loop {
        let heard = hear(socket, records, &mut octets);
        link.handle.check()?;
        let gone = socket.is_gone();
        let left = socket.unacknowledged();
        if left != progress.0 {
            progress = (left, rt::now());
        }
        let time = elapsed(progress.1);
        let mut ready = true;
        match heard {
            Ok(Heard::End | Heard::Closed) if left == 0 => return Ok(()),
            Ok(Heard::End) if gone => return Err(TransferEnd::ConnectionLost),
            Ok(Heard::End) => {
                rt::sleep(pause).await;
                pause = (pause * 2).min(limits::DRAIN_ACKNOWLEDGED_WAIT);
            }
            Ok(Heard::Closed) => {
                reads_left -= 1;
                patience = limits::DRAIN_CLOSED_WAIT;
            }
            Ok(Heard::Noise) => reads_left -= 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let waited = socket.readable_within(patience, &mut readiness).await;
                ready = waited.map_err(lost)?;
            }
            Err(error) => return Err(lost(error)),
        }
        if socket.unacknowledged() == 0 {
            if !ready || reads_left == 0 || time >= link.settings.drain_time_max {
                // Not closed, but everything has arrived.
                return link.handle.check();
            }
        } else if reads_left == 0 {
            return Err(TransferEnd::ConnectionLost);
        } else if time >= link.settings.stall_time_max {
            return Err(TransferEnd::Stalled);
        }
    }
}

fn hear(socket: &Socket, records: &mut Records, octets: &mut [u8]) -> io::Result<Heard> {
    if let Records::Detached(detached) = records {
        return detached.absorb(socket);
    }
    let count = socket.receive_now(octets)?;
    if count == 0 {
        return Ok(Heard::End);
    }
    let received = octets.get(..count).unwrap_or_default();
    match records {
        Records::Rustls(secured) => absorb(secured, received),
        _ => Ok(Heard::Noise),
    }
}

/// Looks for close_notify among what the client sent; most else of it is of no interest.
fn absorb(secured: &mut Secured, received: &[u8]) -> io::Result<Heard> {
    let (mut ignored, mut unsent) = (Vec::new(), Vec::new());
    secured.incoming.extend_from_slice(received);
    let progress = secured
        .engine
        .process(&mut secured.incoming, &mut ignored, &mut unsent);
    match progress {
        Ok(Progress::PeerClosed) => Ok(Heard::Closed),
        // It could not make sense of what it got.
        Err(error) if error.is_alert() => Err(io::Error::other(error)),
        _ => Ok(Heard::Noise),
    }
}
