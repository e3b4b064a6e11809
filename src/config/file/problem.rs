//! What is wrong with a configuration file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::{Exit, Failure};

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// The place of an octet of the text.
    #[must_use]
    pub fn of(text: &str, octet: usize) -> Self {
        let octet = text.floor_char_boundary(octet);
        let before = text.get(..octet).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or(before);
        Self {
            line: 1 + before.matches('\n').count(),
            column: 1 + line.chars().count(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` for what the file lacks.
    pub place: Option<Place>,
    /// What, what is allowed, and what may have been meant.
    pub message: String,
    /// The exit status of a server that does not start for it.
    pub exit: Exit,
}

impl Problem {
    /// Wrong contents at this place.
    #[must_use]
    pub fn at(place: Place, message: impl Into<String>) -> Self {
        Self {
            place: Some(place),
            message: message.into(),
            exit: Exit::Config,
        }
    }
}

/// Everything that is wrong with a file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// In the order of the file.
    pub list: Vec<Problem>,
}

impl Problems {
    /// `Err` if there are any.
    ///
    /// # Errors
    /// The problems, sorted.
    pub fn refuse(file: &Path, mut list: Vec<Problem>) -> Result<(), Self> {
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by_key(|problem| problem.place);
        list.dedup();
        Err(Self {
            file: file.to_path_buf(),
            list,
        })
    }

    /// One line for each: `FILE:LINE:COLUMN: message`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let file = self.file.display();
        self.list.iter().map(move |problem| {
            let message = one_line(&problem.message);
            match problem.place {
                Some(place) => format!("{file}:{place}: {message}"),
                None => format!("{file}: {message}"),
            }
        })
    }
}

impl From<Problems> for Failure {
    /// One line: the first problem, and how to see the others.
    fn from(problems: Problems) -> Self {
        let exit = problems
            .list
            .first()
            .map_or(Exit::Config, |first| first.exit);
        let first = problems.lines().next().unwrap_or_default();
        let message = match problems.list.len() {
            0 | 1 => first,
            number => format!(
                "{first} (and {} more: `ringftpd check-config {}` tells them)",
                number - 1,
                problems.file.display()
            ),
        };
        Self::new(exit, message)
    }
}

/// The text without line ends and other control characters: it goes to a terminal or a log.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let text = "a\nbé=1\r\n";
        let place = |octet| Place::of(text, octet).to_string();
        assert_eq!(place(0), "1:1");
        assert_eq!(place(2), "2:1");
        assert_eq!(place(5), "2:3");
        // In the middle of a character, at the end, and beyond.
        assert_eq!(place(4), "2:2");
        assert_eq!(place(text.len()), "3:1");
        assert_eq!(place(999), "3:1");
    }

    #[test]
    fn a_failure_is_one_line() {
        let place = Place { line: 3, column: 5 };
        let list = vec![
            Problem::at(place, "bad\n\u{1b}[31m"),
            Problem::at(place, "worse"),
        ];
        let problems = Problems::refuse(Path::new("f.toml"), list).unwrap_err();
        let failure = Failure::from(problems);
        let expected =
            "f.toml:3:5: bad\\n\\u{1b}[31m (and 1 more: `ringftpd check-config f.toml` tells them)";
        assert_eq!(failure.message, expected);
        assert_eq!(failure.exit, Exit::Config);
    }
}
