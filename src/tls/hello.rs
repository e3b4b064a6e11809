//! What a ClientHello says before rustls reads it. Pure.

/// ChaCha20-Poly1305 in TLS 1.3, and in TLS 1.2 with ECDHE and ECDSA or RSA (RFC 8446 §B.4, RFC 7905).
const CHACHA20: [[u8; 2]; 3] = [[0x13, 0x03], [0xcc, 0xa8], [0xcc, 0xa9]];
/// TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746 §3.3).
const SCSV: [u8; 2] = [0x00, 0xff];
/// Octets in front of the session's name: header of the record, header of the message, version, random.
const BEFORE_SESSION: usize = 5 + 4 + 2 + 32;
/// The message's type, behind the header of the record.
const MESSAGE_TYPE_AT: usize = 5;
const CLIENT_HELLO: u8 = 1;

/// Does the client like ChaCha20-Poly1305 best? Then it has no instructions for AES, and what is cheaper for
/// this server would be dear for it. Of a record that is no ClientHello the answer is no.
pub(super) fn prefers_chacha20(record: &[u8]) -> bool {
    first_suite(record).is_some_and(|suite| CHACHA20.contains(&suite))
}

/// The first cipher suite that is one.
fn first_suite(record: &[u8]) -> Option<[u8; 2]> {
    if record.get(MESSAGE_TYPE_AT) != Some(&CLIENT_HELLO) {
        return None;
    }
    let (session, rest) = record.get(BEFORE_SESSION..)?.split_first()?;
    let (length, rest) = rest
        .get(usize::from(*session)..)?
        .split_first_chunk::<2>()?;
    let suites = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    let (suites, _) = suites.as_chunks::<2>();
    suites
        .iter()
        .copied()
        .find(|suite| !is_grease(*suite) && *suite != SCSV)
}

/// Reserved values that keep servers tolerant (RFC 8701 §2).
fn is_grease([high, low]: [u8; 2]) -> bool {
    high == low && low & 0x0f == 0x0a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(session: usize, suites: &[[u8; 2]]) -> Vec<u8> {
        let mut record = vec![22, 3, 1, 0, 0, CLIENT_HELLO, 0, 0, 0, 3, 3];
        record.extend([7; 32]);
        record.push(u8::try_from(session).unwrap());
        record.extend(std::iter::repeat_n(9, session));
        record.extend(u16::try_from(2 * suites.len()).unwrap().to_be_bytes());
        record.extend(suites.concat());
        record.extend([1, 0, 0, 0]);
        record
    }

    #[test]
    fn the_first_real_suite_counts() {
        let (aes, chacha, grease) = ([0x13, 0x02], [0x13, 0x03], [0x5a, 0x5a]);
        for (suites, expected) in [
            (&[chacha, aes][..], true),
            (&[grease, SCSV, [0xcc, 0xa9], aes], true),
            (&[aes, chacha], false),
            (&[grease], false),
            (&[], false),
        ] {
            for session in [0, 32] {
                assert_eq!(
                    prefers_chacha20(&hello(session, suites)),
                    expected,
                    "{suites:?}"
                );
            }
        }
    }

    #[test]
    fn anything_else_says_nothing() {
        let whole = hello(32, &[[0x13, 0x03]]);
        for length in 0..whole.len() - 4 {
            assert!(!prefers_chacha20(&whole[..length]), "{length}");
        }
        let mut other = whole;
        other[MESSAGE_TYPE_AT] = 2;
        assert!(!prefers_chacha20(&other));
    }
}
