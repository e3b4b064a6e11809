//! Two processes with one count, and what the second one does when it is alone.

use std::sync::Arc;
use std::time::Duration;

use super::{Place, charge, run};
use crate::quota::{Quota, Quotas};
use crate::rt;
use crate::sys::fs;

/// Waits for a count.
async fn assert_used(quota: &Quota, used: u64) {
    for _ in 0..3000 {
        if quota.usage().used == used {
            return;
        }
        rt::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(quota.usage().used, used);
}

/// Uploads a new file of so many octets.
async fn put(place: &Place, quota: &Quota, name: &str, octets: u64) {
    let file = place.open(name);
    let upload = charge(quota, &file).await;
    assert_eq!(upload.charge(0, octets as usize), octets as usize);
    place.set_length(name, octets);
    drop(file);
    upload.close().await;
}

/// A file is deleted by the second process while an upload of the first has it open.
async fn given_back_twice(place: &Place) -> ([Arc<Quotas>; 2], [Quota; 2]) {
    let old = place.quotas(Some(1000), 0);
    let of_old = place.enter(&old, Some(1000)).await;
    place.written().await;
    let file = place.open("b");
    let upload = charge(&of_old, &file).await;
    assert_eq!(upload.charge(0, 200), 200);
    place.set_length("b", 200);
    let new = place.quotas(Some(1000), 0);
    let of_new = place.enter(&new, Some(1000)).await;
    let held = fs::hold_root(&place.home()).unwrap();
    let removing = of_new.hold(fs::hold_plain(&held, c"b").unwrap()).unwrap();
    fs::remove_file(&held, c"b").unwrap();
    drop(removing);
    upload.close().await;
    assert_eq!(new.others_ended().map(|_| ()), None, "it is there");
    ([old, new], [of_old, of_new])
}

#[test]
fn what_both_processes_gave_back_is_counted_again_when_the_old_one_is_gone() {
    let place = Place::new(&[("a", 500)]);
    run(async {
        let ([old, new], [of_old, of_new]) = given_back_twice(&place).await;
        old.finish();
        drop((old, of_old));
        // The thread looks for it, and does the same.
        assert_used(&of_new, 500).await;
        while of_new.ledger.is_scanning() || of_new.ledger.is_doubted() {
            rt::sleep(Duration::from_millis(10)).await;
        }
        new.finish();
        drop((new, of_new));
        let next = place.quotas(Some(1000), 0);
        assert_eq!(place.enter(&next, Some(1000)).await.usage().used, 500);
    });
}

#[test]
fn a_doubt_outlives_the_process() {
    let place = Place::new(&[("a", 500)]);
    run(async {
        let ([old, new], [of_old, of_new]) = given_back_twice(&place).await;
        old.finish();
        drop((old, of_old));
        // Unless the thread was faster.
        if let Some(doubted) = new.others_ended() {
            assert_eq!(doubted.len(), 1);
        }
        new.finish();
        drop((new, of_new));
        let next = place.quotas(Some(1000), 0);
        let quota = place.enter(&next, Some(1000)).await;
        quota.ledger.wait_for_scan().await;
        assert_eq!(quota.usage().used, 500);
    });
}

#[test]
fn homes_that_one_process_left_alone_are_not_counted_again_unless_the_other_was_killed() {
    let place = Place::new(&[("a", 500)]);
    run(async {
        for killed in [false, true] {
            let old = place.quotas(Some(1000), 0);
            let of_old = place.enter(&old, Some(1000)).await;
            place.written().await;
            let new = place.quotas(Some(1000), 0);
            let of_new = place.enter(&new, Some(1000)).await;
            put(&place, &of_old, "b", 200).await;
            if !killed {
                old.finish();
            }
            drop((old, of_old));
            let mut doubted = None;
            // The threads of the one that was "killed" hold the lock until they have ended.
            for _ in 0..1000 {
                doubted = new.others_ended();
                if doubted.is_some() {
                    break;
                }
                rt::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(doubted.unwrap().len(), usize::from(killed));
            assert_eq!(of_new.ledger.is_doubted(), killed);
            // What the other has added is known.
            assert_used(&of_new, 700).await;
            new.finish();
            std::fs::remove_file(place.home().join("b")).unwrap();
            std::fs::remove_dir_all(place.state()).unwrap();
            std::fs::create_dir(place.state()).unwrap();
        }
    });
}

#[test]
fn a_doubted_count_is_due_until_a_scan_has_told_another() {
    let place = Place::new(&[("a", 100)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let stop = std::sync::atomic::AtomicBool::new(false);
        assert!(!quota.ledger.is_due(0));
        assert!(quota.ledger.doubt(false));
        assert!(quota.ledger.is_due(0));
        quota.ledger.scan(&stop);
        assert!(!quota.ledger.is_due(0) && !quota.ledger.is_doubted());
    });
}

#[test]
fn a_process_that_begins_to_count_after_its_successor_is_looked_for_as_well() {
    let place = Place::new(&[("a", 500)]);
    run(async {
        for killed in [false, true] {
            let new = place.quotas(Some(1000), 0);
            let of_new = place.enter(&new, Some(1000)).await;
            place.written().await;
            let old = place.quotas(Some(1000), 0);
            let of_old = place.enter(&old, Some(1000)).await;
            put(&place, &of_old, "b", 200).await;
            if !killed {
                old.finish();
            }
            drop((old, of_old));
            // Whatever changes here next tells of it.
            put(&place, &of_new, "c", 10).await;
            std::fs::remove_file(place.home().join("a")).unwrap();
            // Not before it has been written; then a login has it looked for, and counted again.
            for _ in 0..3000 {
                place.enter(&new, Some(1000)).await;
                if of_new.usage().used == 210 {
                    break;
                }
                rt::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(of_new.usage().used, 210, "killed: {killed}");
            new.finish();
            for name in ["b", "c"] {
                std::fs::remove_file(place.home().join(name)).unwrap();
            }
            std::fs::write(place.home().join("a"), [0; 500]).unwrap();
            std::fs::remove_dir_all(place.state()).unwrap();
            std::fs::create_dir(place.state()).unwrap();
        }
    });
}
