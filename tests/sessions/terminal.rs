//! `ringftpd top`: figures, text, and a terminal.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::client::Client;
use crate::common::server::USER;
use crate::common::{Port, skip};
use crate::{command, put_zeros, run, start};

#[test]
fn figures_of_cores_and_rates_add_up() {
    put_zeros("top.bin", 64 << 20);
    let server = start(&["--download-rate-per-session", "4M", "--cores", "2"]);
    let mut client = Client::ready(&server, Port::Explicit);
    let mut download = client.open("RETR top.bin");
    assert_eq!(download.take_exactly(5), b"begin");
    let reading =
        std::thread::spawn(
            move || while download.receive().is_ok_and(|()| download.take().is_ok()) {},
        );
    let words = ["top", "--once", "--json", "--interval", "1s"];
    let (status, out, error) = run(&server, &words);
    assert_eq!(
        (status, error.as_str(), out.lines().count()),
        (0, "", 1),
        "{out}"
    );
    let report: Value = serde_json::from_str(&out).unwrap();
    let cores = report["cores"].as_array().unwrap();
    assert_eq!(cores.len(), 2);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(
        cores
            .iter()
            .all(|core| core["answered"] == true && number(&core["load"]) <= 1.0)
    );
    assert!(
        cores.iter().all(|core| core["delay_p99_us"].is_u64()),
        "{out}"
    );
    let (sum, sessions) = (&report["sum"], &report["sessions"]);
    assert_eq!(
        (&sum["connections"], &sum["logged_in"], &sum["downloads"]),
        (&1.into(), &1.into(), &1.into())
    );
    let down: f64 = cores.iter().map(|core| number(&core["down"])).sum();
    assert!((down - number(&sum["down"])).abs() < 1.0);
    assert!(down > 0.0 && number(&sessions[0]["rate"]) > 0.0, "{out}");
    assert_eq!(sessions[0]["user"], USER);

    // Elsewhere than on a terminal it prints once.
    let (status, out, _) = run(&server, &["top", "--interval", "100ms", "--sort", "user"]);
    assert_eq!(status, 0);
    for part in ["serving", "CORE", "DELAY P99", "RETR", "/top.bin"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains('\x1b'), "{out}");
    let (status, _, error) = run(&server, &["top", "--interval", "1ms"]);
    assert!(status == 2 && error.contains("100ms"), "{error}");
    drop(server);
    reading.join().unwrap();
}

#[test]
fn a_terminal_is_drawn_resized_and_left_as_it_was() {
    if !Command::new("python3")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        return skip("python3 makes the pseudo-terminal");
    }
    let server = start(&[]);
    let _client = Client::ready(&server, Port::Explicit);
    let top = command(&server, &["top", "--interval", "200ms"]);
    for end in ["q", "ctrl-c", "TERM", "HUP", "gone"] {
        let output = Command::new("python3")
            .args(["-c", include_str!("terminal.py"), end])
            .arg(top.get_program())
            .args(top.get_args())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{end}: {words}");
    }
}
