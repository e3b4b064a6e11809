use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::rt;
use crate::sys::fs::{self, DirectoryReader};

struct Fixture {
    home: tempfile::TempDir,
    cache: Arc<DirectoryCache>,
    now: Instant,
}

impl Fixture {
    fn new(octets_max: usize) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            cache: DirectoryCache::new(octets_max),
            now: rt::now(),
        }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.home.path().join(name), content).unwrap();
    }

    fn find(&self, path: &Path) -> Found {
        let directory = File::open(path).unwrap();
        let own = fs::status(&directory).unwrap();
        self.cache.find(&directory, &own, true, self.now)
    }

    /// Lists the home; whether it was known.
    fn list(&self) -> bool {
        self.list_other(self.home.path())
    }

    fn list_other(&self, path: &Path) -> bool {
        match self.find(path) {
            Found::Snapshot(_) => true,
            Found::Nothing => false,
            Found::Fill(filling) => {
                read(filling, path).finish();
                false
            }
        }
    }

    fn watches(&self) -> usize {
        let shelf = self.cache.shelf();
        assert_eq!(shelf.keys.len(), shelf.places.len());
        shelf.keys.len()
    }
}

fn read(mut filling: Filling, path: &Path) -> Filling {
    let directory = File::open(path).unwrap();
    let mut reader = DirectoryReader::new(directory.into(), 4096);
    while let Some((directory, entry)) = reader.next_entry().unwrap() {
        let status = fs::status_at(directory, entry.name).ok();
        filling.add(&entry, status);
    }
    filling
}

#[test]
fn directory_listed_again_is_known_until_it_changes_or_grows_old() {
    let mut fixture = Fixture::new(1 << 20);
    fixture.write("f", "1");
    assert!(!fixture.list(), "listed once: not kept");
    assert_eq!(fixture.watches(), 0);
    assert!(!fixture.list());
    assert!(fixture.list());
    let Found::Snapshot(snapshot) = fixture.find(fixture.home.path()) else {
        panic!("no snapshot");
    };
    assert!(snapshot.is_whole());
    let entries = (0..).map_while(|index| snapshot.entry(index));
    let mut names: Vec<_> = entries
        .map(|(entry, status)| (entry.name, status.map(|status| status.size)))
        .collect();
    names.sort();
    assert_eq!(names, [(c".", None), (c"..", None), (c"f", Some(1))]);
    fixture.write("f", "12");
    assert!(!fixture.list());
    assert!(!fixture.list());
    assert!(fixture.list());
    fixture.now += limits::DIRECTORY_CACHED_MAX;
    assert!(!fixture.list(), "read again, and kept at once");
    assert!(fixture.list());
    fixture.now += limits::DIRECTORY_CACHED_MAX + Duration::from_millis(1);
    assert!(!fixture.list_other(Path::new("/")));
    assert_eq!(fixture.watches(), 0, "what is too old goes");
}

#[test]
fn what_changes_while_it_is_read_is_not_kept() {
    let fixture = Fixture::new(1 << 20);
    fixture.write("f", "1");
    assert!(!fixture.list());
    let Found::Fill(filling) = fixture.find(fixture.home.path()) else {
        panic!("not worth keeping");
    };
    assert!(!fixture.list(), "one listing fills it");
    let filling = read(filling, fixture.home.path());
    fixture.write("f", "12");
    filling.finish();
    assert_eq!(fixture.watches(), 0);
    assert!(!fixture.list());
    let Found::Fill(filling) = fixture.find(fixture.home.path()) else {
        panic!("not worth keeping");
    };
    drop(filling);
    assert_eq!(fixture.watches(), 0, "given up");
}

#[test]
fn status_that_changes_elsewhere_is_not_kept() {
    let fixture = Fixture::new(1 << 20);
    fixture.write("twice", "1");
    let home = fixture.home.path();
    std::fs::create_dir(home.join("sub")).unwrap();
    std::fs::hard_link(home.join("twice"), home.join("sub/other")).unwrap();
    std::os::unix::fs::symlink("twice", home.join("link")).unwrap();
    assert!(!fixture.list() && !fixture.list());
    let Found::Snapshot(snapshot) = fixture.find(home) else {
        panic!("no snapshot");
    };
    assert!(!snapshot.is_whole());
    let known = (0..).map_while(|index| snapshot.entry(index)?.1);
    assert_eq!(known.count(), 0);
}

#[test]
fn memory_is_bounded() {
    let entries = 100;
    let one = {
        let fixture = Fixture::new(usize::MAX);
        (0..entries).for_each(|number| fixture.write(&format!("{number:03}"), ""));
        assert!(!fixture.list() && !fixture.list() && fixture.list());
        fixture.cache.shelf().octets
    };
    let mut fixture = Fixture::new(one * 5 / 2);
    let mut directories = Vec::new();
    for name in ["a", "b", "c", "huge"] {
        let directory = fixture.home.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        let count = if name == "huge" { entries * 4 } else { entries };
        for number in 0..count {
            std::fs::write(directory.join(format!("{number:03}")), "").unwrap();
        }
        directories.push(directory);
    }
    for directory in &directories {
        fixture.now += Duration::from_millis(1);
        assert!(!fixture.list_other(directory) && !fixture.list_other(directory));
        assert!(fixture.cache.shelf().octets <= one * 5 / 2);
    }
    let known: Vec<_> = directories.iter().map(|d| fixture.list_other(d)).collect();
    assert_eq!(known, [false, true, true, false]);
    assert_eq!(fixture.watches(), 2);
    let none = Fixture::new(0);
    assert!(!none.list() && !none.list() && !none.list());
}
