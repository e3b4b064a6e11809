//! The header of the PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a proxy says first
//! on a connection about the client that it speaks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What each header of version 1 begins with (§2.1).
const TEXT_SIGNATURE: &[u8] = b"PROXY ";
/// Longest line of version 1 with its CRLF (§2.1).
const TEXT_OCTETS_MAX: usize = 107;
/// What each header of version 2 begins with (§2.2).
const BINARY_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const BINARY_FIXED_OCTETS: usize = 16;
/// Longest header of version 2 that is read. Addresses and the usual TLVs take some hundreds of octets.
pub const OCTETS_MAX: usize = 4096;
/// The TLV that holds a CRC32c of the header (§2.2.3).
const TLV_CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself (LOCAL: a health check), or does not know the client (UNKNOWN): the
    /// connection's own addresses hold.
    Local,
    /// A client's TCP connection.
    Client {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// Why there is no header to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first octets are something else.
    #[error("there is no PROXY header")]
    Missing,
    /// It breaks off, or breaks a rule.
    #[error("bad PROXY header: {0}")]
    Malformed(&'static str),
}

use HeaderError::{Malformed, Missing};

const TOO_LONG: HeaderError = Malformed("too long");

/// How far a parser has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many of the octets belong to the header; those behind are the client's.
    pub taken: usize,
    /// The header, once it is complete.
    pub header: Option<Header>,
}

/// Whether octets begin as headers do.
#[must_use]
pub fn begins_header(octets: &[u8]) -> bool {
    octets.starts_with(TEXT_SIGNATURE) || octets.starts_with(BINARY_SIGNATURE)
}

/// Takes the octets of a header as they come, and none behind it.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    held: Vec<u8>,
}

/// What is missing of a header.
enum Goal {
    /// Octets up to this total, all of them the header's.
    Octets(usize),
    /// The end of a line.
    Line,
    /// Nothing.
    Done,
}

impl Parser {
    /// Whether nothing of the header has come yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes what of these octets belongs to the header: at least one, until it is complete.
    ///
    /// # Errors
    /// [`HeaderError`]; then the connection is of no use.
    pub fn push(&mut self, octets: &[u8]) -> Result<Progress, HeaderError> {
        let mut taken = 0;
        loop {
            let rest = octets.get(taken..).unwrap_or_default();
            let part = match self.goal()? {
                Goal::Done => {
                    let header = Some(parse(&self.held)?);
                    return Ok(Progress { taken, header });
                }
                Goal::Octets(total) => rest.get(..total - self.held.len()).unwrap_or(rest),
                Goal::Line => {
                    let room = TEXT_OCTETS_MAX - self.held.len();
                    let line = rest.get(..room).unwrap_or(rest);
                    match line.iter().position(|octet| *octet == b'\n') {
                        Some(end) => line.get(..=end).unwrap_or(line),
                        None => line,
                    }
                }
            };
            if part.is_empty() {
                let header = None;
                return Ok(Progress { taken, header });
            }
            self.held.extend_from_slice(part);
            taken += part.len();
        }
    }

    fn goal(&self) -> Result<Goal, HeaderError> {
        let held = self.held.as_slice();
        if held.is_empty() {
            return Ok(Goal::Octets(1));
        }
        if TEXT_SIGNATURE.starts_with(held) && held != TEXT_SIGNATURE {
            return Ok(Goal::Octets(TEXT_SIGNATURE.len()));
        }
        if held.starts_with(TEXT_SIGNATURE) {
            return match held.last() {
                Some(b'\n') => Ok(Goal::Done),
                _ if held.len() < TEXT_OCTETS_MAX => Ok(Goal::Line),
                _ => Err(TOO_LONG),
            };
        }
        let begun = held.len().min(BINARY_SIGNATURE.len());
        if held.get(..begun) != BINARY_SIGNATURE.get(..begun) {
            return Err(Missing);
        }
        let &[.., high, low] = held.get(..BINARY_FIXED_OCTETS).unwrap_or_default() else {
            return Ok(Goal::Octets(BINARY_FIXED_OCTETS));
        };
        let total = BINARY_FIXED_OCTETS + usize::from(u16::from_be_bytes([high, low]));
        match held.len() {
            _ if total > OCTETS_MAX => Err(TOO_LONG),
            length if length < total => Ok(Goal::Octets(total)),
            _ => Ok(Goal::Done),
        }
    }
}

/// A complete header.
fn parse(octets: &[u8]) -> Result<Header, HeaderError> {
    let header = match octets.strip_prefix(TEXT_SIGNATURE) {
        Some(rest) => parse_text(rest)?,
        None => parse_binary(octets)?,
    };
    match header {
        // SECURITY: for the system, connecting to 0.0.0.0 means connecting to itself.
        Header::Client { source, .. }
            if source.ip().to_canonical().is_unspecified()
                || source.ip().to_canonical().is_multicast() =>
        {
            Err(Malformed("the client's address is no host's"))
        }
        header => Ok(header),
    }
}

/// What follows `PROXY ` (§2.1).
fn parse_text(rest: &[u8]) -> Result<Header, HeaderError> {
    let line = rest.strip_suffix(b"\r\n");
    let line = line.ok_or(Malformed("the line does not end in CRLF"))?;
    let mut words = line.split(|octet| *octet == b' ');
    let family = words.next().unwrap_or_default();
    if family == b"UNKNOWN" {
        // Anything may follow, and means nothing.
        return Ok(Header::Local);
    }
    let (Some(source), Some(destination), Some(from), Some(to), None) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(Malformed("not TCP4 or TCP6, two addresses and two ports"));
    };
    let (source, destination) = match family {
        b"TCP4" => (
            address::<Ipv4Addr>(source),
            address::<Ipv4Addr>(destination),
        ),
        b"TCP6" => (
            address::<Ipv6Addr>(source),
            address::<Ipv6Addr>(destination),
        ),
        _ => return Err(Malformed("neither TCP4 nor TCP6 nor UNKNOWN")),
    };
    let end = |address: Option<IpAddr>, digits| {
        let address = address.ok_or(Malformed("not an address of that family"))?;
        let port = port(digits).ok_or(Malformed("not a port"))?;
        Ok(SocketAddr::new(address, port))
    };
    Ok(Header::Client {
        source: end(source, from)?,
        destination: end(destination, to)?,
    })
}

fn address<A: std::str::FromStr + Into<IpAddr>>(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<A>().ok().map(Into::into)
}

/// Decimal, no leading zeros.
fn port(digits: &[u8]) -> Option<u16> {
    let canonical =
        digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || !digits.starts_with(b"0"));
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| canonical)?
        .parse()
        .ok()
}

/// A whole header of version 2 (§2.2).
fn parse_binary(octets: &[u8]) -> Result<Header, HeaderError> {
    let fixed = octets.first_chunk::<BINARY_FIXED_OCTETS>();
    let Some([.., command, family, _, _]) = fixed else {
        return Err(Malformed("too short"));
    };
    match command {
        // Whatever is said of addresses does not hold.
        0x20 => return Ok(Header::Local),
        0x21 => {}
        0x22..=0x2f => return Err(Malformed("neither LOCAL nor PROXY")),
        _ => return Err(Malformed("not version 2")),
    }
    let body = octets.get(BINARY_FIXED_OCTETS..).unwrap_or_default();
    const SHORT: HeaderError = Malformed("too short for its addresses");
    let (header, rest) = match family {
        0x00 => (Header::Local, body),
        0x11 => {
            let (addresses, rest) = body.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *addresses;
            (
                client([a, b, c, d].into(), [e, f, g, h].into(), ports),
                rest,
            )
        }
        0x21 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(SHORT)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
            (
                client((*source).into(), (*destination).into(), *ports),
                rest,
            )
        }
        0x12 | 0x22 | 0x31 | 0x32 => return Err(Malformed("it is not about a TCP connection")),
        _ => return Err(Malformed("family or protocol not known")),
    };
    check_fields(octets, octets.len() - rest.len())?;
    Ok(header)
}

fn client(source: IpAddr, destination: IpAddr, ports: [u8; 4]) -> Header {
    let [a, b, c, d] = ports;
    Header::Client {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    }
}

/// Walks the TLVs (§2.2.1 to §2.2.7); only the checksum means something here.
fn check_fields(octets: &[u8], mut at: usize) -> Result<(), HeaderError> {
    const BROKEN: HeaderError = Malformed("a TLV breaks off");
    while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
        let &[kind, high, low, ref rest @ ..] = rest else {
            return Err(BROKEN);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..length).ok_or(BROKEN)?;
        at += 3;
        if kind == TLV_CRC32C {
            let sum: [u8; 4] = value
                .try_into()
                .map_err(|_| Malformed("its CRC32c has not four octets"))?;
            // The sum was made with zeros in its own place.
            let (before, rest) = octets.split_at(at);
            let behind = rest.get(4..).unwrap_or_default();
            if crc32c([before, &[0; 4], behind]) != u32::from_be_bytes(sum) {
                return Err(Malformed("its CRC32c is another"));
            }
        }
        at += length;
    }
    Ok(())
}

/// CRC32c (RFC 3309), bit by bit: headers are short, and few carry one.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let octets = parts.into_iter().flatten();
    !octets.fold(u32::MAX, |sum, octet| {
        (0..8).fold(sum ^ u32::from(*octet), |sum, _| {
            let polynomial = if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
            (sum >> 1) ^ polynomial
        })
    })
}

#[cfg(test)]
mod tests;
