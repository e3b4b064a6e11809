use super::*;
use crate::tls::Version;

/// Does this kernel have TLS, or is it one without?
fn has_kernel_tls() -> bool {
    attach(&Link::new().unwrap()).is_ok()
}

#[test]
fn everything_this_kernel_protects_is_right() {
    let report = run();
    println!("{}\n{report}", crate::sys::host::kernel_release());
    for (suite, protection) in report.suites.iter().zip(Protection::ALL) {
        assert_eq!(suite.protection, protection);
        if !has_kernel_tls() {
            assert_eq!(suite.problem, Some(Problem::NoModule), "{protection}");
            continue;
        }
        match &suite.problem {
            None => assert_eq!(suite.receive_problem, None, "{protection}"),
            // Its module may be missing.
            Some(Problem::NoCipher(Cipher::ChaCha20Poly1305)) => continue,
            Some(problem) => panic!("{protection}: {problem}"),
        }
        let tls13 = protection.version == Version::Tls13;
        if tls13 && protection.cipher == Cipher::Aes256Gcm {
            // The first to be measured, and measured however slow the machine is.
            let costs = suite.costs;
            assert!(costs.user_send.and(costs.kernel_sendfile).is_some());
            assert!(costs.user_receive.and(costs.kernel_receive).is_some());
        }
        assert!(tls13 || !suite.rekey, "{protection}");
        let rekeys = report.suites.iter().any(|suite| suite.rekey);
        assert_eq!(suite.rekey, tls13 && rekeys, "{protection}");
    }
}

#[test]
fn without_kernel_tls_the_probe_takes_no_time() {
    if has_kernel_tls() {
        println!("skipped: this kernel has TLS");
        return;
    }
    // Other tests run beside this one; the fastest of several runs is what it takes. How much that is
    // depends on the machine, which may be an emulated one, and so does what it must be less than.
    let time = (0..20).map(|_| run().time).min().unwrap();
    let began = link::now();
    let bench = Bench::new().unwrap();
    let preparing = began.elapsed();
    drop(bench);
    println!("{time:?}; a certificate and a file would take {preparing:?}");
    assert!(time * 5 < preparing, "{time:?}, {preparing:?}");
}

#[test]
fn measuring_comes_to_an_end() {
    let report = run();
    // Far more than on a real machine: this runs in emulators, beside other tests.
    assert!(report.time < Duration::from_secs(60), "{report}");
    for suite in report.suites {
        for cost in [
            suite.costs.user_send,
            suite.costs.kernel_read,
            suite.costs.kernel_sendfile,
            suite.costs.user_receive,
            suite.costs.kernel_receive,
        ] {
            assert!(cost.is_none_or(|cost| cost > 0.0 && cost < 1e6), "{cost:?}");
        }
    }
}

#[test]
fn every_problem_names_a_remedy_in_one_line() {
    let key_error =
        |errno| DetachError::Kernel(OffloadError::Kernel(io::Error::from_raw_os_error(errno)));
    let [gcm, _, chacha, ..] = Protection::ALL;
    let missing = rustix::io::Errno::NOENT.raw_os_error();
    let unknown = rustix::io::Errno::INVAL.raw_os_error();
    let cases = [
        (Problem::NoModule, "modprobe tls"),
        (Problem::NoModule, "tuning/modules-load.conf"),
        (Problem::NoModule, "CONFIG_TLS"),
        (refused(key_error(missing), gcm), "modprobe aesni_intel"),
        (
            refused(key_error(missing), chacha),
            "modprobe chacha20poly1305",
        ),
        (refused(key_error(unknown), gcm), "Linux 6.1"),
        (Problem::Wrong("it differs".to_owned()), "another kernel"),
    ];
    for (problem, remedy) in cases {
        let text = problem.to_string();
        assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn an_unsupported_report_holds_every_suite() {
    let report = unsupported(Problem::NoModule);
    for (suite, protection) in report.suites.iter().zip(Protection::ALL) {
        assert_eq!(suite.protection, protection);
        assert_eq!(suite.problem, Some(Problem::NoModule));
        assert!(!suite.rekey);
    }
    assert_eq!(report.time, Duration::ZERO);
}

#[test]
fn both_ends_agree_on_every_suite_and_understand_each_other() {
    let bench = Bench::new().unwrap();
    for protection in Protection::ALL {
        let mut ends = bench.connect(protection).unwrap();
        let mut sealed = Vec::new();
        ends.engine.seal(b"from the server", &mut sealed).unwrap();
        ends.engine.close(&mut sealed);
        let mut plain = Vec::new();
        let closed = link::give_records(&mut ends.client, &sealed, &mut plain).unwrap();
        assert_eq!((&plain[..], closed), (&b"from the server"[..], true));
        // As the checks do it: the client goes on after the server's end.
        let mut records = Vec::new();
        link::write_records(&mut ends.client, b"from the client", &mut records).unwrap();
        let mut opened = Vec::new();
        let mut answer = Vec::new();
        ends.engine
            .process(&mut records, &mut opened, &mut answer)
            .unwrap();
        assert_eq!(opened, b"from the client");
    }
}
