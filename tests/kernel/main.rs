//! Every way that octets can go between files and data connections: what arrives, how it ends, and what happens when
//! the client, the disk or the keys do something unusual. Here, and in the kernel lab where kernel TLS is.
//!
//! Variables: `RINGFTPD_TEST_KTLS` says that kernel TLS must work (else its parts are skipped where it does not),
//! `RINGFTPD_TEST_SLOWNESS` how much slower than usual the machine is.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic when they fail, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;
mod pressure;
mod raw;
mod slow_device;

mod ends;
mod keys;
mod kills;
mod matrix;
mod slow;
mod stalled;
mod takeover;
mod unread;
