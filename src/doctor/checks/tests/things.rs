//! Cards, clock, certificate, files.

use super::*;

#[test]
fn hardware_and_clock_are_judged() {
    use Severity::{Advice, Warning};
    let card = |change: fn(&mut Card)| move |facts: &mut Facts| change(&mut facts.cards[0]);
    spoilt(
        card(|c| c.receive_queues = 1),
        "card-queues:eth0",
        Warning,
        "nic-tune --apply eth0",
    );
    let one_core = |c: &mut Card| c.interrupts = [(30, vec![0]), (31, vec![0])].into();
    spoilt(card(one_core), "card-interrupts:eth0", Warning, "nic-tune");
    spoilt(
        card(|c| c.discipline = Some("pfifo".to_owned())),
        "card-discipline:eth0",
        Advice,
        "root mq",
    );
    spoilt(
        card(|c| c.features = None),
        "card-offloads:eth0",
        Advice,
        "apt-get install ethtool",
    );
    let no_tso = |c: &mut Card| {
        let features = c.features.as_mut().unwrap();
        features.get_mut("tcp-segmentation-offload").unwrap().on = false;
    };
    spoilt(
        card(no_tso),
        "card-offloads:eth0",
        Warning,
        "ethtool -K eth0 tso on",
    );
    let tls = |c: &mut Card| {
        let off = Feature {
            on: false,
            fixed: false,
        };
        c.features
            .as_mut()
            .unwrap()
            .insert("tls-hw-tx-offload".to_owned(), off);
    };
    spoilt(card(tls), "card-tls:eth0", Advice, "tls-hw-tx-offload on");
    let nodes = |f: &mut Facts| f.processors.nodes = [(0, vec![0, 1]), (1, vec![2, 3])].into();
    spoilt(nodes, "card-node:eth0", Advice, "CPUAffinity=0 1");
    spoilt(
        |f| f.processors.isolated = vec![3],
        "isolated-cores",
        Advice,
        "CPUAffinity=",
    );
    let slow = |f: &mut Facts| f.processors.governors = [("powersave".to_owned(), 4)].into();
    spoilt(slow, "cpu-governor", Warning, "performance");
    let adaptive = move |f: &mut Facts| {
        slow(f);
        f.processors.frequency_driver = Some("intel_pstate".to_owned());
    };
    spoilt(adaptive, "cpu-governor", Advice, "performance");
    spoilt(
        |f| f.clock.source = Some("hpet".to_owned()),
        "clock-source",
        Warning,
        "echo tsc >",
    );
    spoilt(
        |f| f.clock.synchronised = Some(false),
        "time",
        Advice,
        "timedatectl",
    );
}

#[test]
fn certificates_are_judged() {
    use Severity::{Advice, Error, Warning};
    let now = |days| move |facts: &mut Facts| facts.now = day(days);
    spoilt(now(20_091), "certificate-dates", Error, "renew");
    spoilt(now(20_080), "certificate-dates", Warning, "renew");
    spoilt(now(19_000), "certificate-dates", Error, "timedatectl");
    let chain = |change: fn(&mut Certificate)| {
        move |facts: &mut Facts| change(facts.certificate.as_mut().unwrap())
    };
    spoilt(
        chain(|c| c.in_order = false),
        "certificate-chain",
        Warning,
        "cat leaf.pem",
    );
    spoilt(
        chain(|c| c.trusted = Some(false)),
        "certificate-chain",
        Warning,
        "append the intermediate",
    );
    spoilt(
        chain(|c| c.trusted = None),
        "certificate-chain",
        Advice,
        "ca-certificates",
    );
    let own = |c: &mut Certificate| {
        c.trusted = Some(false);
        c.chain[0].issuer = c.chain[0].subject.clone();
    };
    spoilt(chain(own), "certificate-chain", Advice, "--cacert");
    spoilt(
        chain(|c| c.chain[0].rsa_bits = Some(1024)),
        "certificate-key",
        Warning,
        "prime256v1",
    );
    spoilt(
        chain(|c| c.chain[0].rsa_bits = Some(4096)),
        "certificate-key",
        Advice,
        "prime256v1",
    );
    spoilt(
        chain(|c| c.chain[0].names.clear()),
        "certificate-names",
        Warning,
        "subjectAltName",
    );
    let wrong = |c: &mut Certificate| {
        let problem = "/etc/key.pem: private key does not belong to it; give the key of it";
        c.problem = Some(problem.to_owned());
    };
    spoilt(chain(wrong), "certificate", Error, "give the key of it");
    spoilt(|f| f.certificate = None, "certificate", Advice, "--cert");
}

#[test]
fn files_that_decide_who_gets_in_are_judged() {
    use Severity::{Error, Warning};
    let users = |change: fn(&mut FileFacts)| move |f: &mut Facts| change(f.users.as_mut().unwrap());
    spoilt(
        users(|f| f.mode = 0o644),
        "users-file",
        Warning,
        "chmod 640 /etc/ringftpd/users.toml",
    );
    spoilt(
        users(|f| f.problem = Some("gone".to_owned())),
        "users-file",
        Error,
        "chown",
    );
    let open = |f: &mut FileFacts| f.open_parent = Some(PathBuf::from("/etc/my dir"));
    spoilt(
        users(open),
        "users-file",
        Warning,
        "chmod o-w '/etc/my dir'",
    );
    let config =
        |change: fn(&mut FileFacts)| move |f: &mut Facts| change(f.config.as_mut().unwrap());
    spoilt(
        config(|f| f.mode = 0o664),
        "config-file",
        Warning,
        "chmod go-w /etc/ringftpd/ringftpd.toml",
    );
    spoilt(
        config(open),
        "config-file",
        Warning,
        "chmod o-w '/etc/my dir'",
    );
}

#[test]
fn the_directory_is_judged() {
    use Severity::{Advice, Error, Warning};
    let directory = |change: fn(&mut DirectoryFacts)| {
        move |f: &mut Facts| change(f.directory.as_mut().unwrap())
    };
    spoilt(
        directory(|d| d.problem = Some("gone".to_owned())),
        "directory",
        Error,
        "install -d",
    );
    spoilt(
        directory(|d| d.mode = 0o777),
        "directory",
        Advice,
        "chmod o-w",
    );
    spoilt(
        directory(|d| d.file_system = Some("nfs4".to_owned())),
        "file-system",
        Advice,
        "local disk",
    );
    spoilt(
        directory(|d| d.file_system = Some("fuse.sshfs".to_owned())),
        "file-system",
        Advice,
        "local",
    );
    spoilt(
        directory(|d| d.mount_options = vec!["rw".to_owned()]),
        "access-times",
        Advice,
        "noatime",
    );
    spoilt(
        directory(|d| d.space = Some((1 << 40, 1 << 30))),
        "free-space",
        Warning,
        "df -h",
    );
    spoilt(
        directory(|d| d.inodes = Some((1_000_000, 10))),
        "free-inodes",
        Warning,
        "df -i",
    );
}
