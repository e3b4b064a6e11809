//! A server process, and a client with a hand on every octet, for the tests that drive the real
//! binary over loopback.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part of these helpers"
)]

pub mod client;
pub mod link;
pub mod server;
pub mod tls;

use std::time::Duration;

/// Longest wait for anything from the server.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The two ways to reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Clear until AUTH TLS (RFC 4217).
    Explicit,
    /// TLS from the first octet (MS-FTPS).
    Implicit,
}

/// Says what a machine lacks for a test. With `CI` set nothing may be skipped.
#[track_caller]
pub fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "not possible here, and CI is set: {reason}"
    );
    eprintln!("skipped: {reason}");
}

/// Octets that differ at every offset, so that a shift or a repeat is seen.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut octets = Vec::with_capacity(length + 8);
    while octets.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets.truncate(length);
    octets
}

/// Asserts equality of long octet strings without printing megabytes.
#[track_caller]
pub fn assert_same(actual: &[u8], expected: &[u8]) {
    let differs = actual.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        differs.is_none() && actual.len() == expected.len(),
        "{} octets instead of {}, first difference at {:?}",
        actual.len(),
        expected.len(),
        differs
    );
}
