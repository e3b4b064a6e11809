//! `[[paths]]` and `[[mounts]]`, and the options that go with them.

use super::{directory, loaded, problems};
use crate::auth::NamePattern;

#[test]
fn paths_mounts_and_names_come_together() {
    let directory = directory();
    let text = "\
[files]
hidden-name = '*.tmp'
denied-name = ['.ht*', '*.key']
[[paths]]
path = '/incoming/'
permissions = ['write']
[[mounts]]
at = '/pub'
directory = '/srv/pub'
permissions = ['read', 'list']
[[mounts]]
at = '/pub/more'
directory = '/srv/more'
";
    let rules = loaded(directory.path(), text, &[]).checked.file_rules;
    let permissions = rules.path_permissions();
    let permissions: Vec<_> = permissions
        .iter()
        .map(|(path, permissions)| format!("{path} {permissions}"))
        .collect();
    assert_eq!(permissions, ["/incoming write", "/pub read,list"]);
    assert_eq!(rules.mounts().len(), 2);
    let denied: Vec<_> = rules.denied().iter().map(NamePattern::as_str).collect();
    assert_eq!(denied, [".ht*", "*.key"]);
    // The command line says other names, and nothing about the rest.
    let words = ["--denied-name", "x", "--denied-name", "y"];
    let rules = loaded(directory.path(), text, &words).checked.file_rules;
    let denied: Vec<_> = rules.denied().iter().map(NamePattern::as_str).collect();
    assert_eq!(denied, ["x", "y"]);
    assert_eq!((rules.hidden().len(), rules.mounts().len()), (1, 2));
    assert!(
        loaded(directory.path(), "", &[])
            .checked
            .file_rules
            .is_empty()
    );
}

#[test]
fn what_is_wrong_with_a_rule_is_told_at_its_place() {
    let directory = directory();
    let table = [
        ("paths = 1\n", "1:9: paths: write [[paths]]"),
        (
            "[[paths]]\npath = '/a'\n",
            "1:1: paths: missing field `permissions`",
        ),
        (
            "[[paths]]\npath = 'a'\npermissions = []\n",
            "1:1: paths: path: give a path as clients see it",
        ),
        (
            "[[paths]]\npath = '/a'\npermissions = ['fly']\n",
            "1:1: paths: permissions: `fly` is no permission; known are read,write,",
        ),
        (
            "[[paths]]\npath = '/a'\npermissions = 'read'\n",
            "3:15: paths: invalid type: string",
        ),
        (
            "[[paths]]\npath = '/a'\npermissions = []\nmode = 7\n",
            "4:1: paths: unknown field `mode`, expected `path` or `permissions`",
        ),
        (
            "[[paths]]\npath = '/a'\npermissions = []\n[[paths]]\npath = '/a/'\npermissions = ['all']\n",
            "4:1: paths: path: `/a` stands twice",
        ),
        (
            "[[mounts]]\nat = '/'\ndirectory = '/srv'\n",
            "1:1: mounts: at: nothing can be mounted at /",
        ),
        (
            "[[mounts]]\nat = '/a'\ndirectory = 'srv'\n",
            "1:1: mounts: directory: give the absolute path",
        ),
        (
            "[[mounts]]\nat = '/a/../b'\ndirectory = '/srv'\n",
            "1:1: mounts: at: give a path as clients see it",
        ),
        (
            "[[mount]]\nat = '/a'\ndirectory = '/srv'\n",
            "1:3: unknown section `mount`; did you mean [mounts]?",
        ),
    ];
    for (text, expected) in table {
        let found = problems(directory.path(), text, &[]);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{text}{expected}\n{found:?}"
        );
    }
}
