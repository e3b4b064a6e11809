//! The rules of the source that no compiler checks: who imports whom, where unsafe code and the kernel's interfaces are
//! named, how long a file is, which words stay out, and that the README knows every option.
#![allow(clippy::unwrap_used, reason = "tests panic when they fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each module of the library may import. `limits` imports nothing and everybody may import it; binaries import
/// anything. ARCHITECTURE.md explains the table.
const IMPORTS: &[(&str, &[&str])] = &[
    ("vhosts", &[]),
    ("proto", &["vhosts"]),
    ("sys", &[]),
    ("logging", &[]),
    ("metrics", &[]),
    ("admission", &["proto"]),
    ("octets", &[]),
    ("status", &["proto"]),
    ("screen", &["status"]),
    ("auth", &["octets", "proto", "sys"]),
    ("bandwidth", &[]),
    ("tls", &["sys", "vhosts"]),
    ("rt", &["sys"]),
    ("quota", &["rt", "sys"]),
    ("vfs", &["proto", "quota", "rt", "sys"]),
    ("load", &["proto", "rt", "sys", "tls"]),
    (
        "data",
        &[
            "bandwidth",
            "logging",
            "metrics",
            "proto",
            "quota",
            "rt",
            "sys",
            "tls",
            "vfs",
        ],
    ),
    (
        "control",
        &[
            "admission",
            "auth",
            "bandwidth",
            "data",
            "logging",
            "metrics",
            "proto",
            "rt",
            "status",
            "sys",
            "tls",
            "vfs",
            "vhosts",
        ],
    ),
    (
        "server",
        &[
            "admission",
            "auth",
            "bandwidth",
            "control",
            "data",
            "logging",
            "metrics",
            "proto",
            "rt",
            "status",
            "sys",
            "tls",
            "vfs",
        ],
    ),
    ("load", &["proto", "rt", "sys", "tls"]),
    ("doctor", &["sys", "tls"]),
    (
        "config",
        &[
            "admission",
            "auth",
            "bandwidth",
            "control",
            "data",
            "doctor",
            "logging",
            "metrics",
            "octets",
            "proto",
            "quota",
            "rt",
            "screen",
            "server",
            "status",
            "sys",
            "tls",
            "vfs",
            "vhosts",
        ],
    ),
];

/// Imports beyond the table: file, module, reason.
const IMPORT_EXCEPTIONS: &[(&str, &str, &str)] = &[];

const SOURCE_LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 700;

/// Longer files: path, lines, reason.
const LENGTH_EXCEPTIONS: &[(&str, usize, &str)] = &[];

/// Where a name may be used: the name, the places, and what it is.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("unsafe", &["src/sys/"], "unsafe code"),
    ("libc", &["src/sys/"], "the C interface of the system"),
    (
        "tokio_uring",
        &["src/rt.rs", "src/rt/", "src/sys/ring.rs"],
        "the runtime",
    ),
    ("io_uring::", &["src/sys/"], "ring operations"),
];

/// What stands at the top of the repository.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".editorconfig",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "src",
    "tests",
    "tuning",
];

/// Words that stay out of every file: paths of one machine, hosts of registries, unfinished work, ignored tests, and
/// the names of writing tools. Each is cut in two so that this file does not hold it.
const BANNED: &[(&str, &str)] = &[
    ("/ro", "ot/"),
    ("/wo", "rk/"),
    ("/home/", "user"),
    ("todo", "!("),
    ("unimplemented", "!("),
    ("FIX", "ME"),
    ("XX", "X:"),
    ("#[ign", "ore"),
    ("registry.", "npmjs"),
    ("static.", "crates.io"),
    ("index.", "crates.io"),
    ("deb.", "debian.org"),
    ("cla", "ude"),
    ("anthr", "opic"),
    ("chat", "gpt"),
    ("open", "ai"),
    ("copi", "lot"),
    ("language ", "model"),
    ("ai-gene", "rated"),
    ("PROTO", "COL.md"),
    ("DATA", "PLANE.md"),
    ("SUR", "VEY.md"),
    ("STY", "LE.md"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `directory` with a name that ends as given, relative to the repository.
fn files(directory: &str, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(relative(&path));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {end} below {directory}");
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The text without comments and without what stands in string literals on one line.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        for (at, character) in line.char_indices() {
            if !in_string && line.get(at..).is_some_and(|rest| rest.starts_with("//")) {
                break;
            }
            if character == '"' && previous != '\\' && previous != '\'' {
                in_string = !in_string;
            }
            if !in_string {
                code.push(character);
            }
            previous = character;
        }
        code.push('\n');
    }
    code
}

/// Whether `name` stands in the code as a word of its own.
fn names(code: &str, name: &str) -> bool {
    code.split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .any(|word| word == name)
}

/// The modules of this library that the code names after `crate::`.
fn imported(code: &str) -> BTreeSet<String> {
    let identifier = |text: &str| {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let mut modules = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.insert(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for character in group.chars().chain([',']) {
            match character {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    modules.insert(identifier(item.trim()));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(character);
        }
        modules.insert(identifier(item.trim()));
    }
    modules.remove("");
    modules
}

/// The module of the library that a source file belongs to; `None` for the root and the binaries.
fn module(file: &str) -> Option<String> {
    let path = file.strip_prefix("src/")?;
    let first = path.split('/').next()?.trim_end_matches(".rs");
    (first != "lib" && first != "bin").then(|| first.to_owned())
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn modules_import_only_what_the_table_names() {
    let mut problems = Vec::new();
    for file in files("src", ".rs") {
        let Some(module) = module(&file) else {
            continue;
        };
        let row = IMPORTS.iter().find(|(name, _)| *name == module);
        let allowed = match row {
            Some((_, allowed)) => *allowed,
            None if module == "limits" => &[],
            None => {
                problems.push(format!("{file}: `{module}` has no row in the table"));
                continue;
            }
        };
        for import in imported(&code(&read(&file))) {
            let known = IMPORTS.iter().any(|(name, _)| *name == import);
            let excepted = IMPORT_EXCEPTIONS
                .iter()
                .any(|(path, module, _)| *path == file && *module == import);
            if known && import != module && !allowed.contains(&import.as_str()) && !excepted {
                problems.push(format!("{file}: `{module}` may not import `{import}`"));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn the_table_has_no_circle_and_no_stranger() {
    for (at, (name, imports)) in IMPORTS.iter().enumerate() {
        for import in *imports {
            let position = IMPORTS.iter().position(|(name, _)| name == import);
            // Each row names only rows above it, so there is no way back.
            assert!(
                position.is_some_and(|position| position < at),
                "{name} imports {import}, which is not above it",
            );
        }
    }
    let modules: BTreeSet<_> = files("src", ".rs")
        .iter()
        .filter_map(|file| module(file))
        .collect();
    for (name, _) in IMPORTS {
        assert!(
            modules.contains(*name),
            "the table names `{name}`, which does not exist"
        );
    }
}

#[test]
fn dangerous_names_stay_in_their_places() {
    let mut problems = Vec::new();
    for file in files("src", ".rs") {
        let code = code(&read(&file));
        for (name, places, what) in CONFINED {
            if names(&code, name) && !places.iter().any(|place| file.starts_with(place)) {
                problems.push(format!(
                    "{file}: `{name}` ({what}) belongs in {}",
                    places.join(" or ")
                ));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn files_are_not_too_long() {
    let mut problems = Vec::new();
    for (directory, most) in [
        ("src", SOURCE_LINES_MAX),
        ("tests", TEST_LINES_MAX),
        ("benches", SOURCE_LINES_MAX),
    ] {
        for file in files(directory, ".rs") {
            let lines = read(&file).lines().count();
            let exception = LENGTH_EXCEPTIONS.iter().find(|(path, _, _)| *path == file);
            let most = exception.map_or(most, |(_, lines, _)| *lines);
            if lines > most {
                problems.push(format!(
                    "{file}: {lines} lines, at most {most}: split it by purpose"
                ));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn banned_words_stay_out() {
    let mut problems = Vec::new();
    let mut texts: Vec<PathBuf> = TOP_LEVEL.iter().map(PathBuf::from).collect();
    while let Some(path) = texts.pop() {
        let full = root().join(&path);
        if full.is_dir() {
            texts.extend(
                fs::read_dir(&full)
                    .unwrap()
                    .map(|entry| path.join(entry.unwrap().file_name())),
            );
            continue;
        }
        // The lock file is written by cargo. Files of another encoding are data.
        if path == Path::new("Cargo.lock") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&full) else {
            continue;
        };
        let text = text.to_lowercase();
        for (begin, end) in BANNED {
            let word = format!("{begin}{end}").to_lowercase();
            if let Some(at) = text.find(&word) {
                let line = text[..at].lines().count().max(1);
                problems.push(format!("{}:{line}: `{word}`", path.display()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn the_top_level_holds_what_it_should() {
    for name in TOP_LEVEL {
        assert!(root().join(name).exists(), "{name} is missing");
    }
    let tracked = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    // Not a git checkout, or no git: then there may be anything beside the sources.
    let Some(tracked) = tracked.ok().filter(|output| output.status.success()) else {
        return;
    };
    for file in String::from_utf8_lossy(&tracked.stdout)
        .split('\0')
        .filter(|file| !file.is_empty())
    {
        let first = file.split('/').next().unwrap();
        assert!(
            TOP_LEVEL.contains(&first),
            "{first} does not belong at the top"
        );
    }
}

#[test]
fn the_readme_names_every_option() {
    let readme = read("README.md");
    let mut problems = Vec::new();
    let server = env!("CARGO_BIN_EXE_ringftpd");
    let load = env!("CARGO_BIN_EXE_ringftpd-load");
    for (program, words) in [
        (server, &["serve"][..]),
        (server, &["doctor"]),
        (server, &["upgrade"]),
        (server, &["session", "list"]),
        (server, &["session", "kill"]),
        (server, &["top"]),
        (server, &["user", "add"]),
        (server, &["user", "passwd"]),
        (server, &["user", "remove"]),
        (server, &["user", "show"]),
        (server, &["user", "list"]),
        // Every workload has the same options.
        (load, &["get"]),
        (load, &["compare"]),
    ] {
        let help = Command::new(program)
            .args(words)
            .arg("--help")
            .output()
            .unwrap();
        assert!(help.status.success(), "{words:?} --help: {help:?}");
        let help = String::from_utf8(help.stdout).unwrap();
        for option in help.split(|c: char| !(c.is_ascii_lowercase() || c == '-')) {
            if option.len() > 3
                && option.starts_with("--")
                && option != "--help"
                && !readme.contains(option)
            {
                problems.push(format!(
                    "README.md does not name {option} of `{}`",
                    words.join(" ")
                ));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn the_scanner_sees_what_it_should() {
    let text = "use crate::{proto::{a, b}, rt};\nlet a = \"crate::vfs\"; // crate::tls\ncrate::sys::call();\n";
    let modules: Vec<_> = imported(&code(text)).into_iter().collect();
    assert_eq!(modules, ["proto", "rt", "sys"]);
    assert!(names("x unsafe { }", "unsafe") && !names("#![forbid(unsafe_code)]", "unsafe"));
}
