//! curl with `--parallel`: twenty control connections begin at once, and share their TLS sessions afterwards.
//!
//! On a busy machine curl 7.88 now and then loses the octets of a tiny file: it reads the record and the close_notify
//! behind it, which cannot be opened without it, and says "transfer closed with 1 bytes remaining to read" (status 18).
//! The server is judged by what it says of its transfers then, and curl is asked again.

use std::fs;

use crate::common::PATIENCE;
use crate::common::server::wait_until;
use crate::curl::{VERSIONS, curl, site, version};
use crate::support::{BOTH_PORTS, Site};

const FILES: usize = 60;
/// About one run in three loses something on a busy machine.
const ATTEMPTS_MAX: usize = 20;

#[test]
fn curl_downloads_many_files_in_parallel() {
    let Some(site) = site() else { return };
    for number in 1..=FILES {
        site.write(&format!("many/f{number}"), format!("{number}").as_bytes());
    }
    let mut transfers = 0;
    for port in BOTH_PORTS {
        for tls in VERSIONS {
            let local = tempfile::tempdir().unwrap();
            let mut whole = false;
            for _ in 0..ATTEMPTS_MAX {
                let mut get = curl(&site, port);
                version(&mut get, tls);
                get.args(["--parallel", "--parallel-max", "20", "--remote-name-all"]);
                get.current_dir(local.path());
                get.arg(site.url(port, &format!("many/f[1-{FILES}]")));
                let output = get.output().unwrap();
                let talk = String::from_utf8_lossy(&output.stderr);
                transfers += FILES;
                assert_all_complete(&site, transfers);
                whole = output.status.success();
                if whole {
                    break;
                }
                assert_eq!(output.status.code(), Some(18), "{talk}");
                let complaints = talk.matches("curl: (").count();
                assert_eq!(complaints, talk.matches("curl: (18)").count(), "{talk}");
            }
            assert!(whole, "never all files in {ATTEMPTS_MAX} attempts");
            for number in 1..=FILES {
                let file = fs::read(local.path().join(format!("f{number}"))).unwrap();
                assert_eq!(file, format!("{number}").as_bytes());
            }
        }
    }
}

/// The server has sent so many files, and had each of them acknowledged to the last octet.
#[track_caller]
fn assert_all_complete(site: &Site, transfers: usize) {
    let mut ends = Vec::new();
    // The log may lag behind the replies.
    let there = wait_until(PATIENCE, || {
        ends = site.ends_of_transfers();
        ends.len() >= transfers
    });
    let broken: Vec<_> = ends.iter().filter(|end| *end != "Complete").collect();
    assert!(
        there && broken.is_empty(),
        "{} of {transfers}: {broken:?}",
        ends.len()
    );
}
