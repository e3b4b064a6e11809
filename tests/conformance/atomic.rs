//! `--upload-mode atomic`: a file appears under its name when its upload has come to its end, and not before.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, inotify};
use rustix::process::Signal;

use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, by_shell, process_directory, wait_until};
use crate::common::{PATIENCE, Port, assert_same, pattern};

const ATOMIC: [&str; 6] = [
    "--upload-mode",
    "atomic",
    "--protect-control",
    "optional",
    "--protect-data",
    "optional",
];
const NOTHING: &str = " Nothing of it was stored.";

/// A server with an account `ann`.
struct Site {
    server: Server,
    users: String,
    home: PathBuf,
}

impl Site {
    fn new(name: &str, options: &[&str]) -> Self {
        Self::by(name, "", options, |command| command)
    }

    /// `ann` with these keys in the users file, at a server that is started by another command.
    fn by(
        name: &str,
        keys: &str,
        options: &[&str],
        prepare: impl FnOnce(Command) -> Command,
    ) -> Self {
        let home = process_directory().join(format!("atomic-{name}"));
        let accounts = Accounts::single("ann", &home);
        let text = std::fs::read_to_string(&accounts.file).unwrap();
        std::fs::write(&accounts.file, format!("{text}{keys}")).unwrap();
        let users = accounts.file.to_str().unwrap().to_owned();
        let (mode, usual) = ATOMIC.split_at(2);
        let mode = if options.contains(&"--upload-mode") {
            &[][..]
        } else {
            mode
        };
        let options = [&["--users", &users][..], mode, usual, options].concat();
        Self {
            server: Server::start_by(&options, prepare),
            users,
            home,
        }
    }

    fn login(&self, port: Port) -> Client {
        let mut client = Client::connect(&self.server, port);
        client.settle("ann", PASSWORD);
        client
    }

    fn login_clear(&self) -> Client {
        let mut client = Client::connect(&self.server, Port::Explicit);
        client.expect(220);
        client.login("ann", PASSWORD);
        client.ok("TYPE I", 200);
        client
    }

    /// One on each port, and one without TLS.
    fn clients(&self) -> [Client; 3] {
        [
            self.login(Port::Explicit),
            self.login(Port::Implicit),
            self.login_clear(),
        ]
    }

    fn put(&self, name: &str, octets: &[u8]) {
        std::fs::write(self.home.join(name), octets).unwrap();
    }

    fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.home.join(name)).unwrap()
    }

    /// Whether the file system of the home lets a file wait for its name; else it has a hidden one meanwhile.
    fn has_unnamed_files(&self) -> bool {
        let flags = OFlags::TMPFILE | OFlags::WRONLY;
        rustix::fs::open(&self.home, flags, Mode::from_raw_mode(0o600)).is_ok()
    }

    /// All names in the home, on disk.
    fn names(&self) -> Vec<String> {
        names(&self.home)
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Waits until so many octets have arrived.
#[track_caller]
fn arrived(client: &mut Client, octets: usize) {
    let words = format!("{octets} ");
    let told = wait_until(PATIENCE, || {
        client.send("STAT");
        let text = client.reply().text();
        text.contains(&words)
    });
    assert!(told, "{octets} octets have not arrived");
}

#[test]
fn a_file_appears_with_its_last_octet_on_every_route() {
    let site = Site::new("appears", &[]);
    let mut other = site.login(Port::Explicit);
    // Below and above what moves an upload from rustls to another route.
    for (number, length) in [0, 1_000, 300_000, 3_000_000].into_iter().enumerate() {
        let octets = pattern(length);
        for (way, mut client) in site.clients().into_iter().enumerate() {
            let name = format!("f-{number}-{way}");
            let mut data = client.open(format!("STOR {name}"));
            data.send(&octets).unwrap();
            if length > 0 {
                arrived(&mut client, length);
            }
            assert!(!site.names().contains(&name));
            other.ok(format!("SIZE {name}"), 550);
            other.ok(format!("MLST {name}"), 550);
            other.ok(format!("MFMT 20200101000000 {name}"), 550);
            data.finish_sending();
            client.expect(226);
            assert_same(&site.get(&name), &octets);
            other.ok(format!("MFMT 20200101000000 {name}"), 213);
        }
    }
    assert_eq!(site.names().len(), 12);
}

#[test]
fn an_old_file_is_there_until_the_new_one_is() {
    let site = Site::new("replaces", &["--fsync"]);
    let mut other = site.login(Port::Implicit);
    let (old, new) = (pattern(50_000), pattern(400_000));
    for mut client in site.clients() {
        site.put("f", &old);
        let mode = std::fs::Permissions::from_mode(0o604);
        std::fs::set_permissions(site.home.join("f"), mode).unwrap();
        let mut data = client.open("STOR f");
        data.send(&new).unwrap();
        arrived(&mut client, new.len());
        assert_same(&other.download("RETR f"), &old);
        other.ok("SIZE f", 213);
        other.ok("MFMT 20010203040506 f", 213);
        let facts = other.ok("MLST f", 250).text();
        assert!(facts.contains("size=50000;") && facts.contains("modify=20010203040506;"));
        data.finish_sending();
        client.expect(226);
        assert_same(&other.download("RETR f"), &new);
        let now = std::fs::metadata(site.home.join("f")).unwrap();
        assert_eq!(now.permissions().mode() & 0o777, 0o604);
        let time = other.ok("MDTM f", 213).text();
        assert!(!time.contains("20010203040506"), "{time}");
        assert_eq!(site.names(), ["f"]);
    }
}

#[test]
fn who_watches_the_directory_is_told_of_a_rename() {
    let site = Site::new("watched", &[]);
    site.put("old", b"old");
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let wanted = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&watch, &site.home, wanted).unwrap();
    // How often each event has come for a name.
    let told = |name: &str| {
        let mut told = (0, 0);
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&watch, &mut buffer);
        while let Ok(event) = events.next() {
            if event
                .file_name()
                .is_some_and(|told| told.to_bytes() == name.as_bytes())
            {
                told.0 += usize::from(event.events().contains(inotify::ReadFlags::MOVED_TO));
                told.1 += usize::from(event.events().contains(inotify::ReadFlags::CLOSE_WRITE));
            }
        }
        told
    };
    let mut client = site.login(Port::Explicit);
    for name in ["new", "old"] {
        // The old file, or a part of the new one, is nobody's prey.
        let mut data = client.open(format!("STOR {name}"));
        data.send(b"half").unwrap();
        arrived(&mut client, 4);
        client.ok("ABOR", 426);
        client.expect(226);
        assert_eq!(told(name), (0, 0), "{name}");
        assert_eq!(client.upload(format!("STOR {name}"), b"content").code, 226);
        // What has a name already is closed under its new one.
        let (moved, closed) = told(name);
        assert_eq!(moved, 1, "{name}");
        assert!(closed == 0 || !site.has_unnamed_files(), "{name}");
    }
}

#[test]
fn an_upload_ends_without_another_descriptor() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    for options in [&[][..], &["--fsync"]] {
        let site = Site::new(&format!("descriptors-{}", options.len()), options);
        site.put("f", b"old");
        let octets = pattern(100_000);
        let mut client = site.login_clear();
        let mut data = client.open("STOR f");
        data.send(&octets).unwrap();
        arrived(&mut client, octets.len());
        let none = Rlimit {
            current: Some(10),
            maximum: Some(1024),
        };
        let pid = Pid::from_raw(i32::try_from(site.server.pid).unwrap());
        prlimit(pid, Resource::Nofile, none).unwrap();
        data.shutdown_write();
        client.expect(226);
        assert_same(&site.get("f"), &octets);
        assert_eq!(site.names(), ["f"]);
    }
}

#[test]
fn nobody_stores_under_the_names_of_unfinished_uploads() {
    let name = ".ringftpd-upload-0123456789abcdef";
    for mode in ["atomic", "in-place"] {
        let site = Site::new(&format!("taken-{mode}"), &["--upload-mode", mode]);
        site.put(name, b"another's");
        site.put("f", b"own");
        let mut client = site.login(Port::Explicit);
        for verb in ["STOR", "APPE"] {
            client.pasv();
            client.ok(format!("{verb} {name}"), 553);
        }
        client.ok("RNFR f", 350);
        client.ok(format!("RNTO {name}"), 553);
        client.ok(format!("MKD {name}"), 553);
        assert_eq!(site.get(name), b"another's");
        // A stale one can be removed where there are no others.
        client.ok(
            format!("DELE {name}"),
            if mode == "atomic" { 550 } else { 250 },
        );
    }
}

#[test]
fn readers_find_one_file_or_the_other() {
    let site = Site::new("readers", &[]);
    site.put("f", &[b'0'; 4096]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let octets = site.get("f");
                assert_eq!(octets.len(), 4096);
                assert!(octets.iter().all(|octet| *octet == octets[0]));
                looks += 1;
            }
            looks
        });
        let writers: Vec<_> = (b'a'..b'd')
            .map(|letter| {
                let mut client = site.login(Port::Implicit);
                scope.spawn(move || {
                    for _ in 0..10 {
                        assert_eq!(client.upload("STOR f", &[letter; 4096]).code, 226);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert_eq!(site.names(), ["f"]);
}

#[test]
fn an_upload_that_breaks_off_leaves_what_was_there() {
    let site = Site::new("breaks", &[]);
    let old = pattern(10_000);
    site.put("f", &old);
    for name in ["f", "new"] {
        for remove in ["aborted", "reset", "truncated"] {
            let mut client = site.login(Port::Explicit);
            let mut data = client.open(format!("STOR {name}"));
            data.send(&pattern(200_000)).unwrap();
            arrived(&mut client, 200_000);
            let reply = match remove {
                "aborted" => {
                    client.send("ABOR");
                    let reply = client.expect(426);
                    client.expect(226);
                    reply
                }
                "reset" => {
                    data.reset();
                    client.expect(426)
                }
                _ => {
                    data.shutdown_write();
                    client.expect(426)
                }
            };
            assert!(reply.text().trim_end().ends_with(NOTHING), "{reply:?}");
            assert_eq!(site.names(), ["f"], "{remove}");
            assert_same(&site.get("f"), &old);
        }
    }
    assert!(site.server.wait_for_log("discarded=true"));
    // The client is gone altogether.
    let mut client = site.login_clear();
    let mut data = client.open("STOR f");
    data.send(&pattern(200_000)).unwrap();
    arrived(&mut client, 200_000);
    let before = site.server.log().len();
    drop(client);
    data.reset();
    let ended = || String::from_utf8_lossy(&site.server.log()[before..]).contains("discarded=true");
    assert!(wait_until(PATIENCE, ended));
    assert_same(&site.get("f"), &old);
    // In the clear a plain end is the end, and without close_notify where that is permitted.
    let mut client = site.login_clear();
    assert_eq!(client.upload("STOR f", b"short").code, 226);
    assert_same(&site.get("f"), b"short");
}

#[test]
fn what_goes_on_from_something_is_written_in_place() {
    let site = Site::new("restart", &[]);
    let mut client = site.login(Port::Explicit);
    assert_eq!(client.upload("STOR f", b"0123456789").code, 226);
    client.ok("REST 5", 350);
    let mut data = client.open("STOR f");
    data.send(b"abcdefghij").unwrap();
    assert!(wait_until(PATIENCE, || site.get("f") == b"01234abcdefghij"));
    client.send("ABOR");
    let reply = client.expect(426);
    assert!(!reply.text().contains(NOTHING), "{reply:?}");
    client.expect(226);
    assert_eq!(client.upload("APPE f", b"!").code, 226);
    assert_eq!(client.upload("APPE new", b"?").code, 226);
    assert_eq!(site.get("f"), b"01234abcdefghij!");
    assert_eq!(site.names(), ["f", "new"]);
    // After a broken STOR there is nothing to go on from.
    let mut data = client.open("STOR none");
    data.send(b"half").unwrap();
    arrived(&mut client, 4);
    data.shutdown_write();
    client.expect(426);
    client.ok("REST 4", 350);
    client.pasv();
    client.ok("STOR none", 554);
}

#[test]
fn stou_shows_its_name_at_the_end() {
    let site = Site::new("unique", &[]);
    let mut client = site.login(Port::Explicit);
    let address = client.pasv();
    let mut data = client.data(address);
    let reply = client.ok("STOU report", 150).text();
    let name = reply.trim_end().rsplit(' ').next().unwrap().to_owned();
    assert!(name.starts_with("report."), "{reply}");
    client.secure_data(&mut data);
    data.send(b"content").unwrap();
    arrived(&mut client, 7);
    assert!(!site.names().contains(&name));
    data.finish_sending();
    client.expect(226);
    assert_eq!(site.names(), [name.as_str()]);
    assert_eq!(site.get(&name), b"content");
    // Somebody else's file is not replaced, however it came to that name.
    let address = client.pasv();
    let mut data = client.data(address);
    let reply = client.ok("STOU", 150).text();
    let name = reply.trim_end().rsplit(' ').next().unwrap().to_owned();
    client.secure_data(&mut data);
    site.put(&name, b"another's");
    data.finish_sending();
    let reply = client.expect(550).text();
    assert_eq!(reply, format!("550 Already exists.{NOTHING}\r\n"));
    assert_eq!(site.get(&name), b"another's");
}

#[test]
fn the_name_is_looked_at_again_at_the_end() {
    let site = Site::new("changes", &[]);
    let mut client = site.login(Port::Explicit);
    std::fs::create_dir_all(site.home.join("d/sub")).unwrap();
    client.pasv();
    client.ok("STOR d", 553);
    client.pasv();
    client.ok("STOR none/f", 550);
    let mut other = site.login(Port::Implicit);
    let mut data = client.open("STOR f");
    data.send(b"x").unwrap();
    other.ok("MKD f", 257);
    data.finish_sending();
    let reply = client.expect(553).text();
    assert_eq!(
        reply,
        format!("553 A directory has that name.{NOTHING}\r\n")
    );
    // The directory goes, or goes elsewhere.
    let mut data = client.open("STOR d/sub/f");
    data.send(b"x").unwrap();
    if site.has_unnamed_files() {
        other.ok("RMD d/sub", 250);
        data.finish_sending();
        client.expect(550);
    } else {
        other.ok("RMD d/sub", 550);
        data.finish_sending();
        client.expect(226);
    }
    let mut data = client.open("STOR d/f");
    data.send(b"moved").unwrap();
    other.ok("RNFR d", 350);
    other.ok("RNTO e", 250);
    data.finish_sending();
    client.expect(226);
    assert_eq!(site.get("e/f"), b"moved");
    assert_eq!(site.names(), ["e", "f"]);
}

#[test]
fn two_uploads_of_one_name_are_whole_and_the_last_to_end_stays() {
    let site = Site::new("two", &["--cores", "2"]);
    let (mut first, mut second) = (site.login(Port::Explicit), site.login(Port::Implicit));
    let octets = pattern(500_000);
    let (long, short) = (&octets[..], &octets[1..200_000]);
    let mut one = first.open("STOR f");
    one.send(&long[..300_000]).unwrap();
    let mut two = second.open("STOR f");
    two.send(short).unwrap();
    two.finish_sending();
    second.expect(226);
    assert_same(&site.get("f"), short);
    one.send(&long[300_000..]).unwrap();
    one.finish_sending();
    first.expect(226);
    assert_same(&site.get("f"), long);
    assert_eq!(site.names(), ["f"]);
}

#[test]
fn rights_are_judged_before_anything_is_sent() {
    let keys = "paths = [{ path = \"/kept\", permissions = [\"read\", \"list\"] }, \
        { path = \"/log\", permissions = [\"list\", \"append\"] }]\n";
    let site = Site::by("rights", keys, &[], |command| command);
    site.put("kept", b"old");
    std::fs::create_dir(site.home.join("log")).unwrap();
    site.put("log/f", b"old");
    symlink("kept", site.home.join("link")).unwrap();
    symlink("/etc/hostname", site.home.join("out")).unwrap();
    symlink("real", site.home.join("fine")).unwrap();
    let mut client = site.login(Port::Explicit);
    for name in ["kept", "link", "out", "log/f", "log/new"] {
        client.pasv();
        client.ok(format!("STOR {name}"), 550);
    }
    assert_eq!(client.upload("APPE log/f", b"!").code, 226);
    // A link stays one; what it leads to is replaced.
    assert_eq!(client.upload("STOR fine", b"x").code, 226);
    assert_eq!(client.upload("STOR fine", b"new").code, 226);
    assert!(site.home.join("fine").is_symlink());
    assert_eq!(site.get("real"), b"new");
    assert_eq!(
        (site.get("kept"), site.get("log/f")),
        (b"old".to_vec(), b"old!".to_vec())
    );
    assert_eq!(names(&site.home.join("log")), ["f"]);
    // Names of unfinished uploads, where the file system makes them necessary, are nobody else's.
    client.pasv();
    client.ok("STOR .ringftpd-upload-0123456789abcdef", 553);
    client.ok("DELE .ringftpd-upload-0123456789abcdef", 550);
}

#[test]
fn a_disk_that_takes_no_more_leaves_what_was_there() {
    // Files may have 512,000 octets there.
    let limited = |command: Command| by_shell("trap '' XFSZ; ulimit -f 1000", &command);
    let site = Site::by("full", "", &[], limited);
    let old = pattern(1_000);
    site.put("f", &old);
    for mut client in site.clients() {
        let mut data = client.open("STOR f");
        let _ = data.send(&pattern(2_000_000));
        if data.is_protected() {
            data.close_notify();
        }
        data.shutdown_write();
        let reply = client.expect(552);
        assert!(reply.text().trim_end().ends_with(NOTHING), "{reply:?}");
        assert_same(&site.get("f"), &old);
        assert_eq!(site.names(), ["f"]);
    }
}

#[test]
fn the_end_of_the_server_leaves_what_was_there() {
    for (signal, reply) in [(Signal::TERM, Some(426)), (Signal::KILL, None)] {
        let site = Site::new(&format!("end-{}", signal.as_raw()), &["--grace", "1s"]);
        site.put("f", b"old");
        let mut client = site.login(Port::Explicit);
        let mut data = client.open("STOR f");
        data.send(&pattern(300_000)).unwrap();
        arrived(&mut client, 300_000);
        site.server.signal(signal);
        if let Some(code) = reply {
            client.expect(code);
        }
        assert!(site.server.wait(Duration::from_secs(30)).is_some());
        assert_eq!(site.get("f"), b"old");
        if signal == Signal::TERM || site.has_unnamed_files() {
            assert_eq!(site.names(), ["f"]);
        }
    }
}

#[test]
fn a_reload_changes_the_mode_for_new_sessions() {
    let site = Site::new("reload", &[]);
    let config = site.home.with_extension("config");
    std::fs::write(&config, "[transfers]\nupload-mode = \"in-place\"\n").unwrap();
    let options = ["--users", &site.users, "--config", config.to_str().unwrap()];
    let server = Server::start(&options);
    let visible = |client: &mut Client| {
        let mut data = client.open("STOR f");
        data.send(b"x").unwrap();
        arrived(client, 1);
        let visible = site.home.join("f").exists();
        data.finish_sending();
        client.expect(226);
        std::fs::remove_file(site.home.join("f")).unwrap();
        visible
    };
    let login = || {
        let mut client = Client::connect(&server, Port::Explicit);
        client.settle("ann", PASSWORD);
        client
    };
    let mut before = login();
    assert!(visible(&mut before));
    std::fs::write(&config, "[transfers]\nupload-mode = \"atomic\"\n").unwrap();
    server.signal(Signal::HUP);
    assert!(server.wait_for_log("configuration reloaded"));
    assert!(!visible(&mut login()));
    assert!(visible(&mut before));
}
