//! Rights by path that neither a move nor a link gets around.

use super::rules::{incoming, list, perm, root_of};
use super::*;
use crate::proto::ListFormat;
use crate::proto::listing::FactSet;
use crate::vfs::Layout;

#[test]
fn a_move_gains_no_right() {
    let home = Home::new();
    for directory in ["box", "box/d", "mine"] {
        home.directory(directory);
    }
    for file in ["box/f", "mine/f", "mine/g"] {
        home.write(file, file);
    }
    home.link("../box", "mine/box");
    home.link("../mine", "box/out");
    let drop_box = Rights {
        read: false,
        ..Rights::ALL
    };
    let layout = Layout {
        paths: vec![
            (path("/box"), drop_box),
            (path("/mine/later/deep"), drop_box),
        ],
        ..Layout::default()
    };
    on_ring(async {
        let root = root_of(&home, layout);
        let denied = Err(FileError::Denied);
        for (from, to) in [
            ("/box/f", "/mine/new"),
            ("/box/f", "/mine/g"),
            ("/mine/box/f", "/mine/new"),
            ("/box/f", "/box/out/new"),
            ("/box/d", "/mine/d"),
            // What is there would get the rights of a rule, or lead to it.
            ("/mine/g", "/mine/later"),
            ("/mine/g", "/mine/later/deep"),
        ] {
            assert_eq!(rename(&root, from, to).await, denied, "{from} {to}");
        }
        for (from, to) in [
            ("/box/f", "/box/d/f"),
            ("/mine/box/d/f", "/box/f"),
            ("/mine/f", "/mine/h"),
            ("/mine/h", "/box/h"),
        ] {
            assert_eq!(rename(&root, from, to).await, DONE, "{from} {to}");
        }
    });
    assert_eq!(home.content("box/h"), "mine/f");
}

#[test]
fn a_link_tells_no_facts_of_what_may_not_be_seen() {
    let home = Home::new();
    for directory in ["incoming", "incoming/done", "pub"] {
        home.directory(directory);
    }
    home.write("incoming/f", "f");
    home.write("incoming/done/f", "f");
    home.link("../incoming/f", "pub/file");
    home.link("../incoming", "pub/directory");
    home.link("../incoming/done/f", "pub/done");
    on_ring(async {
        let root = root_of(&home, incoming());
        let machine = ListFormat::Machine(FactSet::ALL);
        let listed = list(&root, "/pub", machine).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(perm(&listed, "done"), "r");
        for (at, told) in [
            ("/pub/file", false),
            ("/pub/directory", false),
            ("/pub/done", true),
        ] {
            let facts = FileRequest::Facts(path(at), FactSet::ALL);
            let outcome = root.perform(&facts).await;
            if told {
                assert!(outcome.is_ok(), "{at}");
            } else {
                assert_eq!(outcome, Err(FileError::Denied), "{at}");
            }
        }
    });
}
