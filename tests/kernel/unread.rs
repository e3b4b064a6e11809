//! Downloads whose last octets wait in the server's kernel, where its part is done: they are complete
//! only when the client's kernel has them.

use std::time::Duration;

use crate::common::assert_same;
use crate::common::client::Client;
use crate::common::link::Link;
use crate::pressure::{DOWNLOADS, alone, open_narrow, patience, put_pattern, slowness, variety};

/// Fits in the server's send buffer, not in the client's receive buffer.
const FILE_OCTETS: usize = 1 << 20;
/// The kernel doubles it.
const BUFFER: usize = 8 * 1024;

/// How the client has ended its own direction before it stops to read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Own {
    Open,
    Fin,
    NotifyAndFin,
}

const OWN: [Own; 3] = [Own::Open, Own::Fin, Own::NotifyAndFin];

/// Longer than the wait for a client that closes only after the reply.
fn drain_timeout() -> Duration {
    Duration::from_millis(300) * slowness().min(2)
}

/// A download of which nothing is read, for longer than any of the server's waits at its end.
fn begin(client: &mut Client, own: Own) -> Link {
    client.link.set_patience(patience());
    let mut data = open_narrow(client, "RETR unread", BUFFER);
    if own == Own::NotifyAndFin && data.is_protected() {
        data.close_notify();
    }
    if own != Own::Open {
        data.shutdown_write();
    }
    let silent = client.link.stays_silent(drain_timeout() * 3);
    assert!(silent, "{own:?}: the end came early");
    client.link.set_patience(patience());
    data
}

fn on_every_way(end: impl Fn(&mut Client, Link, &[u8])) {
    let _alone = alone();
    let content = put_pattern("unread", FILE_OCTETS);
    let drain = format!("{}ms", drain_timeout().as_millis());
    for way in DOWNLOADS.into_iter().filter(|way| way.is_open()) {
        let server = way.server(&["--cores", "1", "--drain-timeout", &drain]);
        for (number, own) in OWN.into_iter().enumerate() {
            eprintln!("{way}, {own:?}");
            let (port, profile) = variety(number);
            let mut client = way.client(&server, port, profile);
            let data = begin(&mut client, own);
            end(&mut client, data, &content);
            client.ok("NOOP", 200);
        }
    }
}

#[test]
fn what_was_never_taken_is_no_success() {
    on_every_way(|client, data, _| {
        data.reset();
        client.expect(426);
    });
}

#[test]
fn what_is_taken_late_is_a_success() {
    on_every_way(|client, mut data, content| {
        let (octets, end) = data.take_all();
        assert_eq!(end, client.clean_end());
        assert_same(&octets, content);
        drop(data);
        client.expect(226);
    });
}
