//! What is written: percentile files, the page, comparisons.

use std::path::Path;
use std::process::Command;

use crate::common::Port;
use crate::{LARGE, command, report, run, server};

const NO_INPUT: i32 = 66;

#[test]
fn percentile_files_and_the_page_are_complete() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (page, files, prefix) = (at("report.html"), at("files/"), at("run"));
    let words = [
        "get", "--path", LARGE, "--count", "20", "--html", &page, "--hgrm",
    ];
    report(Port::Explicit, &[&words[..], &[&files]].concat());
    report(Port::Explicit, &[&words[..], &[&prefix]].concat());
    for path in [
        at("files/transfer.hgrm"),
        at("run-transfer.hgrm"),
        at("run-connect.hgrm"),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#')).skip(2);
        let last = lines.last().unwrap().split_whitespace();
        let last: Vec<f64> = last.map(|word| word.parse().unwrap()).collect();
        let total = if path.contains("transfer") { 20.0 } else { 1.0 };
        assert!(last[0] > 0.0 && last[1..] == [1.0, total], "{path}: {text}");
        assert!(text.contains("#[Max     ="), "{path}");
    }
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"));
    assert!(
        text.contains("\"workload\":\"get\"") && text.contains("[\"transfer\",[["),
        "the data"
    );
    let text = text.replace("http://www.w3.org/2000/svg", "");
    for word in ["http://", "https://", "src=", "url(", "@import"] {
        assert!(!text.contains(word), "{word}: it fetches something");
    }
}

#[test]
fn two_reports_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let server = server();
    for (name, count) in [("a.json", "5"), ("b.json", "10")] {
        let words = ["noop", "--insecure", "--quiet", "--count", count, "--json"];
        let mut command = command(&server, Port::Explicit, &words);
        // The option's value comes last but the helper adds others.
        command = rebuild(&command, &file(name));
        let output = run(command);
        assert!(output.status.success(), "{output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    let mut compare = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"));
    let output = compare
        .arg("compare")
        .arg(file("a.json"))
        .arg(file("b.json"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for row in ["operations/s", "command p99 ", "login p50 ", "B / A"] {
        assert!(text.contains(row), "no {row} in:\n{text}");
    }
    std::fs::write(file("b.json"), "{}").unwrap();
    let mut compare = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"));
    let output = compare
        .arg("compare")
        .arg(file("a.json"))
        .arg(file("b.json"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(NO_INPUT));
}

/// The same command with a value behind its `--json`.
fn rebuild(command: &Command, file: &Path) -> Command {
    let mut rebuilt = Command::new(command.get_program());
    for argument in command.get_args() {
        rebuilt.arg(argument);
        if argument == "--json" {
            rebuilt.arg(file);
        }
    }
    rebuilt
}
