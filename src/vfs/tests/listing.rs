use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::limits;
use crate::proto::ListFormat;
use crate::proto::listing::FactSet;

const NAMES: ListFormat = ListFormat::Names;
const LONG: ListFormat = ListFormat::Long;

/// The lines without their ends, sorted; every chunk ends a line.
async fn lines(
    root: &Root,
    argument: &str,
    format: ListFormat,
    hidden: bool,
) -> Result<Vec<String>, FileError> {
    let shown = argument.as_bytes();
    let mut listing = root
        .open_listing(&path(argument), format, shown, hidden)
        .await?;
    let mut all = Vec::new();
    loop {
        let (chunk, more) = listing.next(Vec::new()).await?;
        assert!(chunk.is_empty() || chunk.ends_with(b"\r\n"));
        all.extend_from_slice(&chunk);
        if !more {
            break;
        }
    }
    let text = all.strip_suffix(b"\r\n").unwrap_or(&all);
    let mut lines: Vec<_> = String::from_utf8_lossy(text)
        .split("\r\n")
        .filter(|line| !line.is_empty())
        .map(String::from)
        .collect();
    lines.sort();
    Ok(lines)
}

fn filled() -> Home {
    let home = Home::new();
    home.directory("d");
    home.directory("d/sub");
    home.write("d/a.txt", "12345");
    home.write("d/b.c", "");
    home.write("d/.dot", "");
    home.link("a.txt", "d/inside");
    home.link("nothing", "d/dangling");
    home.link("../../outside/secret", "d/escape");
    home.link(&home.outside, "d/absolute");
    home.link("circle", "d/circle");
    home.fifo("d/fifo");
    home.directory("empty");
    home
}

#[test]
fn names_of_a_directory() {
    let home = filled();
    on_ring(async {
        let root = home.root();
        let prefixed = |prefix: &str| {
            let names = [".dot", "a.txt", "b.c", "inside", "sub"];
            Ok(names.map(|name| format!("{prefix}{name}")).to_vec())
        };
        assert_eq!(lines(&root, "d", NAMES, false).await, prefixed("d/"));
        assert_eq!(lines(&root, "/d/", NAMES, false).await, prefixed("/d/"));
        assert_eq!(lines(&root, "empty", NAMES, false).await, Ok(vec![]));
        let mut listing = root
            .open_listing(&path("d"), NAMES, b"", false)
            .await
            .unwrap();
        assert!(listing.is_directory());
        let (chunk, more) = listing.next(Vec::new()).await.unwrap();
        assert!(!more && chunk.has(b"a.txt\r\n"));
        let missing = lines(&root, "none", NAMES, false).await;
        assert_eq!(missing, Err(FileError::NotFound));
        let unlisted = home.root_with(Rights {
            list: false,
            ..Rights::ALL
        });
        assert_eq!(
            lines(&unlisted, "d", NAMES, false).await,
            Err(FileError::Denied)
        );
    });
}

trait Contains {
    fn has(&self, part: &[u8]) -> bool;
}

impl Contains for Vec<u8> {
    fn has(&self, part: &[u8]) -> bool {
        self.windows(part.len()).any(|window| window == part)
    }
}

#[test]
fn long_lines_show_links_that_stay_inside() {
    let home = filled();
    on_ring(async {
        let root = home.root();
        let shown = lines(&root, "d", LONG, false).await.unwrap();
        let ends = |line: &String| line.get(56..).unwrap().to_owned();
        let mut ends: Vec<_> = shown.iter().map(ends).collect();
        ends.sort();
        let expected = [
            ".dot",
            "a.txt",
            "b.c",
            "dangling -> nothing",
            "fifo",
            "inside -> a.txt",
            "sub",
        ];
        assert_eq!(ends, expected);
        let file = shown
            .iter()
            .find(|line| line.ends_with(" a.txt") && line.starts_with('-'));
        assert!(file.unwrap().contains(" ftp      ftp             5 "));
    });
}

#[test]
fn machine_lines_show_what_links_lead_to() {
    let home = filled();
    std::fs::hard_link(home.path("d/a.txt"), home.path("d/twin")).unwrap();
    on_ring(async {
        let root = home.root();
        let facts = FactSet::TYPE.with(FactSet::SIZE).with(FactSet::PERM);
        let shown = lines(&root, "d", ListFormat::Machine(facts), true).await;
        let expected = [
            "type=OS.unix=slink;perm=fd; dangling",
            "type=dir;perm=elcmpfd; sub",
            "type=file;size=0;perm=rawfd; .dot",
            "type=file;size=0;perm=rawfd; b.c",
            "type=file;size=5;perm=rawfd; a.txt",
            "type=file;size=5;perm=rawfd; inside",
            "type=file;size=5;perm=rawfd; twin",
        ];
        assert_eq!(shown.unwrap(), expected);
        let unique = ListFormat::Machine(FactSet::UNIQUE);
        let shown = lines(&root, "d", unique, true).await.unwrap();
        let of = |name: &str| {
            let line = shown
                .iter()
                .find(|line| line.ends_with(&format!(" {name}")));
            line.unwrap().split(';').next().unwrap().to_owned()
        };
        assert_eq!(of("a.txt"), of("twin"));
        assert_eq!(of("a.txt"), of("inside"));
        assert_ne!(of("a.txt"), of("b.c"));
        let none = ListFormat::Machine(FactSet::NONE);
        let names = lines(&root, "d", none, true).await.unwrap();
        assert_eq!(names.len(), 7);
        assert!(names.contains(&" a.txt".to_owned()));
        let file = lines(&root, "d/a.txt", none, true).await;
        assert_eq!(file, Err(FileError::NotADirectory));
        assert_eq!(
            lines(&root, "d/*", none, true).await,
            Err(FileError::NotFound)
        );
    });
}

#[test]
fn one_object_is_listed_under_its_argument() {
    let home = filled();
    on_ring(async {
        let root = home.root();
        let names = |argument: &'static str| lines(&root, argument, NAMES, false);
        assert_eq!(names("d/../d/a.txt").await.unwrap(), ["d/../d/a.txt"]);
        let long = lines(&root, "d/a.txt", LONG, false).await.unwrap();
        assert!(long[0].starts_with("-rw") && long[0].ends_with(" d/a.txt"));
        let link = lines(&root, "d/inside", LONG, false).await.unwrap();
        assert!(link[0].ends_with(" d/inside -> a.txt"));
        assert_eq!(names("d/escape").await, Err(FileError::NotFound));
        assert_eq!(names("d/fifo").await, Err(FileError::NotRegular));
        let stat = FileRequest::StatListing {
            path: path("d/a.txt"),
            shown: b"d/a.txt".to_vec(),
            hidden: false,
        };
        match perform(&root, stat).await {
            Ok(FileReply::Listing { directory, lines }) => {
                assert!(!directory && lines.ends_with(b" d/a.txt\r\n"));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn patterns_match_only_what_is_not_there_literally() {
    let home = filled();
    home.write("[x].c", "");
    home.write("x.c", "");
    home.write("y.c", "");
    on_ring(async {
        let root = home.root();
        let names = |argument: &'static str| lines(&root, argument, NAMES, false);
        assert_eq!(names("[x].c").await.unwrap(), ["[x].c"]);
        assert_eq!(names("?.c").await.unwrap(), ["x.c", "y.c"]);
        assert_eq!(names("/d/*.*").await.unwrap(), ["/d/a.txt", "/d/b.c"]);
        assert_eq!(names("d/.d*").await.unwrap(), ["d/.dot"]);
        assert_eq!(names("d/esc*").await, Err(FileError::NotFound));
        assert_eq!(names("*.none").await, Err(FileError::NotFound));
        assert_eq!(names("*/a.txt").await, Err(FileError::NotFound));
        let all = lines(&root, "d/*o*", NAMES, true).await;
        assert_eq!(all.unwrap(), ["d/.dot"]);
        let long = lines(&root, "d/*.c", LONG, false).await.unwrap();
        assert!(long.len() == 1 && long[0].ends_with(" d/b.c"));
    });
}

#[test]
fn dot_files_are_hidden_by_policy_until_asked_for() {
    let home = filled();
    on_ring(async {
        let settings = Settings {
            hide_dot_files: true,
            ..Settings::default()
        };
        let root = Root::open(&home.home, Rights::ALL, Rc::new(settings)).unwrap();
        let dot = "d/.dot".to_owned();
        let hidden = lines(&root, "d", NAMES, false).await.unwrap();
        assert!(!hidden.contains(&dot));
        let asked = lines(&root, "d", NAMES, true).await.unwrap();
        assert!(asked.contains(&dot));
    });
}

#[test]
fn odd_names_are_raw_and_broken_ones_absent() {
    let home = Home::new();
    for name in [&b"\xff\xfe"[..], b" a ", b"a\nb", b"a\rb", b"\x1b[0m"] {
        std::fs::write(home.home.join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    on_ring(async {
        let root = home.root();
        for format in [NAMES, LONG, ListFormat::Machine(FactSet::ALL)] {
            let mut listing = root
                .open_listing(&path("/"), format, b"", true)
                .await
                .unwrap();
            let (chunk, more) = listing.next(Vec::new()).await.unwrap();
            assert!(!more);
            assert_eq!(chunk.iter().filter(|octet| **octet == b'\n').count(), 3);
            for name in [&b"\xff\xfe\r\n"[..], b" a \r\n", b"\x1b[0m\r\n"] {
                assert!(chunk.has(name), "{format:?}");
            }
        }
        let odd = VirtualPath::root().join(b"\xff\xfe").unwrap();
        assert_eq!(root.open_download(&odd).await.unwrap().octets, 1);
    });
}

#[test]
fn large_directory_streams_in_bounded_chunks() {
    const ENTRIES: usize = 100_000;
    let home = Home::new();
    home.directory("d");
    home.write("d/f", "x");
    // Links to one file: a hundred thousand inodes would be slow to make and to delete.
    for number in 0..ENTRIES - 1 {
        let name = home.path(&format!("d/entry-{number:06}-with-a-longer-name"));
        if std::fs::hard_link(home.path("d/f"), &name).is_err() {
            // Some file systems allow fewer links to one file.
            std::fs::write(&name, "x").unwrap();
        }
    }
    on_ring(async {
        let root = home.root();
        for format in [NAMES, LONG, ListFormat::Machine(FactSet::ALL)] {
            let mut listing = root
                .open_listing(&path("d"), format, b"d", true)
                .await
                .unwrap();
            let (mut rows, mut chunks, mut buffer) = (0, 0, Vec::new());
            loop {
                let (chunk, more) = listing.next(buffer).await.unwrap();
                assert!(chunk.len() <= limits::LISTING_CHUNK_OCTETS + 4096);
                assert!(chunk.capacity() <= 4 * limits::LISTING_CHUNK_OCTETS);
                rows += chunk.iter().filter(|octet| **octet == b'\n').count();
                chunks += 1;
                buffer = chunk;
                if !more {
                    break;
                }
            }
            assert_eq!(rows, ENTRIES);
            assert!(chunks > 10);
        }
        let stat = FileRequest::StatListing {
            path: path("d"),
            shown: b"d".to_vec(),
            hidden: true,
        };
        match perform(&root, stat).await {
            Ok(FileReply::Listing { directory, lines }) => {
                assert!(directory);
                let rows = lines.iter().filter(|octet| **octet == b'\n').count();
                assert_eq!(rows, limits::STAT_ROWS_MAX);
            }
            other => panic!("{other:?}"),
        }
        // What matches last is found, and nothing is found in bounded pieces of work.
        let found = lines(&root, "d/f*", NAMES, false).await.unwrap();
        assert_eq!(found, ["d/f"]);
        assert_eq!(
            lines(&root, "d/x*", NAMES, false).await,
            Err(FileError::NotFound)
        );
    });
}

/// Lists three times, so that what can be kept is, and compares with what it says without a cache.
async fn agree(cached: &Root, plain: &Root, what: &str) {
    for format in [LONG, NAMES, ListFormat::Machine(FactSet::DEFAULT)] {
        for round in 0..3 {
            let expected = lines(plain, "d", format, false).await;
            let shown = lines(cached, "d", format, false).await;
            assert_eq!(shown, expected, "{what}, {format:?}, {round}");
        }
    }
}

#[test]
fn a_cached_listing_shows_every_change_at_once() {
    let home = filled();
    let settings = Settings {
        directory_cache: super::super::DirectoryCache::new(1 << 20),
        ..Settings::default()
    };
    let cached = Root::open(&home.home, Rights::ALL, Rc::new(settings)).unwrap();
    let plain = home.root();
    let d = |name: &str| home.path("d").join(name);
    let changes: [(&str, &dyn Fn()); 11] = [
        ("nothing", &|| {}),
        ("written", &|| home.write("d/a.txt", "123456789")),
        ("cut", &|| home.write("d/a.txt", "")),
        ("created", &|| {
            home.write("d/new", "1");
            std::fs::hard_link(d("new"), home.path("second")).unwrap();
        }),
        ("renamed", &|| {
            std::fs::rename(d("new"), d("newer")).unwrap()
        }),
        ("written by its other name", &|| {
            home.write("second", "1234")
        }),
        ("deleted", &|| std::fs::remove_file(d("b.c")).unwrap()),
        ("below", &|| home.write("d/sub/x", "")),
        ("moved away", &|| {
            std::fs::rename(d("a.txt"), home.path("a.txt")).unwrap()
        }),
        ("link changed", &|| {
            std::fs::remove_file(d("inside")).unwrap();
            home.link("newer", "d/inside");
        }),
        ("replaced", &|| {
            std::fs::rename(home.path("d"), home.path("old")).unwrap();
            home.directory("d");
            home.write("d/other", "");
        }),
    ];
    on_ring(async {
        for (what, change) in changes {
            change();
            agree(&cached, &plain, what).await;
        }
    });
}

#[test]
fn vectors_of_encoded_listings_are_given_back() {
    let home = Home::new();
    home.directory("d");
    for number in 0..1500 {
        home.write(&format!("d/{number:04}{}", "文".repeat(20)), "");
    }
    on_ring(async {
        let (root, path) = (home.root(), path("d"));
        let opened = root.open_listing(&path, NAMES, b"", false).await;
        let mut listing = opened.unwrap().in_charset("GBK".parse().unwrap());
        rt::give_vector(Vec::with_capacity(limits::TRANSFER_CHUNK_OCTETS));
        let (mut chunks, mut octets) = (0, 0);
        loop {
            let (chunk, more) = listing.next(rt::take_vector()).await.unwrap();
            octets += chunk.len();
            chunks += 1;
            rt::give_vector(chunk);
            let again = rt::take_vector();
            assert!(again.capacity() >= limits::TRANSFER_CHUNK_OCTETS);
            rt::give_vector(again);
            if !more {
                break;
            }
        }
        assert_eq!(octets, 1500 * (4 + 2 * 20 + 2));
        assert!(chunks > 1);
    });
}
