//! Mounts: what is seen where, what stays where it is, and that each is confined by itself.

use super::rules::{list, names, outcomes, perm, root_of, upload};
use super::*;
use crate::proto::ListFormat;
use crate::proto::listing::FactSet;
use crate::vfs::{DirectoryCache, Layout, UploadMode};

const NAMES: ListFormat = ListFormat::Names;
const MACHINE: ListFormat = ListFormat::Machine(FactSet::ALL);

/// A home, and directories elsewhere that are mounted in it.
struct Tree {
    home: Home,
    elsewhere: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let elsewhere = tempfile::tempdir().unwrap();
        for directory in ["music", "deep", "film"] {
            std::fs::create_dir(elsewhere.path().join(directory)).unwrap();
            let file = format!("{directory}/{directory}.dat");
            std::fs::write(elsewhere.path().join(file), directory).unwrap();
        }
        let home = Home::new();
        home.directory("music");
        home.write("music/shadowed", "s");
        home.write("own", "own");
        Self { home, elsewhere }
    }

    /// `/music`, `/music/a/deep` in it, and `/virtual/film`, for which the home has no directory.
    fn layout(&self) -> Layout {
        let at = |name: &str| self.elsewhere.path().join(name);
        Layout {
            mounts: vec![
                (path("/music"), at("music")),
                (path("/music/a/deep"), at("deep")),
                (path("/virtual/film"), at("film")),
            ],
            ..Layout::default()
        }
    }

    fn root(&self) -> Rc<Root> {
        root_of(&self.home, self.layout())
    }
}

async fn names_in(root: &Root, directory: &str) -> Vec<String> {
    list(root, directory, NAMES).await.unwrap()
}

#[test]
fn mounts_are_in_their_parents_once() {
    let tree = Tree::new();
    on_ring(async {
        let root = tree.root();
        assert_eq!(names_in(&root, "/").await, ["music", "own", "virtual"]);
        assert_eq!(names_in(&root, "/music").await, ["a", "music.dat"]);
        assert_eq!(names_in(&root, "/music/a").await, ["deep"]);
        assert_eq!(names_in(&root, "/music/a/deep").await, ["deep.dat"]);
        assert_eq!(names_in(&root, "/virtual").await, ["film"]);
        assert_eq!(names_in(&root, "/virtual/film").await, ["film.dat"]);
        // What is on disk on the way to a mount shows what it holds besides.
        std::fs::create_dir(tree.elsewhere.path().join("music/a")).unwrap();
        std::fs::write(tree.elsewhere.path().join("music/a/x"), "").unwrap();
        assert_eq!(names_in(&root, "/music/a").await, ["deep", "x"]);
        // No file takes the place of a directory that leads to a mount.
        tree.home.write("virtual", "file");
        assert_eq!(names_in(&root, "/").await, ["music", "own", "virtual"]);
        assert_eq!(names_in(&root, "/virtual").await, ["film"]);
        // Nor a link, wherever it leads.
        std::fs::remove_file(tree.home.path("virtual")).unwrap();
        for target in ["nothing", "own", "/", "virtual"] {
            tree.home.link(target, "virtual");
            assert_eq!(names_in(&root, "/virtual").await, ["film"], "{target}");
            let entered = FileRequest::CheckDirectory(path("/virtual"));
            assert_eq!(root.perform(&entered).await, DONE, "{target}");
            let facts = FileRequest::Facts(path("/virtual"), FactSet::ALL);
            let Ok(FileReply::Line(line)) = root.perform(&facts).await else {
                panic!("{target}");
            };
            let line = String::from_utf8(line).unwrap();
            assert_eq!(perm(&[line], "/virtual"), "el", "{target}");
            std::fs::remove_file(tree.home.path("virtual")).unwrap();
        }
        let shown = b"/m*".to_vec();
        let mut matched = root
            .open_listing(&path("/m*"), NAMES, &shown, false)
            .await
            .unwrap();
        assert_eq!(
            matched.next(Vec::new()).await.unwrap(),
            (b"/music\r\n".to_vec(), false)
        );
    });
}

#[test]
fn a_mount_that_fails_is_still_listed() {
    let tree = Tree::new();
    // Its status is an error once the process is gone, since Linux 6.1.
    let mut process = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let mut layout = tree.layout();
    let directory = PathBuf::from(format!("/proc/{}/fd", process.id()));
    layout.mounts.push((path("/gone"), directory));
    let opened = Root::open_with(
        &tree.home.home,
        Rights::ALL,
        layout,
        Rc::new(Settings::default()),
    );
    process.kill().unwrap();
    process.wait().unwrap();
    let root = opened.unwrap();
    on_ring(async {
        let listed = names_in(&root, "/").await;
        assert_eq!(listed, ["gone", "music", "own", "virtual"]);
    });
}

#[test]
fn files_below_a_mount_are_the_mounted_ones() {
    let tree = Tree::new();
    on_ring(async {
        let root = tree.root();
        for (at, octets) in [
            ("/music/music.dat", 5),
            ("/music/a/deep/deep.dat", 4),
            ("/virtual/film/film.dat", 4),
        ] {
            assert_eq!(size(&root, at).await, Ok(FileReply::Size(octets)));
            let download = root.open_download(&path(at)).await.unwrap();
            assert_eq!(download.octets, octets);
        }
        assert_eq!(
            size(&root, "/music/shadowed").await,
            Err(FileError::NotFound)
        );
        let made = upload(&root, "/virtual/film/new", UploadMode::Replace);
        assert!(made.await.unwrap().created);
        assert!(tree.elsewhere.path().join("film/new").is_file());
        let prefix = b"u".to_vec();
        let unique = upload(&root, "/music/a/deep", UploadMode::Unique { prefix });
        let name = String::from_utf8(unique.await.unwrap().name.unwrap()).unwrap();
        assert!(tree.elsewhere.path().join("deep").join(name).is_file());
        for directory in ["/virtual", "/virtual/film", "/music/a", "/music/a/deep"] {
            let entered = FileRequest::CheckDirectory(path(directory));
            assert_eq!(root.perform(&entered).await, DONE, "{directory}");
        }
        // Nothing can be made in a directory that is on no disk.
        let made = FileRequest::MakeDirectory(path("/virtual/x"));
        assert_eq!(root.perform(&made).await, Err(FileError::NotFound));
    });
}

#[test]
fn mounts_and_what_leads_to_them_stay_where_they_are() {
    let tree = Tree::new();
    tree.home.write("plain", "p");
    on_ring(async {
        let root = tree.root();
        for at in [
            "/music",
            "/music/a",
            "/music/a/deep",
            "/virtual",
            "/virtual/film",
        ] {
            for (asked, outcome) in outcomes(&root, at).await {
                let on_disk = !matches!(at, "/virtual" | "/music/a");
                let expected = match asked.split(['(', ' ']).next().unwrap() {
                    "CheckDirectory" | "StatListing" | "Facts" | "CheckSpace" | "Long"
                    | "Names" | "Machine" => Ok(()),
                    "SetModifyTime" if on_disk => Ok(()),
                    // So that the others can still be looked at.
                    "ChangeMode" => continue,
                    "SetModifyTime" | "RemoveDirectory" | "DeleteFile" | "CheckRename" => {
                        Err(FileError::Denied)
                    }
                    "MakeDirectory" => Err(FileError::Exists),
                    "Rename" if asked.contains("from: \"/plain\"") => Err(FileError::Exists),
                    "Rename" => Err(FileError::Denied),
                    "Size" | "ModifyTime" | "RETR" | "upload" => Err(FileError::IsADirectory),
                    other => panic!("{other}"),
                };
                assert_eq!(outcome, expected, "{at}: {asked}");
            }
        }
        assert_eq!(tree.home.content("plain"), "p");
    });
}

#[test]
fn nothing_is_renamed_from_one_volume_to_another() {
    let tree = Tree::new();
    on_ring(async {
        let root = tree.root();
        let other = Err(FileError::OtherVolume);
        assert_eq!(rename(&root, "/own", "/music/own").await, other);
        assert_eq!(rename(&root, "/music/music.dat", "/m").await, other);
        assert_eq!(
            rename(&root, "/music/a/deep/deep.dat", "/music/x").await,
            other
        );
        assert_eq!(rename(&root, "/music/music.dat", "/music/x").await, DONE);
        assert_eq!(tree.home.content("own"), "own");
        assert!(tree.elsewhere.path().join("music/x").is_file());
    });
}

#[test]
fn links_do_not_lead_from_one_volume_to_another() {
    let tree = Tree::new();
    let music = tree.elsewhere.path().join("music");
    symlink("../deep/deep.dat", music.join("out")).unwrap();
    symlink("../own", music.join("home")).unwrap();
    symlink("music.dat", music.join("inside")).unwrap();
    tree.home.link("music/music.dat", "into");
    tree.home.link("music/shadowed", "under");
    tree.home.link("music", "alias");
    tree.home.link("own", "fine");
    on_ring(async {
        let root = tree.root();
        for at in [
            "/music/out",
            "/music/home",
            "/into",
            "/under",
            "/alias/shadowed",
            "/alias/music.dat",
        ] {
            assert_eq!(size(&root, at).await, Err(FileError::NotFound), "{at}");
        }
        assert_eq!(size(&root, "/music/inside").await, Ok(FileReply::Size(5)));
        assert_eq!(size(&root, "/fine").await, Ok(FileReply::Size(3)));
        assert_eq!(
            names_in(&root, "/").await,
            ["fine", "music", "own", "virtual"]
        );
        assert_eq!(
            names_in(&root, "/music").await,
            ["a", "inside", "music.dat"]
        );
    });
}

#[test]
fn facts_of_mounts_tell_what_holds_there() {
    let tree = Tree::new();
    let mut layout = tree.layout();
    layout.paths = vec![(path("/music"), Rights::READ_ONLY)];
    on_ring(async {
        let root = root_of(&tree.home, layout);
        let top = list(&root, "/", MACHINE).await.unwrap();
        assert_eq!(perm(&top, "music"), "el");
        assert_eq!(perm(&top, "virtual"), "el");
        assert_eq!(perm(&top, "own"), "rawfd");
        let below = list(&root, "/music", MACHINE).await.unwrap();
        assert_eq!(perm(&below, "music.dat"), "r");
        let parent = list(&root, "/virtual", MACHINE).await.unwrap();
        assert_eq!(perm(&parent, "film"), "elcmp");
        for (lines, at, name) in [
            (&top, "/music", "music"),
            (&top, "/virtual", "virtual"),
            (&parent, "/virtual/film", "film"),
        ] {
            let facts = FileRequest::Facts(path(at), FactSet::ALL);
            let Ok(FileReply::Line(line)) = root.perform(&facts).await else {
                panic!("{at}");
            };
            let line = String::from_utf8(line).unwrap();
            let listed = lines
                .iter()
                .find(|line| line.ends_with(&format!(" {name}")));
            let (listed, _) = listed.unwrap().rsplit_once(' ').unwrap();
            let (told, _) = line.rsplit_once(' ').unwrap();
            assert_eq!(told, listed, "MLST and MLSD agree");
        }
    });
}

#[test]
fn names_are_denied_and_hidden_below_mounts_too() {
    let tree = Tree::new();
    let mut layout = tree.layout();
    layout.denied = names(&["*.dat"]);
    layout.hidden = names(&["film"]);
    on_ring(async {
        let root = root_of(&tree.home, layout);
        assert_eq!(names_in(&root, "/music").await, ["a"]);
        assert_eq!(
            size(&root, "/music/music.dat").await,
            Err(FileError::NotFound)
        );
        assert!(names_in(&root, "/virtual").await.is_empty());
        let entered = FileRequest::CheckDirectory(path("/virtual/film"));
        assert_eq!(root.perform(&entered).await, DONE);
    });
}

#[test]
fn a_listing_from_memory_has_the_mounts_of_its_account() {
    let tree = Tree::new();
    tree.home.write("a.tmp", "");
    let settings = Rc::new(Settings {
        directory_cache: DirectoryCache::new(1 << 20),
        ..Settings::default()
    });
    let mut layout = tree.layout();
    layout.hidden = names(&["*.tmp"]);
    on_ring(async {
        let open = |layout| {
            Root::open_with(&tree.home.home, Rights::ALL, layout, settings.clone()).unwrap()
        };
        let (with, without) = (open(layout), open(Layout::default()));
        let all = ["a.tmp", "music", "own"];
        for _ in 0..4 {
            let lines = list(&without, "/", MACHINE).await.unwrap();
            let found: Vec<_> = lines
                .iter()
                .map(|l| l.rsplit(' ').next().unwrap())
                .collect();
            let mut found = found;
            found.sort_unstable();
            assert_eq!(found, all);
            let lines = list(&with, "/", MACHINE).await.unwrap();
            assert_eq!(lines.len(), 3, "{lines:?}");
            assert_eq!(perm(&lines, "virtual"), "el");
        }
    });
}

#[test]
fn space_is_that_of_the_mount() {
    let tree = Tree::new();
    let process = Path::new("/proc/self");
    let mut layout = tree.layout();
    layout.mounts.push((path("/proc"), process.to_path_buf()));
    on_ring(async {
        let root = root_of(&tree.home, layout);
        let space = |at: &str| FileRequest::CheckSpace {
            path: path(at),
            octets: 1,
        };
        assert_eq!(root.perform(&space("/virtual")).await, DONE);
        // There is none at all in /proc.
        let none = Err(FileError::VolumeFull);
        assert_eq!(root.perform(&space("/proc/fd")).await, none);
    });
}

#[test]
fn a_missing_mount_is_told_with_its_name() {
    let tree = Tree::new();
    let mut layout = tree.layout();
    let missing = tree.elsewhere.path().join("missing");
    layout.mounts.push((path("/m"), missing.clone()));
    let settings = Rc::new(Settings::default());
    let error = Root::open_with(&tree.home.home, Rights::ALL, layout, settings).unwrap_err();
    assert_eq!(error.directory, missing);
    assert_eq!(error.mounted_at, Some(path("/m")));
    assert_eq!(error.error.kind(), std::io::ErrorKind::NotFound);
}
