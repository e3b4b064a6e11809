//! What passes between the session and its driver.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;

use zeroize::Zeroizing;

use super::charset::Charset;
use super::listing::FactSet;
use super::path::VirtualPath;
use super::timestamp::FileTime;

/// A password; wiped from memory when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Keeps these octets secret from here on.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What the driver is to do, in the order in which `poll_action` returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send these octets on the control connection, protected as it is at this point.
    Send(Vec<u8>),
    /// Start the server side of a TLS handshake on the control connection, after everything sent
    /// so far has left in the clear. Answer: [`Event::TlsUp`]; a failed handshake ends the
    /// connection without a further word to the session (RFC 4217 §10.1).
    StartTls,
    /// Send close_notify, wait for the client's, go on in the clear (CCC, REIN).
    /// Answer: [`Event::TlsDown`].
    EndTls,
    /// Check a user's password. Answer: [`Event::LoginChecked`]. When it is granted the driver
    /// keeps the account for the requests that follow.
    CheckLogin {
        /// The name as the client sent it.
        user: Vec<u8>,
        /// The password as the client sent it, every octet.
        password: Secret,
    },
    /// Does the client's certificate open this user's account? Answer: [`Event::CertificateChecked`].
    CheckCertificate(Vec<u8>),
    /// Forget the account (USER again, REIN, AUTH).
    Logout,
    /// A request on files that needs no data connection. Answer: [`Event::FileDone`].
    File(FileRequest),
    /// Discard the set-up and make a passive one: listen for the client of the control
    /// connection. Answer: [`Event::PassiveReady`].
    SetupPassive,
    /// Discard the set-up and make an active one: connect here when a transfer starts.
    SetupActive(SocketAddr),
    /// Discard the set-up, if there is one; close its listener and what waits in it.
    DropSetup,
    /// Open what the transfer needs (the file, the directory), nothing on the network.
    /// Answer: [`Event::TransferReady`]. On failure the session drops the set-up.
    OpenTransfer(Transfer),
    /// Connect the data connection of the set-up and transfer. The set-up is used up.
    /// Answer, after the data connection is closed: [`Event::TransferEnded`].
    RunTransfer,
    /// End the running transfer at once; it still answers [`Event::TransferEnded`].
    AbortTransfer,
    /// Tell how many octets the running transfer has moved. Answer: [`Event::Progress`].
    AskProgress,
    /// Close the control connection after what was sent has left: close_notify under TLS, FIN.
    Close,
}

/// What happened, as an answer to an [`Action`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake of [`Action::StartTls`] is complete; the client's Finished is verified.
    TlsUp,
    /// Both close_notify of [`Action::EndTls`] have passed.
    TlsDown,
    /// The verdict on [`Action::CheckLogin`].
    LoginChecked(LoginVerdict),
    /// The verdict on [`Action::CheckCertificate`]; `None`: it does not, a password is needed.
    CertificateChecked(Option<LoginVerdict>),
    /// The outcome of [`Action::File`].
    FileDone(Result<FileReply, FileError>),
    /// The address that the client is to be told, or why there is no listener. An unspecified one, or one of
    /// IPv6, stands for the control connection's own; the port is the listener's in any case.
    PassiveReady(Result<SocketAddr, SetupError>),
    /// What [`Action::OpenTransfer`] opened.
    TransferReady(Result<TransferReady, FileError>),
    /// How the transfer ended; its data connection is closed.
    TransferEnded(TransferEnd),
    /// Octets that the running transfer has moved so far.
    Progress(u64),
}

/// The verdict on a user name and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginVerdict {
    /// 230.
    Granted,
    /// 530: unknown name or wrong password, not told apart (RFC 2577 §7).
    Refused,
    /// 421: the account cannot be served now.
    Unavailable,
    /// 421: there are as many sessions of this user as there may be.
    TooManySessions,
    /// 421: too many failed logins from there, whether this one failed or was not tried any more.
    Banned,
}

/// Why a passive listener could not be made (425).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupError {
    /// Every port of the configured range is taken.
    NoPort,
    /// The system refused a socket (descriptors, memory).
    System,
}

/// A request on files that needs no data connection. Paths are whole virtual paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRequest {
    /// CWD: is this a directory that may be entered? Reply: `Done`.
    CheckDirectory(VirtualPath),
    /// MKD. Reply: `Done`.
    MakeDirectory(VirtualPath),
    /// RMD. Reply: `Done`.
    RemoveDirectory(VirtualPath),
    /// DELE. Reply: `Done`.
    DeleteFile(VirtualPath),
    /// RNFR: does it exist, may it be renamed? Reply: `Done`.
    CheckRename(VirtualPath),
    /// RNTO. Reply: `Done`.
    Rename {
        /// The old name.
        from: VirtualPath,
        /// The new name; a file of that name is replaced, a directory never.
        to: VirtualPath,
    },
    /// SIZE: the octets that a transfer would move. Reply: `Size`.
    Size {
        /// The file.
        path: VirtualPath,
        /// Count as TYPE A sends it (RFC 3659 §4), up to `ASCII_SIZE_OCTETS_MAX`.
        ascii: bool,
    },
    /// MDTM. Reply: `Time`.
    ModifyTime(VirtualPath),
    /// MFMT, SITE UTIME. Reply: `Time` with the time now in force.
    SetModifyTime(VirtualPath, FileTime),
    /// SITE CHMOD; only permission bits. Reply: `Done`.
    ChangeMode(VirtualPath, u32),
    /// MLST: the facts of one object. Reply: `Line` with `fact=value;…` + SP + the full virtual
    /// path, no leading space, no line end.
    Facts(VirtualPath, FactSet),
    /// STAT path: LIST lines, at most `STAT_ROWS_MAX`. Reply: `Listing`.
    StatListing {
        /// The file or directory.
        path: VirtualPath,
        /// The argument as given: a file is listed under this name.
        shown: Vec<u8>,
        /// Show names that begin with a dot.
        hidden: bool,
    },
    /// ALLO: is there room for so many octets on the volume of the current directory? Reply: `Done`, or `VolumeFull`,
    /// or `OverQuota`.
    CheckSpace {
        /// The current directory.
        path: VirtualPath,
        /// As many as this.
        octets: u64,
    },
    /// SITE QUOTA. Reply: `Quota`.
    Quota,
}

/// A successful outcome of a [`FileRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileReply {
    /// It is done.
    Done,
    /// A size in octets.
    Size(u64),
    /// A modification time.
    Time(FileTime),
    /// One line of facts.
    Line(Vec<u8>),
    /// Lines of a listing, each ending in CRLF.
    Listing {
        /// Whether the argument was a directory (212) or something else (213).
        directory: bool,
        /// The lines.
        lines: Vec<u8>,
    },
    /// How much of the quota is used.
    Quota(QuotaUsage),
}

/// What the files of an account hold, and may hold, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUsage {
    /// What they hold; 0 where nobody counts it.
    pub used: u64,
    /// What they may hold; `None` for as much as there is room for.
    pub quota: Option<u64>,
    /// Whether all of it has been counted by now.
    pub counted: bool,
}

/// Why a request on files failed; whose fault it is decides the reply code
/// ([`super::reply::Code`] holds the one table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// No such object; also what is outside the root or hidden (550).
    #[error("no such file or directory")]
    NotFound,
    /// The account or the file system does not permit it (550).
    #[error("permission denied")]
    Denied,
    /// A directory was needed (550; 501 for MLSD, RFC 3659 §7.2).
    #[error("not a directory")]
    NotADirectory,
    /// A file was needed (550; 553 for a store onto a directory).
    #[error("is a directory")]
    IsADirectory,
    /// Neither file nor directory: devices, FIFOs, sockets are not served (550).
    #[error("not a regular file")]
    NotRegular,
    /// The name is taken (550).
    #[error("already exists")]
    Exists,
    /// The directory has entries (550).
    #[error("directory not empty")]
    NotEmpty,
    /// The name itself is not allowed: too long, or a denied pattern (553).
    #[error("file name not allowed")]
    NameNotAllowed,
    /// The new name is on another volume: nothing is moved there, nor copied (553).
    #[error("on another volume")]
    OtherVolume,
    /// The restart marker lies beyond the end, or TYPE A was restarted (554).
    #[error("restart marker not usable")]
    BadRestart,
    /// SIZE in TYPE A of a file above the limit (550).
    #[error("too large to size in TYPE A")]
    TooLargeForAscii,
    /// No room on the volume (452).
    #[error("no space left on the volume")]
    VolumeFull,
    /// The quota is used up (552).
    #[error("quota exceeded")]
    QuotaExceeded,
    /// The account's own quota is used up, but for so many octets (552).
    #[error("quota exceeded")]
    OverQuota {
        /// Octets that may still be stored.
        left: u64,
        /// Octets that the account may store.
        quota: u64,
    },
    /// In use by somebody else (450).
    #[error("file busy")]
    Busy,
    /// The machine failed us: I/O error, descriptors, memory (451).
    #[error("local error")]
    Local,
}

/// One transfer command, ready to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What is moved which way.
    pub kind: TransferKind,
    /// The file or directory. For `StoreUnique` the directory that gets the new file.
    pub path: VirtualPath,
    /// The restart marker in octets; 0 for none.
    pub offset: u64,
    /// TYPE A conversion (never for listings, whose lines end in CRLF whatever the type).
    pub ascii: bool,
    /// PROT P: the data connection is protected by TLS.
    pub protected: bool,
}

/// The kinds of transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferKind {
    /// RETR.
    Retrieve,
    /// STOR; truncates when the offset is 0.
    Store,
    /// APPE.
    Append,
    /// STOU, with a prefix for the name.
    StoreUnique(Vec<u8>),
    /// LIST, NLST, MLSD.
    List {
        /// The form of the lines.
        format: ListFormat,
        /// The argument as given (options taken off), for NLST's prefixes and for a single file;
        /// empty when there was none.
        shown: Vec<u8>,
        /// Show names that begin with a dot (`-a`); always so for MLSD.
        hidden: bool,
        /// How names are written to the client; `shown` is a name already.
        charset: Charset,
    },
}

impl TransferKind {
    /// Whether octets flow from the client to the server.
    #[must_use]
    pub fn is_upload(&self) -> bool {
        matches!(self, Self::Store | Self::Append | Self::StoreUnique(_))
    }
}

/// The forms of a listing on a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// LIST: Unix `ls -l` lines.
    Long,
    /// NLST: names only.
    Names,
    /// MLSD with these facts.
    Machine(FactSet),
}

/// What was opened for a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransferReady {
    /// Octets that a RETR in TYPE I will send, for the text of the 150 reply.
    pub octets: Option<u64>,
    /// The name that STOU chose.
    pub unique_name: Option<Vec<u8>>,
    /// Of an upload that breaks off nothing is kept.
    pub atomic: bool,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEnd {
    /// Every octet moved, ends exchanged, data connection closed (226).
    Complete,
    /// No data connection: refused, or not in time (425).
    NotConnected,
    /// The TLS handshake of the data connection failed (522).
    TlsFailed,
    /// The TLS session of the control connection was not resumed as policy wants, or another's
    /// was (522).
    NotResumed,
    /// The connection broke: reset, alert, bad record (426).
    ConnectionLost,
    /// An upload ended without close_notify (426).
    Truncated,
    /// No progress for too long (426).
    Stalled,
    /// ABOR, or the server's shutdown (426).
    Aborted,
    /// Every octet is stored under its name, but not known to be on the disk, as was wanted (451).
    Unsynced,
    /// Reading or writing the file failed (451, 452, 552).
    File(FileError),
}
