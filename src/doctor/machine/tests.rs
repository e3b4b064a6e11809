use std::fs;

use super::*;
use crate::doctor::ClientInput;

fn put(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn input() -> Input {
    Input {
        config: None,
        directory: None,
        certificate: None,
        key: None,
        users: None,
        explicit: Vec::new(),
        implicit: Vec::new(),
        passive_ports: 40000..=49999,
        connections_max: None,
        atomic: false,
        run_as: None,
        hosts: Vec::new(),
        clients: ClientInput::default(),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of facts")]
fn a_machine_is_read_from_its_files() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        &[
            ("proc/sys/kernel/osrelease", "6.1.0-25-amd64\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/core/default_qdisc", "fq\n"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            (
                "proc/sys/net/ipv4/tcp_available_congestion_control",
                "reno cubic bbr\n",
            ),
            ("proc/sys/net/netfilter/nf_conntrack_count", "17\n"),
            (
                "proc/modules",
                "tls 155648 0 - Live 0x0\nnf_conntrack_ftp 1 0 - Live 0x0\n",
            ),
            (
                "lib/modules/6.1.0-25-amd64/modules.builtin",
                "kernel/crypto/chacha20poly1305.ko\nkernel/net/a-b.ko\n",
            ),
            (
                "proc/meminfo",
                "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:  1024 kB\n",
            ),
            ("proc/42/comm", "ringftpd\n"),
            ("proc/42/cgroup", "0::/system.slice/ringftpd.service\n"),
            (
                "proc/42/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\nMax locked memory  unlimited  unlimited  bytes\n",
            ),
            ("proc/7/comm", "irqbalance\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            (
                "sys/fs/cgroup/system.slice/ringftpd.service/memory.max",
                "1048576\n",
            ),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/devices/system/cpu/isolated", "2-3\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
                "acpi-cpufreq\n",
            ),
            ("sys/devices/system/node/node0/cpulist", "0-1\n"),
            ("sys/devices/system/node/node1/cpulist", "2-3\n"),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet\n",
            ),
            (
                "sys/devices/system/clocksource/clocksource0/available_clocksource",
                "hpet acpi_pm \n",
            ),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/speed", "10000\n"),
            ("sys/class/net/eth0/device/numa_node", "1\n"),
            ("sys/class/net/eth0/device/msi_irqs/30", "msix\n"),
            (
                "sys/class/net/eth0/queues/rx-0/rps_cpus",
                "00000000,0000000f\n",
            ),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
            ("proc/irq/30/smp_affinity_list", "0-1\n"),
            ("sys/class/net/lo/operstate", "unknown\n"),
            ("etc/ufw/ufw.conf", "# x\nENABLED=yes\n"),
        ],
    );
    let facts = Machine::at(root.path()).facts(&input());
    assert_eq!(facts.kernel, "6.1.0-25-amd64");
    let setting = |name| facts.settings.get(name).map(String::as_str);
    assert_eq!(setting("net.core.somaxconn"), Some("4096"));
    assert_eq!(setting("net.ipv4.tcp_wmem"), None);
    for module in [
        "tls",
        "tcp_bbr",
        "sch_fq",
        "chacha20poly1305",
        "a_b",
        "nf_conntrack_ftp",
    ] {
        assert!(facts.modules.contains(module), "{module}");
    }
    let limits = facts.limits;
    assert_eq!(limits.server, Some(42));
    assert_eq!(
        (limits.descriptors_soft, limits.descriptors_hard),
        (Some(1024), Some(4096))
    );
    assert_eq!(limits.locked_memory, Some(u64::MAX));
    let memory = facts.memory;
    assert_eq!(
        (memory.total, memory.available),
        (Some(2 << 20), Some(1 << 20))
    );
    let group = "/sys/fs/cgroup/system.slice/ringftpd.service/memory.max";
    assert_eq!(memory.group_limit, Some((1 << 20, PathBuf::from(group))));
    let processors = facts.processors;
    assert_eq!(processors.usable, [0, 1, 2, 3]);
    assert_eq!(processors.isolated, [2, 3]);
    assert_eq!(processors.nodes.get(&1), Some(&vec![2, 3]));
    assert_eq!(processors.governors.get("powersave"), Some(&2));
    assert_eq!(facts.clock.source.as_deref(), Some("hpet"));
    assert_eq!(facts.clock.available, ["hpet", "acpi_pm"]);
    assert_eq!(facts.clock.synchronised, None);
    let [card] = facts.cards.as_slice() else {
        panic!("{:?}", facts.cards);
    };
    assert_eq!(
        (card.name.as_str(), card.megabits, card.node),
        ("eth0", Some(10_000), Some(1))
    );
    assert_eq!((card.receive_queues, card.spread_in_software), (1, true));
    assert_eq!(card.interrupts.get(&30), Some(&vec![0, 1]));
    assert_eq!((&card.features, &card.discipline), (&None, &None));
    assert_eq!(facts.tracked_connections, Some(17));
    assert!(facts.programs.contains("irqbalance"));
    assert_eq!(facts.firewall.tool, crate::doctor::facts::FirewallTool::Ufw);
    assert_eq!(facts.firewall.rules, None);
}

#[test]
fn rubbish_and_nothing_are_read_without_failing() {
    let root = tempfile::tempdir().unwrap();
    let empty = Machine::at(root.path()).facts(&input());
    assert_eq!(empty.kernel, "unknown");
    put(
        root.path(),
        &[
            ("proc/meminfo", "MemTotal: many kB\nMemAvailable\n"),
            ("proc/self/cgroup", "rubbish\n1:memory\n"),
            ("proc/self/limits", "Max open files\n"),
            ("sys/devices/system/cpu/online", "0-x,,-,9-3\n"),
            ("sys/class/net/eth0/device/numa_node", "-1\n"),
            ("sys/class/net/eth0/speed", "-1\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "x\n"),
        ],
    );
    let facts = Machine::at(root.path()).facts(&input());
    assert_eq!(facts.memory, crate::doctor::facts::Memory::default());
    assert_eq!(facts.limits.descriptors_soft, None);
    assert!(facts.processors.usable.is_empty());
    let card = facts.cards.first().unwrap();
    assert_eq!((card.megabits, card.node), (None, None));
}

#[test]
fn lists_of_processors_are_understood() {
    assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
    assert_eq!(list(""), [0; 0]);
    assert_eq!(list("0-18446744073709551615").len(), 8192);
}

#[test]
fn this_machine_can_be_read() {
    let facts = Machine::this().facts(&input());
    assert_ne!(facts.kernel, "unknown");
    assert!(!facts.processors.usable.is_empty());
    assert!(facts.memory.total.is_some());
    assert!(facts.clock.synchronised.is_some());
}
