//! The one place that chooses which way the octets of a transfer go. Pure.

use super::Opened;

/// A way from file to socket or back. `send` and `receive` beside this file have one function
/// for each kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Read into a buffer, send it: clear text.
    Clear,
    /// Sealed or opened by rustls in this process.
    UserSpaceTls,
    /// As `Clear`, with line ends converted.
    ClearAscii,
    /// As `UserSpaceTls`, with line ends converted.
    UserSpaceTlsAscii,
}

impl Route {
    /// The name in logs and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::UserSpaceTls => "user-tls",
            Self::ClearAscii => "clear-ascii",
            Self::UserSpaceTlsAscii => "user-tls-ascii",
        }
    }
}

/// Chooses the route of a transfer.
#[must_use]
pub fn choose(protected: bool, ascii: bool, opened: &Opened) -> Route {
    // A listing has its line ends already.
    let convert = ascii && !matches!(opened, Opened::Listing(_));
    match (protected, convert) {
        (false, false) => Route::Clear,
        (false, true) => Route::ClearAscii,
        (true, false) => Route::UserSpaceTls,
        (true, true) => Route::UserSpaceTlsAscii,
    }
}
