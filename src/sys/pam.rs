//! PAM: checks of names and passwords by the modules of a service (pam(3)), in processes of their own.
//!
//! The binding is written here: what it needs of libpam are seven functions whose ABI has been the same for decades, and
//! the crates that bind them need libclang, or leave the delay after a refusal to the library.

mod helpers;
#[cfg(feature = "pam")]
mod linked;
mod message;

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

/// Whether this program was built with PAM.
pub const AVAILABLE: bool = cfg!(feature = "pam");

/// Whom to ask about.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, as the client sent it.
    pub user: CString,
    /// The password.
    pub password: Zeroizing<Vec<u8>>,
    /// Where the client is (PAM_RHOST).
    pub address: CString,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Password and account are good.
    Granted {
        /// The system's name of the account, else the one that the modules made of the client's.
        user: String,
        /// The home directory, if the system knows that name.
        home: Option<PathBuf>,
    },
    /// They are not.
    Refused {
        /// Why; for the log only.
        reason: String,
        /// How long after the question the modules want that to be told.
        delay: Duration,
    },
    /// Nothing can be said: the service, a module or the account database does not work.
    Failed {
        /// Why; for the log only.
        reason: String,
    },
}

/// What no answer of a module may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The service: the name of a file in /etc/pam.d.
    pub service: CString,
    /// Accounts of the system with lower user ids are refused. Root is in any case.
    pub user_id_min: u32,
}

pub use helpers::{Helper, Helpers};

#[cfg(feature = "pam")]
use linked::check;

#[cfg(not(feature = "pam"))]
fn check(_: &Terms, _: &Question) -> Answer {
    let reason = "this program was built without PAM".to_owned();
    Answer::Failed { reason }
}
