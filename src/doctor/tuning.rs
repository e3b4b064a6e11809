//! The wanted values: the files in `tuning/` themselves, read at compile time and parsed, with the
//! comments that give their reasons.

const SYSCTL: &str = include_str!("../../tuning/sysctl.conf");
const MODULES: &str = include_str!("../../tuning/modules-load.conf");
const UNIT: &str = include_str!("../../tuning/ringftpd.service");

/// A line of a tuning file with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Name of the setting or the module.
    pub name: String,
    /// The wanted value; empty for modules.
    pub value: String,
    /// The comment above it, on one line.
    pub reason: String,
    /// What the comment names as `Source:`.
    pub source: String,
    /// Some kernels lack it (`-` before the name, sysctl.d(5)).
    pub optional: bool,
}

/// The settings of `tuning/sysctl.conf`.
#[must_use]
pub fn settings() -> Vec<Line> {
    parse(SYSCTL)
}

/// The modules of `tuning/modules-load.conf`.
#[must_use]
pub fn modules() -> Vec<Line> {
    parse(MODULES)
}

/// The value of a directive of the systemd unit; the last one counts, as for systemd.
#[must_use]
pub fn directive(name: &str) -> Option<&'static str> {
    let lines = UNIT.lines().filter_map(|line| line.split_once('='));
    let values = lines.filter(|(key, _)| key.trim() == name);
    values.map(|(_, value)| value.trim()).next_back()
}

fn parse(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let (mut reason, mut source) = (String::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            match comment.strip_prefix("Source:") {
                Some(named) => source = named.trim().to_owned(),
                None if reason.is_empty() => reason = comment.to_owned(),
                None => reason = format!("{reason} {comment}"),
            }
        } else if line.is_empty() {
            // A comment that no setting follows speaks of the whole file.
            reason.clear();
            source.clear();
        } else {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let name = name.trim();
            lines.push(Line {
                name: name.trim_start_matches('-').to_owned(),
                value: value.trim().to_owned(),
                reason: std::mem::take(&mut reason),
                source: std::mem::take(&mut source),
                optional: name.starts_with('-'),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_reason_and_its_source() {
        let (settings, modules) = (settings(), modules());
        assert!(settings.len() >= 8 && modules.len() >= 3);
        for line in settings.iter().chain(&modules) {
            assert!(line.reason.len() > 20, "{}: no reason", line.name);
            assert!(!line.source.is_empty(), "{}: no source", line.name);
        }
        for line in &settings {
            assert!(!line.value.is_empty(), "{}: no value", line.name);
            let twice = settings.iter().filter(|other| other.name == line.name);
            assert_eq!(twice.count(), 1, "{} stands twice", line.name);
        }
    }

    #[test]
    fn comments_dashes_and_values_are_told_apart() {
        let text = "# of the file\n\n# Why,\n# at length.\n# Source: here\n-a.b = 1 2\nc=3\n";
        let lines = parse(text);
        let first = lines.first().unwrap();
        assert_eq!((&*first.name, &*first.value), ("a.b", "1 2"));
        assert_eq!(
            (&*first.reason, &*first.source),
            ("Why, at length.", "here")
        );
        assert!(first.optional);
        let second = lines.get(1).unwrap();
        assert_eq!((&*second.name, &*second.value), ("c", "3"));
        assert!(second.reason.is_empty() && !second.optional);
    }

    #[test]
    fn the_unit_says_how_many_descriptors() {
        let limit: u64 = directive("LimitNOFILE").unwrap().parse().unwrap();
        assert_eq!(limit, crate::limits::DESCRIPTORS_MAX);
        assert_eq!(directive("NoSuchThing"), None);
    }
}
