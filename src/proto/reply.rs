//! Replies: the codes by reason, their encoding, and the one table from failures to codes.

use super::event::{FileError, TransferEnd};

/// A reply code, named by its reason (RFC 959 §4.2, RFC 2228 §6, RFC 2428 §2, RFC 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Code {
    /// About to open the data connection.
    OpeningData = 150,
    /// Done.
    Okay = 200,
    /// Not needed here.
    Superfluous = 202,
    /// System status, FEAT.
    SystemStatus = 211,
    /// Status of a directory.
    DirectoryStatus = 212,
    /// Status of a file.
    FileStatus = 213,
    /// Help.
    Help = 214,
    /// System type.
    SystemType = 215,
    /// Ready for a new user.
    Ready = 220,
    /// Closing the control connection on QUIT.
    Goodbye = 221,
    /// Data connection closed, action successful.
    TransferComplete = 226,
    /// Entering passive mode.
    Passive = 227,
    /// Entering extended passive mode.
    ExtendedPassive = 229,
    /// Logged in.
    LoggedIn = 230,
    /// Logged in, authorised by the security data exchange (RFC 2228 §3, RFC 4217 §14).
    LoggedInSecurely = 232,
    /// Security mechanism accepted.
    SecurityAccepted = 234,
    /// File action completed.
    FileActionDone = 250,
    /// A pathname in quotes.
    PathName = 257,
    /// Password needed.
    NeedPassword = 331,
    /// More information needed.
    NeedMore = 350,
    /// Service not available, closing the control connection.
    ServiceClosing = 421,
    /// Cannot open the data connection.
    NoDataConnection = 425,
    /// Connection closed, transfer aborted.
    TransferAborted = 426,
    /// File busy.
    FileBusy = 450,
    /// Local error.
    LocalError = 451,
    /// No space on the volume.
    NoSpace = 452,
    /// Command not recognised.
    NotRecognised = 500,
    /// Error in the arguments.
    BadArgument = 501,
    /// Command not implemented.
    NotImplemented = 502,
    /// Bad sequence of commands.
    BadSequence = 503,
    /// Not implemented for that parameter.
    ParameterNotImplemented = 504,
    /// Network protocol not supported (RFC 2428 §2); data connection's TLS (RFC 4217 §10.2).
    ProtocolNotSupported = 522,
    /// Not logged in.
    NotLoggedIn = 530,
    /// Command protection level denied.
    CommandProtectionDenied = 533,
    /// Denied for policy reasons.
    PolicyDenied = 534,
    /// Protection level not supported by the mechanism.
    ProtectionNotSupported = 536,
    /// File unavailable.
    FileUnavailable = 550,
    /// Storage allocation exceeded.
    QuotaExceeded = 552,
    /// File name not allowed.
    NameNotAllowed = 553,
    /// Restart marker not usable (RFC 3659 §5.4).
    BadRestart = 554,
}

impl Code {
    /// The three digits.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether the command failed (4yz, 5yz).
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.number() >= 400
    }
}

/// A code with its text; texts are ASCII and never echo an argument, so that the server cannot
/// be made to say what another protocol understands.
pub type Refusal = (Code, &'static str);

/// Where a file error came up, for the codes that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContext {
    /// STOR, APPE, STOU: a directory of that name is 553.
    Store,
    /// MLSD: something else than a directory is 501 (RFC 3659 §7.2.1).
    MachineListing,
    /// ALLO: no room is 504.
    Allocate,
    /// Everything else.
    Other,
}

/// The code and text for a failed file operation.
#[must_use]
pub const fn for_file_error(error: FileError, context: FileContext) -> Refusal {
    match (error, context) {
        (FileError::IsADirectory, FileContext::Store) => {
            (Code::NameNotAllowed, "A directory has that name.")
        }
        (FileError::NotADirectory, FileContext::MachineListing) => {
            (Code::BadArgument, "Not a directory.")
        }
        (FileError::VolumeFull, FileContext::Allocate) => {
            (Code::ParameterNotImplemented, "Not so much space left.")
        }
        (FileError::NotFound, _) => (Code::FileUnavailable, "No such file or directory."),
        (FileError::Denied, _) => (Code::FileUnavailable, "Permission denied."),
        (FileError::NotADirectory, _) => (Code::FileUnavailable, "Not a directory."),
        (FileError::IsADirectory, _) => (Code::FileUnavailable, "Is a directory."),
        (FileError::NotRegular, _) => (Code::FileUnavailable, "Not a regular file."),
        (FileError::Exists, _) => (Code::FileUnavailable, "Already exists."),
        (FileError::NotEmpty, _) => (Code::FileUnavailable, "Directory not empty."),
        (FileError::NameNotAllowed, _) => (Code::NameNotAllowed, "File name not allowed."),
        (FileError::OtherVolume, _) => (
            Code::NameNotAllowed,
            "The new name is on another volume, nothing is moved there.",
        ),
        (FileError::BadRestart, _) => (Code::BadRestart, "Restart marker not usable here."),
        (FileError::TooLargeForAscii, _) => (Code::FileUnavailable, "Too large to size in TYPE A."),
        (FileError::VolumeFull, _) => (Code::NoSpace, "No space left on the volume."),
        (FileError::QuotaExceeded | FileError::OverQuota { .. }, _) => {
            (Code::QuotaExceeded, "Quota exceeded.")
        }
        (FileError::Busy, _) => (Code::FileBusy, "File busy."),
        (FileError::Local, _) => (Code::LocalError, "Local error."),
    }
}

/// The code and text of a transfer's final reply.
#[must_use]
pub const fn for_transfer_end(end: TransferEnd, context: FileContext) -> Refusal {
    match end {
        TransferEnd::Complete => (Code::TransferComplete, "Transfer complete."),
        TransferEnd::NotConnected => (
            Code::NoDataConnection,
            "No data connection came about: a firewall or NAT is in its way, or it needs the other mode (passive, active).",
        ),
        TransferEnd::TlsFailed => (
            Code::ProtocolNotSupported,
            "TLS handshake of the data connection failed: after PROT P the client begins it once it is connected.",
        ),
        TransferEnd::NotResumed => (
            Code::ProtocolNotSupported,
            "The data connection must resume the TLS session of this control connection: let the client reuse TLS \
             sessions.",
        ),
        TransferEnd::ConnectionLost => (
            Code::TransferAborted,
            "Data connection lost, transfer aborted.",
        ),
        TransferEnd::Truncated => (
            Code::TransferAborted,
            "Data connection ended without close_notify: the upload may be incomplete, send it again.",
        ),
        TransferEnd::Stalled => (
            Code::TransferAborted,
            "Data connection stalled, transfer aborted.",
        ),
        TransferEnd::Aborted => (Code::TransferAborted, "Transfer aborted."),
        TransferEnd::Unsynced => (
            Code::LocalError,
            "Stored under its name, but a power cut may undo that: the disk failed.",
        ),
        TransferEnd::File(error) => for_file_error(error, context),
    }
}

/// What 0xFF is on the control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Octet255 {
    /// Telnet's IAC, so doubled in text (RFC 2640 §3.1, RFC 854).
    Iac,
    /// A letter of the client's character set, written as it is.
    Letter,
}

/// Appends a reply of one line.
pub fn append_line(out: &mut Vec<u8>, code: Code, text: &[u8], octet_255: Octet255) {
    append_head(out, code, b' ');
    append_text(out, text, octet_255);
}

/// Appends a reply of several lines: `NNN-first`, the inner lines, `NNN last` (RFC 959 §4.2).
pub fn append_lines(
    out: &mut Vec<u8>,
    code: Code,
    first: &[u8],
    inner: impl IntoIterator<Item: AsRef<[u8]>>,
    last: &str,
    octet_255: Octet255,
) {
    append_head(out, code, b'-');
    append_text(out, first, octet_255);
    for line in inner {
        let line = line.as_ref();
        // A line that begins like a reply would end it for some clients.
        if line.len() >= 3 && line.iter().take(3).all(u8::is_ascii_digit) {
            out.push(b' ');
        }
        append_text(out, line, octet_255);
    }
    append_head(out, code, b' ');
    append_text(out, last.as_bytes(), octet_255);
}

fn append_head(out: &mut Vec<u8>, code: Code, separator: u8) {
    let number = code.number();
    let digit = |of_ten: u16| b'0' + u8::try_from(of_ten % 10).unwrap_or(0);
    out.extend_from_slice(&[
        digit(number / 100),
        digit(number / 10),
        digit(number),
        separator,
    ]);
}

/// Appends text and CRLF; what would break the line becomes `?`, though no caller should pass it.
fn append_text(out: &mut Vec<u8>, text: &[u8], octet_255: Octet255) {
    for octet in text {
        match octet {
            0xFF if octet_255 == Octet255::Iac => out.extend_from_slice(&[0xFF, 0xFF]),
            b'\r' | b'\n' | 0 => out.push(b'?'),
            _ => out.push(*octet),
        }
    }
    out.extend_from_slice(b"\r\n");
}
