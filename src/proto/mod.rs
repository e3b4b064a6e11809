//! The FTP protocol without I/O: octets and events in, actions out.
//!
//! Nothing in this module reads a clock, opens a file or touches a socket. The driver
//! ([`crate::control`]) owns one [`session::Session`] per control connection and calls, in this
//! order and as often as it likes:
//!
//! 1. one of the `handle_*` methods with what happened (and the current time),
//! 2. `poll_action` until it returns `None`, performing each [`Action`] in order,
//! 3. `poll_deadline`, to know when `handle_timeout` is due at the latest.
//!
//! An action that names an answer is answered exactly once with that [`Event`]; the session asks
//! for one thing at a time, apart from a transfer, which runs beside `AskProgress` and
//! `AbortTransfer`.
#![forbid(unsafe_code)]

pub mod address;
pub mod ascii;
pub mod charset;
pub mod client;
pub mod command;
pub mod event;
pub mod facts;
pub mod glob;
pub mod line;
pub mod listing;
pub mod network;
pub mod passive;
pub mod path;
pub mod proxy;
pub mod reply;
pub mod session;
pub mod timestamp;
pub mod zone;

pub use charset::{Charset, CharsetError};
pub use event::{
    Action, Event, FileError, FileReply, FileRequest, ListFormat, LoginVerdict, QuotaUsage, Secret,
    SetupError, Transfer, TransferEnd, TransferKind, TransferReady,
};
pub use path::VirtualPath;
pub use session::{ChannelKind, Requirement, Session, Settings};
pub use timestamp::FileTime;
