//! TLS client certificates of a user, as the users file lists them.

use std::fmt;

/// A certificate that a client has proved to hold.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// SHA-256 of the certificate.
    pub sha256: &'a [u8; 32],
    /// The attributes of its subject, type and value; empty unless an authority vouches for it.
    pub subject: &'a [(String, String)],
}

/// What a listed certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Login {
    /// In place of the password, which opens the account as well.
    #[default]
    Enough,
    /// In place of the password, which opens nothing.
    Only,
    /// Both are needed.
    AndPassword,
}

const LOGINS: [(&str, Login); 3] = [
    ("enough", Login::Enough),
    ("only", Login::Only),
    ("and-password", Login::AndPassword),
];

/// One certificate, or all of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listed {
    Sha256([u8; 32]),
    /// Each of these attributes, in any order.
    Subject(Vec<(String, String)>),
}

/// The certificates of a user; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    listed: Vec<Listed>,
    login: Login,
}

/// What is wrong with such a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificates {
    /// No fingerprint.
    #[error("give a fingerprint as sha256: and 64 hexadecimal digits, with or without colons")]
    Fingerprint,
    /// No subject.
    #[error(
        "give a subject as subject:CN=alice, or with more attributes: subject:CN=alice,O=Example; \\, stands for a comma in a value"
    )]
    Subject,
    /// Neither.
    #[error("give each certificate as sha256:… or subject:…")]
    Kind,
    /// Another word.
    #[error("`certificate_login` is \"enough\", \"only\" or \"and-password\"")]
    Login,
    /// A word for no certificate.
    #[error("`certificate_login` needs `certificates` beside it")]
    None,
}

impl Certificates {
    /// The values of the keys `certificates` and `certificate_login`.
    ///
    /// # Errors
    /// [`BadCertificates`].
    pub fn parse(listed: &[String], login: Option<&str>) -> Result<Self, BadCertificates> {
        let login = match login {
            None => Login::default(),
            Some(_) if listed.is_empty() => return Err(BadCertificates::None),
            Some(word) => {
                let row = LOGINS.iter().find(|(name, _)| *name == word);
                row.ok_or(BadCertificates::Login)?.1
            }
        };
        let listed: Result<_, _> = listed.iter().map(|text| Listed::parse(text)).collect();
        Ok(Self {
            listed: listed?,
            login,
        })
    }

    /// The list as a users file has it; `None` when it is empty.
    #[must_use]
    pub fn listed(&self) -> Option<Vec<String>> {
        (!self.listed.is_empty()).then(|| self.listed.iter().map(ToString::to_string).collect())
    }

    /// The word for what they are good for, unless it is the usual one.
    #[must_use]
    pub fn login(&self) -> Option<&'static str> {
        let row = LOGINS.iter().find(|(_, login)| *login == self.login)?;
        (self.login != Login::default()).then_some(row.0)
    }

    fn matches(&self, presented: &Presented<'_>) -> bool {
        self.listed.iter().any(|listed| listed.matches(presented))
    }

    /// Whether this certificate opens the account without a password.
    #[must_use]
    pub fn suffices(&self, presented: &Presented<'_>) -> bool {
        self.login != Login::AndPassword && self.matches(presented)
    }

    /// Whether a password alone opens nothing.
    #[must_use]
    pub fn asked_for(&self) -> bool {
        self.login != Login::Enough
    }

    /// Whether a right password opens it, with this certificate or none beside it.
    #[must_use]
    pub fn permits_password(&self, presented: Option<&Presented<'_>>) -> bool {
        match self.login {
            Login::Enough => true,
            Login::Only => false,
            Login::AndPassword => presented.is_some_and(|presented| self.matches(presented)),
        }
    }
}

impl Listed {
    fn parse(text: &str) -> Result<Self, BadCertificates> {
        if let Some(digits) = text.strip_prefix("sha256:") {
            let digest = parse_fingerprint(digits).ok_or(BadCertificates::Fingerprint)?;
            return Ok(Self::Sha256(digest));
        }
        if let Some(subject) = text.strip_prefix("subject:") {
            let attributes = parse_subject(subject).ok_or(BadCertificates::Subject)?;
            return Ok(Self::Subject(attributes));
        }
        Err(BadCertificates::Kind)
    }

    fn matches(&self, presented: &Presented<'_>) -> bool {
        match self {
            Self::Sha256(digest) => digest == presented.sha256,
            // SECURITY: never empty, which would match everybody.
            Self::Subject(attributes) => attributes.iter().all(|a| presented.subject.contains(a)),
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => {
                f.write_str("sha256:")?;
                digest.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
            Self::Subject(attributes) => {
                let each = attributes.iter().map(|(kind, value)| {
                    let value = value.replace('\\', "\\\\").replace(',', "\\,");
                    format!("{kind}={value}")
                });
                write!(f, "subject:{}", each.collect::<Vec<_>>().join(","))
            }
        }
    }
}

fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b':').collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    let octets: Option<Vec<u8>> = pairs
        .iter()
        .map(|pair| {
            let both = pair.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(pair).ok().filter(|_| both)?;
            u8::from_str_radix(text, 16).ok()
        })
        .collect();
    octets?.try_into().ok().filter(|_| rest.is_empty())
}

/// `TYPE=value`, separated by commas; a backslash takes the next character as it is (RFC 4514 §2.4, without its hexadecimal
/// forms).
fn parse_subject(text: &str) -> Option<Vec<(String, String)>> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let last = parts.last_mut()?;
        match character {
            '\\' => last.push(characters.next()?),
            ',' => parts.push(String::new()),
            character => last.push(character),
        }
    }
    let attributes = parts.iter().map(|part| {
        let (kind, value) = part.split_once('=')?;
        let (kind, value) = (kind.trim(), value.trim());
        let is_kind = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let sound = !kind.is_empty() && kind.chars().all(is_kind) && !value.is_empty();
        let kind = canonical_kind(kind);
        (sound && !value.chars().any(char::is_control)).then(|| (kind, value.to_owned()))
    });
    attributes.collect()
}

/// The types are written in any case; certificates are read with these.
fn canonical_kind(kind: &str) -> String {
    const KINDS: [&str; 9] = ["CN", "O", "OU", "C", "L", "ST", "DC", "UID", "emailAddress"];
    let known = KINDS.iter().find(|known| known.eq_ignore_ascii_case(kind));
    known.map_or_else(|| kind.to_owned(), |known| (*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(listed: &[&str], login: Option<&str>) -> Result<Certificates, BadCertificates> {
        let listed: Vec<String> = listed.iter().map(|&text| text.to_owned()).collect();
        Certificates::parse(&listed, login)
    }

    fn attribute(kind: &str, value: &str) -> (String, String) {
        (kind.to_owned(), value.to_owned())
    }

    #[test]
    fn fingerprints_and_subjects() {
        let hex = "AB".repeat(32);
        let colons = vec!["ab"; 32].join(":");
        let list = [
            format!("sha256:{hex}"),
            format!("sha256:{colons}"),
            "subject:cn=Smith\\, John , O=a\\\\b".to_owned(),
        ];
        let certificates = Certificates::parse(&list, None).unwrap();
        let small = format!("sha256:{}", "ab".repeat(32));
        let written = certificates.listed().unwrap();
        assert_eq!(
            written,
            [
                small.clone(),
                small,
                "subject:CN=Smith\\, John,O=a\\\\b".to_owned()
            ]
        );
        assert_eq!(Certificates::parse(&written, None).unwrap(), certificates);
        let subject = [
            attribute("O", "a\\b"),
            attribute("CN", "Smith, John"),
            attribute("C", "DE"),
        ];
        let is = |sha256: [u8; 32], subject: &[(String, String)]| {
            certificates.suffices(&Presented {
                sha256: &sha256,
                subject,
            })
        };
        assert!(is([0xab; 32], &[]));
        assert!(is([0; 32], &subject));
        assert!(!is([0; 32], &subject[..1]), "each attribute is needed");
        assert!(!is([0; 32], &[]), "nobody vouches for the subject");
        let nobody = Certificates::default();
        assert!(!nobody.suffices(&Presented {
            sha256: &[0; 32],
            subject: &subject
        }));
        assert!(nobody.permits_password(None));
        assert_eq!((nobody.listed(), nobody.login()), (None, None));
    }

    #[test]
    fn what_is_no_list() {
        let short = format!("sha256:{}", "a".repeat(63));
        let sign = format!("sha256:{}", "+1".repeat(32));
        for (text, problem) in [
            (short.as_str(), BadCertificates::Fingerprint),
            (&sign, BadCertificates::Fingerprint),
            ("sha256:", BadCertificates::Fingerprint),
            ("sha256:ä", BadCertificates::Fingerprint),
            ("subject:", BadCertificates::Subject),
            ("subject:alice", BadCertificates::Subject),
            ("subject:CN=", BadCertificates::Subject),
            ("subject:CN=a,", BadCertificates::Subject),
            ("subject:=a", BadCertificates::Subject),
            ("subject:CN=a\\", BadCertificates::Subject),
            ("alice", BadCertificates::Kind),
        ] {
            assert_eq!(parse(&[text], None), Err(problem), "{text}");
        }
        assert_eq!(
            parse(&["subject:CN=a"], Some("x")),
            Err(BadCertificates::Login)
        );
        assert_eq!(parse(&[], Some("only")), Err(BadCertificates::None));
    }

    #[test]
    fn certificate_and_password() {
        let subject = [attribute("CN", "a")];
        let own = Presented {
            sha256: &[0; 32],
            subject: &subject,
        };
        let other = Presented {
            sha256: &[0; 32],
            subject: &[],
        };
        for (login, alone, with, without) in [
            (None, true, true, true),
            (Some("only"), true, false, false),
            (Some("and-password"), false, true, false),
        ] {
            let certificates = parse(&["subject:CN=a"], login).unwrap();
            assert_eq!(certificates.login(), login);
            assert_eq!(certificates.suffices(&own), alone, "{login:?}");
            assert!(!certificates.suffices(&other));
            assert_eq!(certificates.permits_password(Some(&own)), with, "{login:?}");
            assert_eq!(certificates.permits_password(Some(&other)), without);
            assert_eq!(certificates.permits_password(None), without, "{login:?}");
        }
    }
}
