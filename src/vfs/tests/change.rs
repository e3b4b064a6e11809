use super::*;
use crate::proto::listing::FactSet;

#[test]
fn rename_replaces_files_and_never_directories() {
    let home = Home::new();
    home.write("a", "a");
    home.write("b", "b");
    home.directory("empty");
    home.directory("moved");
    on_ring(async {
        let root = home.root();
        assert_eq!(rename(&root, "a", "b").await, DONE);
        assert_eq!(home.content("b"), "a");
        assert!(!home.path("a").exists());
        assert_eq!(rename(&root, "b", "b").await, DONE);
        let taken = Err(FileError::Exists);
        assert_eq!(rename(&root, "b", "empty").await, taken);
        assert_eq!(rename(&root, "moved", "empty").await, taken);
        assert_eq!(rename(&root, "moved", "b").await, taken);
        assert_eq!(rename(&root, "b", "empty/b").await, DONE);
        assert_eq!(rename(&root, "empty", "moved/empty").await, DONE);
        assert_eq!(home.content("moved/empty/b"), "a");
        let into_itself = rename(&root, "moved", "moved/empty/m").await;
        assert_eq!(into_itself, Err(FileError::NameNotAllowed));
        assert_eq!(rename(&root, "none", "x").await, Err(FileError::NotFound));
        assert_eq!(
            rename(&root, "moved", "none/x").await,
            Err(FileError::NotFound)
        );
        assert_eq!(rename(&root, "moved", "/").await, Err(FileError::Denied));
        assert_eq!(rename(&root, "/", "x").await, Err(FileError::Denied));
    });
}

#[test]
fn rename_over_a_file_needs_a_right_to_destroy_it() {
    let home = Home::new();
    home.write("a", "a");
    home.write("b", "b");
    on_ring(async {
        let root = home.root_with(Rights {
            rename: true,
            ..Rights::NONE
        });
        assert_eq!(rename(&root, "a", "b").await, Err(FileError::Exists));
        assert_eq!(rename(&root, "a", "c").await, DONE);
    });
    assert_eq!(home.content("b"), "b");
}

#[test]
fn a_dangling_link_can_be_renamed_and_deleted() {
    let home = Home::new();
    home.link("nothing", "l");
    on_ring(async {
        let root = home.root();
        assert_eq!(
            perform(&root, FileRequest::CheckRename(path("l"))).await,
            DONE
        );
        assert_eq!(rename(&root, "l", "m").await, DONE);
        let facts = FileRequest::Facts(path("m"), FactSet::TYPE.with(FactSet::SIZE));
        let line = b"type=OS.unix=slink; /m".to_vec();
        assert_eq!(perform(&root, facts).await, Ok(FileReply::Line(line)));
        assert_eq!(
            perform(&root, FileRequest::DeleteFile(path("m"))).await,
            DONE
        );
    });
    assert!(home.path("m").symlink_metadata().is_err());
}

#[test]
fn directories_are_made_and_removed() {
    let home = Home::new();
    home.write("f", "x");
    on_ring(async {
        let root = home.root();
        let make = |name| FileRequest::MakeDirectory(path(name));
        let remove = |name| FileRequest::RemoveDirectory(path(name));
        let delete = |name| FileRequest::DeleteFile(path(name));
        assert_eq!(root.perform(&make("d")).await, DONE);
        assert_eq!(root.perform(&make("d/e")).await, DONE);
        for name in ["d", "f", "/"] {
            assert_eq!(root.perform(&make(name)).await, Err(FileError::Exists));
        }
        assert_eq!(root.perform(&make("n/d")).await, Err(FileError::NotFound));
        assert_eq!(
            root.perform(&make("f/d")).await,
            Err(FileError::NotADirectory)
        );
        assert_eq!(root.perform(&remove("d")).await, Err(FileError::NotEmpty));
        assert_eq!(
            root.perform(&remove("f")).await,
            Err(FileError::NotADirectory)
        );
        assert_eq!(root.perform(&remove("/")).await, Err(FileError::Denied));
        assert_eq!(
            root.perform(&delete("d")).await,
            Err(FileError::IsADirectory)
        );
        assert_eq!(root.perform(&remove("d/e")).await, DONE);
        assert_eq!(root.perform(&remove("d")).await, DONE);
        assert_eq!(root.perform(&delete("f")).await, DONE);
        assert_eq!(root.perform(&delete("f")).await, Err(FileError::NotFound));
    });
    assert_eq!(std::fs::read_dir(&home.home).unwrap().count(), 0);
}

#[test]
fn times_and_modes_are_set() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.write("f", "x");
    home.directory("d");
    on_ring(async {
        let root = home.root();
        for time in [0, 1_000_000_000, 4_102_444_800] {
            let set = FileRequest::SetModifyTime(path("f"), time);
            assert_eq!(perform(&root, set).await, Ok(FileReply::Time(time)));
            let asked = FileRequest::ModifyTime(path("f"));
            assert_eq!(perform(&root, asked).await, Ok(FileReply::Time(time)));
        }
        let directory = perform(&root, FileRequest::ModifyTime(path("d"))).await;
        assert_eq!(directory, Err(FileError::IsADirectory));
        let change = |mode| FileRequest::ChangeMode(path("f"), mode);
        assert_eq!(root.perform(&change(0)).await, DONE);
        assert_eq!(root.perform(&change(0o640)).await, DONE);
        assert_eq!(root.perform(&change(0o4755)).await, Err(FileError::Denied));
    });
    let mode = home.path("f").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn facts_of_one_object() {
    let home = Home::new();
    home.directory("d");
    home.write("d/a b", "12345");
    home.link("a b", "d/l");
    on_ring(async {
        let root = home.root();
        let some = FactSet::TYPE.with(FactSet::SIZE).with(FactSet::PERM);
        let line =
            async |name: &str, facts| match perform(&root, FileRequest::Facts(path(name), facts))
                .await
            {
                Ok(FileReply::Line(line)) => String::from_utf8(line).unwrap(),
                other => panic!("{other:?}"),
            };
        assert_eq!(
            line("d/a b", some).await,
            "type=file;size=5;perm=rawfd; /d/a b"
        );
        assert_eq!(line("d/l", some).await, "type=file;size=5;perm=rawfd; /d/l");
        assert_eq!(line("d", some).await, "type=dir;perm=elcmpfd; /d");
        assert_eq!(line("/", some).await, "type=dir;perm=elcmp; /");
        assert_eq!(line("d", FactSet::NONE).await, " /d");
        let unique = FactSet::UNIQUE;
        let (file, link) = (line("d/a b", unique).await, line("d/l", unique).await);
        assert_eq!(file.get(..24), link.get(..24));
        assert_ne!(file.get(..24), line("d", unique).await.get(..24));
    });
}

#[test]
fn space_is_checked() {
    let home = Home::new();
    on_ring(async {
        let root = home.root();
        assert_eq!(perform(&root, space(1)).await, DONE);
        let refused = perform(&root, space(u64::MAX)).await;
        assert_eq!(refused, Err(FileError::VolumeFull));
    });
}

fn space(octets: u64) -> FileRequest {
    let path = path("/");
    FileRequest::CheckSpace { path, octets }
}
