use super::super::report::tests::{answer, core, download, session};
use super::*;
use crate::status::{Core, Distribution};

fn report() -> Report {
    let mut now = answer(
        100,
        54.0,
        vec![
            session(1, None),
            download(3_000_000, 6.0),
            session(123, Some("bob\u{1b}[2J")),
        ],
    );
    now.sessions[0].phase = Phase::Login;
    now.cores = vec![
        core(9_000_000, 11.0, &[(40, 100), (2000, 8)]),
        Core {
            core: "1".to_owned(),
            answered: false,
            handshake: Distribution(vec![(1500, 3)]),
            ..core(0, 0.0, &[])
        },
    ];
    let mut old = answer(99, 7620.0, vec![session(7, Some("文件"))]);
    old.end.silent = vec!["3".to_owned()];
    Report::new(&[now, old], None)
}

#[track_caller]
fn assert_screen(width: Option<usize>, expected: &str) {
    let (lines, titles) = whole(&report(), Sort::Rate, width, None, 0);
    let text = lines.join("\n");
    assert_eq!(text, expected.trim_matches('\n'), "\n{text}\n");
    assert!(lines[titles[0]].contains("CORE") && lines[titles[1]].contains("ID"));
    for line in &lines {
        assert!(
            width.is_none_or(|width| text::width(line) <= width),
            "{line}"
        );
    }
}

#[test]
fn a_screen_of_80_columns() {
    assert_screen(
        Some(80),
        r"
ringftpd 0.1.0   process 100   serving 54s
ringftpd 0.1.0   process 99   replaced, has its sessions 2h07m
connections 6   logged in 4   transfers 2   down 167 kB/s   up 0 B/s
commands 2/s
no answer of core 3@99   sessions there are not shown
CORE  CONN  LOAD      DOWN     UP  CMD/S  DELAY P99  CMD P50  CMD P99
   0     3   20%  167 kB/s  0 B/s      2       90us     40us   2.00ms
   1     3  hung     0 B/s  0 B/s      0       90us        -        -
  ID  USER          DOING         RATE  DONE  ADDRESS     TIME  PATH
  18  alice         RETR      500 kB/s   75%  192.0.2.7  3m05s  …g/way/image.iso
7@99  文件          idle 12s                  192.0.2.7  3m05s
   1  -             login                     192.0.2.7  3m05s
 123  bob\u{1b}[2J  idle 12s                  192.0.2.7  3m05s
",
    );
}

#[test]
fn a_screen_of_40_columns() {
    assert_screen(
        Some(40),
        r"
ringftpd 0.1.0   process 100
serving 54s
ringftpd 0.1.0   process 99
replaced, has its sessions 2h07m
connections 6   logged in 4
transfers 2   down 167 kB/s   up 0 B/s
commands 2/s
no answer of core 3@99
sessions there are not shown
CORE CONN LOAD     DOWN    UP DELAY P99
   0    3  20% 167 kB/s 0 B/s      90us
   1    3 hung    0 B/s 0 B/s      90us
  ID USER         DOING        RATE DONE
  18 alice        RETR     500 kB/s  75%
7@99 文件         idle 12s
   1 -            login
 123 bob\u{1b}[2J idle 12s
",
    );
}

#[test]
fn a_screen_of_any_width() {
    assert_screen(
        None,
        r"
ringftpd 0.1.0   process 100   serving 54s
ringftpd 0.1.0   process 99   replaced, has its sessions 2h07m
connections 6   logged in 4   transfers 2   down 167 kB/s   up 0 B/s   commands 2/s
no answer of core 3@99   sessions there are not shown
CORE  CONN  LOAD      DOWN     UP  CMD/S  DELAY P99  CMD P50  CMD P99    TLS P50/P99
   0     3   20%  167 kB/s  0 B/s      2       90us     40us   2.00ms              -
   1     3  hung     0 B/s  0 B/s      0       90us        -        -  1.50ms/1.50ms
  ID  USER          DOING         RATE  DONE  ADDRESS     TIME  ROUTE     TLS                               PATH
  18  alice         RETR      500 kB/s   75%  192.0.2.7  3m05s  user-tls  TLSv1.3 TLS13_AES_128_GCM_SHA256  /pub/long/way/image.iso
7@99  文件          idle 12s                  192.0.2.7  3m05s            TLSv1.3 TLS13_AES_128_GCM_SHA256
   1  -             login                     192.0.2.7  3m05s            TLSv1.3 TLS13_AES_128_GCM_SHA256
 123  bob\u{1b}[2J  idle 12s                  192.0.2.7  3m05s            TLSv1.3 TLS13_AES_128_GCM_SHA256
",
    );
}

#[test]
fn every_width_and_height_is_kept() {
    let report = report();
    for width in 20..200 {
        for height in 0..30 {
            let (lines, _) = whole(&report, Sort::Rate, Some(width), Some(height), 0);
            assert!(lines.len() <= height, "{height}");
            let most = lines.iter().map(|line| text::width(line)).max();
            assert!(most.is_none_or(|most| most <= width), "{width}: {lines:#?}");
        }
    }
}

#[test]
fn sessions_are_sorted() {
    let report = report();
    let ids = |sort| {
        let lines = sessions(&report, sort, None, (0, usize::MAX));
        let ids: Vec<String> = lines[1..]
            .iter()
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect();
        ids.join(" ")
    };
    assert_eq!(ids(Sort::Rate), "18 7@99 1 123");
    assert_eq!(ids(Sort::Id), "7@99 1 18 123");
    assert_eq!(ids(Sort::User), "18 123 7@99 1");
    assert_eq!(ids(Sort::Idle), "7@99 1 123 18");
    let lines = sessions(&report, Sort::Id, None, (1, 2));
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (Sort::Rate.next(), Sort::Id.next()),
        (Sort::Octets, Sort::Rate)
    );
    assert_eq!(Sort::Address.name(), "address");
}

#[test]
fn progress_is_a_part_or_an_amount() {
    let cases = [
        ((0, Some(0)), "100%"),
        ((999, Some(1000)), "99%"),
        ((1200, Some(1000)), "100%"),
        ((u64::MAX / 2, Some(u64::MAX)), "49%"),
        ((1234, None), "1.23 kB"),
    ];
    for ((octets, total), text) in cases {
        assert_eq!(done(octets, total), text);
    }
}

#[test]
fn hosts_are_shown_where_there_are_any() {
    let mut report = report();
    report.sessions[1].session.host = Some("ftp.example".to_owned());
    let lines = sessions(&report, Sort::Id, None, (0, usize::MAX));
    let cells = |line: &str| -> Vec<String> {
        let words = line.split_whitespace().take(3);
        words.map(str::to_owned).collect()
    };
    assert_eq!(cells(&lines[0]), ["ID", "USER", "HOST"]);
    let of = |id: &str| {
        let line = lines.iter().find(|line| cells(line)[0] == id).unwrap();
        cells(line)[2].clone()
    };
    let id = report.sessions[1].id.clone();
    assert_eq!(
        (of(&id).as_str(), of("7@99").as_str()),
        ("ftp.example", "-")
    );
    for width in 20..200 {
        let lines = sessions(&report, Sort::Id, Some(width), (0, usize::MAX));
        assert!(lines.iter().all(|line| text::width(line) <= width));
    }
}
