//! Tests of the authenticator: what is hashed, what is remembered, who waits.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

fn now() -> Instant {
    #[allow(
        clippy::disallowed_methods,
        reason = "a starting point; the tests add to it"
    )]
    Instant::now()
}

fn users(pairs: &[(&str, &str)]) -> Accounts {
    let mut file = UsersFile::default();
    for (name, password) in pairs {
        let phc = hash_password(password.as_bytes()).unwrap();
        let user = User::new(phc, None, Permissions::ALL).unwrap();
        file.add(name, user).unwrap();
    }
    Accounts::from_users(&file, Path::new("/srv")).unwrap()
}

fn authenticator(pairs: &[(&str, &str)]) -> Arc<Authenticator> {
    Authenticator::new(users(pairs)).unwrap()
}

fn job(check: Check) -> HashJob {
    match check {
        Check::Hash(job) => job,
        Check::Known(verdict) => panic!("known: {verdict:?}"),
        Check::Wait(_) => panic!("another job is running"),
        Check::Pam(_) => panic!("PAM is asked"),
    }
}

fn name(verdict: &Verdict) -> Option<&str> {
    verdict.as_ref().map(|account| account.name.as_str())
}

fn known(check: Check) -> Option<String> {
    match check {
        Check::Known(verdict) => name(&verdict).map(str::to_owned),
        Check::Hash(_) => panic!("not known"),
        Check::Wait(_) => panic!("waits"),
        Check::Pam(_) => panic!("PAM is asked"),
    }
}

#[test]
fn a_verified_credential_is_remembered_for_a_while() {
    let authenticator = authenticator(&[("ann", "secret")]);
    let start = now();
    let verdict = job(authenticator.check(b"ann", b"secret", start)).run();
    assert_eq!(name(&verdict.unwrap()), Some("ann"));
    let later = start + limits::CREDENTIAL_REMEMBERED - Duration::from_millis(1);
    for _ in 0..1000 {
        let again = authenticator.check(b"ann", b"secret", later);
        assert_eq!(known(again), Some("ann".to_owned()));
    }
    assert_eq!(authenticator.hashes_computed(), 1);
    let expired = start + limits::CREDENTIAL_REMEMBERED;
    assert!(matches!(
        authenticator.check(b"ann", b"secret", expired),
        Check::Hash(_)
    ));
}

#[test]
fn where_a_certificate_is_asked_for_as_well_the_time_tells_nothing() {
    for (login, remembered) in [("enough", true), ("only", false), ("and-password", false)] {
        let phc = hash_password(b"secret").unwrap();
        let text = format!(
            "[users.ann]\npassword = '{phc}'\npermissions = []\ncertificates = ['subject:CN=ann']\ncertificate_login = '{login}'\n"
        );
        let file = UsersFile::parse(&text).unwrap();
        let accounts = Accounts::from_users(&file, Path::new("/srv")).unwrap();
        let authenticator = Authenticator::new(accounts).unwrap();
        let verdict = job(authenticator.check(b"ann", b"secret", now())).run();
        assert_eq!(name(&verdict.unwrap()), Some("ann"));
        let again = authenticator.check(b"ann", b"secret", now());
        assert_eq!(matches!(again, Check::Known(_)), remembered, "{login}");
    }
}

#[test]
fn unknown_names_and_wrong_passwords_cost_a_hash_each_time() {
    let authenticator = authenticator(&[("ann", "secret")]);
    for (user, password) in [
        ("bob", "secret"),
        ("ann", "wrong"),
        ("\u{fffd}", ""),
        ("", ""),
    ] {
        for _ in 0..2 {
            let before = authenticator.hashes_computed();
            let check = authenticator.check(user.as_bytes(), password.as_bytes(), now());
            assert_eq!(job(check).run(), Ok(None), "{user}");
            assert_eq!(authenticator.hashes_computed(), before + 1);
        }
    }
    let right = job(authenticator.check(b"ann", b"secret", now())).run();
    assert_eq!(name(&right.unwrap()), Some("ann"));
    // What is remembered opens for the right password only.
    assert_eq!(
        job(authenticator.check(b"ann", b"wrong", now())).run(),
        Ok(None)
    );
    assert_eq!(
        job(authenticator.check(b"annsecret", b"", now())).run(),
        Ok(None)
    );
}

#[test]
fn one_hash_serves_all_who_ask_at_once() {
    let authenticator = authenticator(&[("ann", "secret")]);
    let first = job(authenticator.check(b"ann", b"secret", now()));
    let waiting: Vec<Waiting> = (0..1000)
        .map(|_| match authenticator.check(b"ann", b"secret", now()) {
            Check::Wait(waiting) => waiting,
            _ => panic!("does not wait"),
        })
        .collect();
    let other = job(authenticator.check(b"ann", b"wrong", now()));
    assert_eq!(name(&first.run().unwrap()), Some("ann"));
    assert_eq!(other.run(), Ok(None));
    assert_eq!(authenticator.hashes_computed(), 2);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for waiting in waiting {
        let verdict = runtime.block_on(waiting.verdict()).unwrap();
        assert_eq!(name(&verdict), Some("ann"));
    }
}

#[test]
fn a_dropped_job_fails_those_who_wait_and_leaves_the_way_free() {
    let authenticator = authenticator(&[("ann", "secret")]);
    let first = job(authenticator.check(b"ann", b"secret", now()));
    let Check::Wait(waiting) = authenticator.check(b"ann", b"secret", now()) else {
        panic!("does not wait");
    };
    drop(first);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert_eq!(runtime.block_on(waiting.verdict()), Err(CheckFailed));
    let again = job(authenticator.check(b"ann", b"secret", now())).run();
    assert_eq!(name(&again.unwrap()), Some("ann"));
}

#[test]
fn other_accounts_forget_what_was_remembered_and_what_was_running() {
    let authenticator = authenticator(&[("ann", "old")]);
    let remembered = job(authenticator.check(b"ann", b"old", now())).run();
    assert!(remembered.unwrap().is_some());
    authenticator.replace(users(&[("ann", "middle")]));
    let running = job(authenticator.check(b"ann", b"middle", now()));
    authenticator.replace(users(&[("ann", "new")]));
    assert!(running.run().unwrap().is_some());
    for password in ["old", "middle"] {
        let check = authenticator.check(b"ann", password.as_bytes(), now());
        assert_eq!(job(check).run(), Ok(None), "{password}");
    }
    let new = job(authenticator.check(b"ann", b"new", now())).run();
    assert!(new.unwrap().is_some());
    authenticator.replace(users(&[]));
    assert_eq!(known(authenticator.check(b"ann", b"new", now())), None);
}

#[test]
fn anonymous_needs_no_password_and_may_only_read() {
    let plain = authenticator(&[("ann", "secret")]);
    assert_eq!(job(plain.check(b"anonymous", b"", now())).run(), Ok(None));
    let accounts = users(&[("ann", "secret")]).with_anonymous(Path::new("/pub"));
    plain.replace(accounts);
    for user in ["anonymous", "ftp", "Anonymous", "FTP"] {
        let Check::Known(Some(account)) = plain.check(user.as_bytes(), b"me@example.net", now())
        else {
            panic!("{user} is not let in");
        };
        assert_eq!(account.permissions, Permissions::READ_ONLY);
        assert_eq!(account.home, Path::new("/pub"));
    }
    // A real account of that name needs its password.
    plain.replace(users(&[("ftp", "secret")]).with_anonymous(Path::new("/pub")));
    assert_eq!(job(plain.check(b"ftp", b"guess", now())).run(), Ok(None));
}

#[test]
fn a_random_password_is_checked_at_once() {
    let password = random_password().unwrap();
    let accounts = Accounts::one_time("user", &password, Path::new("/srv"));
    let authenticator = Authenticator::new(accounts).unwrap();
    let check = |user: &[u8], password: &[u8]| known(authenticator.check(user, password, now()));
    assert_eq!(check(b"user", password.as_bytes()), Some("user".to_owned()));
    assert_eq!(check(b"user", b"guess"), None);
    assert_eq!(check(b"user", b""), None);
    assert_eq!(check(b"other", password.as_bytes()), None);
    assert_eq!(authenticator.hashes_computed(), 0);
}

#[test]
fn few_hashes_are_computed_at_once() {
    let authenticator = authenticator(&[("ann", "secret")]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut jobs: Vec<HashJob> = (0..limits::PASSWORD_HASHES_AT_ONCE_MAX)
        .map(|number| job(authenticator.check(b"ann", &[number as u8], now())))
        .collect();
    let mut late = job(authenticator.check(b"ann", b"late", now()));
    runtime.block_on(async {
        for job in &mut jobs {
            job.turn().await;
        }
        {
            let mut turn = std::pin::pin!(late.turn());
            let waker = std::task::Waker::noop();
            let mut context = std::task::Context::from_waker(waker);
            assert!(turn.as_mut().poll(&mut context).is_pending());
            drop(jobs.pop());
            turn.await;
        }
    });
    assert_eq!(late.run(), Ok(None));
}

#[test]
fn permissions_are_words() {
    let parse = |text: &str| text.parse::<Permissions>();
    assert_eq!(parse("read,list"), Ok(Permissions::READ_ONLY));
    assert_eq!(parse(" list , read "), Ok(Permissions::READ_ONLY));
    assert_eq!(parse("all"), Ok(Permissions::ALL));
    assert_eq!(parse(""), Ok(Permissions::NONE));
    assert_eq!(parse(&Permissions::ALL.to_string()), Ok(Permissions::ALL));
    let error = parse("read,fly").unwrap_err().to_string();
    assert!(
        error.contains("`fly`") && error.contains("make-directory"),
        "{error}"
    );
    assert!(!Permissions::READ_ONLY.allows(Permissions::WRITE));
    assert!(!Permissions::READ.allows(Permissions::READ_ONLY));
    assert!(!Permissions::READ_ONLY.intersects(Permissions::CHANGING));
}

#[test]
fn a_users_file_survives_being_written_and_read() {
    let phc = hash_password(b"secret").unwrap();
    let mut file = UsersFile::default();
    let home = Some("/srv/\u{e4} \"b\"".into());
    let reader = User::new(phc.clone(), home, Permissions::READ_ONLY).unwrap();
    file.add("ann.lee@example.net", reader).unwrap();
    file.add(
        "b\u{f6}b \"x\"",
        User::new(phc, None, Permissions::ALL).unwrap(),
    )
    .unwrap();
    let read = UsersFile::parse(&file.to_text()).unwrap();
    let shown = |file: &UsersFile| -> Vec<_> {
        file.iter()
            .map(|(name, user)| {
                (
                    name.to_owned(),
                    user.home().map(Path::to_path_buf),
                    user.permissions(),
                )
            })
            .collect()
    };
    assert_eq!(shown(&read), shown(&file));
    assert_eq!(shown(&read).len(), 2);
    let authenticator =
        Authenticator::new(Accounts::from_users(&read, Path::new("/d")).unwrap()).unwrap();
    let verdict = job(authenticator.check("b\u{f6}b \"x\"".as_bytes(), b"secret", now())).run();
    assert_eq!(verdict.unwrap().unwrap().home, Path::new("/d"));
}

#[test]
fn a_wrong_users_file_is_refused_with_the_line() {
    let phc = hash_password(b"secret").unwrap();
    let line = |text: &str| match UsersFile::parse(text) {
        Err(UsersError::Syntax { line, message }) => {
            assert!(
                !message.contains("hunter") && !message.contains("4711"),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
            line
        }
        Err(other) => panic!("{other}"),
        Ok(_) => 0,
    };
    assert_eq!(line(""), 0);
    assert_eq!(line(&format!("[users.ann]\npassword = \"{phc}\"\n")), 0);
    assert_eq!(line("[users.ann]\npassword = \"hunter2\"\n"), 2);
    assert_eq!(line("[users.ann]\n\npassword = 4711\n"), 3);
    assert_eq!(
        line(&format!(
            "[users.ann]\npassword = \"{phc}\"\nshell = \"x\"\n"
        )),
        3
    );
    assert_eq!(
        line(&format!(
            "[users.ann]\npassword = \"{phc}\"\nhome = \"srv\"\n"
        )),
        3
    );
    assert_eq!(
        line(&format!(
            "[users.ann]\npassword = \"{phc}\"\npermissions = [\"fly\"]\n"
        )),
        3
    );
    assert_eq!(
        line(&format!("\n[users.\" ann\"]\npassword = \"{phc}\"\n")),
        2
    );
    assert_eq!(line("[groups.x]\n"), 1);
    assert_eq!(line("[users.ann]\nhome = \"/srv\"\n"), 1);
    assert_eq!(line("[users.ann\n"), 1);
}

#[test]
fn names_are_short_and_printable() {
    for name in ["a", "ann.lee@example.net", "b\u{f6}b", "with space"] {
        assert_eq!(check_user_name(name), Ok(()), "{name}");
    }
    let long = "x".repeat(65);
    for name in ["", " ann", "ann ", "a\nb", "a\u{7f}", "\u{85}", &long] {
        assert_eq!(check_user_name(name), Err(UsersError::BadName), "{name:?}");
    }
}

#[test]
fn bounds_of_a_user_have_units_and_are_kept() {
    let hash = hash_password(b"secret").unwrap();
    let text = |lines: &str| format!("[users.ann]\npassword = \"{hash}\"\n{lines}");
    let file = UsersFile::parse(&text(
        "rate_download = \"10M\"\nrate_upload = 65536\nsessions_max = 3\nquota = \"5Gi\"\n",
    ))
    .unwrap();
    let bounds = Bounds {
        rate_download: Some(10_000_000),
        rate_upload: Some(65_536),
        sessions_max: Some(3),
        quota: Some(5 << 30),
    };
    let of = |file: &UsersFile| file.iter().next().unwrap().1.bounds();
    assert_eq!(of(&file), bounds);
    let again = UsersFile::parse(&file.to_text()).unwrap();
    assert_eq!(of(&again), bounds);
    let accounts = Accounts::from_users(&file, Path::new("/srv")).unwrap();
    assert_eq!(accounts.iter().next().unwrap().bounds, bounds);
    for bad in [
        "rate_download = \"999\"",
        "rate_upload = -1",
        "rate_upload = \"10MB\"",
        "rate_upload = 1.5",
        "sessions_max = -1",
        "quota = -1",
        "quota = \"5GB\"",
    ] {
        let error = UsersFile::parse(&text(bad)).err().unwrap().to_string();
        assert!(error.starts_with("line 3: "), "{bad}: {error}");
    }
}

#[test]
fn a_character_set_of_a_user_is_known_by_its_label_and_kept() {
    let hash = hash_password(b"secret").unwrap();
    let text = |lines: &str| format!("[users.ann]\npassword = \"{hash}\"\n{lines}");
    let charset = |text: &str| {
        let file = UsersFile::parse(text).unwrap();
        let accounts = Accounts::from_users(&file, Path::new("/srv")).unwrap();
        let charset = accounts.iter().next().unwrap().personal.charset;
        (charset.map(crate::proto::Charset::name), file.to_text())
    };
    let (known, written) = charset(&text("charset = \"cp936\"\n"));
    assert_eq!(known, Some("GBK"));
    assert_eq!(charset(&written).0, Some("GBK"));
    assert_eq!(charset(&text("charset = \"utf8\"\n")).0, Some("UTF-8"));
    assert_eq!(charset(&text("")).0, None);
    for (bad, words) in [
        ("charset = \"gkb\"", "`gkb`; did you mean `GBK`?"),
        ("charset = \"utf-16\"", "names cannot be in UTF-16LE"),
        ("charset = 936", "invalid type"),
    ] {
        let error = UsersFile::parse(&text(bad)).err().unwrap().to_string();
        let told = error.starts_with("line 3: ") && error.contains(words);
        assert!(told, "{bad}: {error}");
    }
}
