//! ringftpd: an FTPS server for high-volume file distribution on Linux.
//!
//! # Layers
//!
//! ```text
//! bin/ringftpd        command line: serve | config | check-config | doctor | upgrade | user | session | top
//!   server            one thread and one ring per core, listeners, drain, reload
//!     control         drives one control connection: octets -> proto -> actions
//!       data          life of one transfer: connect, handshake, copy, close
//!       vfs           files below a confined root
//!       auth          accounts, password checks
//!       bandwidth     how fast transfers may go
//!       quota         how much the files of an account may hold
//!     tls             rustls settings, session store, the record engine
//! screen              asks a running server for its sessions, shows and ends them
//! status              the wire form of what a server tells of its sessions
//! doctor              facts about the machine, judged against the files of tuning/
//! load                the load generator: FTP clients, on rt and proto
//!   rt                the runtime seam: ring operations, timers, buffers, blocking pool
//!   logging           lines of the logs and the threads that write them; numbers of sessions
//!   metrics           counters and latency histograms of each core, and what is made of them
//!   sys               every unsafe line, one kernel feature a file
//! proto               pure protocol: octets and events in, actions out; no I/O, no clock
//! vhosts              names of virtual hosts
//! limits              every bound in one place
//! ```
//!
//! # Glossary
//!
//! *Control connection*, *data connection*, *protection level*, *passive*, *active*, *restart
//! marker*: as in RFC 959, RFC 2228 and RFC 4217. *Set-up*: what PASV, EPSV, PORT or EPRT left
//! behind for the next transfer. *Core*: one pinned thread with its own ring.

pub mod admission;
pub mod auth;
pub mod bandwidth;
pub mod config;
pub mod control;
pub mod data;
pub mod doctor;
pub mod limits;
pub mod load;
pub mod logging;
pub mod metrics;
pub mod octets;
pub mod proto;
pub mod quota;
pub mod rt;
pub mod screen;
pub mod server;
pub mod status;
#[allow(unsafe_code)]
pub mod sys;
pub mod tls;
pub mod vfs;
pub mod vhosts;
