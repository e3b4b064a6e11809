//! Ports: the passive range, low ports, the firewall and its table of connections.

use std::ops::RangeInclusive;

use crate::doctor::facts::FirewallTool;
use crate::doctor::{Facts, Finding, Group, Input, Severity};

/// Passive ports that should be there when nobody says how many sessions there may be.
const PASSIVE_PORTS_MIN: u64 = 1000;
/// Control connections send a TCP keepalive probe every 50 seconds; a firewall that forgets them sooner breaks them.
const TRACKING_SECONDS_MIN: u64 = 300;
/// Part of the firewall's table, in percent, above which it is too full.
const TABLE_PERCENT_MAX: u64 = 75;

pub(super) fn check(input: &Input, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![passive_range(input)];
    findings.extend(low_ports(input, facts));
    findings.push(firewall(input, facts));
    findings.extend(tracking(input, facts));
    findings
}

fn passive_range(input: &Input) -> Finding {
    let (first, last) = (*input.passive_ports.start(), *input.passive_ports.end());
    let count = u64::from(last.saturating_sub(first)) + 1;
    let wanted = input
        .connections_max
        .map_or(PASSIVE_PORTS_MIN, u64::from)
        .min(PASSIVE_PORTS_MIN * 10);
    let severity = if input.connections_max.is_some() || count < 100 {
        Severity::Warning
    } else {
        Severity::Advice
    };
    Finding::new("passive-range", Group::Network)
        .measured(format!("{count} ports, {first}-{last}"))
        .wanted(format!("at least {wanted}"))
        .why(
            "a port is taken from PASV until the client has connected; a client that gets a port again too soon finds its old \
             connection in the way, and few ports are easily guessed (RFC 2577 section 8)",
        )
        .bad_if(count < wanted, severity, "--passive-ports 40000-49999")
}

fn low_ports(input: &Input, facts: &Facts) -> Option<Finding> {
    let first_free: u16 = facts
        .settings
        .get("net.ipv4.ip_unprivileged_port_start")
        .and_then(|text| text.parse().ok())
        .unwrap_or(1024);
    let low: Vec<u16> = input
        .control_ports()
        .into_iter()
        .filter(|port| *port < first_free)
        .collect();
    if low.is_empty() {
        return None;
    }
    let finding = Finding::new("low-ports", Group::Network)
        .measured(format!("{} as {}", list(&low), facts.account.name))
        .wanted("the right to bind ports below net.ipv4.ip_unprivileged_port_start")
        .why("started as root the server binds them and becomes another account; the unit gives the capability for it");
    Some(finding.bad_if(
        facts.account.user != 0,
        Severity::Advice,
        "use the unit of tuning/, or: setcap cap_net_bind_service=+ep /usr/local/bin/ringftpd",
    ))
}

fn list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(", ")
}

/// Whether one of the ranges, or several together, hold the whole of `wanted`.
fn covers(ranges: &[RangeInclusive<u16>], wanted: &RangeInclusive<u16>) -> bool {
    let mut sorted: Vec<_> = ranges.to_vec();
    sorted.sort_by_key(|range| *range.start());
    let mut next = u32::from(*wanted.start());
    for range in sorted {
        if u32::from(*range.start()) <= next {
            next = next.max(u32::from(*range.end()) + 1);
        }
    }
    next > u32::from(*wanted.end())
}

fn firewall(input: &Input, facts: &Facts) -> Finding {
    let passive = &input.passive_ports;
    let control = input.control_ports();
    let mut wanted: Vec<RangeInclusive<u16>> = control.iter().map(|port| *port..=*port).collect();
    wanted.push(passive.clone());
    let finding = Finding::new("firewall", Group::Network)
        .wanted(format!(
            "lets in TCP {}",
            wanted.iter().map(range).collect::<Vec<_>>().join(", ")
        ))
        .why(
            "the client opens passive data connections to ports that no firewall can learn from an encrypted control connection: \
             the whole range must be let in, by firewalls between, too",
        );
    let closed_to =
        |tool: FirewallTool, chain: Option<&str>| command(tool, chain, &control, passive);
    let tool = facts.firewall.tool;
    let Some(rules) = &facts.firewall.rules else {
        let finding = finding
            .measured("not looked at: the rules cannot be read, as root with `nft` they can");
        return finding.bad(Severity::Advice, closed_to(tool, None));
    };
    let Some(chain) = rules.closed.first() else {
        return finding
            .measured("no rule closes this machine; firewalls between are not seen from here");
    };
    let missing: Vec<String> = wanted
        .iter()
        .filter(|wanted| !covers(&rules.accepted, wanted))
        .map(range)
        .collect();
    if missing.is_empty() {
        return finding.measured(format!("{chain} is closed, and lets all of them in"));
    }
    finding
        .measured(format!(
            "{chain} is closed, no rule lets in {}",
            missing.join(", ")
        ))
        .bad(Severity::Warning, closed_to(tool, Some(chain)))
}

fn range(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        return range.start().to_string();
    }
    format!("{}-{}", range.start(), range.end())
}

/// The command that lets the ports in.
fn command(
    tool: FirewallTool,
    chain: Option<&str>,
    control: &[u16],
    passive: &RangeInclusive<u16>,
) -> String {
    let (first, last) = (passive.start(), passive.end());
    let joined = |before: &str, after: &str| -> String {
        control
            .iter()
            .map(|port| format!("{before}{port}{after}"))
            .collect()
    };
    match tool {
        FirewallTool::Firewalld => format!(
            "firewall-cmd --permanent{} --add-port={first}-{last}/tcp && firewall-cmd --reload",
            joined(" --add-port=", "/tcp")
        ),
        FirewallTool::Ufw => format!(
            "ufw allow proto tcp to any port {}{first}:{last}",
            joined("", ",")
        ),
        FirewallTool::None if chain == Some("iptables INPUT") => format!(
            "iptables -I INPUT -p tcp -m multiport --dports {}{first}:{last} -j ACCEPT",
            joined("", ",")
        ),
        FirewallTool::None => format!(
            "nft insert rule {} tcp dport '{{ {}{first}-{last} }}' accept",
            chain.unwrap_or("inet filter input"),
            joined("", ", ")
        ),
    }
}

/// The table of connections that the firewall of this machine tracks, where there is one.
fn tracking(input: &Input, facts: &Facts) -> Vec<Finding> {
    let number = |name: &str| facts.settings.get(name)?.parse::<u64>().ok();
    let mut findings = Vec::new();
    if let Some(most) = number("net.netfilter.nf_conntrack_max") {
        let count = facts.tracked_connections;
        let wanted = input.sessions() * 4;
        let full = count.is_some_and(|count| count * 100 > most * TABLE_PERCENT_MAX);
        let finding = Finding::new("tracking-table", Group::Network)
            .measured(format!(
                "{} of {most} entries in use",
                count.map_or_else(|| "?".to_owned(), |count| count.to_string())
            ))
            .wanted(format!("{wanted} entries for {} sessions", input.sessions()))
            .why(
                "each session takes an entry, each transfer another, and closed connections stay for two minutes; when the table \
                 is full, packets of new connections are dropped, which only the kernel's log tells",
            );
        let severity = if full {
            Severity::Warning
        } else {
            Severity::Advice
        };
        findings.push(finding.bad_if(
            full || most < wanted,
            severity,
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}",
                wanted.max(most * 2)
            ),
        ));
    }
    if let Some(seconds) = number("net.netfilter.nf_conntrack_tcp_timeout_established") {
        let finding = Finding::new("tracking-timeout", Group::Network)
            .measured(format!("{seconds} s"))
            .wanted(format!("at least {TRACKING_SECONDS_MIN} s"))
            .why(
                "the control connection is silent during a transfer; the server sends a keepalive probe every 50 s, and a firewall that \
                 forgets sooner, or after a few lost probes, cuts it",
            );
        findings.push(finding.bad_if(
            seconds < TRACKING_SECONDS_MIN,
            Severity::Warning,
            "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=7440",
        ));
    }
    if facts.modules.contains("nf_conntrack_ftp") {
        let finding = Finding::new("tracking-helper", Group::Network)
            .measured("nf_conntrack_ftp is loaded")
            .wanted("not relied on")
            .why(
                "the helper opens data ports that it reads in replies of port 21. Those of FTPS are encrypted, so it opens none, and \
                 rules that rely on it refuse passive data connections",
            );
        findings.push(finding.bad(Severity::Advice, "modprobe -r nf_conntrack_ftp"));
    }
    findings
}
