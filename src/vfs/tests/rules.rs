//! Rights by path, denied and hidden names, links that would be a way around them.

use super::*;
use crate::proto::ListFormat;
use crate::proto::listing::FactSet;
use crate::vfs::{Layout, Upload, UploadMode};

pub(super) fn names(patterns: &[&str]) -> Vec<Box<[u8]>> {
    let patterns = patterns.iter().map(|pattern| pattern.as_bytes());
    patterns.map(Box::from).collect()
}

pub(super) fn root_of(home: &Home, layout: Layout) -> Rc<Root> {
    Root::open_with(
        &home.home,
        Rights::ALL,
        layout,
        Rc::new(Settings::default()),
    )
    .unwrap()
}

pub(super) async fn upload(
    root: &Rc<Root>,
    at: &str,
    how: UploadMode,
) -> Result<Upload, FileError> {
    root.open_upload(&path(at), how).await
}

/// The lines of a listing, in order.
pub(super) async fn list(
    root: &Root,
    directory: &str,
    format: ListFormat,
) -> Result<Vec<String>, FileError> {
    let directory = path(directory);
    let mut listing = root.open_listing(&directory, format, b"", true).await?;
    let mut octets = Vec::new();
    loop {
        let (chunk, more) = listing.next(Vec::new()).await?;
        octets.extend(chunk);
        if !more {
            break;
        }
    }
    let text = String::from_utf8(octets).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// Everything that can be asked of a path, whatever it is. A new kind of request must be added here, or
/// [`number_of`] does not compile.
pub(super) fn requests(at: &VirtualPath) -> Vec<FileRequest> {
    let at = at.clone();
    vec![
        FileRequest::CheckDirectory(at.clone()),
        FileRequest::MakeDirectory(at.clone()),
        FileRequest::RemoveDirectory(at.clone()),
        FileRequest::DeleteFile(at.clone()),
        FileRequest::CheckRename(at.clone()),
        FileRequest::Rename {
            from: at.clone(),
            to: path("/free"),
        },
        FileRequest::Size {
            path: at.clone(),
            ascii: false,
        },
        FileRequest::Size {
            path: at.clone(),
            ascii: true,
        },
        FileRequest::ModifyTime(at.clone()),
        FileRequest::SetModifyTime(at.clone(), 0),
        FileRequest::ChangeMode(at.clone(), 0o600),
        FileRequest::Facts(at.clone(), FactSet::ALL),
        FileRequest::StatListing {
            path: at.clone(),
            shown: Vec::new(),
            hidden: true,
        },
        FileRequest::CheckSpace {
            path: at.clone(),
            octets: 1,
        },
        // The last: it may put something there.
        FileRequest::Rename {
            from: path("/plain"),
            to: at,
        },
    ]
}

fn number_of(request: &FileRequest) -> Option<usize> {
    Some(match request {
        FileRequest::CheckDirectory(_) => 0,
        FileRequest::MakeDirectory(_) => 1,
        FileRequest::RemoveDirectory(_) => 2,
        FileRequest::DeleteFile(_) => 3,
        FileRequest::CheckRename(_) => 4,
        FileRequest::Rename { .. } => 5,
        FileRequest::Size { .. } => 6,
        FileRequest::ModifyTime(_) => 7,
        FileRequest::SetModifyTime(..) => 8,
        FileRequest::ChangeMode(..) => 9,
        FileRequest::Facts(..) => 10,
        FileRequest::StatListing { .. } => 11,
        FileRequest::CheckSpace { .. } => 12,
        // Names no path.
        FileRequest::Quota => return None,
    })
}

#[test]
fn requests_are_all_there() {
    let mut numbers: Vec<usize> = requests(&path("/x")).iter().filter_map(number_of).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..13).collect::<Vec<_>>());
}

/// The outcome of every operation on a path, transfers and listings too, but for its value.
pub(super) async fn outcomes(root: &Rc<Root>, at: &str) -> Vec<(String, Result<(), FileError>)> {
    let at = path(at);
    let mut outcomes = Vec::new();
    let downloaded = root.open_download(&at).await.map(drop);
    outcomes.push((format!("RETR {at}"), downloaded));
    for how in [
        UploadMode::Replace,
        UploadMode::At(0),
        UploadMode::At(1),
        UploadMode::Append,
    ] {
        let uploaded = root.open_upload(&at, how.clone()).await.map(drop);
        outcomes.push((format!("upload {how:?} {at}"), uploaded));
    }
    for format in [
        ListFormat::Long,
        ListFormat::Names,
        ListFormat::Machine(FactSet::ALL),
    ] {
        let shown = at.as_bytes().to_vec();
        let listed = root.open_listing(&at, format, &shown, true).await.map(drop);
        outcomes.push((format!("{format:?} {at}"), listed));
    }
    for request in requests(&at) {
        let outcome = root.perform(&request).await.map(drop);
        outcomes.push((format!("{request:?}"), outcome));
    }
    outcomes
}

#[test]
fn denied_names_are_out_of_reach_by_every_way() {
    let home = Home::new();
    home.directory(".hidden");
    home.directory("d");
    for name in ["plain", "d/.htaccess", ".hidden/f", "key.pem"] {
        home.write(name, "secret");
    }
    // Links whose names say nothing.
    home.link("d/.htaccess", "innocent");
    home.link("../.hidden", "d/dir");
    home.link("innocent", "twice");
    let layout = Layout {
        denied: names(&[".h*", "*.pem"]),
        ..Layout::default()
    };
    on_ring(async {
        let root = root_of(&home, layout);
        for (at, by_name) in [
            ("/d/.htaccess", true),
            ("/.hidden", true),
            ("/key.pem", true),
            ("/.hidden/f", false),
            ("/innocent", false),
            ("/twice", false),
            ("/d/dir/f", false),
        ] {
            for (asked, outcome) in outcomes(&root, at).await {
                let link = matches!(at, "/innocent" | "/twice");
                match outcome {
                    Err(FileError::NotFound) => {}
                    Err(FileError::NameNotAllowed) if by_name => {}
                    // It would be made at the end of the link.
                    Err(FileError::NameNotAllowed) if link && asked.starts_with("upload") => {}
                    // The name of the link itself is free to be replaced, as that of any file.
                    Err(FileError::Exists) if link && asked.starts_with("MakeDirectory") => {}
                    Err(FileError::NotADirectory)
                        if link && asked.starts_with("RemoveDirectory") => {}
                    Ok(()) if link && asked.contains("from: \"/plain\"") => {
                        std::fs::remove_file(home.path(&at[1..])).unwrap();
                        home.link("d/.htaccess", &at[1..]);
                        home.write("plain", "secret");
                    }
                    // It asks about the volume; nothing is opened.
                    Ok(()) if at != "/.hidden/f" && !by_name && asked.starts_with("CheckSpace") => {
                    }
                    other => panic!("{asked}: {other:?}"),
                }
            }
        }
        // Nothing was changed by all that.
        for name in ["d/.htaccess", ".hidden/f", "key.pem"] {
            assert_eq!(home.content(name), "secret");
        }
    });
}

#[test]
fn denied_names_are_neither_made_nor_listed() {
    let home = Home::new();
    home.directory(".hidden");
    home.directory("d");
    for name in ["plain", "d/.htaccess", "key.pem"] {
        home.write(name, "secret");
    }
    home.link("d/.htaccess", "innocent");
    home.link("../.hidden", "d/dir");
    let layout = Layout {
        denied: names(&[".h*", "*.pem"]),
        ..Layout::default()
    };
    on_ring(async {
        let root = root_of(&home, layout);
        let made = [
            FileRequest::MakeDirectory(path("/d/.hx")),
            FileRequest::Rename {
                from: path("/plain"),
                to: path("/x.pem"),
            },
        ];
        for request in made {
            let refused = root.perform(&request).await;
            assert_eq!(refused, Err(FileError::NameNotAllowed), "{request:?}");
        }
        let prefix = b".h".to_vec();
        let unique = upload(&root, "/d", UploadMode::Unique { prefix });
        assert_eq!(unique.await.unwrap_err(), FileError::NameNotAllowed);
        // Neither does any listing name them, nor the links to them.
        for format in [
            ListFormat::Long,
            ListFormat::Names,
            ListFormat::Machine(FactSet::ALL),
        ] {
            let top = list(&root, "/", format).await.unwrap();
            assert_eq!(top.len(), 2, "{top:?}");
            assert!(list(&root, "/d", format).await.unwrap().is_empty());
            let pattern = path("/*.pem");
            let matched = root.open_listing(&pattern, format, b"/*.pem", true);
            assert_eq!(matched.await.unwrap_err(), FileError::NotFound);
        }
    });
}

#[test]
fn a_dangling_link_makes_no_denied_name() {
    let home = Home::new();
    home.link(".htaccess", "future");
    home.link("made", "fine");
    let layout = Layout {
        denied: names(&[".ht*"]),
        ..Layout::default()
    };
    on_ring(async {
        let root = root_of(&home, layout);
        let refused = upload(&root, "/future", UploadMode::Replace);
        assert_eq!(refused.await.unwrap_err(), FileError::NameNotAllowed);
        assert!(!home.path(".htaccess").exists());
        let upload = upload(&root, "/fine", UploadMode::Replace).await;
        assert_eq!(upload.unwrap().offset, 0);
        assert!(home.path("made").is_file());
    });
}

#[test]
fn hidden_names_are_not_listed_and_can_be_used() {
    let home = Home::new();
    home.directory("d.tmp");
    home.write("a.tmp", "12");
    home.write("d.tmp/x", "");
    home.write("shown", "");
    let layout = Layout {
        hidden: names(&["*.tmp"]),
        ..Layout::default()
    };
    on_ring(async {
        let root = root_of(&home, layout);
        assert_eq!(
            list(&root, "/", ListFormat::Names).await.unwrap(),
            ["shown"]
        );
        assert_eq!(
            list(&root, "/d.tmp", ListFormat::Names).await.unwrap(),
            ["x"]
        );
        assert_eq!(size(&root, "/a.tmp").await, Ok(FileReply::Size(2)));
        assert_eq!(root.open_download(&path("/a.tmp")).await.unwrap().octets, 2);
        assert_eq!(rename(&root, "/a.tmp", "/b.tmp").await, DONE);
        let pattern = path("/*.tmp");
        let matched = root.open_listing(&pattern, ListFormat::Names, b"*.tmp", true);
        assert_eq!(matched.await.unwrap_err(), FileError::NotFound);
    });
}

const INCOMING: Rights = Rights {
    write: true,
    make_directory: true,
    ..Rights::NONE
};

pub(super) fn incoming() -> Layout {
    Layout {
        paths: vec![
            (path("/"), Rights::READ_ONLY),
            (path("/incoming"), INCOMING),
            (path("/incoming/done"), Rights::ALL),
        ],
        ..Layout::default()
    }
}

#[test]
fn rights_are_those_of_the_longest_path_through_links_too() {
    let home = Home::new();
    for directory in ["incoming", "incoming/done", "pub"] {
        home.directory(directory);
    }
    home.write("pub/f", "f");
    home.write("incoming/f", "f");
    home.write("incoming/done/f", "f");
    home.link("incoming", "in");
    home.link("../incoming/f", "pub/l");
    home.link("../pub", "incoming/out");
    on_ring(async {
        let root = root_of(&home, incoming());
        let denied = FileError::Denied;
        let read = |at: &'static str| async { root.open_download(&path(at)).await.map(drop) };
        let write = |at: &'static str| async {
            let upload = upload(&root, at, UploadMode::Replace);
            upload.await.map(drop)
        };
        assert_eq!(read("/pub/f").await, Ok(()));
        assert_eq!(read("/incoming/done/f").await, Ok(()));
        for at in ["/incoming/f", "/in/f", "/pub/l", "/incoming/out/f"] {
            assert_eq!(read(at).await, Err(denied), "{at}");
        }
        assert_eq!(write("/incoming/new").await, Ok(()));
        assert_eq!(write("/incoming/done/new").await, Ok(()));
        for at in ["/pub/new", "/in/new", "/in/done/new", "/incoming/out/new"] {
            assert_eq!(write(at).await, Err(denied), "{at}");
        }
        let listing = list(&root, "/incoming", ListFormat::Names).await;
        assert_eq!(listing, Err(denied));
        let listing = list(&root, "/in", ListFormat::Names).await;
        assert_eq!(listing, Err(denied));
        assert_eq!(
            perform(&root, FileRequest::CheckDirectory(path("/incoming"))).await,
            DONE
        );
        assert_eq!(
            rename(&root, "/incoming/done/f", "/pub/g").await,
            Err(denied)
        );
        assert_eq!(
            rename(&root, "/incoming/done/f", "/incoming/done/g").await,
            DONE
        );
        // With the directory its rules would go.
        assert_eq!(rename(&root, "/incoming/done", "/pub/d").await, Err(denied));
    });
    assert!(!home.path("pub/new").exists());
}

/// The letters of the `perm` fact of a line.
pub(super) fn perm(lines: &[String], name: &str) -> String {
    let ending = format!(" {name}");
    let line = lines.iter().find(|line| line.ends_with(&ending)).unwrap();
    let (_, rest) = line.split_once("perm=").unwrap();
    rest.split(';').next().unwrap().to_owned()
}

#[test]
fn the_perm_fact_follows_the_rules() {
    let home = Home::new();
    for directory in ["incoming", "incoming/done", "pub"] {
        home.directory(directory);
    }
    home.write("pub/f", "f");
    home.write("incoming/done/f", "f");
    home.link("incoming/done/f", "l");
    home.link("pub", "p");
    on_ring(async {
        let root = root_of(&home, incoming());
        let machine = ListFormat::Machine(FactSet::ALL);
        let top = list(&root, "/", machine).await.unwrap();
        assert_eq!(perm(&top, "incoming"), "ecm");
        assert_eq!(perm(&top, "pub"), "el");
        assert_eq!(perm(&top, "l"), "r", "both ends of the link decide");
        let done = list(&root, "/incoming/done", machine).await.unwrap();
        assert_eq!(perm(&done, "f"), "rawfd");
        let facts = |at: &'static str| {
            let root = Rc::clone(&root);
            async move {
                let request = FileRequest::Facts(path(at), FactSet::ALL);
                let Ok(FileReply::Line(line)) = root.perform(&request).await else {
                    panic!("{at}");
                };
                perm(&[String::from_utf8(line).unwrap()], at)
            }
        };
        assert_eq!(facts("/pub").await, "el");
        assert_eq!(facts("/pub/f").await, "r");
        assert_eq!(facts("/incoming/done/f").await, "rawfd");
        // It may be removed, but with another name it would have other rights.
        assert_eq!(facts("/incoming/done").await, "elcmpd");
        let refused = FileRequest::Facts(path("/incoming"), FactSet::ALL);
        assert_eq!(root.perform(&refused).await, Err(FileError::Denied));
    });
}

#[test]
fn what_a_link_leads_to_is_still_confined() {
    let home = Home::new();
    home.directory("sub");
    home.link("../outside/secret", "out");
    home.link("sub/../../outside", "over");
    home.link(home.outside.join("secret"), "absolute");
    home.link("loop", "loop");
    let layout = Layout {
        denied: names(&["nothing"]),
        ..Layout::default()
    };
    on_ring(async {
        let root = root_of(&home, layout);
        for at in ["/out", "/over/secret", "/absolute", "/loop"] {
            let absent = FileError::NotFound;
            assert_eq!(size(&root, at).await, Err(absent), "{at}");
            let upload = upload(&root, at, UploadMode::Replace).await;
            assert_eq!(upload.unwrap_err(), absent, "{at}");
        }
        assert_eq!(list(&root, "/", ListFormat::Names).await.unwrap(), ["sub"]);
    });
}
