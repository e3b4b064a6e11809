use super::*;
use crate::proto::listing::FactSet;
use crate::vfs::UploadMode;

/// Names below the home that lead out of it, one way or another.
fn ways_out(home: &Home) -> Vec<String> {
    let secret = home.outside.join("secret");
    home.directory("sub");
    home.link(&secret, "absolute");
    home.link("../outside/secret", "relative");
    home.link("../../outside/secret", "sub/deep");
    home.link(&home.outside, "directory");
    home.link("relative", "twice");
    home.link(format!("/proc/self/root{}", secret.display()), "magic");
    home.link("..", "up");
    [
        "absolute",
        "relative",
        "sub/deep",
        "directory/secret",
        "twice",
        "magic",
        "up/outside/secret",
    ]
    .map(String::from)
    .to_vec()
}

#[test]
fn links_out_of_the_root_are_as_if_absent() {
    let home = Home::new();
    let ways = ways_out(&home);
    on_ring(async {
        let root = home.root();
        for way in &ways {
            let at = path(way);
            let absent = Err(FileError::NotFound);
            assert_eq!(size(&root, way).await, absent, "{way}");
            assert_eq!(
                root.open_download(&at).await.unwrap_err(),
                FileError::NotFound,
                "{way}"
            );
            for how in [UploadMode::Replace, UploadMode::Append, UploadMode::At(0)] {
                let refused = root.open_upload(&at, how).await;
                assert_eq!(refused.unwrap_err(), FileError::NotFound, "{way}");
            }
            let requests = [
                FileRequest::CheckDirectory(at.clone()),
                FileRequest::ModifyTime(at.clone()),
                FileRequest::SetModifyTime(at.clone(), 0),
                FileRequest::ChangeMode(at.clone(), 0),
                FileRequest::Facts(at.clone(), FactSet::ALL),
                FileRequest::DeleteFile(at.clone()),
                FileRequest::CheckRename(at.clone()),
                FileRequest::Rename {
                    from: at.clone(),
                    to: path("taken"),
                },
            ];
            for request in requests {
                assert_eq!(root.perform(&request).await, absent, "{request:?}");
            }
        }
        let made = perform(&root, FileRequest::MakeDirectory(path("directory/new"))).await;
        assert_eq!(made, Err(FileError::NotFound));
        home.write("plain", "x");
        assert_eq!(
            rename(&root, "plain", "directory/plain").await,
            Err(FileError::NotFound)
        );
    });
    let secret = std::fs::read_to_string(home.outside.join("secret")).unwrap();
    assert_eq!(secret, "secret");
    assert_eq!(std::fs::read_dir(&home.outside).unwrap().count(), 1);
}

#[test]
fn dots_stop_at_the_root() {
    let home = Home::new();
    home.write("outside", "inside");
    on_ring(async {
        let root = home.root();
        assert_eq!(size(&root, "../../outside").await, Ok(FileReply::Size(6)));
        assert_eq!(
            size(&root, "../outside/secret").await,
            Err(FileError::NotADirectory)
        );
    });
}

#[test]
fn links_inside_the_root_are_followed() {
    let home = Home::new();
    home.directory("a");
    home.directory("a/b");
    home.write("a/f", "12345");
    home.link("../f", "a/b/l");
    home.link("a/b", "d");
    home.link("nothing-yet", "future");
    on_ring(async {
        let root = home.root();
        for name in ["a/b/l", "d/l"] {
            assert_eq!(size(&root, name).await, Ok(FileReply::Size(5)));
            assert_eq!(root.open_download(&path(name)).await.unwrap().octets, 5);
        }
        assert_eq!(
            perform(&root, FileRequest::CheckDirectory(path("d"))).await,
            DONE
        );
        assert_eq!(size(&root, "future").await, Err(FileError::NotFound));
        let upload = root.open_upload(&path("future"), UploadMode::Replace).await;
        assert_eq!(upload.unwrap().offset, 0);
        assert!(home.path("nothing-yet").is_file());
        // The link goes, not what it leads to.
        assert_eq!(
            perform(&root, FileRequest::DeleteFile(path("a/b/l"))).await,
            DONE
        );
    });
    assert_eq!(home.content("a/f"), "12345");
}

#[test]
fn directory_is_entered_only_with_the_right_to_search_it() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let home = Home::new();
    home.directory("open");
    home.directory("closed");
    home.write("file", "");
    let closed = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(home.path("closed"), closed).unwrap();
    if crate::sys::fs::Credentials::current().user == 0 {
        // The system denies root nothing: be somebody else, who can reach the home.
        for reached in [home.home.parent().unwrap(), &home.home] {
            chown(reached, Some(65_534), None).unwrap();
        }
        crate::sys::fs::become_user(65_534);
    }
    on_ring(async {
        let root = home.root();
        let check = |name| FileRequest::CheckDirectory(path(name));
        assert_eq!(root.perform(&check("/")).await, DONE);
        assert_eq!(root.perform(&check("open")).await, DONE);
        assert_eq!(root.perform(&check("closed")).await, Err(FileError::Denied));
        assert_eq!(
            root.perform(&check("file")).await,
            Err(FileError::NotADirectory)
        );
        assert_eq!(root.perform(&check("none")).await, Err(FileError::NotFound));
    });
}

#[test]
fn special_files_are_not_served_and_do_not_block() {
    let home = Home::new();
    home.fifo("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(home.path("socket")).unwrap();
    on_ring(async {
        let root = home.root();
        for name in ["fifo", "socket"] {
            let at = path(name);
            let refused = FileError::NotRegular;
            assert_eq!(root.open_download(&at).await.unwrap_err(), refused);
            for how in [UploadMode::Replace, UploadMode::Append, UploadMode::At(1)] {
                assert_eq!(root.open_upload(&at, how).await.unwrap_err(), refused);
            }
            assert_eq!(size(&root, name).await, Err(refused));
            let facts = FileRequest::Facts(at.clone(), FactSet::ALL);
            assert_eq!(perform(&root, facts).await, Err(refused));
            assert_eq!(
                perform(&root, FileRequest::ChangeMode(at, 0o600)).await,
                Err(refused)
            );
        }
    });
}

#[test]
fn links_of_proc_lead_nowhere() {
    on_ring(async {
        let process = Path::new("/proc/self");
        let root = Root::open(process, Rights::ALL, Rc::new(Settings::default())).unwrap();
        assert!(size(&root, "status").await.is_ok());
        for way in ["exe", "root/etc/passwd", "cwd/Cargo.toml", "fd/0"] {
            assert_eq!(size(&root, way).await, Err(FileError::NotFound), "{way}");
            let refused = root.open_download(&path(way)).await.unwrap_err();
            assert_eq!(refused, FileError::NotFound, "{way}");
        }
        let names = crate::proto::ListFormat::Names;
        let mut listing = root
            .open_listing(&path("/"), names, b"", true)
            .await
            .unwrap();
        let (chunk, _) = listing.next(Vec::new()).await.unwrap();
        let names: Vec<_> = chunk.split(|octet| *octet == b'\n').collect();
        assert!(names.contains(&b"status\r".as_slice()));
        for hidden in [b"exe\r".as_slice(), b"root\r", b"cwd\r"] {
            assert!(!names.contains(&hidden));
        }
    });
}
