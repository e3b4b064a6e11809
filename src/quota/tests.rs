//! Counting without a server.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Charge, Quota, Quotas};
use crate::rt;
use crate::sys::fs;

mod ends;
mod hand_over;
mod scans;

/// A state directory and a home with files of these lengths.
struct Place {
    whole: tempfile::TempDir,
}

impl Place {
    fn new(files: &[(&str, usize)]) -> Self {
        let place = Self {
            whole: tempfile::tempdir().unwrap(),
        };
        for directory in [place.home(), place.state()] {
            std::fs::create_dir(directory).unwrap();
        }
        for (name, octets) in files {
            std::fs::write(place.home().join(name), vec![0; *octets]).unwrap();
        }
        place
    }

    fn home(&self) -> PathBuf {
        self.whole.path().join("home")
    }

    fn state(&self) -> PathBuf {
        self.whole.path().join("state")
    }

    fn quotas(&self, own: Option<u64>, per_user: u64) -> Arc<Quotas> {
        let quotas = Quotas::new(Some(&self.state()));
        quotas.set_policy(per_user, [(self.home().as_path(), own)].into_iter());
        quotas
    }

    fn open(&self, name: &str) -> rt::File {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.home().join(name));
        rt::File::new(file.unwrap().into())
    }

    /// Changes the length of a file, as an upload would that was charged for it.
    fn set_length(&self, name: &str, octets: u64) {
        let file = OpenOptions::new().write(true).open(self.home().join(name));
        file.unwrap().set_len(octets).unwrap();
    }

    /// Waits for the result of the first scan to be written, a moment after it is told.
    async fn written(&self) {
        let written = || std::fs::read_dir(self.state()).unwrap().count() > 2;
        for _ in 0..1000 {
            if written() {
                return;
            }
            rt::sleep(Duration::from_millis(10)).await;
        }
        panic!("no count was written");
    }

    async fn enter(&self, quotas: &Arc<Quotas>, own: Option<u64>) -> Quota {
        let quota = quotas.enter(&self.home(), own).await.unwrap();
        quota.settle().await;
        assert!(quota.usage().counted);
        quota
    }
}

fn run(test: impl Future<Output = ()>) {
    rt::run(8, test).unwrap();
}

async fn charge(quota: &Quota, file: &rt::File) -> Rc<Charge> {
    let mark = quota.mark();
    let status = fs::status(file).unwrap();
    quota.open(file, &status, mark).await.unwrap()
}

#[test]
fn a_file_is_charged_for_its_growth_up_to_the_last_octet() {
    let place = Place::new(&[("a", 100), ("b", 50)]);
    run(async {
        let quotas = place.quotas(Some(1000), 7);
        let quota = place.enter(&quotas, Some(1000)).await;
        assert_eq!((quota.usage().used, quota.left()), (150, 850));
        let file = place.open("a");
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.room(0), 950);
        assert_eq!(upload.room(100), 850);
        assert_eq!(upload.charge(0, 100), 100);
        assert_eq!(quota.left(), 850, "what is there is not charged again");
        assert_eq!(upload.charge(50, 100), 100);
        assert_eq!(quota.left(), 800);
        assert_eq!(upload.charge(150, 801), 800);
        assert_eq!(quota.left(), 0);
        assert_eq!(upload.charge(950, 1), 0);
        assert_eq!(upload.room(900), 50);
        // The old content goes, and makes room.
        upload.emptied();
        assert_eq!(quota.left(), 950);
        assert_eq!(upload.charge(0, 10), 10);
        place.set_length("a", 10);
        upload.close().await;
        assert_eq!(quota.usage().used, 60);
    });
}

#[test]
fn what_an_upload_leaves_counts_as_it_is() {
    let place = Place::new(&[]);
    run(async {
        let quotas = place.quotas(None, 1000);
        let quota = place.enter(&quotas, None).await;
        let file = place.open("a");
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(0, 400), 400);
        // The disk took less.
        place.set_length("a", 300);
        upload.close().await;
        assert_eq!(quota.left(), 700);
        // A hole counts; where it ends behind the bound nothing may be written.
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(2000, 10), 0);
        upload.close().await;
        assert_eq!(quota.left(), 700);
    });
}

#[test]
fn uploads_to_one_file_are_charged_once() {
    let place = Place::new(&[]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let (one, two) = (place.open("a"), place.open("a"));
        let (first, second) = (charge(&quota, &one).await, charge(&quota, &two).await);
        assert_eq!(first.charge(0, 300), 300);
        assert_eq!(second.charge(0, 200), 200);
        assert_eq!(quota.left(), 700);
        assert_eq!(second.charge(200, 200), 200);
        assert_eq!(quota.left(), 600);
        place.set_length("a", 400);
        first.close().await;
        assert_eq!(quota.left(), 600);
        second.close().await;
        assert_eq!(quota.left(), 600);
    });
}

#[test]
fn a_removed_file_is_given_back_once_nobody_writes_it() {
    let place = Place::new(&[("a", 400), ("b", 300)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let remove = |name: &str| {
            let held = fs::hold_root(&place.home()).unwrap();
            let name = std::ffi::CString::new(name).unwrap();
            let _file = quota.hold(fs::hold_plain(&held, &name).unwrap()).unwrap();
            fs::remove_file(&held, &name).unwrap();
        };
        remove("b");
        assert_eq!(quota.left(), 600);
        let file = place.open("a");
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(400, 100), 100);
        remove("a");
        assert_eq!(quota.left(), 500, "it still takes room on the disk");
        assert_eq!(upload.charge(500, 501), 500);
        upload.close().await;
        assert_eq!(quota.left(), 1000);
        // One of two names is no file less.
        std::fs::write(place.home().join("c"), [0; 10]).unwrap();
        std::fs::hard_link(place.home().join("c"), place.home().join("d")).unwrap();
        remove("c");
        assert_eq!(quota.left(), 1000);
    });
}

#[test]
fn no_two_uploads_get_the_same_octets() {
    let place = Place::new(&[("a", 1)]);
    run(async {
        let quotas = place.quotas(Some(100_001), 0);
        let quota = place.enter(&quotas, Some(100_001)).await;
        let taken: u64 = std::thread::scope(|scope| {
            let threads = (0..4).map(|_| {
                scope.spawn(|| {
                    let mut taken = 0;
                    loop {
                        match quota.ledger.take(7, 100_001) {
                            0 => return taken,
                            some => taken += some,
                        }
                    }
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(taken, 100_000);
        assert_eq!(quota.left(), 0);
    });
}

#[test]
fn accounts_with_one_home_share_its_count() {
    let place = Place::new(&[("a", 100)]);
    let link = place.whole.path().join("link");
    std::os::unix::fs::symlink(place.home(), &link).unwrap();
    run(async {
        let quotas = Quotas::new(None);
        let home = place.home();
        let other = Path::new("/nowhere");
        let accounts = [
            (home.as_path(), Some(1000)),
            (home.as_path(), Some(0)),
            (link.as_path(), None),
            (other, Some(0)),
        ];
        quotas.set_policy(500, accounts.into_iter());
        let small = quotas.enter(&link, None).await.unwrap();
        let large = place.enter(&quotas, Some(1000)).await;
        let boundless = place.enter(&quotas, Some(0)).await;
        assert!(quotas.enter(other, Some(0)).await.is_none());
        assert_eq!((small.left(), large.left()), (400, 900));
        assert_eq!(boundless.usage().quota, None);
        let file = place.open("b");
        let upload = charge(&boundless, &file).await;
        assert_eq!(upload.charge(0, 700), 700);
        assert_eq!((small.left(), large.left()), (0, 200));
        // What sessions have stays, others begin with the new policy.
        quotas.set_policy(0, [(home.as_path(), None)].into_iter());
        assert!(quotas.enter(&home, None).await.is_none());
        assert_eq!(large.left(), 200);
    });
}

#[test]
fn a_count_outlives_the_process_and_a_damaged_one_is_made_anew() {
    let place = Place::new(&[("a", 100)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        let file = place.open("b");
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(0, 200), 200);
        place.set_length("b", 200);
        upload.close().await;
        quotas.finish();
        drop((quota, quotas));
        // Nobody looks again: the count that was left holds.
        std::fs::write(place.home().join("c"), [0; 50]).unwrap();
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        assert_eq!(quota.usage().used, 300);
        quotas.finish();
        drop((quota, quotas));
        let counts = std::fs::read_dir(place.state())
            .unwrap()
            .map(Result::unwrap);
        let counts: Vec<_> = counts
            .map(|entry| entry.path())
            .filter(|path| !path.ends_with("quota-run") && !path.ends_with("quota-lock"))
            .collect();
        let [count] = &counts[..] else {
            panic!("{counts:?}");
        };
        let mut text = OpenOptions::new().append(true).open(count).unwrap();
        text.write_all(b"?").unwrap();
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        assert_eq!(quota.usage().used, 350);
    });
}

#[test]
fn after_a_process_was_killed_homes_are_counted_again() {
    let place = Place::new(&[("a", 100)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        place.written().await;
        std::fs::write(place.home().join("b"), [0; 50]).unwrap();
        // No end. The lock goes with the store, whose threads end when nobody can ask them any more.
        drop((quota, quotas));
        let mut used = 0;
        for _ in 0..1000 {
            let quotas = place.quotas(Some(1000), 0);
            let quota = place.enter(&quotas, Some(1000)).await;
            quota.ledger.wait_for_scan().await;
            used = quota.usage().used;
            if used == 150 {
                break;
            }
            drop((quota, quotas));
            rt::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(used, 150);
    });
}

#[test]
fn a_home_is_counted_again_before_an_upload_is_refused() {
    let place = Place::new(&[("a", 1000)]);
    run(async {
        let quotas = place.quotas(Some(1000), 0);
        let quota = place.enter(&quotas, Some(1000)).await;
        assert_eq!(quota.left_of(1).await, 0);
        std::fs::remove_file(place.home().join("a")).unwrap();
        // Scans rest a while in between.
        let mut left = 0;
        for _ in 0..1000 {
            left = quota.left_of(1).await;
            if left > 0 {
                break;
            }
            rt::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(left, 1000);
    });
}

#[test]
fn uploads_during_a_scan_are_not_lost() {
    let place = Place::new(&[("a", 100)]);
    run(async {
        let quotas = place.quotas(Some(10_000), 0);
        let quota = place.enter(&quotas, Some(10_000)).await;
        let file = place.open("b");
        let upload = charge(&quota, &file).await;
        assert_eq!(upload.charge(0, 200), 200);
        place.set_length("b", 200);
        // While a file is open a scan is not exact: the next login asks for another.
        let stop = std::sync::atomic::AtomicBool::new(false);
        quota.ledger.scan(&stop);
        assert_eq!(quota.usage().used, 300);
        assert!(quota.ledger.is_due(0));
        upload.close().await;
        quota.ledger.scan(&stop);
        assert_eq!(quota.usage().used, 300);
        assert!(!quota.ledger.is_due(0));
    });
}

#[test]
fn without_a_usable_state_directory_each_process_counts_for_itself() {
    let place = Place::new(&[("a", 100), ("no-directory", 0)]);
    run(async {
        for state in [None, Some(place.home().join("no-directory"))] {
            let quotas = Quotas::new(state.as_deref());
            quotas.set_policy(1000, [(place.home().as_path(), None)].into_iter());
            let quota = place.enter(&quotas, None).await;
            let file = place.open("a");
            let upload = charge(&quota, &file).await;
            assert_eq!(upload.charge(100, 901), 900);
            upload.close().await;
            assert_eq!(quota.left(), 900);
            quotas.finish();
        }
    });
}

#[test]
fn two_processes_that_scan_correct_the_count_once() {
    let place = Place::new(&[("a", 100)]);
    run(async {
        let one = place.quotas(Some(1000), 0);
        let of_one = place.enter(&one, Some(1000)).await;
        place.written().await;
        let two = place.quotas(Some(1000), 0);
        let of_two = place.enter(&two, Some(1000)).await;
        std::fs::write(place.home().join("b"), [0; 50]).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        for (quotas, quota) in [(&one, &of_one), (&two, &of_two)] {
            assert_eq!(quota.usage().used, 100);
            quota.ledger.scan(&stop);
            quotas.finish();
            assert_eq!(quota.usage().used, 150);
        }
        let three = place.quotas(Some(1000), 0);
        assert_eq!(place.enter(&three, Some(1000)).await.usage().used, 150);
    });
}
