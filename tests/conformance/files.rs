//! Files: TYPE A, SIZE, names, renaming, times, modes, very large files.

use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::{Duration, UNIX_EPOCH};

use crate::common::client::Client;
use crate::common::link::End;
use crate::common::server::{Accounts, process_directory};
use crate::common::{assert_same, pattern};
use crate::fixture::Test;

checks! {
    c106: Both, c107: Both, c108: Both, c109: Both, c110: Both, c111: Both, c112: Both,
    c113: Both, c114: Both, c135: Both, c136: Both,
}

/// A directory of this run that no other run of a server's default account sees.
fn quoted(t: &Test, name: &str) -> String {
    format!("\"{}/{}\"", t.directory, name.replace('"', "\"\""))
}

fn c106(t: &Test) {
    const ON_DISK: &[u8] = b"a\nb\r\nc\rd";
    const SENT: &[u8] = b"a\r\nb\r\nc\rd";
    t.put("f", ON_DISK);
    let mut client = t.session();
    client.ok("TYPE A", 200);
    assert_eq!(client.download("RETR f"), SENT);
    // The pattern's length divides every power of two: each prefix puts the ends of the server's
    // buffers behind another of its octets.
    for prefix in 0..ON_DISK.len() {
        let repeats = 75_000;
        let mut on_disk = vec![b'.'; prefix];
        on_disk.extend(ON_DISK.repeat(repeats));
        t.put("g", &on_disk);
        let mut sent = vec![b'.'; prefix];
        sent.extend(SENT.repeat(repeats));
        assert_same(&client.download("RETR g"), &sent);
    }
    t.put("h", &b"\n".repeat(300_000));
    assert_same(&client.download("RETR h"), &b"\r\n".repeat(300_000));
}

fn c107(t: &Test) {
    const SENT: &[u8] = b"a\r\nb\rc\nd\r";
    const ON_DISK: &[u8] = b"a\nb\rc\nd\r";
    let mut client = t.session();
    client.ok("TYPE A", 200);
    for split in 0..=SENT.len() {
        let (head, tail) = SENT.split_at(split);
        let mut data = client.open("STOR f");
        data.send(head).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        data.send(tail).unwrap();
        data.finish_sending();
        client.expect(226);
        assert_eq!(t.get("f"), ON_DISK, "split at {split}");
    }
    let mut data = client.open("STOR f");
    for octet in SENT {
        data.send(&[*octet]).unwrap();
    }
    data.finish_sending();
    client.expect(226);
    assert_eq!(t.get("f"), ON_DISK);
    let lines = b"a line\r\n".repeat(100_000);
    client.upload("STOR g", &lines);
    assert_same(&t.get("g"), &b"a line\n".repeat(100_000));
}

fn c108(t: &Test) {
    t.put("f", b"a\nb\r\nc\rd");
    t.put("large", &vec![b'\n'; (1 << 20) + 1]);
    std::fs::create_dir(t.path("d")).unwrap();
    let mut client = t.session();
    assert_eq!(client.ok("SIZE f", 213).raw, b"213 8\r\n");
    assert_eq!(client.ok("SIZE large", 213).raw, b"213 1048577\r\n");
    client.dialogue(&[("SIZE d", 550), ("SIZE missing", 550), ("TYPE A", 200)]);
    assert_eq!(client.ok("SIZE f", 213).raw, b"213 9\r\n");
    client.dialogue(&[("SIZE large", 550), ("SIZE d", 550)]);
}

fn c109(t: &Test) {
    t.put("f", b"0123456789");
    let mut client = t.session();
    client.dialogue(&[("TYPE A", 200), ("REST 5", 350)]);
    client.pasv();
    client.ok("RETR f", 554);
    assert_eq!(client.download("RETR f"), b"0123456789");
}

fn c110(t: &Test) {
    let mut client = t.session();
    let expected = format!("257 {}", quoted(t, "a\"b"));
    let made = client.ok("MKD a\"b", 257).text();
    assert!(made.starts_with(&expected), "{made}");
    client.dialogue(&[("CWD a\"b", 250)]);
    let here = client.ok("PWD", 257).text();
    assert!(here.starts_with(&expected), "{here}");
    client.dialogue(&[("CDUP", 250), ("MKD a\"b", 550)]);
    assert!(t.path("a\"b").is_dir());
}

fn c111(t: &Test) {
    let outside = process_directory().join(format!("outside-{:?}", t.port));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    let relative = format!("../../{}", outside.file_name().unwrap().to_str().unwrap());
    symlink(&outside, t.path("absolute")).unwrap();
    symlink(&relative, t.path("relative")).unwrap();
    symlink(outside.join("secret"), t.path("file")).unwrap();
    symlink("/proc/self/root", t.path("magic")).unwrap();
    t.put("inside", b"content");
    symlink("inside", t.path("harmless")).unwrap();
    let mut client = t.session();
    assert_eq!(client.download("RETR harmless"), b"content");
    for link in ["absolute", "relative", "magic"] {
        client.ok(format!("CWD {link}"), 550);
    }
    let reach = [
        format!("{relative}/secret"),
        "../../../../../../../../etc/passwd".to_owned(),
        "/etc/passwd".to_owned(),
        "absolute/secret".to_owned(),
        "relative/secret".to_owned(),
        "file".to_owned(),
        "magic/etc/passwd".to_owned(),
    ];
    for path in &reach {
        client.ok(format!("SIZE {path}"), 550);
        client.pasv();
        client.ok(format!("RETR {path}"), 550);
    }
    client.pasv();
    assert!(matches!(
        client.command("STOR absolute/new").code,
        550 | 553
    ));
    assert!(!outside.join("new").exists());
    client.ok("CWD /", 250);
    client.dialogue(&[("CWD ..", 250), ("CDUP", 250), ("CWD ../../..", 250)]);
    assert!(client.ok("PWD", 257).text().starts_with("257 \"/\""));
    assert!(Accounts::shared().home.exists());
}

fn c112(t: &Test) {
    t.put("f", b"content");
    t.put("taken", b"old");
    std::fs::create_dir(t.path("d")).unwrap();
    let mut client = t.session();
    client.dialogue(&[("RNFR missing", 550), ("RNTO x", 503)]);
    client.dialogue(&[("RNFR f", 350), ("PWD", 257), ("RNTO x", 503)]);
    client.dialogue(&[("RNFR f", 350), ("RNTO taken", 250)]);
    assert_eq!(t.get("taken"), b"content");
    client.dialogue(&[
        ("RNFR taken", 350),
        ("RNTO d", 550),
        ("RNFR d", 350),
        ("RNTO e", 250),
    ]);
    assert!(t.path("e").is_dir() && !t.path("f").exists());
}

fn c113(t: &Test) {
    t.put("f", b"");
    std::fs::create_dir_all(t.path("full/inner")).unwrap();
    let mut client = t.session();
    client.dialogue(&[
        ("DELE full", 550),
        ("RMD f", 550),
        ("RMD full", 550),
        ("RMD /", 550),
    ]);
    client.dialogue(&[("DELE missing", 550), ("RMD missing", 550)]);
    client.dialogue(&[("RMD full/inner", 250), ("RMD full", 250), ("DELE f", 250)]);
    assert!(!t.path("full").exists() && !t.path("f").exists());
}

fn c114(t: &Test) {
    t.put("f", b"content");
    std::fs::create_dir(t.path("d")).unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(t.path("f"))
        .unwrap();
    // 2009-02-13T23:31:30Z
    let time = UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    file.set_modified(time).unwrap();
    let mut client = t.session();
    assert_eq!(client.ok("MDTM f", 213).raw, b"213 20090213233130\r\n");
    let reply = client.ok("MFMT 20200102030405 f", 213);
    assert_eq!(reply.raw, b"213 Modify=20200102030405; f\r\n");
    assert_eq!(client.ok("MDTM f", 213).raw, b"213 20200102030405\r\n");
    let set = t.path("f").metadata().unwrap().modified().unwrap();
    assert_eq!(set, UNIX_EPOCH + Duration::from_secs(1_577_934_245));
    for date in [
        "20230229000000",
        "20201301000000",
        "20200102240000",
        "2020",
        "x",
    ] {
        client.ok(format!("MFMT {date} f"), 501);
    }
    client.ok("MFMT 20240229000000 f", 213);
    client.dialogue(&[
        ("MFMT 20200102030405", 501),
        ("MFMT 20200102030405 missing", 550),
    ]);
    client.dialogue(&[("MDTM d", 550), ("MDTM missing", 550)]);
    // A time before the name is part of the name: MDTM sets nothing.
    client.ok("MDTM 20200102030405 f", 550);
    assert_eq!(client.ok("MDTM f", 213).raw, b"213 20240229000000\r\n");
}

const GIBIBYTE: u64 = 1 << 30;
const BEHIND_4_GIB: u64 = 4 * GIBIBYTE + 1;

/// The first MiB behind 4 GiB; the client then closes.
fn behind_4_gib(client: &mut Client, active: bool, expected: &[u8]) {
    client.ok(format!("REST {BEHIND_4_GIB}"), 350);
    let mut data = if active {
        client.open_active("PORT", "RETR f")
    } else {
        client.open("RETR f")
    };
    assert_same(&data.take_exactly(expected.len()), expected);
    data.reset();
    client.expect(426);
}

fn c135(t: &Test) {
    let length = 5 * GIBIBYTE;
    t.put_zeros("f", length);
    let mark = pattern(1 << 20);
    let file = std::fs::File::options()
        .write(true)
        .open(t.path("f"))
        .unwrap();
    file.write_all_at(&mark, BEHIND_4_GIB).unwrap();
    file.write_all_at(&mark, length - mark.len() as u64)
        .unwrap();
    let mut client = t.session();
    assert_eq!(client.ok("SIZE f", 213).raw, b"213 5368709120\r\n");
    behind_4_gib(&mut client, false, &mark);
    behind_4_gib(&mut client, true, &mark);
    let tail = length - mark.len() as u64;
    client.ok(format!("REST {tail}"), 350);
    assert_same(&client.download("RETR f"), &mark);
    client.ok(format!("REST {tail}"), 350);
    let mut data = client.open_active("EPRT", "RETR f");
    let (octets, end) = data.take_all();
    assert_eq!(end, End::CloseNotify);
    client.expect(226);
    assert_same(&octets, &mark);
    // Upwards: two octets at the end of a sparse file.
    client.ok(format!("REST {length}"), 350);
    client.upload("STOR f", b"ab");
    assert_eq!(client.ok("SIZE f", 213).raw, b"213 5368709122\r\n");
}

fn c136(t: &Test) {
    t.put("f", b"");
    let mut client = t.session();
    let help = client.ok("SITE HELP", 214);
    assert!(help.text().contains("CHMOD"), "{help:?}");
    client.ok("SITE CHMOD 600 f", 200);
    let mode = || t.path("f").metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    client.ok("SITE chmod 644 f", 200);
    assert_eq!(mode(), 0o644);
    client.dialogue(&[
        ("SITE CHMOD 9 f", 501),
        ("SITE CHMOD f", 501),
        ("SITE CHMOD 4755 f", 550),
    ]);
    client.dialogue(&[
        ("SITE CHMOD 600 missing", 550),
        ("SITE EXEC x", 500),
        ("SITE FOO", 500),
    ]);
    assert_eq!(mode(), 0o644);
}
