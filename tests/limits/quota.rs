//! Quotas: what an account may store is exact to the octet, whichever way files come and go, and outlives the server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::client::{Client, Reply};
use crate::common::server::{Accounts, PASSWORD, Server, process_directory, wait_until};
use crate::common::{PATIENCE, Port, assert_same, pattern};
use crate::{login_clear, scrape, server};

const QUOTA: usize = 100_000;
const CLEAR: [&str; 4] = [
    "--protect-control",
    "optional",
    "--protect-data",
    "optional",
];

/// A users file with `ann`, who may store `quota` octets.
fn accounts(name: &str, quota: &str) -> Accounts {
    let home = process_directory().join(format!("quota-{name}"));
    // Another account in another place, so that the file is there.
    let accounts = Accounts::single("bob", &home.join("bob"));
    let accounts = Accounts {
        home: home.join("ann"),
        ..accounts
    };
    std::fs::create_dir(&accounts.home).unwrap();
    accounts.add_with("ann", &accounts.home, &["--quota", quota]);
    accounts
}

fn login(server: &Server) -> Client {
    login_as(server, "ann")
}

fn login_as(server: &Server, user: &str) -> Client {
    let mut client = Client::connect(server, Port::Explicit);
    client.settle(user, PASSWORD);
    client
}

/// An upload that is let in; the server may end it before everything is sent.
fn upload(client: &mut Client, line: &str, octets: &[u8]) -> Reply {
    let mut data = client.open(line);
    let _ = data.send(octets);
    if data.is_protected() {
        data.close_notify();
    }
    data.shutdown_write();
    client.reply()
}

/// The code of an upload that may be refused at any point.
fn store(client: &mut Client, line: &str, octets: &[u8]) -> u16 {
    let address = client.pasv();
    let mut data = client.data(address);
    let reply = client.command(line);
    if reply.code != 150 {
        return reply.code;
    }
    client.secure_data(&mut data);
    let _ = data.send(octets);
    if data.is_protected() {
        data.close_notify();
    }
    data.shutdown_write();
    client.reply().code
}

/// An upload that is refused before its data connection.
#[track_caller]
fn refused(client: &mut Client, line: &str) -> String {
    client.pasv();
    client.ok(line, 552).text()
}

#[track_caller]
fn assert_used(client: &mut Client, used: usize, quota: usize) {
    let left = quota.saturating_sub(used);
    let expected = format!("200 Used {used} of {quota} octets, {left} left.\r\n");
    assert_eq!(client.command("SITE QUOTA").text(), expected);
}

fn size(home: &Path, name: &str) -> u64 {
    std::fs::metadata(home.join(name)).unwrap().len()
}

#[test]
fn the_bound_is_exact_to_the_octet_on_every_route() {
    let accounts = accounts("exact", "100k");
    let home = &accounts.home;
    std::fs::create_dir(home.join("sub")).unwrap();
    std::fs::write(home.join("sub/there"), pattern(10_000)).unwrap();
    let server = server(&accounts, &[&CLEAR[..], &["--metrics", "0"]].concat());
    let refusals = || scrape(&server, "refusals_total{reason=\"quota\"}").unwrap_or(0);
    for (number, mut client) in [login(&server), login_clear(&server)]
        .into_iter()
        .enumerate()
    {
        assert_used(&mut client, 10_000, QUOTA);
        assert_eq!(client.upload("STOR a", &pattern(50_000)).code, 226);
        assert_used(&mut client, 60_000, QUOTA);
        // One octet more than there is: what fits is kept, as of any upload that breaks off.
        let reply = upload(&mut client, "STOR b", &pattern(40_001));
        assert_eq!(
            reply.text(),
            "552 Quota exceeded: 0 of 100000 octets left.\r\n"
        );
        assert_same(&std::fs::read(home.join("b")).unwrap(), &pattern(40_000));
        client.ok("DELE b", 250);
        assert_used(&mut client, 60_000, QUOTA);
        assert_eq!(client.upload("STOR b", &pattern(40_000)).code, 226);
        assert_used(&mut client, QUOTA, QUOTA);
        // Full: refused before 150, and nothing is made.
        for line in ["STOR c", "STOU c", "APPE c", "APPE b"] {
            let text = refused(&mut client, line);
            assert_eq!(text, "552 Quota exceeded: 0 of 100000 octets left.\r\n");
        }
        assert_eq!(std::fs::read_dir(home).unwrap().count(), 3);
        client.ok("MKD empty", 257);
        client.ok("RMD empty", 250);
        let expected = 5 * (number as u64 + 1);
        assert!(
            wait_until(PATIENCE, || refusals() == expected),
            "{} instead of {expected}",
            refusals()
        );
        client.ok("DELE a", 250);
        client.ok("DELE b", 250);
        assert_used(&mut client, 10_000, QUOTA);
    }
    assert!(server.wait_for_log("upload refused: quota exceeded"));
}

#[test]
fn text_counts_as_it_lies_in_the_file() {
    let accounts = accounts("text", "100");
    let server = server(&accounts, &[]);
    let mut client = login(&server);
    client.ok("TYPE A", 200);
    // Lines of two octets in the file, of three on the wire.
    assert_eq!(
        client.upload("STOR a", "x\r\n".repeat(50).as_bytes()).code,
        226
    );
    assert_used(&mut client, 100, 100);
    client.ok("DELE a", 250);
    let reply = upload(&mut client, "STOR b", "x\r\n".repeat(51).as_bytes());
    assert_eq!(reply.code, 552);
    assert_eq!(size(&accounts.home, "b"), 100);
}

#[test]
fn a_file_that_is_replaced_makes_room_for_the_new_one() {
    let accounts = accounts("replace", "100k");
    let server = server(&accounts, &[]);
    let mut client = login(&server);
    let octets = pattern(QUOTA + 1);
    assert_eq!(client.upload("STOR a", &octets[..QUOTA]).code, 226);
    assert_eq!(client.upload("STOR a", &octets[1..]).code, 226);
    assert_used(&mut client, QUOTA, QUOTA);
    // A client that never connects costs nobody the old file.
    client.pasv();
    client.ok("STOR a", 150);
    client.ok("ABOR", 426);
    client.expect(226);
    assert_same(
        &std::fs::read(accounts.home.join("a")).unwrap(),
        &octets[1..],
    );
    assert_eq!(upload(&mut client, "STOR a", &octets).code, 552);
    assert_eq!(size(&accounts.home, "a"), QUOTA as u64);
    // Within the file nothing grows.
    client.ok("REST 40000", 350);
    assert_eq!(client.upload("STOR a", &octets[..60_000]).code, 226);
    assert_used(&mut client, QUOTA, QUOTA);
    client.ok("REST 40000", 350);
    assert_eq!(upload(&mut client, "STOR a", &octets[..60_001]).code, 552);
    assert_eq!(size(&accounts.home, "a"), QUOTA as u64);
    // A smaller one gives the difference back.
    assert_eq!(client.upload("STOR a", &octets[..30_000]).code, 226);
    assert_used(&mut client, 30_000, QUOTA);
    assert_eq!(client.upload("APPE a", &octets[..20_000]).code, 226);
    assert_eq!(client.upload("APPE b", &octets[..50_000]).code, 226);
    assert_used(&mut client, QUOTA, QUOTA);
    refused(&mut client, "APPE a");
    // One that is renamed over another replaces it.
    client.ok("RNFR b", 350);
    client.ok("RNTO a", 250);
    assert_used(&mut client, 50_000, QUOTA);
    client.ok("RNFR a", 350);
    client.ok("RNTO c", 250);
    assert_used(&mut client, 50_000, QUOTA);
}

#[test]
fn uploads_together_do_not_pass_the_bound() {
    const TOGETHER: usize = 4_000_000;
    let accounts = accounts("together", "4M");
    let server = server(&accounts, &[&CLEAR[..], &["--cores", "2"]].concat());
    let octets = pattern(1_500_000);
    let clients = (0..6).map(|number| match number % 2 {
        0 => login(&server),
        _ => login_clear(&server),
    });
    let clients: Vec<_> = clients.collect();
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let uploads = clients.into_iter().enumerate().map(|(number, mut client)| {
            let octets = &octets;
            scope.spawn(move || store(&mut client, &format!("STOR file-{number}"), octets))
        });
        let uploads: Vec<_> = uploads.collect();
        uploads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let stored: u64 = (0..6)
        .filter_map(|number| {
            let path = accounts.home.join(format!("file-{number}"));
            Some(path.metadata().ok()?.len())
        })
        .sum();
    assert_eq!(stored, TOGETHER as u64, "{codes:?}");
    assert!(codes.contains(&552), "{codes:?}");
    assert!(
        codes.iter().all(|code| matches!(code, 226 | 552)),
        "{codes:?}"
    );
    assert_used(&mut login(&server), TOGETHER, TOGETHER);
}

#[test]
fn an_upload_that_breaks_off_counts_as_what_stays() {
    let accounts = accounts("broken", "100k");
    for remove in [false, true] {
        let options: &[&str] = if remove { &["--remove-partial"] } else { &[] };
        let server = server(&accounts, options);
        let mut client = login(&server);
        let mut data = client.open("STOR a");
        data.send(&pattern(70_000)).unwrap();
        let arrived = || size(&accounts.home, "a") > 60_000;
        assert!(wait_until(PATIENCE, arrived));
        client.ok("ABOR", 426);
        client.expect(226);
        let stays = match remove {
            true => 0,
            false => usize::try_from(size(&accounts.home, "a")).unwrap(),
        };
        assert_used(&mut client, stays, QUOTA);
        // The reply says what is left after it.
        let reply = upload(&mut client, "STOR a", &pattern(QUOTA + 1));
        let left = if remove { QUOTA } else { 0 };
        let expected = format!("552 Quota exceeded: {left} of {QUOTA} octets left.\r\n");
        assert_eq!(reply.text(), expected);
        assert_used(&mut client, QUOTA - left, QUOTA);
        assert_eq!(accounts.home.join("a").exists(), !remove);
        // Deleted under an upload it is given back when that ends.
        let mut data = client.open("STOR a");
        data.send(&pattern(10_000)).unwrap();
        assert!(wait_until(PATIENCE, || size(&accounts.home, "a") == 10_000));
        let mut other = login(&server);
        other.ok("DELE a", 250);
        assert_used(&mut other, 10_000, QUOTA);
        data.finish_sending();
        client.expect(226);
        assert_used(&mut other, 0, QUOTA);
    }
}

#[test]
fn what_is_deleted_while_it_is_open_makes_no_room_beyond_the_bound() {
    for mode in ["in-place", "atomic"] {
        let accounts = accounts(&format!("deleted-{mode}"), "100k");
        let server = server(&accounts, &[&CLEAR[..], &["--upload-mode", mode]].concat());
        let home = &accounts.home;
        let mut control = login_clear(&server);
        // `APPE` writes in place in any mode.
        let mut client = login_clear(&server);
        let mut data = client.open("APPE f");
        data.send(&pattern(90_000)).unwrap();
        let arrived = || home.join("f").exists() && size(home, "f") == 90_000;
        assert!(wait_until(PATIENCE, arrived));
        control.ok("DELE f", 250);
        // Each time the home is counted again, unless that has just been done.
        assert!(server.wait_for_log("a home was counted"));
        let scans = || {
            let log = String::from_utf8_lossy(&server.log()).into_owned();
            log.matches("a home was counted").count()
        };
        let before = scans();
        let scanned = || {
            control.ok("ALLO 50000", 552);
            scans() > before
        };
        assert!(wait_until(PATIENCE, scanned));
        assert_used(&mut control, 90_000, QUOTA);
        data.shutdown_write();
        client.expect(226);
        assert_used(&mut control, 0, QUOTA);
        let stored = ["a", "b", "c"]
            .map(|name| store(&mut control, &format!("STOR {name}"), &pattern(90_000)));
        assert_eq!(stored, [226, 552, 552]);
        let names = std::fs::read_dir(home).unwrap();
        let octets: u64 = names
            .map(|name| name.unwrap().metadata().unwrap().len())
            .sum();
        assert!(octets <= QUOTA as u64, "{octets}");
    }
}

#[test]
fn allo_is_told_what_is_left() {
    let accounts = accounts("allo", "100k");
    std::fs::write(accounts.home.join("a"), pattern(30_000)).unwrap();
    let server = server(&accounts, &[]);
    let mut client = login(&server);
    client.ok("ALLO 70000", 202);
    let reply = client.ok("ALLO 70001", 552);
    assert!(reply.text().contains("70000 of 100000 octets"), "{reply:?}");
    client.ok("SITE QUOTA x", 501);
    let help = client.ok("SITE HELP", 214).text();
    assert!(help.contains("SITE QUOTA"), "{help}");
}

#[test]
fn directories_that_are_counted_stay_readable() {
    let accounts = accounts("chmod", "100k");
    std::fs::create_dir(accounts.home.join("d")).unwrap();
    std::fs::write(accounts.home.join("f"), "").unwrap();
    let server = server(&accounts, &[]);
    let mut client = login(&server);
    for mode in ["000", "444", "355"] {
        client.ok(format!("SITE CHMOD {mode} d"), 550);
        client.ok(format!("SITE CHMOD {mode} f"), 200);
    }
    client.ok("SITE CHMOD 500 d", 200);
    client.ok("SITE CHMOD 700 d", 200);
}

#[test]
fn who_has_no_quota_is_not_counted() {
    let accounts = accounts("none", "0");
    let server = server(&accounts, &[]);
    for user in ["ann", "bob"] {
        let mut client = login_as(&server, user);
        assert_eq!(client.upload("STOR a", &pattern(200_000)).code, 226);
        assert_eq!(client.ok("SITE QUOTA", 200).text(), "200 No quota.\r\n");
        client.ok("ALLO 200000", 202);
    }
    let state = std::fs::read_dir(server.directory.join("state")).unwrap();
    let names: Vec<_> = state.map(|entry| entry.unwrap().file_name()).collect();
    let counts = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("quota");
    assert!(!names.iter().any(counts), "{names:?}");
}

#[test]
fn the_option_holds_for_those_without_a_quota_of_their_own_and_sighup_changes_both() {
    let accounts = accounts("policy", "100k");
    let config = accounts.home.with_extension("config");
    let write = |per_user: &str| {
        let text = format!("[limits]\nquota-per-user = \"{per_user}\"\n");
        std::fs::write(&config, text).unwrap();
    };
    write("50k");
    let users = ["--users", accounts.file.to_str().unwrap()];
    let server = Server::start(&[&users[..], &["--config", config.to_str().unwrap()]].concat());
    let (mut ann, mut bob) = (login(&server), login_as(&server, "bob"));
    assert_eq!(bob.upload("STOR a", &pattern(20_000)).code, 226);
    assert_used(&mut bob, 20_000, 50_000);
    assert_used(&mut ann, 0, QUOTA);
    write("30k");
    let text = std::fs::read_to_string(&accounts.file).unwrap();
    assert!(text.contains("quota = \"100k\""), "{text}");
    std::fs::write(&accounts.file, text.replace("100k", "10k")).unwrap();
    server.signal(Signal::HUP);
    assert!(server.wait_for_log("configuration reloaded"));
    // Sessions keep what they began with.
    assert_used(&mut bob, 20_000, 50_000);
    assert_used(&mut login_as(&server, "bob"), 20_000, 30_000);
    assert_used(&mut login(&server), 0, 10_000);
}

/// The file of the state directory with the count of a home.
fn count_file(server: &Server) -> Option<PathBuf> {
    let state = std::fs::read_dir(server.directory.join("state")).unwrap();
    let paths = state.map(|entry| entry.unwrap().path());
    let mut counts = paths
        .filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("\noctets ")));
    counts.next()
}

fn end(server: &Server) {
    server.signal(Signal::TERM);
    assert!(server.wait(PATIENCE).is_some_and(|status| status.success()));
}

#[test]
fn the_count_outlives_the_server_and_mends_itself() {
    let accounts = accounts("restart", "100k");
    let home = &accounts.home;
    let users = ["--users", accounts.file.to_str().unwrap()];
    let first = server(&accounts, &[]);
    let mut client = login(&first);
    assert_eq!(client.upload("STOR a", &pattern(40_000)).code, 226);
    drop(client);
    end(&first);
    // Behind the server's back: it does not look, since the count was left in order.
    std::fs::write(home.join("b"), pattern(10_000)).unwrap();
    let second = first.start_beside(&users, |command| command);
    assert_used(&mut login(&second), 40_000, QUOTA);
    end(&second);

    let count = count_file(&first).unwrap();
    let text = std::fs::read_to_string(&count).unwrap();
    assert!(text.contains("\noctets 40000\n"), "{text}");
    std::fs::write(&count, &text[..text.len() / 2]).unwrap();
    let third = first.start_beside(&users, |command| command);
    assert_used(&mut login(&third), 50_000, QUOTA);
    assert!(third.wait_for_log("is damaged"));

    // Killed while it served: the next one counts again.
    std::fs::write(home.join("c"), pattern(5_000)).unwrap();
    third.signal(Signal::KILL);
    third.wait(PATIENCE).unwrap();
    let fourth = first.start_beside(&users, |command| command);
    let mut client = login(&fourth);
    assert!(fourth.wait_for_log("a home was counted"));
    assert_used(&mut client, 55_000, QUOTA);

    // Removed behind its back: before an upload is refused it looks.
    assert_eq!(client.upload("STOR d", &pattern(45_000)).code, 226);
    std::fs::remove_file(home.join("d")).unwrap();
    let accepted = || {
        client.pasv();
        let code = client.command("STOR e").code;
        if code == 150 {
            client.ok("ABOR", 426);
            client.expect(226);
        }
        code == 150
    };
    // It rests a while between two scans.
    assert!(wait_until(Duration::from_secs(10), accepted));
    assert_used(&mut client, 55_000, QUOTA);
}

#[test]
fn two_processes_add_to_one_count() {
    let accounts = accounts("two", "100k");
    let old = server(&accounts, &[]);
    let mut before = login(&old);
    assert_eq!(before.upload("STOR a", &pattern(10_000)).code, 226);
    assert!(wait_until(PATIENCE, || count_file(&old).is_some()));
    assert!(old.wait_for_log("a new process can take over"));
    let users = ["--users", accounts.file.to_str().unwrap(), "--take-over"];
    let new = old.start_beside(&users, |command| command);
    assert!(old.wait_for_log("sessions here go on"));
    let mut after = login(&new);
    assert_eq!(before.upload("STOR b", &pattern(20_000)).code, 226);
    assert_eq!(after.upload("STOR c", &pattern(30_000)).code, 226);
    // Each learns of the other when it writes its own part.
    let mut octets = 60_000;
    let both = wait_until(PATIENCE, || {
        octets += 2;
        for client in [&mut before, &mut after] {
            assert_eq!(client.upload("APPE d", b"x").code, 226);
        }
        std::thread::sleep(Duration::from_millis(300));
        [&mut before, &mut after].into_iter().all(|client| {
            let text = client.ok("SITE QUOTA", 200).text();
            let used = text.split(' ').nth(2).unwrap().parse::<u64>().unwrap();
            // The latest octets of the other may be on their way.
            used >= octets - 20 && used <= octets
        })
    });
    assert!(both, "{}", after.ok("SITE QUOTA", 200).text());
    // Nothing is lost when the old one goes.
    before.ok("QUIT", 221);
    assert!(old.wait(PATIENCE).is_some_and(|status| status.success()));
    after.upload("APPE d", b"x");
    let whole = format!("200 Used {} of", octets + 1);
    let mut last = String::new();
    let told = wait_until(PATIENCE, || {
        let mut client = login(&new);
        client.upload("STOR e", b"");
        last = client.ok("SITE QUOTA", 200).text();
        std::thread::sleep(Duration::from_millis(300));
        last.starts_with(&whole)
    });
    assert!(told, "{last} instead of {whole}");
}

#[test]
fn an_upload_that_the_end_of_the_server_breaks_off_counts_as_what_stays() {
    let accounts = accounts("end", "100k");
    let server = server(&accounts, &["--grace", "1s"]);
    let mut client = login(&server);
    let mut data = client.open("STOR a");
    data.send(&pattern(10_000)).unwrap();
    assert!(wait_until(PATIENCE, || accounts.home.join("a").exists()
        && size(&accounts.home, "a") == 10_000));
    end(&server);
    let count = std::fs::read_to_string(count_file(&server).unwrap()).unwrap();
    assert!(count.contains("\noctets 10000\n"), "{count}");
    let run = std::fs::read_to_string(server.directory.join("state/quota-run")).unwrap();
    assert!(run.contains("\nstate clean\n"), "{run}");
}

#[test]
fn what_two_processes_gave_back_is_counted_again_once_the_old_one_is_gone() {
    let accounts = accounts("hand-over", "100k");
    std::fs::write(accounts.home.join("kept"), pattern(50_000)).unwrap();
    let old = server(&accounts, &[]);
    let mut before = login(&old);
    assert_used(&mut before, 50_000, QUOTA);
    let mut data = before.open("STOR a");
    data.send(&pattern(10_000)).unwrap();
    let arrived = || std::fs::metadata(accounts.home.join("a")).is_ok_and(|a| a.len() == 10_000);
    assert!(wait_until(PATIENCE, arrived));
    assert!(old.wait_for_log("a new process can take over"));
    let users = ["--users", accounts.file.to_str().unwrap(), "--take-over"];
    let new = old.start_beside(&users, |command| command);
    assert!(old.wait_for_log("sessions here go on"));
    // Deleted here while it is open there: each gives it back.
    let mut after = login(&new);
    after.ok("DELE a", 250);
    if data.is_protected() {
        data.close_notify();
    }
    data.shutdown_write();
    assert_eq!(before.reply().code, 226);
    before.ok("QUIT", 221);
    assert!(old.wait(PATIENCE).is_some_and(|status| status.success()));
    assert!(new.wait_for_log("homes that both may have changed are counted again"));
    assert!(new.wait_for_log("a home was counted"));
    let mut last = String::new();
    let right = wait_until(PATIENCE, || {
        last = after.ok("SITE QUOTA", 200).text();
        last.starts_with("200 Used 50000 of")
    });
    assert!(right, "{last}");
    end(&new);
    let count = std::fs::read_to_string(count_file(&old).unwrap()).unwrap();
    assert!(count.contains("\noctets 50000\n"), "{count}");
}

#[test]
fn kernel_tls_does_not_pass_the_bound() {
    // Set in the lab, where the kernel has it.
    if std::env::var_os("RINGFTPD_TEST_KTLS").is_none() {
        return;
    }
    let accounts = accounts("kernel-tls", "4M");
    let server = server(&accounts, &["--ktls", "on"]);
    let mut client = login(&server);
    assert_eq!(upload(&mut client, "STOR a", &pattern(4_000_001)).code, 552);
    assert_eq!(size(&accounts.home, "a"), 4_000_000);
    assert!(server.wait_for_log("ktls-receive"));
    assert_used(&mut client, 4_000_000, 4_000_000);
}
