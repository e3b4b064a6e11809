//! Scans that may have missed files, and what is given back once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::{Place, charge, run};
use crate::limits;
use crate::quota::Quotas;
use crate::quota::ledger::Ledger;
use crate::quota::open_files::Opened;
use crate::quota::store::Count;
use crate::rt;
use crate::sys::fs;

#[test]
fn files_that_cannot_be_seen_are_not_given_back() {
    let place = Place::new(&[("a", 100)]);
    let deep = place.home().join("deep");
    std::fs::create_dir(&deep).unwrap();
    std::fs::write(deep.join("b"), [0; 800]).unwrap();
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        assert_eq!(quota.left(), 100);
        // Deeper than is counted, by moving chains of directories below one another.
        let chain = |first: &str| {
            let mut chain = place.home().join(first);
            for _ in 0..13 {
                chain.push("d".repeat(250));
            }
            std::fs::create_dir_all(&chain).unwrap();
            chain
        };
        let mut below = deep;
        for first in ["1", "2", "3", "4", "5", "6"] {
            let end = chain(first);
            std::fs::rename(below, end.join("below")).unwrap();
            below = place.home().join(first);
        }
        let stop = AtomicBool::new(false);
        quota.ledger.scan(&stop);
        assert_eq!(quota.left(), 100);
        assert!(quota.ledger.is_due(0), "nor is that an exact count");
        std::fs::write(place.home().join("c"), [0; 150]).unwrap();
        std::fs::write(place.home().join("d"), [0; 700]).unwrap();
        quota.ledger.scan(&stop);
        assert_eq!(quota.usage().used, 950, "more than before is more");
    });
}

#[test]
fn a_file_is_given_back_once_however_many_remove_it() {
    let place = Place::new(&[("a", 400), ("b", 300)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let held = fs::hold_root(&place.home()).unwrap();
        let hold = || fs::hold_plain(&held, c"a").unwrap();
        let late = hold();
        let both = (quota.hold(hold()).unwrap(), quota.hold(hold()).unwrap());
        // Another takes the name before the second of them does.
        fs::remove_file(&held, c"a").unwrap();
        fs::rename(&held, c"b", &held, c"a").unwrap();
        drop(both);
        assert_eq!(quota.usage().used, 300);
        drop(quota.hold(late).unwrap());
        assert_eq!(quota.usage().used, 300);
        // Where links do not tell (NFS) it is told.
        let removing = quota.hold(hold()).unwrap();
        removing.removed();
        drop(removing);
        assert_eq!(quota.usage().used, 0);
    });
}

#[test]
fn a_scan_during_which_files_move_only_raises_the_count() {
    let place = Place::new(&[("a", 400)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let stop = AtomicBool::new(false);
        let away = place.whole.path().join("away");
        // As if it were where the scan has been already.
        let rename = || std::fs::rename(place.home().join("a"), &away).unwrap();
        quota.moving(|| {
            rename();
            quota.ledger.scan(&stop);
        });
        assert_eq!(quota.usage().used, 400);
        assert!(quota.ledger.is_due(0), "nor is that an exact count");
        quota.ledger.scan(&stop);
        assert_eq!(quota.usage().used, 0);
    });
}

#[test]
fn an_upload_without_a_name_counts_before_it_has_one() {
    let place = Place::new(&[("a", 400)]);
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    let unnamed = || rustix::fs::open(place.home(), flags, Mode::from_raw_mode(0o600));
    if unnamed().is_err() {
        return eprintln!("skipped: this file system has no unnamed files");
    }
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let stop = AtomicBool::new(false);
        for (named, left) in [(false, 400), (true, 700)] {
            let file = rt::File::new(unnamed().unwrap());
            let upload = charge(&quota, &file).await;
            assert_eq!(upload.charge(0, 300), 300);
            rustix::fs::ftruncate(&file, 300).unwrap();
            quota.ledger.scan(&stop);
            assert_eq!(quota.usage().used, 700);
            assert!(quota.ledger.is_due(0), "not an exact count");
            assert_eq!(upload.charge(300, 400), 300);
            assert_eq!(quota.left(), 0);
            if named {
                let home = fs::hold_root(&place.home()).unwrap();
                crate::sys::unnamed::link(&file, home, c"new").unwrap();
            }
            upload.close().await;
            assert_eq!(quota.usage().used, left);
        }
        quota.ledger.scan(&stop);
        assert_eq!(quota.usage().used, 700);
    });
}

#[test]
fn what_was_deleted_while_it_is_open_is_given_back_once() {
    let place = Place::new(&[("a", 100), ("b", 400)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let stop = AtomicBool::new(false);
        // By a local program, which tells nobody.
        let file = place.open("b");
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(400, 100), 100);
        std::fs::remove_file(place.home().join("b")).unwrap();
        for _ in 0..2 {
            quota.ledger.scan(&stop);
            assert_eq!(quota.usage().used, 600);
        }
        assert!(quota.ledger.is_due(0), "not an exact count");
        upload.close().await;
        assert_eq!(quota.usage().used, 100);
        quota.ledger.scan(&stop);
        assert_eq!(quota.usage().used, 100);
    });
}

/// A ledger that has counted nothing, and a file without a name that is open there.
fn counted(home: &std::path::Path) -> (std::sync::Arc<Ledger>, Opened) {
    let none = Count {
        octets: 0,
        scanned: 0,
    };
    let ledger = Ledger::new(home.into(), home.into(), Some(none));
    let file = tempfile::tempfile_in(home).unwrap();
    let opened = ledger.files().open_blocking(&file).unwrap();
    (ledger, opened)
}

#[test]
fn a_scan_between_two_steps_of_a_charge_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (ledger, opened) = counted(home.path());
    let stop = AtomicBool::new(false);
    let grown = opened.octets.grow(0, 1000, || {
        let taken = ledger.take(1000, u64::MAX);
        ledger.scan(&stop);
        taken
    });
    assert_eq!(grown.unwrap(), 1000);
    assert_eq!(ledger.used(), 1000);
    ledger.scan(&stop);
    assert_eq!(ledger.used(), 1000);
}

#[test]
fn a_count_is_never_too_low_while_octets_are_charged() {
    let home = tempfile::tempdir().unwrap();
    for _ in 0..3000 {
        let (ledger, opened) = counted(home.path());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let octets = opened.octets.get();
                    let take = || ledger.take(1000, u64::MAX);
                    opened.octets.grow(octets, 1000, take).unwrap();
                    for _ in 0..200 {
                        std::hint::spin_loop();
                    }
                }
            });
            ledger.scan(&AtomicBool::new(false));
            stop.store(true, Ordering::Relaxed);
            writer.join().unwrap();
        });
        assert!(ledger.used() >= opened.octets.get());
    }
}

#[test]
fn a_path_that_leads_elsewhere_now_is_another_home() {
    let place = Place::new(&[("a", 100)]);
    let other = place.whole.path().join("other");
    let link = place.whole.path().join("link");
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(place.home(), &link).unwrap();
    run(async {
        let quotas = Quotas::new(None);
        let home = place.home();
        let set_policy = || {
            let accounts = [(home.as_path(), Some(1000)), (link.as_path(), Some(1000))];
            quotas.set_policy(0, accounts.into_iter());
        };
        set_policy();
        let quota = quotas.enter(&link, Some(1000)).await.unwrap();
        quota.settle().await;
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        quota.ledger.scan(&AtomicBool::new(false));
        assert_eq!(quota.usage().used, 100);
        set_policy();
        let quota = quotas.enter(&link, Some(1000)).await.unwrap();
        quota.settle().await;
        assert_eq!(quota.usage().used, 0);
        // Known again after the policy was read anew, without a look at the disk.
        set_policy();
        place.enter(&quotas, Some(1000)).await;
        let ledgers = crate::quota::lock(&quotas.ledgers);
        assert!(ledgers.by_name.contains_key(&home));
    });
}

#[test]
fn only_the_first_waits_for_a_scan_that_takes_long() {
    let place = Place::new(&[("a", 100)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        // Scans rest a while in between.
        while !quota.ledger.begin_scan() {
            rt::sleep(Duration::from_millis(10)).await;
        }
        quota.ledger.give_up_scan();
        // More than the quota is refused without one.
        std::fs::remove_file(place.home().join("a")).unwrap();
        assert_eq!(quota.left_of(1001).await, 900);
        assert!(quota.ledger.begin_scan());
        let began = rt::now();
        for _ in 0..50 {
            quota.ledger.wait_for_scan().await;
        }
        let took = rt::now().saturating_duration_since(began);
        assert!(took < limits::QUOTA_SCAN_WAIT * 10, "{took:?}");
    });
}
