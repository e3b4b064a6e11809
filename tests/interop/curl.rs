//! curl: both ports, both TLS versions, all four ways to open a data connection, resuming, listings, quoting.

use std::fs;
use std::process::Command;

use crate::common::skip;
use crate::support::{
    BOTH_PORTS, PASSWORD, Port, Site, USER, client, fails, installed, octets, succeeds, word,
};

/// curl with an account and the server's certificate as its only trust anchor; errors are printed, progress is not.
fn curl(site: &Site, port: Port) -> Command {
    let mut command = curl_without_demand(site);
    if port == Port::Explicit {
        command.arg("--ssl-reqd");
    }
    command
}

/// As [`curl`], but without the demand that both connections be protected.
fn curl_without_demand(site: &Site) -> Command {
    let mut command = client("curl");
    command
        .args(["--disable", "--silent", "--show-error", "--noproxy", "*"])
        .args([
            "--connect-timeout",
            "30",
            "--user",
            &format!("{USER}:{PASSWORD}"),
        ])
        .arg("--cacert")
        .arg(site.certificate());
    command
}

fn site() -> Option<Site> {
    installed("curl", "curl").then(Site::start)
}

const VERSIONS: [[&str; 2]; 2] = [
    ["--tlsv1.2", "--tls-max=1.2"],
    ["--tlsv1.3", "--tls-max=1.3"],
];

/// EPSV, PASV.
const PASSIVE: [&[&str]; 2] = [&[], &["--disable-epsv"]];
/// EPRT, PORT.
const ACTIVE: [&[&str]; 2] = [&["--ftp-port", "-"], &["--ftp-port", "-", "--disable-eprt"]];

/// Releases 7.87 and 7.88 speak no TLS on active data connections (curl issue 10666): Debian 12 has such a one.
fn protects_active_connections() -> bool {
    let said = succeeds(client("curl").arg("--version"));
    let protects = !said.starts_with("curl 7.87.") && !said.starts_with("curl 7.88.");
    if !protects {
        eprintln!("active mode only without TLS on data connections: this curl cannot do more");
    }
    protects
}

fn version(command: &mut Command, version: [&str; 2]) {
    // `--tls-max` takes its value as a word of its own.
    command.arg(version[0]).args(version[1].split('='));
}

/// Moves a file down and up on both ports with both TLS versions, in each of these ways to connect.
fn moves_files(site: &Site, command: impl Fn(Port) -> Command, ways: &[&[&str]]) {
    let content = octets(1, 1_000_003);
    site.write("down.bin", &content);
    let local = site.scratch().join("local.bin");
    for port in BOTH_PORTS {
        for tls in VERSIONS {
            for (number, way) in ways.iter().enumerate() {
                let mut get = command(port);
                version(&mut get, tls);
                get.args(*way).arg("-o").arg(&local);
                succeeds(get.arg(site.url(port, "down.bin")));
                assert!(
                    fs::read(&local).unwrap() == content,
                    "{port:?} {tls:?} {way:?}"
                );
                fs::remove_file(&local).unwrap();

                let name = format!("up-{}-{number}.bin", word(port));
                let mut put = command(port);
                version(&mut put, tls);
                put.args(*way).arg("-T").arg(site.served("down.bin"));
                succeeds(put.arg(site.url(port, &name)));
                assert!(site.read(&name) == content, "{port:?} {tls:?} {way:?}");
                fs::remove_file(site.served(&name)).unwrap();
            }
        }
    }
}

#[test]
fn curl_moves_files_in_passive_mode_with_each_tls_version() {
    let Some(site) = site() else { return };
    moves_files(&site, |port| curl(&site, port), &PASSIVE);
}

#[test]
fn curl_moves_files_in_active_mode_with_each_tls_version() {
    if !installed("curl", "curl") {
        return;
    }
    if protects_active_connections() {
        let site = Site::start();
        moves_files(&site, |port| curl(&site, port), &ACTIVE);
    }
    let site = Site::start_with(&["--protect-data", "optional"]);
    let clear = |_| {
        let mut command = curl_without_demand(&site);
        command.arg("--ftp-ssl-control");
        command
    };
    moves_files(&site, clear, &ACTIVE);
}

/// What `--explicit :PORT` means: a listener on `[::]`, where IPv4 clients have mapped addresses.
#[test]
fn curl_moves_files_over_ipv4_and_ipv6_on_one_listener() {
    if !installed("curl", "curl") {
        return;
    }
    let site = Site::start_with(&[
        "--explicit",
        "[::]:0",
        "--implicit",
        "[::]:0",
        "--protect-data",
        "optional",
    ]);
    let families = if std::net::TcpListener::bind("[::1]:0").is_ok() {
        &["--ipv4", "--ipv6"][..]
    } else {
        skip("IPv6 on the loopback interface is missing");
        &["--ipv4"]
    };
    for family in families {
        let protected = |port| {
            let mut command = curl(&site, port);
            command.arg(family);
            command
        };
        // PASV cannot name an IPv6 address: there curl ends with an error.
        let ways = if *family == "--ipv4" {
            &PASSIVE[..]
        } else {
            &PASSIVE[..1]
        };
        moves_files(&site, protected, ways);
        let clear = |_| {
            let mut command = curl_without_demand(&site);
            command.args([family, "--ftp-ssl-control"]);
            command
        };
        let ways = if *family == "--ipv4" {
            &ACTIVE[..]
        } else {
            &ACTIVE[..1]
        };
        moves_files(&site, clear, ways);
    }
}

#[test]
fn curl_resumes_downloads_and_uploads() {
    let Some(site) = site() else { return };
    let content = octets(2, 700_001);
    site.write("whole.bin", &content);
    let local = site.scratch().join("part.bin");
    for port in BOTH_PORTS {
        fs::write(&local, &content[..300_000]).unwrap();
        succeeds(
            curl(&site, port)
                .args(["-C", "-"])
                .arg("-o")
                .arg(&local)
                .arg(site.url(port, "whole.bin")),
        );
        assert!(fs::read(&local).unwrap() == content);

        let name = format!("resumed-{}.bin", word(port));
        site.write(&name, &content[..300_000]);
        succeeds(
            curl(&site, port)
                .args(["-C", "-"])
                .arg("-T")
                .arg(&local)
                .arg(site.url(port, &name)),
        );
        assert!(site.read(&name) == content);

        let range = succeeds(
            curl(&site, port)
                .args(["-r", "5-14", "-o"])
                .arg(&local)
                .arg(site.url(port, "whole.bin")),
        );
        assert_eq!(range, "");
        assert_eq!(fs::read(&local).unwrap(), content[5..15]);
    }
}

#[test]
fn curl_lists_in_three_formats() {
    let Some(site) = site() else { return };
    site.write("here/one.txt", b"1");
    site.write("here/two words.txt", b"22");
    fs::create_dir(site.served("here/sub")).unwrap();
    fs::create_dir(site.served("here/empty")).unwrap();
    for port in BOTH_PORTS {
        let list = succeeds(curl(&site, port).arg(site.url(port, "here/")));
        assert_eq!(list.lines().count(), 4, "{list}");
        assert!(
            list.lines()
                .any(|line| line.starts_with("-rw") && line.ends_with(" one.txt")),
            "{list}"
        );
        assert!(
            list.lines()
                .any(|line| line.starts_with('d') && line.ends_with(" sub")),
            "{list}"
        );

        let names = succeeds(
            curl(&site, port)
                .arg("--list-only")
                .arg(site.url(port, "here/")),
        );
        let mut names: Vec<_> = names.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["empty", "one.txt", "sub", "two words.txt"]);

        let facts = succeeds(
            curl(&site, port)
                .args(["-X", "MLSD"])
                .arg(site.url(port, "here/")),
        );
        let two = facts
            .lines()
            .find(|line| line.ends_with("; two words.txt"))
            .unwrap()
            .to_lowercase();
        assert!(
            two.contains("type=file;") && two.contains("size=2;"),
            "{facts}"
        );

        assert_eq!(
            succeeds(curl(&site, port).arg(site.url(port, "here/empty/"))),
            ""
        );
    }
}

#[test]
fn curl_appends_creates_directories_and_keeps_times() {
    let Some(site) = site() else { return };
    let local = site.scratch().join("tail.txt");
    fs::write(&local, b"tail").unwrap();
    for port in BOTH_PORTS {
        let name = format!("append-{}.txt", word(port));
        site.write(&name, b"head ");
        succeeds(
            curl(&site, port)
                .arg("--append")
                .arg("-T")
                .arg(&local)
                .arg(site.url(port, &name)),
        );
        assert_eq!(site.read(&name), b"head tail");

        let deep = format!("made/{}/a%20b/file.txt", word(port));
        succeeds(
            curl(&site, port)
                .arg("--ftp-create-dirs")
                .arg("-T")
                .arg(&local)
                .arg(site.url(port, &deep)),
        );
        assert_eq!(site.read(&deep.replace("%20", " ")), b"tail");

        for method in ["multicwd", "singlecwd", "nocwd"] {
            assert_eq!(
                succeeds(
                    curl(&site, port)
                        .args(["--ftp-method", method])
                        .arg(site.url(port, &deep))
                ),
                "tail"
            );
        }

        let dated = site.scratch().join("dated");
        let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        fs::File::options()
            .write(true)
            .open(site.served(&name))
            .unwrap()
            .set_modified(moment)
            .unwrap();
        succeeds(
            curl(&site, port)
                .arg("--remote-time")
                .arg("-o")
                .arg(&dated)
                .arg(site.url(port, &name)),
        );
        assert_eq!(fs::metadata(&dated).unwrap().modified().unwrap(), moment);

        let head = succeeds(curl(&site, port).arg("--head").arg(site.url(port, &name)));
        assert!(
            head.contains("Content-Length: 9") && head.contains("Sun, 09 Sep 2001 01:46:40 GMT"),
            "{head}"
        );
    }
}

#[test]
fn curl_quotes_commands_before_and_after_the_transfer() {
    let Some(site) = site() else { return };
    for port in BOTH_PORTS {
        let made = format!("quoted-{}", word(port));
        site.write("old", b"moved");
        let said = succeeds(
            curl(&site, port)
                .args([
                    "-Q",
                    &format!("MKD {made}"),
                    "-Q",
                    "-RNFR old",
                    "-Q",
                    &format!("-RNTO {made}/new"),
                ])
                .args([
                    "-Q",
                    &format!("-SITE CHMOD 600 {made}/new"),
                    "-Q",
                    &format!("-MDTM {made}/new"),
                ])
                .arg(site.url(port, "old")),
        );
        assert_eq!(said, "moved");
        assert_eq!(site.read(&format!("{made}/new")), b"moved");
        succeeds(
            curl(&site, port)
                .args([
                    "-Q",
                    &format!("DELE {made}/new"),
                    "-Q",
                    &format!("RMD {made}"),
                    "-Q",
                    "NOOP",
                    "-Q",
                    "PWD",
                ])
                .arg(site.url(port, "")),
        );
        assert!(!site.served(&made).exists());
    }
}

#[test]
fn curl_moves_many_files_over_one_control_connection() {
    let Some(site) = site() else { return };
    let (from, to) = (site.scratch().join("from"), site.scratch().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    for file in 1..=40 {
        fs::write(
            from.join(format!("f{file}")),
            octets(file, 3000 * file as usize),
        )
        .unwrap();
    }
    for port in BOTH_PORTS {
        for tls in VERSIONS {
            let directory = format!("many-{}-{}", word(port), tls[0]);
            fs::create_dir(site.served(&directory)).unwrap();
            let mut put = curl(&site, port);
            version(&mut put, tls);
            put.current_dir(&from)
                .args(["-T", "f[1-40]"])
                .arg(site.url(port, &format!("{directory}/")));
            succeeds(&mut put);
            assert_eq!(
                crate::support::assert_same_tree(&from, &site.served(&directory)),
                40
            );

            let mut get = curl(&site, port);
            version(&mut get, tls);
            get.current_dir(&to)
                .arg("--verbose")
                .args(["-o", "f#1"])
                .arg(site.url(port, &format!("{directory}/f[1-40]")));
            let output = get.output().unwrap();
            let talk = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{talk}");
            assert_eq!(crate::support::assert_same_tree(&from, &to), 40);
            assert_eq!(
                talk.matches("< 230").count(),
                1,
                "one login for all files:\n{talk}"
            );
        }
    }
}

/// Twenty control connections begin at once, and share their TLS sessions afterwards.
#[test]
fn curl_downloads_many_files_in_parallel() {
    let Some(site) = site() else { return };
    for number in 1..=60 {
        site.write(&format!("many/f{number}"), format!("{number}").as_bytes());
    }
    for port in BOTH_PORTS {
        for tls in VERSIONS {
            let local = tempfile::tempdir().unwrap();
            let mut get = curl(&site, port);
            version(&mut get, tls);
            get.args(["--parallel", "--parallel-max", "20", "--remote-name-all"]);
            get.current_dir(local.path());
            succeeds(get.arg(site.url(port, "many/f[1-60]")));
            for number in 1..=60 {
                let file = fs::read(local.path().join(format!("f{number}"))).unwrap();
                assert_eq!(file, format!("{number}").as_bytes());
            }
        }
    }
}

#[test]
fn curl_moves_64_mib_byte_identical() {
    let Some(site) = site() else { return };
    let content = octets(64, 64 * 1024 * 1024);
    site.write("large.bin", &content);
    let local = site.scratch().join("large.bin");
    for port in BOTH_PORTS {
        succeeds(
            curl(&site, port)
                .arg("-o")
                .arg(&local)
                .arg(site.url(port, "large.bin")),
        );
        assert!(fs::read(&local).unwrap() == content);
        succeeds(
            curl(&site, port)
                .arg("-T")
                .arg(&local)
                .arg(site.url(port, "up.bin")),
        );
        assert!(site.read("up.bin") == content);
        fs::remove_file(site.served("up.bin")).unwrap();
    }
}

#[test]
fn curl_is_told_what_went_wrong() {
    let Some(site) = site() else { return };
    site.write("file", b"x");
    for port in BOTH_PORTS {
        let missing = fails(curl(&site, port).arg(site.url(port, "missing")));
        assert!(missing.contains("(78)"), "not found: {missing}");
        let directory = fails(curl(&site, port).arg(site.url(port, "missing/file")));
        assert!(directory.contains("(9)"), "no such directory: {directory}");
        let password = fails(
            curl(&site, port)
                .args(["--user", "tester:wrong"])
                .arg(site.url(port, "file")),
        );
        assert!(password.contains("(67)"), "login refused: {password}");
        let mut stranger = client("curl");
        stranger.args([
            "--disable",
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--ssl-reqd",
        ]);
        let certificate = fails(stranger.arg(site.url(port, "file")));
        assert!(
            certificate.contains("(60)"),
            "unknown certificate: {certificate}"
        );
        assert_eq!(succeeds(curl(&site, port).arg(site.url(port, "file"))), "x");
    }
    let mut clear = client("curl");
    clear.args([
        "--disable",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--user",
        &format!("{USER}:{PASSWORD}"),
    ]);
    let clear = fails(clear.arg(site.url(Port::Explicit, "file")));
    assert!(
        clear.contains("(67)") || clear.contains("534"),
        "login in clear refused: {clear}"
    );
}
