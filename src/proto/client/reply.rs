//! Replies as a client reads them.

/// Longest reply in octets that is kept; a longer one is an error of the server.
const REPLY_OCTETS_MAX: usize = 1024 * 1024;

/// A complete reply (RFC 959 §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// Every line without code of the first and last, separator and line end.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// 1yz: another reply follows.
    #[must_use]
    pub fn is_preliminary(&self) -> bool {
        (100..200).contains(&self.code)
    }

    /// 2yz or 3yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// The text of the last line.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.lines.last().map(Vec::as_slice).unwrap_or_default()
    }

    /// The address in a 227 reply: six numbers, wherever they begin (RFC 1123 §4.1.2.6).
    #[must_use]
    pub fn passive_address(&self) -> Option<std::net::SocketAddrV4> {
        let text = self.text();
        let start = text.iter().position(u8::is_ascii_digit)?;
        let list = text.get(start..)?;
        let end = list
            .iter()
            .position(|octet| !octet.is_ascii_digit() && *octet != b',');
        let list = std::str::from_utf8(list.get(..end.unwrap_or(list.len()))?).ok()?;
        let numbers: Vec<u8> = list
            .split(',')
            .map_while(|number| number.parse().ok())
            .collect();
        let &[a, b, c, d, high, low] = numbers.as_slice() else {
            return None;
        };
        Some(std::net::SocketAddrV4::new(
            [a, b, c, d].into(),
            u16::from_be_bytes([high, low]),
        ))
    }

    /// The port in a 229 reply: `(|||port|)` with any delimiter (RFC 2428 §3).
    #[must_use]
    pub fn extended_passive_port(&self) -> Option<u16> {
        let text = self.text();
        let open = text.iter().position(|octet| *octet == b'(')?;
        let rest = text.get(open + 1..)?;
        let delimiter = *rest.first()?;
        let mut fields = rest.split(|octet| *octet == delimiter);
        let port = std::str::from_utf8(fields.nth(3)?).ok()?.parse().ok()?;
        fields.next()?.starts_with(b")").then_some(port)
    }

    /// The path in a 257 reply, its doubled quotes undone (RFC 959 App. II).
    #[must_use]
    pub fn quoted_path(&self) -> Option<Vec<u8>> {
        let mut octets = self.text().strip_prefix(b"\"")?.iter().copied().peekable();
        let mut path = Vec::new();
        while let Some(octet) = octets.next() {
            match octet {
                b'"' if octets.next_if_eq(&b'"').is_some() => path.push(b'"'),
                b'"' => return Some(path),
                _ => path.push(octet),
            }
        }
        None
    }
}

/// What a server must not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not `NNN text` or `NNN-text`.
    #[error("not a reply: {0:?}")]
    Malformed(String),
    /// A reply without end.
    #[error("reply longer than {REPLY_OCTETS_MAX} octets")]
    TooLong,
    /// A reply that nothing asked for.
    #[error("unexpected reply {0}")]
    Unexpected(u16),
}

/// Splits what a server sends into replies.
#[derive(Debug, Default)]
pub struct ReplyReader {
    held: Vec<u8>,
    open: Option<Reply>,
    octets: usize,
}

impl ReplyReader {
    /// Takes octets of the control connection.
    pub fn push(&mut self, octets: &[u8]) {
        self.held.extend_from_slice(octets);
    }

    /// The next complete reply.
    ///
    /// # Errors
    /// [`ClientError::Malformed`], [`ClientError::TooLong`].
    pub fn take(&mut self) -> Result<Option<Reply>, ClientError> {
        while let Some(end) = self.held.iter().position(|octet| *octet == b'\n') {
            let mut line: Vec<u8> = self.held.drain(..=end).collect();
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            self.octets += line.len();
            if let Some(reply) = self.take_line(line)? {
                self.octets = 0;
                return Ok(Some(reply));
            }
        }
        if self.octets + self.held.len() > REPLY_OCTETS_MAX {
            return Err(ClientError::TooLong);
        }
        Ok(None)
    }

    fn take_line(&mut self, line: Vec<u8>) -> Result<Option<Reply>, ClientError> {
        let head = line.split_first_chunk::<3>().and_then(|(digits, rest)| {
            let code = std::str::from_utf8(digits).ok()?.parse::<u16>().ok()?;
            digits
                .iter()
                .all(u8::is_ascii_digit)
                .then_some((code, rest))
        });
        match (self.open.take(), head) {
            (Some(mut reply), Some((code, rest)))
                if code == reply.code && rest.first() == Some(&b' ') =>
            {
                reply.lines.push(rest.get(1..).unwrap_or_default().to_vec());
                Ok(Some(reply))
            }
            (Some(mut reply), _) => {
                reply.lines.push(line);
                self.open = Some(reply);
                Ok(None)
            }
            (None, Some((code, rest))) if matches!(rest.first(), Some(b' ' | b'-') | None) => {
                let text = rest.get(1..).unwrap_or_default().to_vec();
                let reply = Reply {
                    code,
                    lines: vec![text],
                };
                if rest.first() == Some(&b'-') {
                    self.open = Some(reply);
                    return Ok(None);
                }
                Ok(Some(reply))
            }
            (None, _) => Err(ClientError::Malformed(line.escape_ascii().to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(octets: &[u8]) -> Vec<Reply> {
        let mut reader = ReplyReader::default();
        let mut all = Vec::new();
        for octet in octets {
            reader.push(&[*octet]);
            while let Some(reply) = reader.take().expect("well formed") {
                all.push(reply);
            }
        }
        all
    }

    #[test]
    fn replies_of_one_and_of_many_lines_arrive_octet_by_octet() {
        let all =
            replies(b"220 hello\r\n211-Features:\r\n SIZE\r\n 211 not the end\r\n211 End\r\n");
        assert_eq!(all.len(), 2);
        assert_eq!(
            all[0],
            Reply {
                code: 220,
                lines: vec![b"hello".to_vec()]
            }
        );
        assert_eq!(all[1].code, 211);
        assert_eq!(all[1].lines.len(), 4);
    }

    #[test]
    fn addresses_and_paths_are_found_in_replies() {
        let reply = |text: &[u8]| Reply {
            code: 200,
            lines: vec![text.to_vec()],
        };
        let address = reply(b"Entering Passive Mode (127,0,0,1,156,64).").passive_address();
        assert_eq!(
            address,
            Some("127.0.0.1:40000".parse().expect("an address"))
        );
        assert_eq!(reply(b"bad (127,0,0,1,156)").passive_address(), None);
        assert_eq!(
            reply(b"ok (|||40001|)").extended_passive_port(),
            Some(40001)
        );
        assert_eq!(
            reply(b"ok (!!!40001!)").extended_passive_port(),
            Some(40001)
        );
        assert_eq!(reply(b"ok (|||99999|)").extended_passive_port(), None);
        assert_eq!(
            reply(b"\"/a\"\"b\" made").quoted_path(),
            Some(b"/a\"b".to_vec())
        );
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        let mut reader = ReplyReader::default();
        reader.push(b"hello\r\n");
        assert!(matches!(reader.take(), Err(ClientError::Malformed(_))));
        let mut reader = ReplyReader::default();
        reader.push(&vec![b'x'; REPLY_OCTETS_MAX + 1]);
        assert_eq!(reader.take(), Err(ClientError::TooLong));
    }
}
