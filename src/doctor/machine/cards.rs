//! Network cards: queues, interrupts, features.

use std::collections::BTreeMap;

use super::{Machine, list};
use crate::doctor::facts::{Card, Feature};

impl Machine {
    /// The cards that are up. Devices without hardware behind them (bridges, tunnels, loopback) are none.
    pub(super) fn cards(&self) -> Vec<Card> {
        let names = self.names("sys/class/net").into_iter();
        names
            .filter(|name| {
                let directory = format!("sys/class/net/{name}");
                let up = self.text(&format!("{directory}/operstate"));
                self.root.join(&directory).join("device").exists()
                    && up.is_none_or(|state| state == "up" || state == "unknown")
            })
            .map(|name| self.card(name))
            .collect()
    }

    fn card(&self, name: String) -> Card {
        let directory = format!("sys/class/net/{name}");
        let queues = self.names(&format!("{directory}/queues"));
        let receive: Vec<&String> = queues.iter().filter(|q| q.starts_with("rx-")).collect();
        let spread = receive.iter().any(|queue| {
            let mask = self.text(&format!("{directory}/queues/{queue}/rps_cpus"));
            mask.is_some_and(|mask| mask.chars().any(|digit| !matches!(digit, '0' | ',')))
        });
        let driver = self.root.join(&directory).join("device/driver");
        let driver = driver.read_link().ok().and_then(|target| {
            let name = target.file_name()?.to_str()?;
            Some(name.to_owned())
        });
        Card {
            driver,
            // -1 says that the driver does not know.
            megabits: self
                .number(&format!("{directory}/speed"))
                .filter(|speed| *speed > 0),
            receive_queues: receive.len(),
            spread_in_software: spread,
            node: self
                .number(&format!("{directory}/device/numa_node"))
                .and_then(|node| usize::try_from(node).ok()),
            interrupts: self.interrupts(&name),
            discipline: self
                .run("tc", &["qdisc", "show", "dev", &name])
                .and_then(|text| discipline(&text)),
            features: self
                .run("ethtool", &["-k", &name])
                .map(|text| features(&text)),
            name,
        }
    }

    /// The interrupts of a card, each with the processors that it may go to.
    fn interrupts(&self, card: &str) -> BTreeMap<u32, Vec<usize>> {
        // Virtio cards have theirs a level above.
        let numbers = ["device/msi_irqs", "device/../msi_irqs"]
            .map(|path| self.names(&format!("sys/class/net/{card}/{path}")))
            .into_iter()
            .find(|names| !names.is_empty())
            .unwrap_or_default();
        let interrupts = numbers.iter().filter_map(|name| {
            let number: u32 = name.parse().ok()?;
            let effective = format!("proc/irq/{number}/effective_affinity_list");
            let allowed = format!("proc/irq/{number}/smp_affinity_list");
            let processors = self.text(&effective).or_else(|| self.text(&allowed))?;
            Some((number, list(&processors)))
        });
        interrupts.collect()
    }
}

/// The root discipline in what `tc qdisc show` prints; where that is one for many queues, theirs.
fn discipline(text: &str) -> Option<String> {
    let mut kinds = text
        .lines()
        .filter_map(|line| line.strip_prefix("qdisc ")?.split_whitespace().next())
        .filter(|kind| !matches!(*kind, "mq" | "ingress" | "clsact"));
    kinds.next().map(str::to_owned)
}

/// The features in what `ethtool -k` prints.
fn features(text: &str) -> BTreeMap<String, Feature> {
    let features = text.lines().filter_map(|line| {
        let (name, state) = line.trim().split_once(": ")?;
        let on = match state.split_whitespace().next()? {
            "on" => true,
            "off" => false,
            _ => return None,
        };
        let fixed = state.ends_with("[fixed]");
        Some((name.to_owned(), Feature { on, fixed }))
    });
    features.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tc_prints_is_understood() {
        let queues =
            "qdisc mq 0: root \nqdisc fq 0: parent :2 limit 10000p\nqdisc fq 0: parent :1\n";
        assert_eq!(discipline(queues).as_deref(), Some("fq"));
        let one = "qdisc fq_codel 0: root refcnt 2 limit 10240p\n";
        assert_eq!(discipline(one).as_deref(), Some("fq_codel"));
        assert_eq!(discipline(""), None);
    }

    #[test]
    fn what_ethtool_prints_is_understood() {
        let text = "Features for eth0:\nrx-checksumming: on [fixed]\ntcp-segmentation-offload: off\n\
                    \ttx-tcp-segmentation: off [requested on]\ntls-hw-tx-offload: off [fixed]\n";
        let features = features(text);
        let feature = |on, fixed| Some(&Feature { on, fixed }).copied();
        assert_eq!(
            features.get("rx-checksumming").copied(),
            feature(true, true)
        );
        assert_eq!(
            features.get("tcp-segmentation-offload").copied(),
            feature(false, false)
        );
        assert_eq!(
            features.get("tx-tcp-segmentation").copied(),
            feature(false, false)
        );
        assert_eq!(
            features.get("tls-hw-tx-offload").copied(),
            feature(false, true)
        );
        assert_eq!(features.len(), 4);
    }
}
