//! Tables of replies and of what the client does about them.

use super::*;

#[test]
fn an_explicit_login_and_a_restarted_transfer() {
    let mut dialogue = Dialogue::new(Options {
        security: Security::Explicit,
        protect_data: true,
        user: b"u".to_vec(),
        password: b"p w ".to_vec(),
    });
    let mut steps = Vec::new();
    let mut feed = |dialogue: &mut Dialogue, octets: &[u8]| {
        dialogue.handle_octets(octets).expect("well formed");
        while let Some(step) = dialogue.poll_step() {
            steps.push(step);
        }
    };
    feed(&mut dialogue, b"220 hello\r\n");
    feed(&mut dialogue, b"234 go\r\n");
    dialogue.handle_tls_up();
    for reply in [
        "331 x\r\n",
        "230 x\r\n",
        "200 x\r\n",
        "200 x\r\n",
        "200 x\r\n",
    ] {
        feed(&mut dialogue, reply.as_bytes());
    }
    assert!(dialogue.is_ready());
    dialogue.start(Request::Transfer {
        command: b"RETR f".to_vec(),
        restart: 7,
        mode: Mode::Passive,
    });
    for reply in ["229 (|||5|)\r\n", "350 x\r\n", "150 x\r\n", "226 x\r\n"] {
        feed(&mut dialogue, reply.as_bytes());
    }
    let send = |text: &str| Step::Send([text.as_bytes(), b"\r\n"].concat());
    let done = Reply {
        code: 226,
        lines: vec![b"x".to_vec()],
    };
    let expected = vec![
        send("AUTH TLS"),
        Step::StartTls,
        send("USER u"),
        send("PASS p w "),
        send("PBSZ 0"),
        send("PROT P"),
        send("TYPE I"),
        Step::LoggedIn,
        send("EPSV"),
        Step::ConnectData(5),
        send("REST 7"),
        send("RETR f"),
        Step::DataAccepted,
        Step::Finished(done),
    ];
    assert_eq!(steps, expected);
}

fn clear() -> Dialogue {
    let mut dialogue = Dialogue::new(Options {
        security: Security::None,
        protect_data: false,
        user: b"u".to_vec(),
        password: b"p".to_vec(),
    });
    dialogue
        .handle_octets(b"220 x\r\n331 x\r\n230 x\r\n200 x\r\n")
        .expect("well formed");
    while dialogue.poll_step().is_some() {}
    assert!(dialogue.is_ready());
    dialogue
}

/// The commands that a transfer sends, with these replies; the other steps by name.
fn commands(dialogue: &mut Dialogue, mode: Mode, replies: &str) -> Vec<String> {
    dialogue.start(Request::Transfer {
        command: b"RETR f".to_vec(),
        restart: 0,
        mode,
    });
    for reply in replies.split(',') {
        let line = format!("{reply} (|||7|) 127,0,0,1,1,2.\r\n");
        // In a 227 the first number is the host's.
        let line = match reply {
            "227" => "227 ok (127,0,0,1,1,2)\r\n".to_owned(),
            _ => line,
        };
        dialogue
            .handle_octets(line.as_bytes())
            .expect("well formed");
    }
    let mut seen = Vec::new();
    while let Some(step) = dialogue.poll_step() {
        seen.push(match step {
            Step::Send(octets) => String::from_utf8(octets)
                .expect("text")
                .trim_end()
                .to_owned(),
            Step::Finished(reply) => format!("finished {}", reply.code),
            other => format!("{other:?}"),
        });
    }
    seen
}

#[test]
fn a_server_without_epsv_is_asked_with_pasv_from_then_on() {
    let mut dialogue = clear();
    let first = commands(&mut dialogue, Mode::Passive, "500,227,150,226");
    let expected = [
        "EPSV",
        "PASV",
        "ConnectData(258)",
        "RETR f",
        "DataAccepted",
        "finished 226",
    ];
    assert_eq!(first, expected);
    let second = commands(&mut dialogue, Mode::Passive, "227,150,226");
    assert_eq!(second, expected[1..]);
}

#[test]
fn a_server_without_eprt_is_given_a_port() {
    let mut dialogue = clear();
    let mode = Mode::Active(SocketAddr::from(([10, 0, 0, 1], 1025)));
    let first = commands(&mut dialogue, mode, "502,200,150,226");
    let expected = [
        "EPRT |1|10.0.0.1|1025|",
        "PORT 10,0,0,1,4,1",
        "AwaitData",
        "RETR f",
        "DataAccepted",
        "finished 226",
    ];
    assert_eq!(first, expected);
    assert_eq!(commands(&mut dialogue, mode, "200,150,226"), expected[1..]);
    // Nothing else is there for IPv6.
    let mode = Mode::Active("[::1]:1025".parse().expect("an address"));
    let refused = commands(&mut dialogue, mode, "522");
    assert_eq!(refused, ["EPRT |2|::1|1025|", "finished 522"]);
}

#[test]
fn a_refused_transfer_is_finished_and_the_next_may_begin() {
    let mut dialogue = clear();
    let refused = commands(&mut dialogue, Mode::Passive, "229,550");
    assert_eq!(
        refused,
        ["EPSV", "ConnectData(7)", "RETR f", "finished 550"]
    );
    let busy = commands(&mut dialogue, Mode::Passive, "425");
    assert_eq!(
        busy,
        ["EPSV", "finished 425"],
        "425 says nothing about EPSV"
    );
    let broken = commands(&mut dialogue, Mode::Passive, "229,150,426");
    let expected = [
        "EPSV",
        "ConnectData(7)",
        "RETR f",
        "DataAccepted",
        "finished 426",
    ];
    assert_eq!(broken, expected);
}
