//! Rules for files as a command line says them; what may stand in a users file is judged there.

use std::str::FromStr;

use super::file_rules::{
    FileRules, Mount, NamePattern, PathRule, RawMount, RawPathRule, RuleError, room, wrong,
};

impl FromStr for PathRule {
    type Err = RuleError;

    /// `PATH=LIST`, as `/incoming=write,make-directory`; with nothing after `=` nothing may be done there.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        // No permission has `=` in its name, and a path may.
        let Some((path, list)) = text.rsplit_once('=') else {
            return wrong(
                "give PATH=LIST, a path as clients see it and permissions with commas between: /incoming=write,make-directory",
            );
        };
        let words = list.split(',').map(str::trim);
        let permissions = match list.trim() {
            "" => Vec::new(),
            _ => words.map(str::to_owned).collect(),
        };
        RawPathRule {
            path: path.to_owned(),
            permissions,
        }
        .try_into()
    }
}

impl FromStr for Mount {
    type Err = RuleError;

    /// `PATH=DIR`, as `/music=/srv/music`.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let Some((at, directory)) = text.split_once('=') else {
            return wrong(
                "give PATH=DIR, a path as clients see it and a directory of this system: /music=/srv/music",
            );
        };
        RawMount {
            at: at.to_owned(),
            directory: directory.into(),
            permissions: None,
        }
        .try_into()
    }
}

/// The lists of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleList {
    /// Permissions by path.
    Paths,
    /// Directories at a path.
    Mounts,
    /// Names that listings leave out.
    Hidden,
    /// Names that are as if absent.
    Denied,
}

impl FileRules {
    /// The rules of these lists, within the bounds of a users file.
    ///
    /// # Errors
    /// A path stands twice, or a list is too long: which one, and what is wrong.
    pub fn of_lists(
        paths: Vec<PathRule>,
        mounts: Vec<Mount>,
        hidden: Vec<NamePattern>,
        denied: Vec<NamePattern>,
    ) -> Result<Self, (RuleList, RuleError)> {
        let mut rules = Self::default();
        let of = |list| move |error| (list, error);
        paths
            .into_iter()
            .try_for_each(|rule| rules.add_path(rule))
            .map_err(of(RuleList::Paths))?;
        mounts
            .into_iter()
            .try_for_each(|mount| rules.add_mount(mount))
            .map_err(of(RuleList::Mounts))?;
        for (list, names) in [(RuleList::Hidden, &hidden), (RuleList::Denied, &denied)] {
            let room = room(names.len().saturating_sub(1), "patterns of names");
            room.map_err(of(list))?;
        }
        Ok(rules.with_names(hidden, denied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Permissions;
    use crate::limits;

    fn rule(text: &str) -> Result<PathRule, String> {
        text.parse().map_err(|error: RuleError| error.to_string())
    }

    fn mount(text: &str) -> Result<Mount, String> {
        text.parse().map_err(|error: RuleError| error.to_string())
    }

    #[test]
    fn permissions_of_a_path() {
        let incoming = rule("/incoming=write, list").unwrap();
        assert_eq!(incoming.path.as_bytes(), b"/incoming");
        let both = Permissions::WRITE.union(Permissions::LIST);
        assert_eq!(incoming.permissions, both);
        assert_eq!(rule("/=all").unwrap().permissions, Permissions::ALL);
        assert_eq!(rule("/x=").unwrap().permissions, Permissions::NONE);
        let odd = rule("/a=b/=read").unwrap();
        assert_eq!(odd.path.as_bytes(), b"/a=b");
        for (text, word) in [
            ("/incoming", "PATH=LIST"),
            ("", "PATH=LIST"),
            ("incoming=read", "path: give a path as clients see it"),
            ("/a/../b=read", "path: give a path as clients see it"),
            ("/a=fly", "permissions: `fly` is no permission"),
            ("/a=read,,list", "permissions: `` is no permission"),
        ] {
            let error = rule(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn directories_at_a_path() {
        let music = mount("/music=/srv/my=music").unwrap();
        assert_eq!(music.at.as_bytes(), b"/music");
        assert_eq!(music.directory.to_str(), Some("/srv/my=music"));
        assert_eq!(music.permissions, None);
        for (text, word) in [
            ("/music", "PATH=DIR"),
            ("/music=", "absolute path of a directory"),
            ("/music=srv", "absolute path of a directory"),
            ("/=/srv", "nothing can be mounted at /"),
            ("music=/srv", "at: give a path as clients see it"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn lists_have_bounds_and_no_path_twice() {
        let lists = |paths: &[&str], mounts: &[&str], names: usize| {
            let names = vec!["x".parse().unwrap(); names];
            let paths = paths.iter().map(|text| rule(text).unwrap());
            let mounts = mounts.iter().map(|text| mount(text).unwrap());
            FileRules::of_lists(paths.collect(), mounts.collect(), Vec::new(), names)
        };
        let rules = lists(&["/a=read", "/b=read"], &["/a=/srv"], 1).unwrap();
        assert_eq!(rules.mounts().len(), 1);
        assert_eq!(rules.path_permissions().len(), 2);
        assert_eq!(rules.denied().len(), 1);
        let (list, twice) = lists(&["/a=read", "/a/=list"], &[], 0).unwrap_err();
        assert_eq!(list, RuleList::Paths);
        assert_eq!(twice.to_string(), "path: `/a` stands twice");
        let (list, twice) = lists(&[], &["/a=/x", "/a=/y"], 0).unwrap_err();
        assert_eq!(list, RuleList::Mounts);
        assert_eq!(twice.to_string(), "at: `/a` stands twice");
        assert!(lists(&[], &[], limits::FILE_RULES_MAX).is_ok());
        let (list, many) = lists(&[], &[], limits::FILE_RULES_MAX + 1).unwrap_err();
        assert_eq!(list, RuleList::Denied);
        assert!(many.to_string().contains("patterns of names"), "{many}");
    }
}
