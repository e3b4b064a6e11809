//! The one place that chooses which way the octets of a transfer go. Pure.

use super::Opened;

/// A way from file to socket or back. `send` and `receive` beside this file have one function
/// for each kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Read into a buffer, send it: clear text.
    Clear,
    /// From the page cache to the socket by the kernel: files in clear text.
    ClearDirect,
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
            Self::ClearDirect => "clear-sendfile",
            Self::UserSpaceTls => "user-tls",
            Self::ClearAscii => "clear-ascii",
            Self::UserSpaceTlsAscii => "user-tls-ascii",
        }
    }
}

/// Chooses the route of a transfer. `direct`: the file's octets need not pass through this process.
#[must_use]
pub fn choose(protected: bool, ascii: bool, direct: bool, opened: &Opened) -> Route {
    // A listing has its line ends already.
    let convert = ascii && !matches!(opened, Opened::Listing(_));
    match (protected, convert) {
        (false, false) if direct => Route::ClearDirect,
        (false, false) => Route::Clear,
        (false, true) => Route::ClearAscii,
        (true, false) => Route::UserSpaceTls,
        (true, true) => Route::UserSpaceTlsAscii,
    }
}
