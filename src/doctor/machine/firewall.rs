//! The firewall's rules for what comes in, as far as they can be read.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::Machine;
use crate::doctor::facts::{Firewall, FirewallTool, InputRules};

impl Machine {
    pub(super) fn firewall(&self, programs: &BTreeSet<String>) -> Firewall {
        let ufw = self.text("etc/ufw/ufw.conf").unwrap_or_default();
        let tool = if programs.contains("firewalld") {
            FirewallTool::Firewalld
        } else if ufw.lines().any(|line| line.trim() == "ENABLED=yes") {
            FirewallTool::Ufw
        } else {
            FirewallTool::None
        };
        // Both are read: rules of the old interface (iptables-legacy) are not among those of nftables.
        let mut rules = self
            .run("nft", &["list", "ruleset"])
            .map(|text| nftables(&text));
        let old = ["proc/net/ip_tables_names", "proc/net/ip6_tables_names"];
        if old.iter().any(|path| self.text(path).is_some())
            && let Some(text) = self.run("iptables-legacy-save", &[])
        {
            let more = iptables(&text);
            let rules = rules.get_or_insert_default();
            rules.closed.extend(more.closed);
            rules.accepted.extend(more.accepted);
        }
        Firewall { tool, rules }
    }
}

/// The rules that `nft list ruleset` prints. Chains that an input chain jumps to are not followed: every rule anywhere that
/// accepts TCP ports counts, so that an error is on the side of silence.
fn nftables(text: &str) -> InputRules {
    let mut rules = InputRules::default();
    let (mut table, mut chain) = (String::new(), String::new());
    let mut is_input = false;
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table", family, name, ..] => table = format!("{family} {name}"),
            ["chain", name, ..] => {
                chain = format!("{table} {name}");
                is_input = false;
            }
            ["type", "filter", "hook", "input", ..] => {
                is_input = true;
                if line.contains("policy drop") {
                    rules.closed.push(chain.clone());
                }
            }
            // A last rule without a condition does the same as a policy.
            ["drop" | "reject", ..] | ["counter", _, _, _, _, "drop" | "reject", ..]
                if is_input && !rules.closed.contains(&chain) =>
            {
                rules.closed.push(chain.clone());
            }
            words if words.last() == Some(&"accept") => accepted(words, &mut rules.accepted),
            _ => {}
        }
    }
    rules
}

/// The TCP ports of a rule: `tcp dport 21 accept`, `tcp dport { 21, 990, 40000-49999 } ... accept`.
fn accepted(words: &[&str], ports: &mut Vec<RangeInclusive<u16>>) {
    if !words.contains(&"tcp") {
        return;
    }
    let rest = words.iter().skip_while(|word| **word != "dport").skip(1);
    for word in rest {
        match *word {
            "{" => {}
            "}" => break,
            word => match range(word.trim_end_matches(','), '-') {
                Some(range) => ports.push(range),
                None => break,
            },
        }
        if !word.ends_with(',') && *word != "{" {
            break;
        }
    }
}

/// The rules that `iptables-save` prints.
fn iptables(text: &str) -> InputRules {
    let mut rules = InputRules::default();
    for line in text.lines() {
        if line.starts_with(":INPUT DROP") {
            rules.closed.push("iptables INPUT".to_owned());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.ends_with("-j ACCEPT") || !words.contains(&"tcp") {
            continue;
        }
        for pair in words.windows(2) {
            if let ["--dport" | "--dports", ports] = pair {
                let ranges = ports.split(',').filter_map(|port| range(port, ':'));
                rules.accepted.extend(ranges);
            }
        }
    }
    rules
}

fn range(text: &str, between: char) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once(between).unwrap_or((text, text));
    let port = |text: &str| match text {
        // nft prints names of ports only with -S; these come from rules that use them.
        "ftp" => Some(21),
        "ftps" => Some(990),
        number => number.parse().ok(),
    };
    Some(port(first)?..=port(last)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_nftables_are_understood() {
        let text = "table inet filter {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n\tchain input {\n\
            \t\ttype filter hook input priority filter; policy drop;\n\
            \t\tct state established,related accept\n\t\ttcp dport 22 accept\n\
            \t\ttcp dport { 21, 990, 40000-49999 } ct state new counter packets 0 bytes 0 accept\n\
            \t\tudp dport 53 accept\n\t}\n\tchain forward {\n\
            \t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        let rules = nftables(text);
        assert_eq!(rules.closed, ["inet filter input"]);
        assert_eq!(rules.accepted, [22..=22, 21..=21, 990..=990, 40000..=49999]);
    }

    #[test]
    fn a_last_rule_that_rejects_closes_a_chain_of_policy_accept() {
        let text = "table inet firewalld {\n\tchain filter_INPUT {\n\
            \t\ttype filter hook input priority filter + 10; policy accept;\n\
            \t\tct state invalid drop\n\t\treject with icmpx admin-prohibited\n\t}\n\
            \tchain filter_IN_public_allow {\n\t\ttcp dport 21 accept\n\t}\n}\n";
        let rules = nftables(text);
        assert_eq!(rules.closed, ["inet firewalld filter_INPUT"]);
        assert_eq!(rules.accepted, [21..=21]);
        let open = "table ip filter {\n chain INPUT {\n type filter hook input priority filter; policy accept;\n }\n}\n";
        assert_eq!(nftables(open), InputRules::default());
    }

    #[test]
    fn rules_of_iptables_are_understood() {
        let text = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n\
            -A INPUT -p tcp -m tcp --dport 40000:49999 -j ACCEPT\n\
            -A INPUT -p tcp -m multiport --dports 21,990 -j ACCEPT\n\
            -A INPUT -p udp -m udp --dport 53 -j ACCEPT\n-A INPUT -p tcp --dport 25 -j DROP\nCOMMIT\n";
        let rules = iptables(text);
        assert_eq!(rules.closed, ["iptables INPUT"]);
        assert_eq!(rules.accepted, [40000..=49999, 21..=21, 990..=990]);
    }
}
