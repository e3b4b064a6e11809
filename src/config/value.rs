//! Values of options: listen addresses, times, port ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits;

/// Where to listen, as given: the port and the kind of address may still be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// On this address, or every address of both families; on this port, or the usual one.
    On {
        /// `None`: every address.
        address: Option<IpAddr>,
        /// `None`: the usual port of the protocol.
        port: Option<u16>,
    },
}

/// Parses `ADDR[:PORT]`, `:PORT`, `PORT` or `off`.
///
/// # Errors
/// A sentence with examples.
pub(super) fn parse_listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    let on = |address, port| Ok(Listen::On { address, port });
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return on(None, Some(port));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return on(Some(address.ip()), Some(address.port()));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return on(Some(address), None);
    }
    Err("give an address as 192.0.2.1:21, [::]:21, 192.0.2.1, or a port as :2121, or `off`".into())
}

impl Listen {
    /// The address to bind, or `None` for `off`. "Every address" is `[::]`, which takes IPv4 too,
    /// or `0.0.0.0` on a machine without IPv6.
    #[must_use]
    pub fn resolve(self, usual_port: u16, ipv6: bool) -> Option<SocketAddr> {
        let Self::On { address, port } = self else {
            return None;
        };
        let every = if ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        Some(SocketAddr::new(
            address.unwrap_or(every),
            port.unwrap_or(usual_port),
        ))
    }
}

/// Parses a time: `300`, `300s`, `500ms`, `5m`, `1h`; a bare number means seconds.
///
/// # Errors
/// A sentence with examples.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let milliseconds_each = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("give a time as 300, 300s, 500ms, 5m or 1h".into()),
    };
    let time = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds_each))
        .map(Duration::from_millis)
        .filter(|time| *time <= limits::TIMER_MAX);
    time.ok_or_else(|| "give a time as 300, 300s, 500ms, 5m or 1h, up to 720h".into())
}

/// Parses a time that must not be zero.
///
/// # Errors
/// A sentence with examples.
pub(super) fn parse_time_above_zero(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.is_zero() {
        return Err("the time must be at least 1ms; for \"never\" give a long one, as 720h".into());
    }
    Ok(time)
}

/// Parses a range of ports, `A-B` or a single one.
///
/// # Errors
/// A sentence with an example.
pub(super) fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => {
            Err("give a range of ports as 40000-49999, the lower one first, from 1 to 65535".into())
        }
    }
}

/// Parses how many records a key protects.
///
/// # Errors
/// A sentence with the range.
pub(super) fn parse_key_records(text: &str) -> Result<u64, String> {
    let range = limits::TLS_RECORDS_PER_KEY_MIN..=limits::TLS_RECORDS_PER_KEY_MAX;
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("give a number from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_take_every_form() {
        let cases = [
            ("2121", "[::]:2121"),
            (":2121", "[::]:2121"),
            ("127.0.0.1", "127.0.0.1:21"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]", "[::1]:21"),
            ("::1", "[::1]:21"),
            ("[::1]:990", "[::1]:990"),
        ];
        for (text, bound) in cases {
            let listen = parse_listen(text).unwrap();
            assert_eq!(
                listen.resolve(21, true),
                Some(bound.parse().unwrap()),
                "{text}"
            );
        }
        let everywhere = parse_listen("2121").unwrap();
        assert_eq!(
            everywhere.resolve(21, false),
            Some("0.0.0.0:2121".parse().unwrap())
        );
        assert_eq!(parse_listen("off").unwrap().resolve(21, true), None);
        for text in [
            "",
            ":",
            "localhost",
            "127.0.0.1:",
            "70000",
            "1.2.3",
            "[::1",
            "127.0.0.1:99999",
        ] {
            assert!(parse_listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units_and_bounds() {
        let milliseconds = |text| parse_time(text).map(|time| time.as_millis());
        assert_eq!(milliseconds("300"), Ok(300_000));
        assert_eq!(milliseconds("300s"), Ok(300_000));
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("5m"), Ok(300_000));
        assert_eq!(milliseconds("1h"), Ok(3_600_000));
        assert_eq!(milliseconds("0"), Ok(0));
        for text in [
            "",
            "s",
            "-1",
            "1.5s",
            "5 m",
            "5d",
            "99999999999999999999",
            "721h",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert!(parse_time_above_zero("0ms").is_err());
    }

    #[test]
    fn keys_protect_a_bounded_number_of_records() {
        assert_eq!(parse_key_records("1024"), Ok(1024));
        assert_eq!(parse_key_records("16777216"), Ok(1 << 24));
        for text in ["", "0", "1023", "16777217", "-1", "1k"] {
            assert!(parse_key_records(text).is_err(), "{text}");
        }
    }

    #[test]
    fn port_ranges_are_ordered() {
        assert_eq!(parse_ports("40000-49999"), Ok(40000..=49999));
        assert_eq!(parse_ports("2000"), Ok(2000..=2000));
        for text in ["", "2-1", "0-9", "1-65536", "a-b", "1-2-3"] {
            assert!(parse_ports(text).is_err(), "{text}");
        }
    }
}
