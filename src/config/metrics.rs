//! Where figures go: the options, the address and the directory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;

use super::failure::cause;
use super::value::parse_time;
use super::{Exit, Failure};
use crate::limits;
use crate::metrics::IntervalLog;
use crate::server::{Listeners, Opener, Outlets};

const METRICS: &str = "Metrics";

/// The options about metrics.
#[derive(Debug, Clone, Args)]
pub struct MetricsOptions {
    /// Answer /metrics (Prometheus) and /healthz over HTTP on `PORT` of 127.0.0.1, or on `ADDR:PORT`; there is no password.
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = parse_address, help_heading = METRICS)]
    pub metrics: Option<SocketAddr>,
    /// Write HdrHistogram logs into this directory; made if it does not exist.
    #[arg(long, value_name = "DIR", help_heading = METRICS)]
    pub histogram_log: Option<PathBuf>,
    /// Length of an interval of the histogram log, from 1s to 24h.
    #[arg(long, value_name = "SECONDS", value_parser = parse_interval, default_value = "10", requires = "histogram_log", help_heading = METRICS)]
    pub histogram_interval: Duration,
}

/// Parses `PORT`, `:PORT` or `ADDR:PORT`. Without an address it is loopback: whoever wants others to
/// read it has to say so.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| {
        "give a port as 9121 (of 127.0.0.1), or an address with a port as 192.0.2.1:9121 or [::1]:9121".into()
    })
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let range = limits::HISTOGRAM_INTERVAL_MIN..=limits::HISTOGRAM_INTERVAL_MAX;
    let time = parse_time(text).ok().filter(|time| range.contains(time));
    time.ok_or_else(|| "give a time as 10, 10s or 5m, from 1s to 24h".into())
}

/// Offers the listener for metrics to a later process: the one that is there, or one that is bound to the address
/// while the process has the right to.
///
/// # Errors
/// [`Failure`] with the remedy.
pub(super) fn bind(
    address: Option<SocketAddr>,
    there: Option<(TcpListener, Opener)>,
    listeners: &mut Listeners,
) -> Result<Option<TcpListener>, Failure> {
    let (listener, opener) = match (there, address) {
        (Some(there), _) => there,
        (None, Some(address)) => (bind_to(address)?, Opener::Server),
        (None, None) => return Ok(None),
    };
    let offered = listeners.offer_metrics(&listener, opener);
    offered.map_err(|error| Failure::new(Exit::System, cause(&error)))?;
    Ok(Some(listener))
}

fn bind_to(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        let (exit, remedy) = match error.kind() {
            io::ErrorKind::PermissionDenied => (
                Exit::NoPermission,
                "ports below 1024 need a right: use another, as `--metrics 9121`",
            ),
            io::ErrorKind::AddrInUse => (
                Exit::System,
                "another program has this port: stop it, or choose another with `--metrics PORT`",
            ),
            io::ErrorKind::AddrNotAvailable => (
                Exit::System,
                "no network interface of this machine has this address: `ip address` shows those it has",
            ),
            _ => (Exit::System, "choose another address with `--metrics`"),
        };
        let message = format!("cannot serve metrics on {address}: {}; {remedy}", cause(&error));
        Failure::new(exit, message)
    })
}

/// Makes the histogram log, as the account that will write it.
///
/// # Errors
/// [`Failure`] with the remedy.
pub(super) fn outlets(
    listener: Option<TcpListener>,
    directory: Option<&Path>,
    interval: Duration,
) -> Result<Outlets, Failure> {
    let create = |directory: &Path| {
        let log = IntervalLog::create(directory, SystemTime::now()).map_err(|error| {
            let remedy = format!(
                "{}; let the server's account write there, or choose another with --histogram-log DIR",
                cause(&error)
            );
            Failure::file(Exit::CannotCreate, directory, remedy)
        })?;
        tracing::info!(path = %log.path().display(), ?interval, "histogram log");
        Ok::<_, Failure>((log, interval))
    };
    Ok(Outlets {
        listener,
        interval_log: directory.map(create).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_loopback_unless_it_says_otherwise() {
        let parse = |text| parse_address(text).map(|address| address.to_string());
        assert_eq!(parse("9121").unwrap(), "127.0.0.1:9121");
        assert_eq!(parse(":9121").unwrap(), "127.0.0.1:9121");
        assert_eq!(parse("0.0.0.0:9121").unwrap(), "0.0.0.0:9121");
        assert_eq!(parse("[::1]:0").unwrap(), "[::1]:0");
        for text in ["", "localhost:9121", "127.0.0.1", "::1", "70000", "off"] {
            assert!(parse(text).unwrap_err().contains("9121"), "{text}");
        }
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(parse_interval("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_interval("5m"), Ok(Duration::from_secs(300)));
        for text in ["0", "999ms", "25h", "x"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }
}
