//! Ends of uploads, which wait for the file system and for nobody else.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::{Place, charge, run};
use crate::limits;
use crate::rt;
use crate::sys::fs;

/// Keeps the pool of blocking work busy, as a file system that hangs would, until what is returned is dropped.
async fn hang() -> std::sync::mpsc::Sender<()> {
    let (sender, receiver) = channel::<()>();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    let (started, all_started) = channel();
    for _ in 0..limits::BLOCKING_THREADS_MAX {
        let (receiver, started) = (receiver.clone(), started.clone());
        rt::begin_blocking(move || {
            let _ = started.send(());
            // Ends with the sender.
            while let Ok(receiver) = receiver.lock()
                && receiver.recv().is_ok()
            {}
        });
    }
    for _ in 0..limits::BLOCKING_THREADS_MAX {
        all_started.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    sender
}

#[test]
fn the_core_goes_on_while_a_file_system_does_not_tell_what_a_file_became() {
    let place = Place::new(&[]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let (one, two) = (place.open("a"), place.open("b"));
        let hanging = hang().await;
        // To open takes no look at the file but that of the opening.
        let (waits, leaves) = (charge(&quota, &one).await, charge(&quota, &two).await);
        assert_eq!((waits.charge(0, 400), leaves.charge(0, 40)), (400, 40));
        place.set_length("a", 300);
        place.set_length("b", 30);
        // A session waits for its own file; of one that is gone nobody does.
        drop(leaves);
        let mut closing = std::pin::pin!(waits.close());
        assert!(!rt::until(closing.as_mut(), Duration::from_millis(50)).await);
        assert_eq!(quota.usage().used, 440, "as charged until then");
        drop(hanging);
        closing.await;
        // The end of the process waits for the rest.
        quotas.finish();
        assert_eq!(quota.usage().used, 330);
    });
}

#[test]
fn an_upload_that_nobody_ends_is_written_with_the_last_counts() {
    let place = Place::new(&[]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let file = place.open("a");
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(0, 400), 400);
        place.set_length("a", 300);
        let closing = upload.close();
        // Aborted before it began, and while the file is used elsewhere.
        drop(closing);
        quotas.finish();
        drop((quota, quotas));
        let quotas = place.quotas(Some(1000), 0);
        assert_eq!(place.enter(&quotas, Some(1000)).await.usage().used, 300);
    });
}

#[test]
fn a_status_from_before_the_end_of_another_upload_is_not_taken() {
    let place = Place::new(&[("a", 100), ("b", 10)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let (file, other) = (place.open("a"), place.open("b"));
        let early = || (quota.mark(), fs::status(&file).unwrap());
        let (mark, status) = early();
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(100, 200), 200);
        place.set_length("a", 300);
        upload.close().await;
        let late = quota.open(&file, &status, mark).await.unwrap();
        assert_eq!(late.charge(0, 300), 300, "all of it is counted already");
        assert_eq!(quota.usage().used, 310);
        late.close().await;
        // So many others meanwhile that nobody remembers.
        let (mark, status) = early();
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(300, 100), 100);
        place.set_length("a", 400);
        upload.close().await;
        for _ in 0..limits::QUOTA_CLOSED_FILES {
            charge(&quota, &other).await.close().await;
        }
        let late = quota.open(&file, &status, mark).await.unwrap();
        assert_eq!(late.charge(0, 400), 400);
        late.close().await;
        // Removed meanwhile.
        let (mark, status) = early();
        let held = fs::hold_root(&place.home()).unwrap();
        let removing = quota.hold(fs::hold_plain(&held, c"a").unwrap()).unwrap();
        fs::remove_file(&held, c"a").unwrap();
        drop(removing);
        assert_eq!(quota.usage().used, 10);
        let late = quota.open(&file, &status, mark).await.unwrap();
        assert_eq!(late.charge(400, 100), 500 - 400);
        late.close().await;
        assert_eq!(quota.usage().used, 10, "given back once");
    });
}

#[test]
fn nobody_waits_for_the_end_of_a_file_that_another_removes() {
    let place = Place::new(&[("a", 300)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let home = fs::hold_root(&place.home()).unwrap();
        let (holds, held) = channel();
        let (goes_on, end) = channel::<()>();
        let (done, other) = channel();
        std::thread::scope(|scope| {
            let (quota, home) = (&quota, &home);
            scope.spawn(move || {
                quota.removing(|| {
                    let file = quota.hold(fs::hold_plain(home, c"a").unwrap()).unwrap();
                    fs::remove_file(home, c"a").unwrap();
                    let (closes, waits) = channel();
                    scope.spawn(move || {
                        let hang = || {
                            closes.send(()).unwrap();
                            let _ = end.recv();
                        };
                        quota.ledger.files().look(hang);
                    });
                    waits.recv().unwrap();
                    holds.send(()).unwrap();
                    ((), Some(file))
                });
            });
            held.recv().unwrap();
            scope.spawn(move || {
                quota.removing(|| ((), None));
                done.send(()).unwrap();
            });
            let other = other.recv_timeout(Duration::from_secs(60));
            drop(goes_on);
            other.unwrap();
        });
        assert_eq!(quota.usage().used, 0);
    });
}

#[test]
fn few_wait_for_a_removal_on_the_threads_of_all_homes() {
    let place = Place::new(&[]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let mut turns = Vec::new();
        for _ in 0..limits::QUOTA_REMOVALS_MAX {
            turns.push(quota.turn().await.unwrap());
        }
        let mut next = std::pin::pin!(async { drop(quota.turn().await) });
        assert!(!rt::until(next.as_mut(), Duration::from_millis(50)).await);
        turns.pop();
        next.await;
    });
}
