//! Rotation while transfers run: nothing is lost, with logrotate itself and by hand.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::common::client::Client;
use crate::common::server::{PASSWORD, process_directory, wait_until};
use crate::common::{PATIENCE, Port, skip};
use crate::{Logged, lines_of};

/// Downloads again and again while `rotate` does its work; then every download must have its line, in whichever file.
fn rotate_under_load(name: &str, rotate: impl FnOnce(&Logged, &dyn Fn())) {
    let log = process_directory().join(format!("{name}.log"));
    let logged = Logged::start(name, "json", &["--log-file", log.to_str().unwrap()]);
    fs::write(logged.home.join("file"), b"contents").unwrap();
    let stop = AtomicBool::new(false);
    let downloads = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let mut client = Client::connect(&logged.server, Port::Explicit);
            client.settle("ann", PASSWORD);
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                client.download("RETR file");
                count += 1;
            }
            count
        });
        // Some lines between the steps, as long as the work goes on.
        let some_lines = || {
            let begin = lines_of(&logged.transfers).len();
            wait_until(PATIENCE, || {
                lines_of(&logged.transfers).len() > begin + 3 || work.is_finished()
            });
        };
        some_lines();
        rotate(&logged, &some_lines);
        stop.store(true, Ordering::Relaxed);
        work.join().unwrap()
    });
    logged.server.signal(Signal::TERM);
    assert!(logged.server.wait(PATIENCE).expect("it ends").success());
    for (path, words) in [
        (&logged.transfers, "\"operation\":\"download\""),
        (&log, " INFO transfer "),
    ] {
        let mut files = 0;
        let mut found = 0;
        for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
            let file = entry.unwrap().path();
            if file.to_str().unwrap().starts_with(path.to_str().unwrap()) {
                files += 1;
                let text = fs::read_to_string(&file).unwrap();
                assert!(text.is_empty() || text.ends_with('\n'), "{file:?}");
                found += text.lines().filter(|line| line.contains(words)).count();
            }
        }
        assert_eq!((files, found), (3, downloads), "{path:?}");
    }
}

#[test]
fn files_are_opened_again_after_a_hang_up() {
    rotate_under_load("rotated", |logged, some_lines| {
        let log = logged.home.with_extension("log");
        for number in ["1", "2"] {
            for path in [&logged.transfers, &log] {
                let old = format!("{}.{number}", path.display());
                fs::rename(path, old).unwrap();
            }
            // What is logged in between goes to the old files.
            std::thread::sleep(std::time::Duration::from_millis(100));
            logged.server.signal(Signal::HUP);
            assert!(wait_until(PATIENCE, || logged.transfers.exists() && log.exists()));
            some_lines();
        }
    });
}

#[test]
fn logrotate_rotates() {
    if Command::new("logrotate").arg("--version").output().is_err() {
        skip("logrotate is not installed (package logrotate)");
        return;
    }
    rotate_under_load("logrotated", |logged, some_lines| {
        let log = logged.home.with_extension("log");
        let template = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/ringftpd.logrotate"),
        )
        .unwrap();
        let signal = format!("kill -HUP {}", logged.server.pid);
        let paths = format!("{} {}", log.display(), logged.transfers.display());
        // The paths, the account and whom the signal goes to are those of this test; compressed files could not be read.
        let mut text = String::new();
        for line in template.lines() {
            let own = match line.trim().split(' ').next() {
                Some("su" | "compress" | "delaycompress") => "",
                Some("create") => "create 0640",
                Some("systemctl") => &signal,
                Some("/var/log/ringftpd/*.log") => &format!("{paths} {{"),
                _ => line,
            };
            text = text + own + "\n";
        }
        for word in [&signal, &paths, "create 0640"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let configuration = logged.home.with_extension("conf");
        fs::write(&configuration, text).unwrap();
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        fs::set_permissions(&configuration, mode).unwrap();
        for _ in 0..2 {
            let output = Command::new("logrotate")
                .args(["--force", "--state"])
                .arg(logged.home.with_extension("state"))
                .arg(&configuration)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            some_lines();
        }
        let _ = fs::remove_file(&configuration);
    });
}
