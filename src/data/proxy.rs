//! What proxies say about the clients that they speak for, read from control and data connections.
//!
//! The rule is by the address that a connection comes from, and the same for both kinds: one that is trusted
//! must begin with a PROXY header, any other must not. So clients may reach the passive ports through the
//! proxy or directly.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::limits;
use crate::metrics::{Channel, Introduction, Recorder};
use crate::proto::network::Networks;
use crate::proto::proxy::{Header, HeaderError, Parser};
use crate::rt::{self, Socket};

/// Octets looked at in one call; longer headers take several.
const WINDOW_OCTETS: usize = 1024;

/// Whose connections begin with a PROXY header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// Their addresses. Nobody else's header is believed.
    pub trusted: Networks,
    /// Control connections from other addresses are turned away.
    pub only: bool,
    /// Wait for a header.
    pub time_max: Duration,
}

impl Proxies {
    /// Whether a connection from there must begin with a header.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        !self.trusted.is_empty() && self.trusted.contain(address)
    }
}

/// Why a connection of a trusted address is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIntroduced {
    /// It was closed before it said anything, as health checks do. Nothing to tell anybody.
    #[error("closed without a word")]
    Silent,
    /// Nothing, or not all of a header, came in time.
    #[error("no PROXY header came in time")]
    Late,
    /// There is no header to go by.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Reads the header that must come first, and not one octet more: what follows is for whoever reads next.
///
/// # Errors
/// [`NotIntroduced`]; then the socket is of no use but for a last word, and is to be shut down: a poll may be
/// under way.
pub async fn read_header(socket: &Socket, limit: Duration) -> Result<Header, NotIntroduced> {
    let mut parser = Parser::default();
    let began = rt::now();
    let mut under_way = None;
    loop {
        if let Some(header) = take_what_came(socket, &mut parser)? {
            return Ok(header);
        }
        let rest = limit.saturating_sub(rt::now().saturating_duration_since(began));
        match socket.readable_within(rest, &mut under_way).await {
            Ok(true) => {}
            Ok(false) => return Err(NotIntroduced::Late),
            Err(_) => return Err(NotIntroduced::Silent),
        }
    }
}

fn take_what_came(socket: &Socket, parser: &mut Parser) -> Result<Option<Header>, NotIntroduced> {
    let mut octets = [0; WINDOW_OCTETS];
    loop {
        let count = match socket.peek_now(&mut octets) {
            Ok(0) if parser.is_untouched() => return Err(NotIntroduced::Silent),
            Ok(0) => return Err(HeaderError::Malformed("the connection ended within it").into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // A reset ends a health check as well as FIN does.
            Err(_) => return Err(NotIntroduced::Silent),
        };
        let progress = parser.push(octets.get(..count).unwrap_or_default())?;
        let taken = octets.get_mut(..progress.taken).unwrap_or_default();
        // They are there: this takes them all at once.
        if socket.receive_now(taken).ok() != Some(progress.taken) {
            return Err(NotIntroduced::Silent);
        }
        if progress.header.is_some() {
            return Ok(progress.header);
        }
    }
}

/// Counts how a connection of a trusted address was introduced, and tells the log what the operator must
/// mend.
pub fn note(
    metrics: &Rc<Recorder>,
    channel: Channel,
    proxy: SocketAddr,
    read: &Result<Header, NotIntroduced>,
) {
    let problem = match read {
        Ok(Header::Client { .. }) => return metrics.introduced(channel, Introduction::Client),
        Ok(Header::Local) => return metrics.introduced(channel, Introduction::Local),
        // A health check.
        Err(NotIntroduced::Silent) => return,
        Err(problem) => problem,
    };
    metrics.introduced(
        channel,
        match problem {
            NotIntroduced::Header(HeaderError::Malformed(_)) => Introduction::Malformed,
            _ => Introduction::Missing,
        },
    );
    let connection = match channel {
        Channel::Control => "control",
        Channel::Data => "data",
    };
    if !may_warn(&PROXY_WARNED, rt::now()) {
        debug!(%proxy, connection, %problem, "connection of a proxy refused");
        return;
    }
    match problem {
        NotIntroduced::Header(HeaderError::Malformed(_)) => warn!(
            %proxy, connection, %problem,
            "connection of a proxy refused: it must send the PROXY protocol, version 1 or 2, for TCP"
        ),
        _ => warn!(
            %proxy, connection, %problem,
            "connection of a proxy refused: let the proxy send one (HAProxy: `send-proxy-v2` on the server line, \
             for the passive ports too), or take its address out of --proxy-from"
        ),
    }
}

/// Somebody who is not trusted began with a PROXY header.
pub fn warn_of_unknown(peer: SocketAddr) {
    if may_warn(&OTHER_WARNED, rt::now()) {
        let peer = peer.ip().to_canonical();
        warn!(
            %peer,
            "a connection began with a PROXY header, which is not believed: if this is your proxy, add its address to --proxy-from"
        );
    }
}

type Last = Cell<Option<Instant>>;

thread_local! {
    /// The last warning about a trusted proxy.
    static PROXY_WARNED: Last = const { Cell::new(None) };
    /// The same about others. Strangers can bring it about, so it must not stand in the way of the first.
    static OTHER_WARNED: Last = const { Cell::new(None) };
}

/// Every connection of a proxy that is set up wrongly fails, and one line tells it all.
fn may_warn(last: &'static LocalKey<Last>, now: Instant) -> bool {
    let recently = last
        .get()
        .is_some_and(|then| now.saturating_duration_since(then) < limits::PROXY_WARNING_INTERVAL);
    if !recently {
        last.set(Some(now));
    }
    !recently
}
