//! Rules as the files hold them, and whose come first.

use super::*;

fn rule(path: &str, list: &str) -> PathRule {
    PathRule {
        path: virtual_path("path", path).unwrap(),
        permissions: list.parse().unwrap(),
    }
}

fn mount(at: &str, directory: &str, list: Option<&str>) -> Mount {
    Mount {
        at: virtual_path("at", at).unwrap(),
        directory: directory.into(),
        permissions: list.map(|list| list.parse().unwrap()),
    }
}

fn rules(paths: &[PathRule], mounts: &[Mount], denied: &[&str]) -> FileRules {
    let mut rules = FileRules::default();
    for rule in paths {
        rules.add_path(rule.clone()).unwrap();
    }
    for mount in mounts {
        rules.add_mount(mount.clone()).unwrap();
    }
    let denied = denied.iter().map(|pattern| pattern.parse().unwrap());
    rules.with_names(Vec::new(), denied.collect())
}

#[test]
fn paths_are_as_clients_see_them() {
    for (text, path) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/b/", "/a/b"),
        ("/a b", "/a b"),
    ] {
        let parsed = virtual_path("path", text).unwrap();
        assert_eq!(parsed.as_bytes(), path.as_bytes());
    }
    for text in [
        "", "a", "a/", "//a", "/a//b", "/a/./b", "/a/..", "/..", "/a\r", "/a//",
    ] {
        assert!(virtual_path("path", text).is_err(), "{text:?}");
    }
    assert!(virtual_path("path", &format!("/{}", "x".repeat(256))).is_err());
}

#[test]
fn patterns_are_about_one_name() {
    for good in [".ht*", "*", "[.]x", "a?"] {
        assert_eq!(good.parse::<NamePattern>().unwrap().as_str(), good);
    }
    for bad in ["", "a/b", "/", "a\0", &"x".repeat(256)] {
        assert!(bad.parse::<NamePattern>().is_err(), "{bad:?}");
    }
}

#[test]
fn own_rules_come_before_common_ones() {
    let common = rules(
        &[
            rule("/in", "write"),
            rule("/pub", "read"),
            rule("/m", "read"),
        ],
        &[
            mount("/m", "/srv/common", Some("list")),
            mount("/n", "/srv/n", Some("read,list")),
        ],
        &[".ht*", "*.key"],
    );
    let own = rules(
        &[rule("/in", "all")],
        &[mount("/m", "/srv/own", Some("write"))],
        &["*.key", "x"],
    );
    let all = own.over(&common);
    let permissions = all.path_permissions();
    let of = |path: &str| {
        let found: Vec<_> = permissions
            .iter()
            .filter(|(at, _)| at.as_bytes() == path.as_bytes())
            .map(|(_, permissions)| permissions.to_string())
            .collect();
        assert_eq!(found.len(), 1, "{path}");
        found.concat()
    };
    assert_eq!(of("/in"), Permissions::ALL.to_string());
    assert_eq!(of("/pub"), "read");
    assert_eq!(of("/m"), "write");
    assert_eq!(of("/n"), "read,list");
    let directories: Vec<_> = all.mounts().iter().map(|m| &m.directory).collect();
    assert_eq!(
        directories,
        ["/srv/own", "/srv/n"].map(std::path::Path::new)
    );
    let denied: Vec<_> = all.denied().iter().map(NamePattern::as_str).collect();
    assert_eq!(denied, ["*.key", "x", ".ht*"]);
    assert_eq!(common.over(&FileRules::default()), common);
    assert_eq!(FileRules::default().over(&common), common);
}

#[test]
fn nothing_stands_twice_and_the_root_is_no_mount_point() {
    let mut rules = FileRules::default();
    rules.add_path(rule("/a", "read")).unwrap();
    assert!(rules.add_path(rule("/a/", "write")).is_err());
    rules.add_mount(mount("/a", "/x", None)).unwrap();
    assert!(rules.add_mount(mount("/a", "/y", None)).is_err());
    let raw = |at: &str, directory: &str| RawMount {
        at: at.to_owned(),
        directory: directory.into(),
        permissions: None,
    };
    for (at, directory) in [("/", "/x"), ("/a", "x"), ("a", "/x")] {
        assert!(Mount::try_from(raw(at, directory)).is_err(), "{at}");
    }
}

#[test]
fn what_is_wrong_in_a_users_file_is_told_with_its_line() {
    use crate::auth::{UsersError, UsersFile, hash_password};
    let hash = hash_password(b"x").unwrap();
    let table = [
        ("hidden = ['a/b']", 3, "a pattern of names"),
        ("denied = 'x'", 3, "invalid type"),
        (
            "[[users.ann.paths]]\npath = '/a'\npermissions = ['walk']",
            3,
            "`walk` is no permission",
        ),
        (
            "[[users.ann.paths]]\npath = '/a'\npermissions = []\nmode = 1",
            6,
            "unknown field `mode`",
        ),
        (
            "mounts = [{ at = '/a', directory = '/x' },\n{ at = '/a/', directory = '/y' }]",
            4,
            "at: `/a` stands twice",
        ),
    ];
    for (keys, expected, words) in table {
        let text = format!("[users.ann]\npassword = '{hash}'\n{keys}\n");
        let error = UsersFile::parse(&text).err().unwrap();
        let UsersError::Syntax { line, message } = error else {
            panic!("{error}");
        };
        assert!(message.contains(words), "{keys}: {message}");
        assert_eq!(line, expected, "{keys}: {message}");
    }
}
