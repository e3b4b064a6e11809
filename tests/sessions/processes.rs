//! Two processes of one server, and what a killed one leaves.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::common::client::Client;
use crate::common::server::wait_until;
use crate::common::{PATIENCE, Port};
use crate::{OPEN, list, run, start, state};

#[test]
fn sessions_of_a_replaced_process_are_shown_and_can_be_ended() {
    let old = start(&[]);
    let mut stays = Client::ready(&old, Port::Explicit);
    let mut leaves = Client::ready(&old, Port::Implicit);
    let new = old.start_beside(&["--take-over"], |command: Command| command);
    assert!(new.wait_for_log("has taken over"));
    assert!(old.wait_for_log("sessions here go on"));
    assert!(new.wait_for_log(OPEN));
    let mut fresh = Client::ready(&new, Port::Explicit);
    let ids: Vec<String> = list(&new, &[])
        .iter()
        .map(|session| session["id"].as_str().unwrap().to_owned())
        .collect();
    // Each process counts from 1.
    let expected = [
        "1".to_owned(),
        format!("1@{}", old.pid),
        format!("2@{}", old.pid),
    ];
    assert_eq!(ids, expected);

    let (status, out, error) = run(&new, &["session", "kill", "1"]);
    assert_eq!((status, out.as_str()), (2, ""));
    let both = format!("1@{} or 1@{}", new.pid, old.pid);
    assert!(error.contains(&both), "{error}");
    let (status, out, error) = run(&new, &["session", "kill", &ids[1]]);
    assert_eq!(
        (status, out.as_str(), error.as_str()),
        (0, "1 session ended\n", "")
    );
    stays.expect(421);
    leaves.ok("NOOP", 200);
    fresh.ok("NOOP", 200);

    let (status, out, _) = run(&new, &["top", "--once", "--json", "--interval", "100ms"]);
    assert_eq!(status, 0);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let accepting: Vec<_> = report["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| (process["process"].clone(), process["accepting"].clone()))
        .collect();
    let expected = [
        (json!(new.pid), json!(true)),
        (json!(old.pid), json!(false)),
    ];
    assert_eq!(accepting, expected);

    leaves.ok("QUIT", 221);
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
    let socket = |pid| state(&new).join(format!("status-{pid}.sock"));
    assert!(!socket(old.pid).exists() && socket(new.pid).exists());
    assert_eq!(list(&new, &[]).len(), 1);
}

#[test]
fn the_socket_of_a_killed_process_is_passed_over_and_removed() {
    let old = start(&[]);
    let socket = state(&old).join(format!("status-{}.sock", old.pid));
    old.signal(Signal::KILL);
    assert!(old.wait(PATIENCE).is_some());
    assert!(socket.exists());
    let (status, _, error) = run(&old, &["session", "list"]);
    assert!(
        status == 69 && error.contains("no server answers"),
        "{error}"
    );
    let new = old.start_beside(&[], |command: Command| command);
    assert!(wait_until(PATIENCE, || !socket.exists()));
    assert!(new.wait_for_log(OPEN));
    let _client = Client::ready(&new, Port::Explicit);
    assert_eq!(list(&new, &[]).len(), 1);
}
