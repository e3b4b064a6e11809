//! What a user is told at login.

use std::sync::Arc;

use crate::limits;

/// Lines of the reply to a login (RFC 959 §4.2), for a user or for all of a virtual host. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome(Arc<str>);

/// Why a text cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWelcome {
    /// A control character other than a line end.
    #[error("it contains a control character: lines can hold text only")]
    Control,
    /// Too many lines.
    #[error("it has more than {} lines", limits::WELCOME_LINES_MAX)]
    Lines,
    /// A line is too long for some client.
    #[error("a line has more than {} octets", limits::WELCOME_LINE_OCTETS_MAX)]
    Long,
}

impl Welcome {
    /// A text of lines that end in LF or CRLF; `None` when there is nothing in it.
    ///
    /// # Errors
    /// [`BadWelcome`].
    pub fn parse(text: &str) -> Result<Option<Self>, BadWelcome> {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        if lines.len() > limits::WELCOME_LINES_MAX {
            return Err(BadWelcome::Lines);
        }
        for line in &lines {
            if line.chars().any(char::is_control) {
                return Err(BadWelcome::Control);
            }
            if line.len() > limits::WELCOME_LINE_OCTETS_MAX {
                return Err(BadWelcome::Long);
            }
        }
        let text = lines.join("\n");
        Ok((!text.is_empty()).then(|| Self(text.into())))
    }

    /// The lines, separated by LF.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_and_bounded() {
        let parse = |text: &str| Welcome::parse(text).map(|w| w.map(|w| w.text().to_string()));
        assert_eq!(
            parse("Hello\r\n\nné \n"),
            Ok(Some("Hello\n\nné".to_owned()))
        );
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse(" \n\n"), Ok(None));
        for bad in ["a\tb", "a\rb", "\u{1b}[31m", "a\0", "\u{9b}1m"] {
            assert_eq!(parse(bad), Err(BadWelcome::Control), "{bad:?}");
        }
        let longest = "x".repeat(limits::WELCOME_LINE_OCTETS_MAX);
        assert!(parse(&longest).is_ok());
        assert_eq!(parse(&format!("{longest}x")), Err(BadWelcome::Long));
        let most = "x\n".repeat(limits::WELCOME_LINES_MAX);
        assert!(parse(&most).is_ok());
        assert_eq!(parse(&format!("{most}x")), Err(BadWelcome::Lines));
    }
}
