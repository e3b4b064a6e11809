use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::proto::ListFormat;
use crate::vfs::{Layout, Storing, Upload, UploadMode};

fn settings(hidden_uploads: bool) -> Rc<Settings> {
    Rc::new(Settings {
        storing: Storing::Atomic,
        hidden_uploads,
        ..Settings::default()
    })
}

/// Runs a test with files that have no name, and with those of file systems that cannot do that.
fn on_both(test: impl AsyncFn(&Home, Rc<Root>)) {
    for hidden_uploads in [false, true] {
        let home = Home::new();
        on_ring(async {
            let root = Root::open(&home.home, Rights::ALL, settings(hidden_uploads)).unwrap();
            test(&home, root).await;
        });
    }
}

async fn open(root: &Rc<Root>, name: &str) -> Result<Upload, FileError> {
    root.open_upload(&path(name), UploadMode::Replace).await
}

async fn write(upload: &Upload, octets: &str) {
    upload.begin().await.unwrap();
    let span = rt::Span {
        buffer: octets.as_bytes().to_vec(),
        start: 0,
        end: octets.len(),
    };
    upload.file.write_all(span, upload.offset).await.0.unwrap();
}

async fn publish(upload: Upload) -> Result<(), FileError> {
    assert!(upload.is_atomic());
    let publication = upload.publication().unwrap();
    let published = publication.run().await;
    if published.is_err() {
        upload.undo().run(false).await;
    } else {
        publication.sync().await.unwrap();
    }
    published
}

/// Names in the home on disk, those of unfinished uploads too.
fn on_disk(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(&home.home).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

async fn listed(root: &Root) -> String {
    let home = path("");
    let listing = root.open_listing(&home, ListFormat::Names, b"", true);
    let (octets, _) = listing.await.unwrap().next(Vec::new()).await.unwrap();
    String::from_utf8(octets).unwrap()
}

#[test]
fn a_file_appears_once_it_is_whole() {
    on_both(async |home, root| {
        let upload = open(&root, "new").await.unwrap();
        write(&upload, "whole").await;
        assert!(!home.path("new").exists());
        assert_eq!(listed(&root).await, "");
        publish(upload).await.unwrap();
        assert_eq!(on_disk(home), ["new"]);
        assert_eq!(home.content("new"), "whole");
        let made = std::fs::metadata(home.path("new")).unwrap();
        assert_eq!((made.mode() & 0o777, made.nlink()), (0o644, 1));
    });
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    on_both(async |home, root| {
        home.write("f", "old");
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(home.path("f"), mode).unwrap();
        let reader = std::fs::File::open(home.path("f")).unwrap();
        let upload = open(&root, "f").await.unwrap();
        write(&upload, "new one").await;
        assert_eq!(home.content("f"), "old");
        publish(upload).await.unwrap();
        assert_eq!(on_disk(home), ["f"]);
        assert_eq!(home.content("f"), "new one");
        assert_eq!(
            std::fs::metadata(home.path("f")).unwrap().mode() & 0o777,
            0o640
        );
        // Who has opened the old file has it still.
        assert_eq!(std::io::read_to_string(reader).unwrap(), "old");
    });
}

#[test]
fn what_breaks_off_leaves_nothing() {
    on_both(async |home, root| {
        home.write("f", "old");
        for name in ["f", "new"] {
            for always in [false, true] {
                let upload = open(&root, name).await.unwrap();
                write(&upload, "half").await;
                let undo = upload.undo();
                drop(upload);
                assert!(undo.is_due());
                undo.run(always).await;
                assert_eq!(on_disk(home), ["f"]);
                assert_eq!(home.content("f"), "old");
            }
        }
    });
}

#[test]
fn the_last_that_ends_wins() {
    on_both(async |home, root| {
        let (first, second) = (open(&root, "f").await, open(&root, "f").await);
        let (first, second) = (first.unwrap(), second.unwrap());
        write(&first, "first and longer").await;
        write(&second, "second").await;
        publish(second).await.unwrap();
        assert_eq!(home.content("f"), "second");
        publish(first).await.unwrap();
        assert_eq!(home.content("f"), "first and longer");
        assert_eq!(on_disk(home), ["f"]);
    });
}

#[test]
fn what_has_come_to_have_the_name_meanwhile_stays_unless_it_is_a_file() {
    on_both(async |home, root| {
        home.directory("d");
        for (name, expected) in [
            ("directory", FileError::IsADirectory),
            ("fifo", FileError::NotRegular),
            ("link", FileError::NotRegular),
            ("d/f", FileError::NotFound),
        ] {
            let upload = open(&root, name).await.unwrap();
            write(&upload, "x").await;
            match name {
                "directory" => home.directory(name),
                "fifo" => home.fifo(name),
                "link" => home.link("directory", name),
                // By others than clients: with the hidden name that may be in it.
                _ => std::fs::remove_dir_all(home.path("d")).unwrap(),
            }
            assert_eq!(publish(upload).await.unwrap_err(), expected, "{name}");
        }
        assert_eq!(on_disk(home), ["directory", "fifo", "link"]);
        assert_eq!(
            std::fs::read_dir(home.path("directory")).unwrap().count(),
            0
        );
    });
}

async fn unique(root: &Rc<Root>) -> Upload {
    let prefix = b"report".to_vec();
    let opened = root
        .open_upload(&path(""), UploadMode::Unique { prefix })
        .await;
    opened.unwrap()
}

#[test]
fn unique_names_replace_nothing() {
    on_both(async |home, root| {
        let upload = unique(&root).await;
        let name = String::from_utf8(upload.name.clone().unwrap()).unwrap();
        write(&upload, "x").await;
        assert!(!home.path(&name).exists());
        home.write(&name, "somebody's");
        assert_eq!(publish(upload).await.unwrap_err(), FileError::Exists);
        assert_eq!(home.content(&name), "somebody's");
        assert_eq!(on_disk(home), [name]);
        let upload = unique(&root).await;
        let name = String::from_utf8(upload.name.clone().unwrap()).unwrap();
        write(&upload, "y").await;
        publish(upload).await.unwrap();
        assert_eq!(home.content(&name), "y");
    });
}

#[test]
fn a_link_stays_and_its_end_is_replaced() {
    on_both(async |home, root| {
        home.directory("d");
        home.write("d/f", "old");
        home.link("d/f", "link");
        home.link("d/made", "future");
        home.link("d", "way");
        home.link(home.outside.join("secret"), "out");
        home.link("../outside/new", "climb");
        for (name, end) in [("link", "d/f"), ("future", "d/made"), ("way/new", "d/new")] {
            let upload = open(&root, name).await.unwrap();
            write(&upload, name).await;
            publish(upload).await.unwrap();
            assert_eq!(home.content(end), name);
            let own = std::fs::symlink_metadata(home.path(end)).unwrap();
            assert!(own.is_file(), "{end}");
        }
        assert!(home.path("link").is_symlink() && home.path("future").is_symlink());
        for name in ["out", "climb"] {
            assert_eq!(open(&root, name).await.unwrap_err(), FileError::NotFound);
        }
        assert_eq!(std::fs::read_dir(&home.outside).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(home.path("d")).unwrap().count(), 3);
    });
}

#[test]
fn a_link_is_no_way_around_rules() {
    for hidden_uploads in [false, true] {
        let home = Home::new();
        home.directory("safe");
        home.write("safe/f", "old");
        home.directory("open");
        home.link("safe/f", "link");
        home.link("safe/new", "future");
        home.link("open/f", "fine");
        home.write("kept", "old");
        let layout = Layout {
            paths: vec![
                (path("safe"), Rights::READ_ONLY),
                (path("kept"), Rights::READ_ONLY),
            ],
            ..Layout::default()
        };
        on_ring(async {
            let opened = Root::open_with(&home.home, Rights::ALL, layout, settings(hidden_uploads));
            let root = opened.unwrap();
            for name in ["safe/f", "safe/new", "link", "future", "kept"] {
                let refused = open(&root, name).await.unwrap_err();
                assert_eq!(refused, FileError::Denied, "{name}");
            }
            let upload = open(&root, "fine").await.unwrap();
            write(&upload, "x").await;
            publish(upload).await.unwrap();
            assert_eq!(home.content("open/f"), "x");
            assert_eq!(
                (home.content("safe/f"), home.content("kept")),
                ("old".into(), "old".into())
            );
        });
    }
}

#[test]
fn wrong_objects_are_refused_before_anything_is_sent() {
    on_both(async |home, root| {
        home.directory("d");
        home.fifo("fifo");
        for (name, expected) in [
            ("d", FileError::IsADirectory),
            ("", FileError::IsADirectory),
            ("fifo", FileError::NotRegular),
            ("none/f", FileError::NotFound),
        ] {
            assert_eq!(open(&root, name).await.unwrap_err(), expected, "{name}");
        }
        // What goes on from something is written where it is.
        home.write("f", "0123");
        for how in [UploadMode::Append, UploadMode::At(2)] {
            let upload = root.open_upload(&path("f"), how).await.unwrap();
            assert!(!upload.is_atomic() && upload.publication().is_none());
        }
        assert_eq!(on_disk(home), ["d", "f", "fifo"]);
    });
}

#[test]
fn names_of_unfinished_uploads_are_as_if_absent() {
    let home = Home::new();
    on_ring(async {
        let root = Root::open(&home.home, Rights::ALL, settings(true)).unwrap();
        let upload = open(&root, "f").await.unwrap();
        write(&upload, "half").await;
        let names = on_disk(&home);
        let [hidden] = names.as_slice() else {
            panic!("{names:?}");
        };
        assert!(hidden.starts_with(".ringftpd-upload-"), "{hidden}");
        assert_eq!(listed(&root).await, "");
        let refused = root.open_download(&path(hidden)).await.unwrap_err();
        assert_eq!(refused, FileError::NotFound);
        let requests = [
            FileRequest::DeleteFile(path(hidden)),
            FileRequest::CheckRename(path(hidden)),
            FileRequest::ChangeMode(path(hidden), 0o600),
        ];
        for request in requests {
            let refused = root.perform(&request).await.unwrap_err();
            assert_eq!(refused, FileError::NotFound, "{request:?}");
        }
        assert_eq!(
            open(&root, hidden).await.unwrap_err(),
            FileError::NameNotAllowed
        );
        // Others that look alike are anybody's.
        for name in [
            ".ringftpd-upload-",
            ".ringftpd-upload-0123456789abcdeg",
            ".x",
        ] {
            home.write(name, "");
            assert!(listed(&root).await.contains(name), "{name}");
        }
        publish(upload).await.unwrap();
        // Where uploads are in place, a stale one can be seen and removed.
        let plain = home.root();
        home.write(hidden, "");
        assert!(listed(&plain).await.contains(hidden.as_str()));
        let removed = plain.perform(&FileRequest::DeleteFile(path(hidden))).await;
        removed.unwrap();
    });
}

#[test]
fn a_directory_that_protects_files_of_others_is_respected() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for hidden_uploads in [false, true] {
        let home = Home::new();
        let mode = |name: &str, mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(home.path(name), permissions).unwrap();
        };
        std::fs::set_permissions(home._whole.path(), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        for (directory, bits) in [("sticky", 0o1777), ("closed", 0o755), ("open", 0o777)] {
            home.directory(directory);
            home.write(&format!("{directory}/f"), "old");
            mode(&format!("{directory}/f"), 0o666);
            mode(directory, bits);
        }
        let whole = std::thread::scope(|scope| {
            let working = || {
                crate::sys::fs::become_user(4321);
                on_ring(async {
                    let settings = settings(hidden_uploads);
                    let root = Root::open(&home.home, Rights::ALL, settings).unwrap();
                    for name in ["sticky/f", "closed/f", "closed/new"] {
                        let refused = open(&root, name).await.unwrap_err();
                        assert_eq!(refused, FileError::Denied, "{name}");
                    }
                    for name in ["sticky/new", "open/f"] {
                        let upload = open(&root, name).await.unwrap();
                        write(&upload, "new").await;
                        publish(upload).await.unwrap();
                    }
                });
            };
            scope.spawn(working).join()
        });
        whole.unwrap();
        assert_eq!(home.content("open/f"), "new");
        assert_eq!(home.content("sticky/f"), "old");
    }
}
