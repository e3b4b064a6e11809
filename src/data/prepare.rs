//! A passive data connection before its transfer command.
//!
//! The client may connect, and send its ClientHello, as soon as it knows the port. Some wait for our
//! part of the handshake before they send the command at all, with timers of a fifth of a second
//! between looks at the control connection (curl). So a task accepts and answers the ClientHello at
//! once. It stops there: what follows the client's Finished, tickets above all, depends on the
//! command (none for an upload).

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::connect::{self, Expected, Listener};
use super::secure::{self, Begun, Security};
use super::{Handle, lost};
use crate::logging::in_this_session;
use crate::proto::TransferEnd;
use crate::rt::{self, Socket};

/// A data connection, perhaps in the middle of its handshake.
pub(super) struct Early {
    pub(super) socket: Socket,
    pub(super) begun: Option<Begun>,
    /// It comes from another address than the control connection: its TLS session has to show whose it is.
    pub(super) elsewhere: bool,
}

/// A passive set-up: a listener, then the connection it accepted. Dropping it closes what there is.
pub struct Passive {
    port: u16,
    handle: Rc<Handle>,
    early: Option<oneshot::Receiver<Result<Early, TransferEnd>>>,
}

impl Passive {
    /// Waits for the expected client; with `security` its ClientHello is answered.
    #[must_use]
    pub fn start(listener: Listener, expected: Expected, security: Option<Security>) -> Self {
        let (sender, receiver) = oneshot::channel();
        let handle: Rc<Handle> = Rc::default();
        let passive = Self {
            port: listener.address().port(),
            handle: Rc::clone(&handle),
            early: Some(receiver),
        };
        rt::spawn(in_this_session(async move {
            let early = prepare(listener, expected, security, &handle).await;
            // Nobody waits any more when the set-up was dropped: the connection closes.
            let _ = sender.send(early);
        }));
        passive
    }

    /// The port that the client is told.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Shared with the transfer that will use this set-up.
    #[must_use]
    pub fn handle(&self) -> Rc<Handle> {
        Rc::clone(&self.handle)
    }

    /// The transfer begins: the connection as far as it is, within `limit`.
    ///
    /// # Errors
    /// [`TransferEnd::NotConnected`], or what ended its handshake.
    pub(super) async fn finish(mut self, limit: Duration) -> Result<Early, TransferEnd> {
        let Some(mut early) = self.early.take() else {
            return Err(TransferEnd::NotConnected);
        };
        self.handle.wanted.notify_one();
        if let Ok(early) = tokio::time::timeout(limit, &mut early).await {
            return early.unwrap_or(Err(TransferEnd::NotConnected));
        }
        self.handle.shut_down();
        // It ends now, with whatever was accepted in this moment.
        let _ = early.await;
        Err(TransferEnd::NotConnected)
    }
}

impl std::fmt::Debug for Passive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passive")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Drop for Passive {
    fn drop(&mut self) {
        if self.early.is_some() {
            self.handle.abort();
        }
    }
}

async fn prepare(
    listener: Listener,
    expected: Expected,
    security: Option<Security>,
    handle: &Handle,
) -> Result<Early, TransferEnd> {
    handle.watch(listener.socket())?;
    let accepted = connect::accept(&listener, &expected, security.is_some(), handle).await;
    handle.check()?;
    let (socket, elsewhere) = accepted?;
    drop(listener);
    handle.watch(&socket)?;
    let Some(security) = security else {
        return Ok(Early {
            socket,
            begun: None,
            elsewhere,
        });
    };
    tokio::select! {
        ready = socket.readable() => ready.map_err(lost)?,
        // The command has come first: the transfer does the handshake.
        () = handle.wanted.notified() => {
            return Ok(Early { socket, begun: None, elsewhere });
        }
    }
    let begun = secure::begin(&socket, security).await?;
    Ok(Early {
        socket,
        begun: Some(begun),
        elsewhere,
    })
}
