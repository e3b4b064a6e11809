//! Data connections resume the TLS session of their control connection, and no other.

use std::process::Command;

use rustls::HandshakeKind;

use crate::common::client::Client;
use crate::common::link::{End, Link};
use crate::common::server::{PASSWORD, USER};
use crate::common::skip;
use crate::common::tls::{Profile, Version};
use crate::fixture::Test;

checks! {
    c082: Both, c083: Both, c134: Both,
}

/// RETR f with a given TLS configuration: the final reply and how the handshake went.
#[track_caller]
fn retrieve(
    client: &mut Client,
    config: &std::sync::Arc<rustls::ClientConfig>,
) -> (u16, Option<HandshakeKind>) {
    let address = client.pasv();
    let mut data = client.data(address);
    client.ok("RETR f", 150);
    // A refusal may come as a failed handshake, or after it: TLS 1.3 clients finish first.
    let kind = match data.handshake(config) {
        Ok(()) => Some(data.handshake_kind()),
        Err(end) => {
            assert_ne!(end, End::Timeout);
            None
        }
    };
    let (octets, end) = take_politely(&mut data);
    let reply = client.reply();
    if reply.code == 226 {
        assert_eq!(
            (octets.as_slice(), end),
            (&b"content"[..], End::CloseNotify)
        );
    } else {
        assert!(octets.is_empty(), "content before {reply:?}");
    }
    (reply.code, kind)
}

fn take_politely(data: &mut Link) -> (Vec<u8>, End) {
    let (octets, end) = data.take_all();
    if end == End::CloseNotify {
        data.close_notify();
    }
    (octets, end)
}

fn c082(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(&["--resume", "require"]);
    for version in [Version::Tls12, Version::Tls13] {
        let mut client = t.login_with(&server, Profile::new(version));
        let full = client.profile.full();
        assert_eq!(retrieve(&mut client, &full).0, 522, "{version:?} full");
        client.ok("NOOP", 200);
        let resuming = client.profile.resuming();
        let resumed = (226, Some(HandshakeKind::Resumed));
        assert_eq!(retrieve(&mut client, &resuming), resumed, "{version:?}");
        let other = t.login_with(&server, Profile::new(version));
        let foreign = client.profile.resuming_from(&other.profile.tickets);
        assert_eq!(
            retrieve(&mut client, &foreign).0,
            522,
            "{version:?} foreign"
        );
        let resuming = client.profile.resuming();
        assert_eq!(
            retrieve(&mut client, &resuming),
            resumed,
            "{version:?} again"
        );
    }
    preferred_resumption(t);
}

/// The default policy: no resumption is needed until the client has once shown that it can; a
/// session of somebody else is refused all the same.
fn preferred_resumption(t: &Test) {
    let server = t.server();
    for version in [Version::Tls12, Version::Tls13] {
        let mut client = t.login_with(&server, Profile::new(version));
        let full = client.profile.full();
        let made = (226, Some(HandshakeKind::Full));
        assert_eq!(retrieve(&mut client, &full), made, "{version:?}");
        let other = t.login_with(&server, Profile::new(version));
        let foreign = client.profile.resuming_from(&other.profile.tickets);
        assert_eq!(
            retrieve(&mut client, &foreign).0,
            522,
            "{version:?} foreign"
        );
        let resuming = client.profile.resuming();
        let resumed = (226, Some(HandshakeKind::Resumed));
        assert_eq!(retrieve(&mut client, &resuming), resumed, "{version:?}");
        assert_eq!(
            retrieve(&mut client, &full).0,
            522,
            "{version:?} full afterwards"
        );
    }
}

fn c083(t: &Test) {
    t.put("f", b"content");
    for options in [&[][..], &["--resume", "require"]] {
        let server = t.server_with(options);
        for version in [Version::Tls13, Version::Tls12] {
            let mut client = t.login_with(&server, Profile::new(version));
            for round in 0..20 {
                let resuming = client.profile.resuming();
                let outcome = retrieve(&mut client, &resuming);
                let resumed = (226, Some(HandshakeKind::Resumed));
                assert_eq!(outcome, resumed, "{version:?}, transfer {round}");
            }
        }
    }
    more_uploads_than_tickets(t);
    one_ticket_reused(t);
}

/// Uploads bring no tickets; a client that spends one on each must not be shut out.
fn more_uploads_than_tickets(t: &Test) {
    let mut client = t.login_with(&t.server(), Profile::new(Version::Tls13));
    assert!(
        client.profile.tickets.count() >= 4,
        "tickets on the control connection"
    );
    for round in 0..12 {
        let content = format!("upload {round}");
        client.upload("STOR g", content.as_bytes());
        assert_eq!(t.get("g"), content.as_bytes());
    }
}

/// rustls never offers a TLS 1.3 ticket twice; OpenSSL under Python does when told so.
const REUSE: &str = r#"
import re, socket, ssl, sys
host, port, implicit, user, password, directory = sys.argv[1:7]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = ssl.TLSVersion.TLSv1_3
control = socket.create_connection((host, int(port)), 20)
def reply():
    line = b""
    while not line.endswith(b"\r\n"):
        octet = control.recv(1)
        assert octet, "closed"
        line += octet
    return line.decode()
def say(line, code):
    control.sendall(line.encode() + b"\r\n")
    answer = reply()
    assert answer.startswith(code), (line, answer)
    return answer
if implicit == "no":
    assert reply().startswith("220")
    say("AUTH TLS", "234")
    control = context.wrap_socket(control)
else:
    control = context.wrap_socket(control)
    assert reply().startswith("220")
say("USER " + user, "331")
say("PASS " + password, "230")
say("PBSZ 0", "200")
say("PROT P", "200")
say("TYPE I", "200")
say("CWD " + directory, "250")
ticket = control.session
reused = 0
for turn in range(20):
    numbers = re.search(r"\((.*)\)", say("PASV", "227")).group(1).split(",")
    data = socket.create_connection((host, int(numbers[4]) * 256 + int(numbers[5])), 20)
    say("RETR f", "150")
    data = context.wrap_socket(data, session=ticket)
    content = b""
    while True:
        part = data.recv(4096)
        if not part:
            break
        content += part
    assert content == b"content", content
    reused += data.session_reused
    data.close()
    assert reply().startswith("226")
print(reused)
"#;

fn one_ticket_reused(t: &Test) {
    let server = t.server();
    let address = server.address(t.port);
    let implicit = if t.explicit() { "no" } else { "yes" };
    let output = Command::new("python3")
        .args(["-c", REUSE])
        .arg(address.ip().to_string())
        .arg(address.port().to_string())
        .args([implicit, USER, PASSWORD, &t.directory])
        .output();
    let Ok(output) = output else {
        skip("no python3, which offers one TLS 1.3 ticket again and again");
        return;
    };
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "20");
}

fn c134(t: &Test) {
    const CLIENTS: usize = 8;
    const TRANSFERS: usize = 25;
    t.put("f", b"content");
    let server = t.server_with(&["--resume", "require", "--cores", "2"]);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            let version = [Version::Tls13, Version::Tls12][number % 2];
            t.login_with(&server, Profile::new(version))
        })
        .collect();
    for round in 0..TRANSFERS {
        for (number, client) in clients.iter_mut().enumerate() {
            let resuming = client.profile.resuming();
            let outcome = retrieve(client, &resuming);
            let resumed = (226, Some(HandshakeKind::Resumed));
            assert_eq!(outcome, resumed, "client {number}, transfer {round}");
        }
    }
}
