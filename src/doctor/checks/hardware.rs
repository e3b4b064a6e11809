//! Network cards, interrupts, processors, the clock.

use std::collections::BTreeSet;

use crate::doctor::facts::Card;
use crate::doctor::{Facts, Finding, Group, Severity};

/// Clock sources that every reading of the time must ask the kernel, or slow hardware, for.
const SLOW_CLOCKS: [&str; 5] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"];
/// Offloads without which each packet costs a way through the whole kernel.
const OFFLOADS: [&str; 4] = [
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "scatter-gather",
];
/// Kernel TLS in the card.
const TLS_OFFLOAD: &str = "tls-hw-tx-offload";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for card in &facts.cards {
        findings.extend(queues(card, facts));
        findings.extend(interrupts(card, facts));
        findings.extend(node(card, facts));
        findings.extend(offloads(card));
        findings.extend(discipline(card));
    }
    findings.extend(balancer(facts));
    findings.extend(isolated(facts));
    findings.push(governor(facts));
    findings.push(clock_source(facts));
    findings.push(synchronised(facts));
    findings
}

fn tune(card: &Card) -> String {
    format!("tuning/nic-tune --apply {}", card.name)
}

fn queues(card: &Card, facts: &Facts) -> Option<Finding> {
    let cores = facts.processors.usable.len();
    let queues = card.receive_queues;
    if queues == 0 {
        return None;
    }
    let spread = if card.spread_in_software {
        ", spread in software (RPS)"
    } else {
        ""
    };
    let driver = card.driver.as_deref().unwrap_or("unknown");
    let finding = Finding::new(format!("card-queues:{}", card.name), Group::Hardware)
        .measured(format!(
            "{queues} receive queue{} for {cores} cores{spread}; driver {driver}",
            if queues == 1 { "" } else { "s" }
        ))
        .wanted("a queue for each core")
        .why(
            "the core that takes a queue's interrupts handles its packets; one queue makes one core do that for all, and it is the first to \
             be full. Beyond 16 cores, fewer queues than cores are usually enough",
        );
    let few = queues < cores.min(16) && !card.spread_in_software;
    // One queue for a few slow connections is no harm: what matters is speed.
    let severity = if queues == 1 && cores > 2 {
        Severity::Warning
    } else {
        Severity::Advice
    };
    Some(finding.bad_if(few, severity, tune(card)))
}

fn interrupts(card: &Card, facts: &Facts) -> Option<Finding> {
    let cores = facts.processors.usable.len();
    if card.receive_queues < 2 || card.interrupts.len() < 2 || cores < 2 {
        return None;
    }
    let sets: BTreeSet<&Vec<usize>> = card.interrupts.values().collect();
    let used: BTreeSet<usize> = card.interrupts.values().flatten().copied().collect();
    let finding = Finding::new(format!("card-interrupts:{}", card.name), Group::Hardware)
        .measured(format!(
            "{} interrupts on {} of {cores} cores",
            card.interrupts.len(),
            used.len().min(cores)
        ))
        .wanted("spread over the cores")
        .why("queues help only when their interrupts go to different cores");
    let single = sets.len() == 1 && used.len() == 1;
    Some(finding.bad_if(single, Severity::Warning, tune(card)))
}

fn node(card: &Card, facts: &Facts) -> Option<Finding> {
    let nodes = &facts.processors.nodes;
    let own = card.node?;
    if nodes.len() < 2 {
        return None;
    }
    let local = nodes.get(&own)?;
    let usable = &facts.processors.usable;
    let near = usable.iter().filter(|core| local.contains(core)).count();
    let finding = Finding::new(format!("card-node:{}", card.name), Group::Hardware)
        .measured(format!(
            "on NUMA node {own}, as {near} of {} usable cores",
            usable.len()
        ))
        .wanted("all cores of the server on the node of its card")
        .why("every packet that a core of another node handles crosses the link between them; it matters from about 40 Gbit/s on");
    let list: Vec<String> = local.iter().map(usize::to_string).collect();
    Some(finding.bad_if(
        near < usable.len(),
        Severity::Advice,
        format!(
            "CPUAffinity={} and NUMAPolicy=bind, NUMAMask={own} in the unit",
            list.join(" ")
        ),
    ))
}

fn offloads(card: &Card) -> Vec<Finding> {
    let finding = |what: &str| Finding::new(format!("card-{what}:{}", card.name), Group::Hardware);
    let offloads = finding("offloads")
        .wanted(OFFLOADS.join(", "))
        .why("with them the kernel handles 64 KiB at a time instead of 1.5: several times the throughput of a core");
    let Some(features) = &card.features else {
        return vec![
            offloads
                .measured("not looked at: there is no `ethtool` here")
                .bad(
                    Severity::Advice,
                    format!("apt-get install ethtool; then: ethtool -k {}", card.name),
                ),
        ];
    };
    let off: Vec<&str> = OFFLOADS
        .into_iter()
        .filter(|name| features.get(*name).is_some_and(|feature| !feature.on))
        .collect();
    let changeable = off
        .iter()
        .any(|name| features.get(*name).is_some_and(|feature| !feature.fixed));
    let short = [
        ("tcp-segmentation-offload", "tso"),
        ("generic-segmentation-offload", "gso"),
        ("generic-receive-offload", "gro"),
        ("scatter-gather", "sg"),
    ];
    let switches: String = short
        .iter()
        .filter(|(name, _)| off.contains(name))
        .map(|(_, short)| format!(" {short} on"))
        .collect();
    let mut findings = vec![if off.is_empty() {
        offloads.measured("on")
    } else if changeable {
        offloads.measured(format!("off: {}", off.join(", "))).bad(
            Severity::Warning,
            format!("ethtool -K {}{switches}", card.name),
        )
    } else {
        offloads
            .measured(format!("off and fixed by the driver: {}", off.join(", ")))
            .bad(
                Severity::Advice,
                "another kind of card, in a virtual machine virtio with its offloads",
            )
    }];
    if let Some(feature) = features.get(TLS_OFFLOAD).filter(|f| !f.fixed || f.on) {
        let tls = finding("tls")
            .measured(if feature.on { "on" } else { "off" })
            .wanted("on")
            .why("this card can encrypt records of kernel TLS (TLS 1.2 and 1.3 AES-GCM, by the card), which takes the cipher, most of a download's CPU time, off the cores");
        findings.push(tls.bad_if(
            !feature.on,
            Severity::Advice,
            format!("ethtool -K {} {TLS_OFFLOAD} on", card.name),
        ));
    }
    findings
}

fn discipline(card: &Card) -> Option<Finding> {
    let kind = card.discipline.as_ref()?;
    let finding = Finding::new(format!("card-discipline:{}", card.name), Group::Hardware)
        .measured(kind.clone())
        .wanted("fq")
        .why(
            "the setting net.core.default_qdisc holds only for cards that come up after it was set. fq paces by itself; with others TCP paces by \
             timers of its own, which costs more CPU time with many connections",
        );
    // One fq for a card with many queues would be one lock for all cores: mq has one of the default for each.
    let name = &card.name;
    let fix = if card.receive_queues > 1 {
        format!("sysctl -w net.core.default_qdisc=fq && tc qdisc replace dev {name} root mq")
    } else {
        format!("tc qdisc replace dev {name} root fq")
    };
    Some(finding.bad_if(kind != "fq", Severity::Advice, fix))
}

fn balancer(facts: &Facts) -> Option<Finding> {
    let queues = facts.cards.iter().any(|card| card.receive_queues > 1);
    if !queues || facts.processors.usable.len() < 2 {
        return None;
    }
    let runs = facts.programs.contains("irqbalance");
    Some(
        Finding::new("interrupt-balancer", Group::Hardware)
            .measured(if runs { "irqbalance runs" } else { "irqbalance does not run" })
            .wanted("one hand on the interrupts")
            .why(
                "irqbalance is right where nothing was set by hand. What tuning/nic-tune sets it undoes within ten seconds: stop it there, \
                 or leave the interrupts to it",
            ),
    )
}

fn isolated(facts: &Facts) -> Option<Finding> {
    let processors = &facts.processors;
    if processors.isolated.is_empty() {
        return None;
    }
    let used: Vec<String> = processors
        .usable
        .iter()
        .filter(|core| processors.isolated.contains(core))
        .map(usize::to_string)
        .collect();
    let finding = Finding::new("isolated-cores", Group::Hardware)
        .measured(format!(
            "{} isolated (isolcpus=), {} of them usable here",
            processors.isolated.len(),
            used.len()
        ))
        .wanted("no core that was isolated for something else")
        .why("the server pins a thread to each core that it may use; on isolated ones its helper threads are not balanced");
    Some(finding.bad_if(
        !used.is_empty(),
        Severity::Advice,
        "CPUAffinity= in the unit, with the cores that are the server's; or --cores N",
    ))
}

fn governor(facts: &Facts) -> Finding {
    let processors = &facts.processors;
    let finding = Finding::new("cpu-governor", Group::Hardware)
        .wanted("performance")
        .why(
            "a core that clocks down between commands takes up to milliseconds to be fast again: small files and logins wait for it; \
             bulk transfers do not care",
        );
    if processors.governors.is_empty() {
        return finding.measured("none: firmware or hypervisor decide");
    }
    let kinds: Vec<String> = processors
        .governors
        .iter()
        .map(|(name, count)| format!("{name} on {count}"))
        .collect();
    let driver = processors.frequency_driver.as_deref().unwrap_or_default();
    // Their `powersave` follows the load within the processor, unlike that of other drivers, which means the lowest frequency.
    let adaptive = matches!(driver, "intel_pstate" | "amd-pstate-epp");
    let slow = processors.governors.contains_key("powersave") && !adaptive;
    let severity = if slow {
        Severity::Warning
    } else {
        Severity::Advice
    };
    let all_fast = processors
        .governors
        .keys()
        .all(|name| name == "performance");
    finding
        .measured(format!("{} ({driver})", kinds.join(", ")))
        .bad_if(!all_fast, severity, "cpupower frequency-set -g performance")
}

fn clock_source(facts: &Facts) -> Finding {
    let clock = &facts.clock;
    let finding = Finding::new("clock-source", Group::Time)
        .wanted("tsc, or the hypervisor's or architecture's own")
        .why(
            "the clock is read several times for each command; these are read without entering the kernel (vDSO), hpet and acpi_pm by way \
             of slow hardware, at many times the cost",
        );
    let Some(source) = clock.source.as_deref() else {
        return finding.measured("unknown").bad(
            Severity::Advice,
            "cat /sys/devices/system/clocksource/clocksource0/current_clocksource",
        );
    };
    let better = clock
        .available
        .iter()
        .find(|name| !SLOW_CLOCKS.contains(&name.as_str()));
    let fix = better.map_or_else(
        || "none that is fast is offered: dmesg | grep -i clocksource tells why the kernel distrusts tsc".to_owned(),
        |better| format!("echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
    );
    finding
        .measured(format!("{source}, of {}", clock.available.join(", ")))
        .bad_if(SLOW_CLOCKS.contains(&source), Severity::Warning, fix)
}

fn synchronised(facts: &Facts) -> Finding {
    let finding = Finding::new("time", Group::Time)
        .wanted("kept by a time service")
        .why("certificates, session tickets, MDTM and logs go by it; clients mirror by times, and fetch again what seems newer");
    match facts.clock.synchronised {
        Some(true) => finding.measured("synchronised"),
        Some(false) => finding.measured("the kernel's clock is not synchronised").bad(
            Severity::Advice,
            "timedatectl set-ntp true; without systemd: apt-get install chrony. Containers and many virtual machines have their host's clock",
        ),
        None => finding.measured("unknown"),
    }
}
