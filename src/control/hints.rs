//! What the log tells the operator of clients that cannot succeed: they hear little or nothing themselves.

use std::cell::Cell;
use std::net::SocketAddr;
use std::thread::LocalKey;
use std::time::Instant;

use tracing::{info, warn};

use crate::data;
use crate::proto::proxy::begins_header;
use crate::{limits, rt, tls};

/// A beginning of a control connection that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A PROXY header.
    ProxyHeader,
    /// A TLS record where AUTH comes first.
    Tls,
    /// No TLS record where a handshake comes first.
    ClearText,
}

impl Beginning {
    /// What the first octets tell; `handshake`: a ClientHello is due.
    pub(super) fn of(octets: &[u8], handshake: bool) -> Option<Self> {
        let record = octets
            .first()
            .is_some_and(|octet| tls::RECORD_TYPES.contains(octet));
        if begins_header(octets) {
            Some(Self::ProxyHeader)
        } else if record == handshake {
            None
        } else if record {
            Some(Self::Tls)
        } else {
            Some(Self::ClearText)
        }
    }

    /// Tells the log, now and then.
    pub(super) fn tell(self, peer: SocketAddr) {
        let (last, hint) = match self {
            Self::ProxyHeader => return data::proxy::warn_of_unknown(peer),
            Self::Tls => (
                &TLS_TOLD,
                "a client began with TLS on the explicit port: it is set to implicit FTPS, so let it use that port (990), or \
                 set it to explicit FTPS (AUTH TLS)",
            ),
            Self::ClearText => (
                &CLEAR_TOLD,
                "a client began without TLS on the implicit port: let it use the explicit port (21) with AUTH TLS, or set \
                 it to implicit FTPS",
            ),
        };
        if is_due(last) {
            info!(peer = %peer.ip().to_canonical(), "{hint}");
        }
    }
}

/// Every passive port is taken.
pub(super) fn tell_of_ports(first: u16, last: u16) {
    if is_due(&PORTS_TOLD) {
        warn!(
            first,
            last,
            "no passive port is free, transfers are refused: give a wider range with --passive-ports"
        );
    }
}

type Last = Cell<Option<Instant>>;

thread_local! {
    static TLS_TOLD: Last = const { Cell::new(None) };
    static CLEAR_TOLD: Last = const { Cell::new(None) };
    static PORTS_TOLD: Last = const { Cell::new(None) };
}

/// Strangers can bring these lines about: each core tells each of them only so often.
fn is_due(last: &'static LocalKey<Last>) -> bool {
    let now = rt::now();
    let recently = last
        .get()
        .is_some_and(|then| now.saturating_duration_since(then) < limits::HINT_INTERVAL);
    if !recently {
        last.set(Some(now));
    }
    !recently
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_octets_tell_what_a_client_takes_the_port_for() {
        let hello = [22, 3, 1, 0, 200];
        assert_eq!(Beginning::of(&hello, false), Some(Beginning::Tls));
        assert_eq!(Beginning::of(&hello, true), None);
        assert_eq!(Beginning::of(b"AUTH TLS\r\n", false), None);
        let clear = Some(Beginning::ClearText);
        assert_eq!(Beginning::of(b"AUTH TLS\r\n", true), clear);
        let proxy = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
        for handshake in [false, true] {
            let told = Beginning::of(proxy, handshake);
            assert_eq!(told, Some(Beginning::ProxyHeader));
        }
    }
}
