//! Other people's clients against the real binary, on the explicit and the implicit port.
//!
//! A client that is not installed is skipped with a line that names its Debian package; with `CI`
//! set that is a failure. `tests/run` installs all of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic when they fail, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;
mod support;

mod curl;
mod haproxy;
mod java;
mod lftp;
mod node;
mod openssl;
mod perl;
mod python;
mod rclone;
mod rust_client;
