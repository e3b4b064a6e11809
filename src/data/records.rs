//! Who makes the TLS records of a data connection.

use super::Link;
use super::detached::Detached;
use super::route::{Choice, Route};
use super::secure::Secured;
use super::take_over::{self, TakeOver};
use crate::proto::TransferEnd;
use crate::rt::Socket;
use crate::tls::{Parties, Party};

/// Who makes the TLS records of a data connection.
pub(super) enum Records {
    /// Nobody: PROT C.
    None,
    /// rustls.
    Rustls(Box<Secured>),
    /// The kernel, or this process by itself.
    Detached(Box<Detached>),
}

impl Records {
    /// Lets the kernel make them, where that is still possible.
    pub(super) async fn take_over(
        self,
        socket: &Socket,
        choice: &mut Choice,
        link: &Link,
    ) -> Result<Self, TransferEnd> {
        let Self::Rustls(secured) = self else {
            return Ok(self);
        };
        let parties = Parties {
            seals: Party::Kernel,
            opens: Party::Process,
        };
        match take_over::take_over(socket, secured, parties, link).await? {
            // What the client sends before a download is of no interest.
            TakeOver::Done { detached, .. } => Ok(Self::Detached(detached)),
            TakeOver::Declined { secured, reason } => {
                *choice = Choice {
                    route: Route::UserTls,
                    fallback: Some(reason),
                };
                Self::Rustls(secured).detach(socket, link).await
            }
        }
    }

    /// Takes them out of rustls, where that is possible.
    pub(super) async fn detach(self, socket: &Socket, link: &Link) -> Result<Self, TransferEnd> {
        let Self::Rustls(secured) = self else {
            return Ok(self);
        };
        match take_over::take_over(socket, secured, Parties::PROCESS, link).await? {
            TakeOver::Done { detached, .. } => Ok(Self::Detached(detached)),
            TakeOver::Declined { secured, .. } => Ok(Self::Rustls(secured)),
        }
    }

    /// Those that rustls no longer makes.
    pub(super) fn detached(&mut self) -> Option<&mut Detached> {
        match self {
            Self::Detached(detached) => Some(detached),
            Self::None | Self::Rustls(_) => None,
        }
    }
}
