//! Questions and answers as messages of octets: fields, each behind its length.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Answer, Question};
use crate::limits;

const GRANTED: u8 = 0;
const REFUSED: u8 = 1;
const FAILED: u8 = 2;

fn put(message: &mut Vec<u8>, field: &[u8]) {
    // What is longer than a message may be is cut, and then is no message.
    let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(field);
}

/// Takes fields off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (field, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        self.0 = rest;
        Some(field)
    }

    fn string(&mut self) -> Option<CString> {
        CString::new(self.next()?).ok()
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.next()?.to_vec()).ok()
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

impl Question {
    pub(super) fn to_message(&self) -> Zeroizing<Vec<u8>> {
        // So large that it never grows: what it grew out of would not be wiped.
        let mut message = Zeroizing::new(Vec::with_capacity(limits::PAM_MESSAGE_OCTETS_MAX));
        put(&mut message, self.user.to_bytes());
        put(&mut message, &self.password);
        put(&mut message, self.address.to_bytes());
        message
    }

    pub(super) fn from_message(message: &[u8]) -> Option<Self> {
        let mut fields = Fields(message);
        let user = fields.string()?;
        let password = Zeroizing::new(fields.next()?.to_vec());
        let address = fields.string()?;
        fields.end()?;
        Some(Self {
            user,
            password,
            address,
        })
    }
}

impl Answer {
    pub(super) fn to_message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        match self {
            Self::Granted { user, home } => {
                message.push(GRANTED);
                put(&mut message, user.as_bytes());
                if let Some(home) = home {
                    put(&mut message, home.as_os_str().as_bytes());
                }
            }
            Self::Refused { reason, delay } => {
                message.push(REFUSED);
                put(&mut message, shortened(reason).as_bytes());
                let microseconds = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
                put(&mut message, &microseconds.to_be_bytes());
            }
            Self::Failed { reason } => {
                message.push(FAILED);
                put(&mut message, shortened(reason).as_bytes());
            }
        }
        message
    }

    pub(super) fn from_message(message: &[u8]) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        let mut fields = Fields(rest);
        let answer = match *kind {
            GRANTED => Self::Granted {
                user: fields.text()?,
                home: if fields.0.is_empty() {
                    None
                } else {
                    let home = OsStr::from_bytes(fields.next()?).as_bytes().to_vec();
                    Some(OsString::from_vec(home).into())
                },
            },
            REFUSED => Self::Refused {
                reason: fields.text()?,
                delay: Duration::from_micros(u64::from_be_bytes(fields.next()?.try_into().ok()?)),
            },
            FAILED => Self::Failed {
                reason: fields.text()?,
            },
            _ => return None,
        };
        fields.end()?;
        Some(answer)
    }
}

/// A module's words may be of any length.
fn shortened(reason: &str) -> &str {
    let end = reason.floor_char_boundary(limits::PAM_REASON_OCTETS_MAX);
    reason.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            user: c"ann".to_owned(),
            password: Zeroizing::new(vec![b' ', 0xff, b'x']),
            address: c"2001:db8::1".to_owned(),
        }
    }

    #[test]
    fn questions_and_answers_arrive_as_they_were() {
        let question = question();
        let message = question.to_message();
        assert!(Question::from_message(&message) == Some(question));
        for answer in [
            Answer::Granted {
                user: "ann".to_owned(),
                home: Some("/srv/ann".into()),
            },
            Answer::Granted {
                user: "b\u{f6}b".to_owned(),
                home: None,
            },
            Answer::Refused {
                reason: "password: wrong".to_owned(),
                delay: Duration::from_micros(2_000_001),
            },
            Answer::Failed {
                reason: String::new(),
            },
        ] {
            assert_eq!(Answer::from_message(&answer.to_message()), Some(answer));
        }
    }

    #[test]
    fn what_is_cut_or_longer_is_no_message() {
        let message = question().to_message();
        for length in 0..message.len() {
            assert!(Question::from_message(&message[..length]).is_none());
        }
        assert!(Question::from_message(&[&message[..], b"x"].concat()).is_none());
        // A NUL within a name.
        assert!(Question::from_message(b"\0\x02a\0\0\0\0\0").is_none());
        let answer = Answer::Refused {
            reason: "\u{e4}".repeat(limits::PAM_REASON_OCTETS_MAX),
            delay: Duration::MAX,
        };
        let message = answer.to_message();
        assert!(message.len() <= limits::PAM_MESSAGE_OCTETS_MAX);
        assert!(Answer::from_message(&message).is_some());
        for length in 0..message.len() {
            assert!(Answer::from_message(&message[..length]).is_none());
        }
        assert!(Answer::from_message(b"\x09").is_none());
    }
}
