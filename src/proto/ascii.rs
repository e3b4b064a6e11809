//! TYPE A: line ends between the file (LF) and the network (CR LF), octet by octet in a stream
//! (RFC 959 §3.1.1.1).
//!
//! Both converters carry "the last octet was CR" over buffer boundaries, so that the result does
//! not depend on how the stream is cut. Files that hold CR LF do not come back unchanged.

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// File to network: LF that follows no CR becomes CR LF; all else passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToNetwork {
    after_cr: bool,
}

impl ToNetwork {
    /// At the start of a file.
    #[must_use]
    pub const fn new() -> Self {
        Self { after_cr: false }
    }

    /// Appends the converted input to `out`: at most twice its octets.
    pub fn convert(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len());
        for piece in input.split_inclusive(|octet| *octet == LF) {
            match piece.strip_suffix(&[LF]) {
                Some(line) => {
                    let after_cr = line.last().map_or(self.after_cr, |octet| *octet == CR);
                    out.extend_from_slice(line);
                    out.extend_from_slice(if after_cr { b"\n" } else { b"\r\n" });
                    self.after_cr = false;
                }
                None => {
                    out.extend_from_slice(piece);
                    self.after_cr = piece.last() == Some(&CR);
                }
            }
        }
    }

    /// Ends the stream; nothing is held back in this direction.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the same shape as FromNetwork"
    )]
    pub const fn finish(self, _out: &mut Vec<u8>) {}

    /// How many octets `convert` would append, without doing it: SIZE in TYPE A (RFC 3659 §4).
    pub fn count_for_size(&mut self, input: &[u8]) -> u64 {
        let mut octets = 0;
        for piece in input.split_inclusive(|octet| *octet == LF) {
            octets += piece.len() as u64;
            match piece.strip_suffix(&[LF]) {
                Some(line) => {
                    let after_cr = line.last().map_or(self.after_cr, |octet| *octet == CR);
                    octets += u64::from(!after_cr);
                    self.after_cr = false;
                }
                None => self.after_cr = piece.last() == Some(&CR),
            }
        }
        octets
    }
}

/// Network to file: CR LF becomes LF; lone CR and lone LF are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FromNetwork {
    /// A CR ended the last buffer; whether it is written depends on the next octet.
    held_cr: bool,
}

impl FromNetwork {
    /// At the start of an upload.
    #[must_use]
    pub const fn new() -> Self {
        Self { held_cr: false }
    }

    /// Appends the converted input to `out`: at most one octet more than the input.
    pub fn convert(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len() + 1);
        let Some(first) = input.first() else { return };
        if self.held_cr && *first != LF {
            out.push(CR);
        }
        let body = input.strip_suffix(&[CR]);
        self.held_cr = body.is_some();
        for piece in body.unwrap_or(input).split_inclusive(|octet| *octet == LF) {
            match piece.strip_suffix(b"\r\n") {
                Some(line) => {
                    out.extend_from_slice(line);
                    out.push(LF);
                }
                None => out.extend_from_slice(piece),
            }
        }
    }

    /// Ends the stream: writes a CR that came last.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.held_cr {
            out.push(CR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(pieces: &[&[u8]]) -> Vec<u8> {
        let mut converter = ToNetwork::new();
        let mut counter = ToNetwork::new();
        let mut out = Vec::new();
        let mut counted = 0;
        for piece in pieces {
            converter.convert(piece, &mut out);
            counted += counter.count_for_size(piece);
        }
        converter.finish(&mut out);
        assert_eq!(counted, out.len() as u64, "{pieces:?}");
        out
    }

    fn up(pieces: &[&[u8]]) -> Vec<u8> {
        let mut converter = FromNetwork::new();
        let mut out = Vec::new();
        for piece in pieces {
            converter.convert(piece, &mut out);
        }
        converter.finish(&mut out);
        out
    }

    /// Converts whole, cut at every place, at every two places, and octet by octet.
    fn at_every_cut(convert: fn(&[&[u8]]) -> Vec<u8>, input: &[u8], expected: &[u8]) {
        assert_eq!(convert(&[input]), expected);
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let pieces = [&input[..first], &input[first..second], &input[second..]];
                assert_eq!(convert(&pieces), expected, "cut at {first} and {second}");
            }
        }
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(convert(&octets), expected);
    }

    #[test]
    fn c106_download_adds_cr_where_it_is_missing() {
        at_every_cut(down, b"a\nb\r\nc\rd", b"a\r\nb\r\nc\rd");
        at_every_cut(down, b"\n\n\r\r\n\r", b"\r\n\r\n\r\r\n\r");
        at_every_cut(down, b"", b"");
    }

    #[test]
    fn c107_upload_takes_cr_before_lf_away() {
        at_every_cut(up, b"a\r\nb\rc\nd\r", b"a\nb\rc\nd\r");
        at_every_cut(up, b"\r\r\n\n\r\n\r\r", b"\r\n\n\n\r\r");
        at_every_cut(up, b"", b"");
    }
}
