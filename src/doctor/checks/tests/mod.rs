mod others;
mod things;

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::doctor::facts::*;
use crate::doctor::{ClientInput, Severity, tuning};
use crate::sys::host::RingProblem;
use crate::tls::probe::Problem;

fn input() -> Input {
    Input {
        directory: None,
        certificate: Some(PathBuf::from("/etc/chain.pem")),
        key: Some(PathBuf::from("/etc/key.pem")),
        config: None,
        users: None,
        explicit: vec!["[::]:21".parse().unwrap()],
        implicit: vec!["[::]:990".parse().unwrap()],
        passive_ports: 40000..=49999,
        connections_max: Some(1000),
        atomic: false,
        run_as: None,
        hosts: Vec::new(),
        clients: ClientInput::default(),
    }
}

fn day(days: u64) -> Option<std::time::SystemTime> {
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400))
}

/// A machine that is as it should be.
#[expect(clippy::too_many_lines, reason = "a table of facts")]
fn facts() -> Facts {
    let mut settings: std::collections::BTreeMap<String, String> = tuning::settings()
        .into_iter()
        .map(|line| (line.name, line.value))
        .collect();
    for (name, value) in [
        ("fs.file-max", "9223372036854775807"),
        ("fs.nr_open", "1048576"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("net.netfilter.nf_conntrack_max", "262144"),
        (
            "net.netfilter.nf_conntrack_tcp_timeout_established",
            "432000",
        ),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    let leaf = Link {
        subject: "CN=files.example".to_owned(),
        issuer: "CN=middle".to_owned(),
        not_before: day(20_000),
        not_after: day(20_090),
        key: "EC 256".to_owned(),
        names: vec!["files.example".to_owned()],
        for_servers: true,
        ..Link::default()
    };
    let on = |name: &str| {
        let feature = Feature {
            on: true,
            fixed: false,
        };
        (name.to_owned(), feature)
    };
    Facts {
        kernel: "6.14.0-amd64".to_owned(),
        settings,
        modules: tuning::modules().into_iter().map(|l| l.name).collect(),
        kernel_tls: vec![("TLSv1.3 AES-128-GCM".to_owned(), None)],
        limits: Limits {
            server: Some(7),
            descriptors_soft: Some(1_048_576),
            descriptors_hard: Some(1_048_576),
            locked_memory: Some(8 << 20),
        },
        memory: Memory {
            total: Some(16 << 30),
            available: Some(12 << 30),
            group_limit: Some((8 << 30, PathBuf::from("/sys/fs/cgroup/memory.max"))),
        },
        processors: Processors {
            usable: vec![0, 1, 2, 3],
            nodes: [(0, vec![0, 1, 2, 3])].into(),
            governors: [("performance".to_owned(), 4)].into(),
            ..Processors::default()
        },
        cards: vec![Card {
            name: "eth0".to_owned(),
            driver: Some("ice".to_owned()),
            receive_queues: 4,
            node: Some(0),
            interrupts: [(30, vec![0]), (31, vec![1])].into(),
            discipline: Some("fq".to_owned()),
            features: Some(
                [
                    on("tcp-segmentation-offload"),
                    on("generic-segmentation-offload"),
                    on("generic-receive-offload"),
                    on("scatter-gather"),
                ]
                .into(),
            ),
            ..Card::default()
        }],
        clock: Clock {
            source: Some("tsc".to_owned()),
            available: vec!["tsc".to_owned(), "hpet".to_owned()],
            synchronised: Some(true),
        },
        tracked_connections: Some(100),
        firewall: Firewall {
            tool: FirewallTool::None,
            rules: Some(InputRules::default()),
        },
        certificate: Some(Certificate {
            chain: vec![leaf],
            in_order: true,
            trusted: Some(true),
            ..Certificate::default()
        }),
        config: Some(FileFacts {
            path: PathBuf::from("/etc/ringftpd/ringftpd.toml"),
            problem: None,
            mode: 0o644,
            owner: 0,
            open_parent: None,
        }),
        users: Some(FileFacts {
            path: PathBuf::from("/etc/ringftpd/users.toml"),
            problem: None,
            mode: 0o600,
            owner: 0,
            open_parent: None,
        }),
        directory: Some(DirectoryFacts {
            path: PathBuf::from("/srv/ftps"),
            mode: 0o755,
            device: Some(0x801),
            file_system: Some("ext4".to_owned()),
            mount_options: vec!["rw".to_owned(), "noatime".to_owned()],
            space: Some((1 << 40, 1 << 39)),
            inodes: Some((1_000_000, 900_000)),
            ..DirectoryFacts::default()
        }),
        now: day(20_001),
        account: Account {
            name: "root".to_owned(),
            user: 0,
        },
        ..Facts::default()
    }
}

#[test]
fn a_machine_that_is_as_it_should_be_has_nothing_to_mend() {
    let findings = examine(&input(), &facts());
    for finding in &findings {
        assert_eq!(finding.severity, Severity::Ok, "{finding:?}");
        assert_eq!(finding.fix, None, "{finding:?}");
        assert!(!finding.measured.is_empty(), "{finding:?}");
        assert!(
            !finding.wanted.is_empty() && !finding.why.is_empty(),
            "{finding:?}"
        );
    }
    assert!(findings.len() > 35, "{}", findings.len());
    let mut ids: Vec<&str> = findings.iter().map(|f| f.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), findings.len(), "a name stands twice");
}

/// Changes one fact; exactly the finding named must turn bad, that much, with such a remedy.
#[track_caller]
fn spoilt(change: impl Fn(&mut Facts), id: &str, severity: Severity, remedy: &str) {
    let mut facts = facts();
    change(&mut facts);
    let bad: Vec<Finding> = examine(&input(), &facts)
        .into_iter()
        .filter(|finding| finding.severity > Severity::Ok)
        .collect();
    let [finding] = bad.as_slice() else {
        panic!("{id}: {bad:?}");
    };
    assert_eq!((finding.id.as_str(), finding.severity), (id, severity));
    let fix = finding.fix.as_deref().unwrap_or_default();
    assert!(fix.contains(remedy), "{id}: {fix}");
}

fn set(name: &'static str, value: &'static str) -> impl Fn(&mut Facts) {
    move |facts| {
        facts.settings.insert(name.to_owned(), value.to_owned());
    }
}

#[test]
fn every_setting_is_compared() {
    use Severity::{Advice, Warning};
    for (name, value, severity, remedy) in [
        ("kernel.io_uring_disabled", "1", Warning, "=0"),
        ("net.core.somaxconn", "128", Warning, "=4096"),
        ("net.ipv4.tcp_max_syn_backlog", "512", Advice, "=8192"),
        (
            "net.ipv4.tcp_rmem",
            "4096\t131072\t6291456",
            Advice,
            "='4096 131072 33554432'",
        ),
        (
            "net.ipv4.tcp_wmem",
            "4096\t16384\t4194304",
            Advice,
            "33554432'",
        ),
        (
            "net.ipv4.ip_local_reserved_ports",
            "8080,40000-44999",
            Warning,
            "=8080,40000-44999,40000-49999",
        ),
        (
            "net.ipv4.ip_local_reserved_ports",
            "",
            Warning,
            "=40000-49999",
        ),
        ("net.ipv4.tcp_slow_start_after_idle", "1", Advice, "=0"),
        ("net.core.default_qdisc", "pfifo_fast", Advice, "=fq"),
        ("net.ipv4.tcp_congestion_control", "cubic", Advice, "=bbr"),
    ] {
        spoilt(
            set(name, value),
            &format!("sysctl:{name}"),
            severity,
            remedy,
        );
    }
    // Higher than wanted, spelt otherwise, or missing where some kernels lack it: nothing is wrong.
    for change in [
        &set("net.core.somaxconn", "65535"),
        &set("net.ipv4.tcp_rmem", "1 2 99999999"),
        &set("net.ipv4.ip_local_port_range", "50000\t60999"),
        &|facts: &mut Facts| drop(facts.settings.remove("kernel.io_uring_disabled")),
    ] as [&dyn Fn(&mut Facts); 4]
    {
        let mut facts = facts();
        change(&mut facts);
        let findings = examine(&input(), &facts);
        let bad = findings.iter().find(|f| f.severity > Severity::Ok);
        assert_eq!(bad, None);
    }
    let absent = |facts: &mut Facts| drop(facts.settings.remove("net.core.somaxconn"));
    spoilt(absent, "sysctl:net.core.somaxconn", Advice, "on the host");
    let scaling = "net.ipv4.tcp_window_scaling";
    spoilt(
        set(scaling, "0"),
        &format!("sysctl:{scaling}"),
        Warning,
        "=1",
    );
}

#[test]
fn kernels_and_resources_are_judged() {
    use Severity::{Advice, Error, Warning};
    let release =
        |release: &'static str| move |facts: &mut Facts| facts.kernel = release.to_owned();
    spoilt(
        release("5.10.0-28-amd64"),
        "kernel-version",
        Warning,
        "newer kernel",
    );
    spoilt(
        release("unknown"),
        "kernel-version",
        Warning,
        "newer kernel",
    );
    let disabled = |f: &mut Facts| f.ring_problem = Some(RingProblem::Disabled { setting: 2 });
    spoilt(
        disabled,
        "io_uring",
        Error,
        "sysctl -w kernel.io_uring_disabled=0",
    );
    let no_tls = |facts: &mut Facts| facts.kernel_tls[0].1 = Some(Problem::NoModule);
    spoilt(no_tls, "kernel-tls", Advice, "modprobe tls");
    let one = |facts: &mut Facts| {
        let suite = "TLSv1.3 AES-256-GCM".to_owned();
        let problem = Problem::Unsupported("no".to_owned());
        facts.kernel_tls.push((suite, Some(problem)));
    };
    spoilt(one, "kernel-tls:TLSv1.3 AES-256-GCM", Advice, "6.1");
    let module = |facts: &mut Facts| {
        facts.modules.remove("tcp_bbr");
    };
    spoilt(module, "module:tcp_bbr", Advice, "modprobe tcp_bbr");
    let few = |facts: &mut Facts| facts.limits.descriptors_soft = Some(1024);
    spoilt(few, "descriptors", Warning, "LimitNOFILE=1048576");
    spoilt(
        set("fs.file-max", "3000"),
        "file-max",
        Warning,
        "fs.file-max=",
    );
    spoilt(set("fs.nr_open", "65536"), "nr-open", Warning, "=1048576");
    let little = |facts: &mut Facts| facts.memory.available = Some(64 << 20);
    spoilt(little, "memory", Warning, "--connections-max");
    let group = |f: &mut Facts| f.memory.group_limit = Some((64 << 20, PathBuf::from("/x")));
    spoilt(group, "memory-group", Warning, "MemoryMax=");
}

#[test]
fn descriptors_are_those_that_the_server_would_have() {
    let mut facts = facts();
    facts.limits.server = None;
    facts.limits.descriptors_soft = Some(1024);
    facts.limits.descriptors_hard = Some(4096);
    let severity = |facts: &Facts, input: &Input| {
        let findings = examine(input, facts);
        let found = findings.iter().find(|f| f.id == "descriptors");
        found.unwrap().severity
    };
    // Root raises the hard limit, others the soft one to it.
    assert_eq!(severity(&facts, &input()), Severity::Ok);
    facts.account.user = 1000;
    assert_eq!(severity(&facts, &input()), Severity::Ok);
    let many = Input {
        connections_max: Some(2000),
        ..input()
    };
    assert_eq!(severity(&facts, &many), Severity::Warning);
    // An upload that waits for its name holds more.
    let atomic = Input {
        atomic: true,
        ..input()
    };
    assert_eq!(severity(&facts, &atomic), Severity::Warning);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of facts")]
fn ports_and_firewalls_are_judged() {
    use Severity::{Advice, Warning};
    let closed = |tool, chain: &'static str, accepted: Vec<std::ops::RangeInclusive<u16>>| {
        move |facts: &mut Facts| {
            facts.firewall.tool = tool;
            facts.firewall.rules = Some(InputRules {
                closed: vec![chain.to_owned()],
                accepted: accepted.clone(),
            });
        }
    };
    let none = FirewallTool::None;
    spoilt(
        closed(none, "inet filter input", vec![22..=22]),
        "firewall",
        Warning,
        "nft insert rule inet filter input tcp dport '{ 21, 990, 40000-49999 }' accept",
    );
    spoilt(
        closed(FirewallTool::Ufw, "ip filter INPUT", vec![21..=21]),
        "firewall",
        Warning,
        "ufw allow proto tcp to any port 21,990,40000:49999",
    );
    spoilt(
        closed(
            FirewallTool::Firewalld,
            "inet firewalld filter_INPUT",
            vec![],
        ),
        "firewall",
        Warning,
        "--add-port=21/tcp --add-port=990/tcp --add-port=40000-49999/tcp",
    );
    spoilt(
        closed(none, "iptables INPUT", vec![21..=990]),
        "firewall",
        Warning,
        "--dports 21,990,40000:49999",
    );
    spoilt(
        |f| f.firewall.rules = None,
        "firewall",
        Advice,
        "nft insert rule",
    );
    let mut open = facts();
    closed(none, "c", vec![45000..=65535, 1..=1000, 40000..=45000])(&mut open);
    let findings = examine(&input(), &open);
    assert!(findings.iter().all(|f| f.severity == Severity::Ok));

    spoilt(
        |f| f.account.user = 1000,
        "low-ports",
        Advice,
        "cap_net_bind_service",
    );
    spoilt(
        |f| f.tracked_connections = Some(260_000),
        "tracking-table",
        Warning,
        "=524288",
    );
    let table = "net.netfilter.nf_conntrack_max";
    spoilt(
        set(table, "2048"),
        "tracking-table",
        Advice,
        "nf_conntrack_max=4096",
    );
    let timeout = "net.netfilter.nf_conntrack_tcp_timeout_established";
    spoilt(set(timeout, "60"), "tracking-timeout", Warning, timeout);
    let helper = |f: &mut Facts| {
        f.modules.insert("nf_conntrack_ftp".to_owned());
    };
    spoilt(helper, "tracking-helper", Advice, "modprobe -r");
    let narrow = Input {
        passive_ports: 40000..=40099,
        ..input()
    };
    let findings = examine(&narrow, &facts());
    let range = findings.iter().find(|f| f.id == "passive-range").unwrap();
    assert_eq!(range.severity, Warning);
}

#[test]
fn nothing_known_is_no_reason_to_fail() {
    let findings = examine(&input(), &Facts::default());
    assert!(
        findings.iter().all(|f| f.severity < Severity::Error),
        "{findings:?}"
    );
}

#[test]
fn sizes_and_words_of_a_shell() {
    assert_eq!(size(0), "0 octets");
    assert_eq!(size(1536), "1.5 KiB");
    assert_eq!(size(3 << 40), "3.0 TiB");
    assert_eq!(quoted("/srv/a-b"), "/srv/a-b");
    assert_eq!(quoted("it's"), r"'it'\''s'");
    assert_eq!(quoted(""), "''");
}
