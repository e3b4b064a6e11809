//! Virtual paths: what the client sees, never a path of the operating system.
//!
//! A path is a sequence of octets, UTF-8 by custom, unchanged by us (RFC 2640 §3.1) unless the
//! session has a character set. `/` separates components; `.`, `..`, `//` and a trailing `/` are
//! resolved here, and no path leaves the root: `..` stops there (RFC 3659 §6, TVFS).

use std::fmt;

use crate::limits;

/// A normalised absolute path below a user's root: `/`, or `/a/b` with no empty, `.` or `..`
/// component and no trailing slash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VirtualPath(Box<[u8]>);

/// Why octets are no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component or the whole is too long (553).
    #[error("path too long")]
    TooLong,
    /// It holds NUL, CR or LF (501).
    #[error("octet not allowed in a path")]
    BadOctet,
}

impl VirtualPath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::from(&b"/"[..]))
    }

    /// Resolves an argument against the current directory.
    ///
    /// # Errors
    /// [`PathError`] when the argument or the result is no path.
    pub fn join(&self, argument: &[u8]) -> Result<Self, PathError> {
        if argument
            .iter()
            .any(|octet| matches!(octet, 0 | b'\r' | b'\n'))
        {
            return Err(PathError::BadOctet);
        }
        let mut joined: Vec<u8> = Vec::with_capacity(self.0.len() + argument.len() + 1);
        if !argument.starts_with(b"/") && !self.is_root() {
            joined.extend_from_slice(&self.0);
        }
        for component in argument.split(|octet| *octet == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    let end = joined.iter().rposition(|octet| *octet == b'/').unwrap_or(0);
                    joined.truncate(end);
                }
                _ if component.len() > limits::PATH_COMPONENT_OCTETS_MAX => {
                    return Err(PathError::TooLong);
                }
                _ => {
                    joined.push(b'/');
                    joined.extend_from_slice(component);
                }
            }
        }
        if joined.len() > limits::PATH_OCTETS_MAX {
            return Err(PathError::TooLong);
        }
        if joined.is_empty() {
            joined.push(b'/');
        }
        Ok(Self(joined.into_boxed_slice()))
    }

    /// The octets, beginning with `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path relative to the root: no leading `/`, empty for the root itself.
    #[must_use]
    pub fn relative(&self) -> &[u8] {
        self.0.strip_prefix(b"/").unwrap_or_default()
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The components, none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        let components = self.relative().split(|octet| *octet == b'/');
        components.filter(|component| !component.is_empty())
    }

    /// Whether this is `ancestor` or below it, by whole components.
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        match self.0.strip_prefix(ancestor.as_bytes()) {
            Some(rest) => rest.is_empty() || rest.starts_with(b"/") || ancestor.is_root(),
            None => false,
        }
    }

    /// The path in quotes as 257 shows it, quotes in it doubled (RFC 959 Appendix II). The reply
    /// encoder doubles `0xFF` on the control connection where it is Telnet's.
    #[must_use]
    pub fn quoted(&self) -> Vec<u8> {
        let mut quoted = Vec::with_capacity(self.0.len() + 2);
        quoted.push(b'"');
        for octet in &self.0 {
            if *octet == b'"' {
                quoted.push(b'"');
            }
            quoted.push(*octet);
        }
        quoted.push(b'"');
        quoted
    }

    /// The parent directory and the last component; `None` for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|octet| *octet == b'/')?;
        let (parent, last) = self.0.split_at(slash);
        let parent = if parent.is_empty() { b"/" } else { parent };
        Some((Self(Box::from(parent)), last.strip_prefix(b"/")?))
    }

    /// The parent directory; the root is its own parent.
    #[must_use]
    pub fn parent(&self) -> Self {
        self.split_last()
            .map_or_else(Self::root, |(parent, _)| parent)
    }
}

impl fmt::Debug for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
