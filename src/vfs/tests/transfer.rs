use super::*;
use crate::limits;
use crate::vfs::{Storing, UploadMode};

async fn store(root: &Rc<Root>, name: &str, how: UploadMode, octets: &[u8]) -> (bool, u64) {
    let upload = root.open_upload(&path(name), how).await.unwrap();
    upload.begin().await.unwrap();
    let span = rt::Span {
        buffer: octets.to_vec(),
        start: 0,
        end: octets.len(),
    };
    upload.file.write_all(span, upload.offset).await.0.unwrap();
    (upload.created, upload.offset)
}

#[test]
fn upload_modes() {
    let home = Home::new();
    on_ring(async {
        let root = home.root();
        let stored = store(&root, "f", UploadMode::Replace, b"0123456789").await;
        assert_eq!(stored, (true, 0));
        assert_eq!(
            store(&root, "f", UploadMode::At(3), b"abc").await,
            (false, 3)
        );
        assert_eq!(home.content("f"), "012abc6789");
        assert_eq!(
            store(&root, "f", UploadMode::At(10), b"!").await,
            (false, 10)
        );
        assert_eq!(store(&root, "f", UploadMode::At(0), b"x").await, (false, 0));
        assert_eq!(home.content("f"), "x12abc6789!");
        assert_eq!(
            store(&root, "f", UploadMode::Append, b"?").await,
            (false, 11)
        );
        assert_eq!(home.content("f"), "x12abc6789!?");
        assert_eq!(
            store(&root, "f", UploadMode::Replace, b"new").await,
            (false, 0)
        );
        assert_eq!(home.content("f"), "new");
        assert_eq!(store(&root, "g", UploadMode::Append, b"g").await, (true, 0));
        assert_eq!(store(&root, "h", UploadMode::At(0), b"h").await, (true, 0));
        for name in ["f", "missing"] {
            let refused = root.open_upload(&path(name), UploadMode::At(4)).await;
            assert_eq!(refused.unwrap_err(), FileError::BadRestart);
        }
        assert!(!home.path("missing").exists());
    });
}

#[test]
fn an_upload_that_never_begins_costs_nobody_a_file() {
    let home = Home::new();
    home.write("old", "content");
    on_ring(async {
        let root = home.root();
        let replace = async |name| {
            root.open_upload(&path(name), UploadMode::Replace)
                .await
                .unwrap()
        };
        let old = replace("old").await;
        assert_eq!(home.content("old"), "content", "opening does not cut");
        old.undo().run(false).await;
        assert_eq!(home.content("old"), "content");

        let new = replace("new").await;
        assert!(home.path("new").exists());
        new.undo().run(false).await;
        assert!(!home.path("new").exists());

        let other = replace("other").await;
        std::fs::rename(home.path("old"), home.path("other")).unwrap();
        other.undo().run(false).await;
        assert_eq!(
            home.content("other"),
            "content",
            "not the file that was made"
        );

        let partial = replace("other").await;
        partial.undo().run(true).await;
        assert!(!home.path("other").exists());
    });
}

#[test]
fn unique_names_are_new_each_time() {
    let home = Home::new();
    home.directory("d");
    on_ring(async {
        let root = home.root();
        let unique = |prefix: &[u8]| UploadMode::Unique {
            prefix: prefix.to_vec(),
        };
        let mut names = std::collections::HashSet::new();
        for _ in 0..20 {
            let upload = root
                .open_upload(&path("d"), unique(b"report"))
                .await
                .unwrap();
            let name = upload.name.unwrap();
            assert!(upload.created && name.starts_with(b"report"));
            assert!(names.insert(name));
        }
        assert_eq!(std::fs::read_dir(home.path("d")).unwrap().count(), 20);
        let long = root.open_upload(&path("/"), unique(&[b'x'; 255])).await;
        assert_eq!(long.unwrap().name.unwrap().len(), 255);
        let refused = root.open_upload(&path("d"), unique(b"../x")).await;
        assert_eq!(refused.unwrap_err(), FileError::NameNotAllowed);
    });
}

#[test]
fn wrong_objects_and_missing_rights() {
    let home = Home::new();
    home.directory("d");
    home.write("f", "x");
    on_ring(async {
        let root = home.root();
        for name in ["/", "d"] {
            let refused = FileError::IsADirectory;
            assert_eq!(root.open_download(&path(name)).await.unwrap_err(), refused);
            for how in [UploadMode::Replace, UploadMode::Append, UploadMode::At(1)] {
                assert_eq!(
                    root.open_upload(&path(name), how).await.unwrap_err(),
                    refused
                );
            }
        }
        let below_file = root.open_upload(&path("f/x"), UploadMode::Replace).await;
        assert_eq!(below_file.unwrap_err(), FileError::NotADirectory);
        let no_parent = root.open_upload(&path("n/x"), UploadMode::Replace).await;
        assert_eq!(no_parent.unwrap_err(), FileError::NotFound);

        let reader = home.root_with(Rights::READ_ONLY);
        assert_eq!(reader.open_download(&path("f")).await.unwrap().octets, 1);
        let refused = reader.open_upload(&path("f"), UploadMode::Replace).await;
        assert_eq!(refused.unwrap_err(), FileError::Denied);
        let requests = [
            FileRequest::MakeDirectory(path("new")),
            FileRequest::RemoveDirectory(path("d")),
            FileRequest::DeleteFile(path("f")),
            FileRequest::CheckRename(path("f")),
            FileRequest::SetModifyTime(path("f"), 0),
            FileRequest::ChangeMode(path("f"), 0o600),
        ];
        for request in requests {
            let denied = reader.perform(&request).await;
            assert_eq!(denied, Err(FileError::Denied), "{request:?}");
        }
        let appender = home.root_with(Rights {
            append: true,
            ..Rights::NONE
        });
        assert!(
            appender
                .open_upload(&path("f"), UploadMode::Append)
                .await
                .is_ok()
        );
        assert!(
            appender
                .open_upload(&path("f"), UploadMode::Replace)
                .await
                .is_err()
        );
        assert!(appender.open_download(&path("f")).await.is_err());
    });
    assert_eq!(home.content("f"), "x");
}

#[test]
fn download_waits_for_the_disk_instead_of_failing() {
    use rustix::fs::OFlags;
    let home = Home::new();
    home.write("f", "x");
    on_ring(async {
        let root = home.root();
        let download = root.open_download(&path("f")).await.unwrap();
        let upload = root
            .open_upload(&path("f"), UploadMode::Append)
            .await
            .unwrap();
        for file in [&download.file, &upload.file] {
            let flags = rustix::fs::fcntl_getfl(file).unwrap();
            assert!(!flags.contains(OFlags::NONBLOCK));
        }
    });
}

#[test]
fn umask_applies_to_what_is_made() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    on_ring(async {
        let settings = Settings {
            umask: 0o077,
            ..Settings::default()
        };
        let root = Root::open(&home.home, Rights::ALL, Rc::new(settings)).unwrap();
        store(&root, "f", UploadMode::Replace, b"x").await;
        assert_eq!(
            perform(&root, FileRequest::MakeDirectory(path("d"))).await,
            DONE
        );
    });
    let mode = |name| home.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("f"), mode("d")), (0o600, 0o700));
}

#[test]
fn size_in_ascii_is_exact_or_refused() {
    let home = Home::new();
    home.write("f", "a\nb\r\nc\rd");
    home.write("empty", "");
    let limit = usize::try_from(limits::ASCII_SIZE_OCTETS_MAX).unwrap();
    home.write("limit", &"\n".repeat(limit));
    home.write("above", &"\n".repeat(limit + 1));
    on_ring(async {
        let root = home.root();
        let ascii = |name| FileRequest::Size {
            path: path(name),
            ascii: true,
        };
        assert_eq!(root.perform(&ascii("f")).await, Ok(FileReply::Size(9)));
        assert_eq!(root.perform(&ascii("empty")).await, Ok(FileReply::Size(0)));
        let doubled = Ok(FileReply::Size(2 * limits::ASCII_SIZE_OCTETS_MAX));
        assert_eq!(root.perform(&ascii("limit")).await, doubled);
        let refused = Err(FileError::TooLargeForAscii);
        assert_eq!(root.perform(&ascii("above")).await, refused);
        assert_eq!(
            root.perform(&ascii("/")).await,
            Err(FileError::IsADirectory)
        );
    });
}

/// A socket whose close waits for a peer that takes nothing: the close of a large file whose last name is gone waits as long
/// for a disk.
fn slow_to_close() -> (std::net::TcpStream, std::net::TcpStream) {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    while near.write(&[0; 65536]).is_ok() {}
    let wait = Some(std::time::Duration::from_secs(2));
    rustix::net::sockopt::set_socket_linger(&near, wait).unwrap();
    (near, far)
}

#[test]
fn the_core_does_not_wait_for_the_end_of_what_is_removed() {
    for storing in [Storing::InPlace, Storing::Atomic] {
        let home = Home::new();
        on_ring(async {
            let settings = Settings {
                storing,
                ..Settings::default()
            };
            let root = Root::open(&home.home, Rights::ALL, Rc::new(settings)).unwrap();
            let mut upload = root
                .open_upload(&path("f"), UploadMode::Replace)
                .await
                .unwrap();
            let (near, _far) = slow_to_close();
            upload.file = rt::File::new(near.into());
            let undo = upload.undo();
            drop(upload);
            let ticks = Rc::new(std::cell::Cell::new(0));
            let ticking = Rc::clone(&ticks);
            let tick = std::time::Duration::from_millis(10);
            rt::spawn(async move {
                loop {
                    rt::sleep(tick).await;
                    ticking.set(ticking.get() + 1);
                }
            });
            undo.run(true).await;
            let ticks = ticks.get();
            assert!(
                ticks >= 20,
                "{storing:?}: the core came to {ticks} turns in two seconds"
            );
        });
        assert_eq!(std::fs::read_dir(&home.home).unwrap().count(), 0);
    }
}
