//! Addresses on the wire: PORT, EPRT, 227 and 229 (RFC 959 §4.1.2, RFC 2428).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use super::reply::{Code, Refusal};

/// Ports below this are privileged services: never connected to (RFC 2577 §3).
const ACTIVE_PORT_MIN: u16 = 1024;

/// The network protocols of RFC 2428 §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 1: IPv4.
    V4,
    /// 2: IPv6.
    V6,
}

impl Family {
    /// The family of an address; an IPv4-mapped address is IPv4.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// 522 for a request of the other family, with the usable protocol in parentheses.
    #[must_use]
    pub const fn only(self) -> Refusal {
        let text = match self {
            Self::V4 => "Network protocol not supported, use (1)",
            Self::V6 => "Network protocol not supported, use (2)",
        };
        (Code::ProtocolNotSupported, text)
    }
}

const SYNTAX: Refusal = (Code::BadArgument, "Not an address.");

/// The argument of PORT: six numbers of 0 to 255, no spaces.
///
/// # Errors
/// 501 for anything else.
pub fn parse_port(argument: &[u8]) -> Result<SocketAddr, Refusal> {
    let mut numbers = argument.split(|octet| *octet == b',');
    let mut fields = [0_u8; 6];
    for field in &mut fields {
        let digits = numbers.next().ok_or(SYNTAX)?;
        *field = parse_number(digits, 3)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(SYNTAX)?;
    }
    if numbers.next().is_some() {
        return Err(SYNTAX);
    }
    let [a, b, c, d, high, low] = fields;
    let port = u16::from_be_bytes([high, low]);
    Ok(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port).into())
}

/// The argument of EPRT, `|family|address|port|` with any delimiter of 33 to 126.
///
/// # Errors
/// 501 for bad syntax, 522 for a family that is not `control`.
pub fn parse_eprt(argument: &[u8], control: Family) -> Result<SocketAddr, Refusal> {
    let (delimiter, rest) = argument.split_first().ok_or(SYNTAX)?;
    if !delimiter.is_ascii_graphic() {
        return Err(SYNTAX);
    }
    let rest = rest.strip_suffix(&[*delimiter]).ok_or(SYNTAX)?;
    let mut fields = rest.split(|octet| octet == delimiter);
    let (Some(family), Some(address), Some(port), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(SYNTAX);
    };
    let family = parse_number(family, 5).ok_or(SYNTAX)?;
    let port = parse_number(port, 5)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or(SYNTAX)?;
    let address = std::str::from_utf8(address).map_err(|_| SYNTAX)?;
    let (address, family): (IpAddr, _) = match family {
        1 => (parse_address::<Ipv4Addr>(address)?, Family::V4),
        2 => (parse_address::<Ipv6Addr>(address)?, Family::V6),
        _ => return Err(control.only()),
    };
    if family == control {
        Ok(SocketAddr::new(address, port))
    } else {
        Err(control.only())
    }
}

fn parse_address<Address>(text: &str) -> Result<IpAddr, Refusal>
where
    Address: std::str::FromStr + Into<IpAddr>,
{
    text.parse::<Address>().map(Into::into).map_err(|_| SYNTAX)
}

/// At most `digits_max` decimal digits.
fn parse_number(digits: &[u8], digits_max: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > digits_max || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// SECURITY: an active data connection goes to the client itself and to no service, or the server
/// could be made to attack others (the bounce attack, RFC 2577 §3).
///
/// # Errors
/// 504 for a foreign address or a port below 1024.
pub fn check_active(address: SocketAddr, peer: IpAddr) -> Result<(), Refusal> {
    if address.ip().to_canonical() != peer.to_canonical() {
        Err((
            Code::ParameterNotImplemented,
            "Only your own address may be given.",
        ))
    } else if address.port() < ACTIVE_PORT_MIN {
        Err((
            Code::ParameterNotImplemented,
            "Ports below 1024 are not served.",
        ))
    } else {
        Ok(())
    }
}

/// The text of 227; many clients look for the parentheses.
#[must_use]
pub fn passive_text(address: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low})")
}

/// The text of 229 (RFC 2428 §3).
#[must_use]
pub fn extended_passive_text(port: u16) -> String {
    format!("Entering Extended Passive Mode (|||{port}|)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number<T>(result: Result<T, Refusal>) -> u16 {
        result.map_or_else(|(code, _)| code.number(), |_| 200)
    }

    #[test]
    fn c071_port_takes_six_numbers() {
        assert_eq!(
            parse_port(b"127,0,0,1,8,0").unwrap(),
            "127.0.0.1:2048".parse().unwrap()
        );
        assert_eq!(
            parse_port(b"0,0,0,0,0,0").unwrap(),
            "0.0.0.0:0".parse().unwrap()
        );
        for bad in [
            &b"1,2,3"[..],
            b"256,0,0,1,8,0",
            b"127, 0,0,1,8,0",
            b"127,0,0,1,8,0,",
            b"127,0,0,1,8,",
            b"127,0,0,1,8,+1",
            b"127,0,0,0001,8,1",
            b"",
            b",,,,,",
        ] {
            assert_eq!(number(parse_port(bad)), 501, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn c072_eprt_takes_any_delimiter() {
        let expected = "10.0.0.1:2000".parse().unwrap();
        for good in [
            &b"|1|10.0.0.1|2000|"[..],
            b"!1!10.0.0.1!2000!",
            b"~1~10.0.0.1~2000~",
        ] {
            assert_eq!(parse_eprt(good, Family::V4).unwrap(), expected);
        }
        assert_eq!(
            parse_eprt(b"|2|fe80::1|2000|", Family::V6).unwrap(),
            "[fe80::1]:2000".parse().unwrap()
        );
    }

    #[test]
    fn c072_eprt_refuses() {
        for (argument, control, expected) in [
            (&b"|3|10.0.0.1|2000|"[..], Family::V4, 522),
            (b"|2|::1|2000|", Family::V4, 522),
            (b"|2|::ffff:10.0.0.1|2000|", Family::V4, 522),
            (b"|1|10.0.0.1|2000|", Family::V6, 522),
            (b"|1|10.0.0.1|65536|", Family::V4, 501),
            (b"|1|10.0.0.1|2000", Family::V4, 501),
            (b"|1|10.0.0.1|2000||", Family::V4, 501),
            (b"|1|::1|2000|", Family::V4, 501),
            (b"||10.0.0.1|2000|", Family::V4, 501),
            (b"|x|10.0.0.1|2000|", Family::V4, 501),
            (b" 1 10.0.0.1 2000 ", Family::V4, 501),
            (b"|", Family::V4, 501),
            (b"", Family::V4, 501),
        ] {
            let got = number(parse_eprt(argument, control));
            assert_eq!(got, expected, "{}", argument.escape_ascii());
        }
    }

    #[test]
    fn c070_only_the_peer_and_no_service() {
        let peer = "::ffff:10.0.0.1".parse().unwrap();
        for (address, expected) in [
            ("10.0.0.1:1024", 200),
            ("10.0.0.1:1023", 504),
            ("10.0.0.1:0", 504),
            ("10.0.0.2:2000", 504),
            ("[::1]:2000", 504),
        ] {
            let got = number(check_active(address.parse().unwrap(), peer));
            assert_eq!(got, expected, "{address}");
        }
    }

    #[test]
    fn texts_for_clients() {
        assert_eq!(
            passive_text(Ipv4Addr::new(1, 2, 3, 4), 1025),
            "Entering Passive Mode (1,2,3,4,4,1)"
        );
        assert_eq!(
            extended_passive_text(1025),
            "Entering Extended Passive Mode (|||1025|)"
        );
    }
}
