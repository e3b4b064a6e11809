//! The report for people.

use std::fmt::Write as _;

use super::{Finding, Group, KernelTls, Report, Severity, SuiteRow};

/// How a report is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Colours, by the escape sequences of ECMA-48.
    pub colour: bool,
    /// Columns that reasons are broken at.
    pub columns: usize,
}

/// Columns before what was measured.
const INDENT: usize = 10;
/// Longest name of a finding that keeps the next column in line.
const NAME_COLUMNS: usize = 42;

impl Report {
    /// The report in sections, what is wrong first in each, and a summary at the end.
    #[must_use]
    pub fn to_text(&self, style: Style) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "kernel      {}", self.kernel);
        let _ = writeln!(text, "cores       {}", self.cores);
        for group in Group::ALL {
            let mut findings = self.findings.iter().filter(|f| f.group == group).peekable();
            if findings.peek().is_some() {
                let _ = writeln!(text, "\n{}", bold(group.title(), style));
            }
            for finding in findings {
                describe(&mut text, finding, style);
            }
        }
        if let Some(kernel_tls) = &self.kernel_tls {
            kernel_tls.describe(&mut text);
        }
        let counts = self.counts;
        let _ = writeln!(
            text,
            "\n{}: {}, {}, {}, {} in order",
            if self.can_serve {
                "the server can run here"
            } else {
                "the server cannot run like this"
            },
            number(counts.error, "error", "errors"),
            number(counts.warning, "warning", "warnings"),
            number(counts.advice, "piece of advice", "pieces of advice"),
            counts.ok,
        );
        text
    }
}

impl Group {
    fn title(self) -> &'static str {
        match self {
            Self::Kernel => "Kernel",
            Self::Resources => "Descriptors and memory",
            Self::Network => "Network and firewall",
            Self::Hardware => "Network cards and processors",
            Self::Time => "Clock",
            Self::Certificate => "Certificate",
            Self::Files => "Files",
        }
    }
}

fn number(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn bold(text: &str, style: Style) -> String {
    paint(text, "1", style)
}

fn paint(text: &str, code: &str, style: Style) -> String {
    if style.colour {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// What was measured may come from files and programs: nothing in it reaches the terminal's controls.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn describe(text: &mut String, finding: &Finding, style: Style) {
    let (word, code) = match finding.severity {
        Severity::Ok => ("ok", "32"),
        Severity::Advice => ("advice", "36"),
        Severity::Warning => ("WARNING", "33"),
        Severity::Error => ("ERROR", "1;31"),
    };
    let padded = format!("{word:<8}");
    let measured = printable(&finding.measured);
    let _ = writeln!(
        text,
        "  {}{:<NAME_COLUMNS$} {measured}",
        paint(&padded, code, style),
        printable(&finding.id)
    );
    let Some(fix) = &finding.fix else {
        return;
    };
    let mut line = |label: &str, content: &str| {
        let width = style.columns.saturating_sub(INDENT + 8).max(40);
        for (at, part) in wrap(&printable(content), width).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            let _ = writeln!(text, "{:INDENT$}{label:<8}{part}", "");
        }
    };
    line("wanted", &finding.wanted);
    line("why", &finding.why);
    // A command stays on its line, to be copied.
    let fix = printable(fix);
    let _ = writeln!(text, "{:INDENT$}{:<8}{}", "", "remedy", bold(&fix, style));
}

/// Breaks a text at blanks.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => word.clone_into(line),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

impl KernelTls {
    fn describe(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nkernel TLS  probed in {:.1} ms\n",
            self.milliseconds
        );
        let _ = writeln!(
            text,
            "{:<26} {:<22} {:<22} {:<8} CPU ns/octet: user, read+send, sendfile; user, receive",
            "version and cipher", "downloads", "uploads", "re-key"
        );
        for suite in &self.suites {
            let _ = writeln!(text, "{}", suite.line().trim_end());
        }
        let mut problems: Vec<&String> = Vec::new();
        for problem in self.suites.iter().flat_map(|suite| &suite.problems) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        if !problems.is_empty() {
            text.push('\n');
        }
        for problem in problems {
            let _ = writeln!(text, "kernel TLS: {problem}");
        }
    }
}

impl SuiteRow {
    fn line(&self) -> String {
        let rekey = match (self.works, self.rekey) {
            (false, _) => "-",
            (true, false) => "no",
            (true, true) => "yes",
        };
        let cost =
            |cost: Option<f64>| cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
        let costs = format!(
            "{}, {}, {}; {}, {}",
            cost(self.user_send),
            cost(self.kernel_read),
            cost(self.kernel_sendfile),
            cost(self.user_receive),
            cost(self.kernel_receive)
        );
        format!(
            "{:<26} {:<22} {:<22} {rekey:<8} {}",
            self.suite,
            self.downloads,
            self.uploads,
            if self.works { costs.as_str() } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let good = Finding::new("memory", Group::Resources).measured("much\x1b[31m");
        let bad = Finding::new("clock-source", Group::Time)
            .measured("hpet")
            .wanted("tsc")
            .why("because ".repeat(30))
            .bad(Severity::Warning, "echo tsc > there");
        Report::new("6.1.0".to_owned(), 2, vec![good, bad], None)
    }

    #[test]
    fn problems_are_marked_with_reason_and_remedy() {
        let style = Style {
            colour: false,
            columns: 80,
        };
        let text = report().to_text(style);
        for part in [
            "  ok      memory",
            "  WARNING clock-source",
            "remedy  echo tsc > there\n",
            "1 warning, 0 pieces of advice, 1 in order",
            "the server can run here",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn colours_are_there_when_asked_for() {
        let style = Style {
            colour: true,
            columns: 80,
        };
        let text = report().to_text(style);
        assert!(text.contains("\x1b[33mWARNING \x1b[0m"), "{text:?}");
        assert!(!text.contains("\x1b[31m"), "what was measured stays plain");
    }

    #[test]
    fn the_json_form_is_as_the_readme_says() {
        let value: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["can_serve"], true);
        assert_eq!(value["counts"]["warning"], 1);
        let finding = &value["findings"][1];
        assert_eq!(finding["id"], "clock-source");
        assert_eq!(finding["group"], "time");
        assert_eq!(finding["severity"], "warning");
        assert_eq!(finding["fix"], "echo tsc > there");
        assert!(value["findings"][0]["fix"].is_null());
        assert!(value["kernel_tls"].is_null());
    }
}
