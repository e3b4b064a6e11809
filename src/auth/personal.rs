//! What a users file says of a user beside rights and bounds: certificates, the welcome, the character set of names.

use toml::Spanned;

use super::certificates::Certificates;
use super::welcome::Welcome;
use crate::proto::Charset;

/// Of one account; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Personal {
    /// Its TLS client certificates.
    pub certificates: Certificates,
    /// What it is told at login, in place of what its host tells all.
    pub welcome: Option<Welcome>,
    /// How names are written to its clients, in place of how its host does for all.
    pub charset: Option<Charset>,
}

impl Personal {
    /// With names written in this character set.
    #[must_use]
    pub fn with_charset(self, charset: Option<Charset>) -> Self {
        Self { charset, ..self }
    }

    /// From the keys `certificates`, `certificate_login` and `welcome`; an error has the octet where it stands.
    pub(super) fn check(
        certificates: Option<&Spanned<Vec<String>>>,
        login: Option<&Spanned<String>>,
        welcome: Option<&Spanned<String>>,
    ) -> Result<Self, (usize, String)> {
        let listed = certificates.map_or(&[][..], |list| list.get_ref());
        let word = login.map(|word| word.get_ref().as_str());
        let place = login.map(Spanned::span);
        let place = place.or_else(|| certificates.map(Spanned::span));
        let certificates = Certificates::parse(listed, word).map_err(|problem| {
            let start = place.map_or(0, |place| place.start);
            (start, problem.to_string())
        })?;
        let welcome = match welcome {
            None => None,
            Some(text) => Welcome::parse(text.get_ref())
                .map_err(|problem| (text.span().start, format!("the welcome: {problem}")))?,
        };
        Ok(Self {
            certificates,
            welcome,
            charset: None,
        })
    }
}
