//! HAProxy in front of two instances, with the PROXY protocol on control and data connections. The client, HAProxy
//! and the instances each have a network of their own, and only HAProxy has a foot in both: what arrives has come
//! through it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::common::server::wait_until;
use crate::common::{PATIENCE, skip};
use crate::support::{
    BOTH_PORTS, PASSWORD, Port, Site, USER, client, installed, octets, succeeds, word,
};

const CLIENT: &str = "10.77.1.2";
/// HAProxy, as clients see it, and as the instances do.
const FRONT: &str = "10.77.1.1";
const BACK: &str = "10.77.2.1";
const INSTANCES: [&str; 2] = ["10.77.2.11", "10.77.2.12"];
/// Besides 21 and 990: explicit FTPS with version 1 of the protocol.
const OLD_PORT: u16 = 2100;

/// A network of its own, which lives as long as this.
struct Network(Child);

impl Network {
    fn new() -> Self {
        let script = "ip link set lo up && echo ready && exec cat";
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "ready\n", "no network namespace");
        Self(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// A command that runs in it.
    fn command(&self, program: &str) -> Command {
        let mut command = client("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    fn ip(&self, words: &str) {
        succeeds(self.command("ip").args(words.split_whitespace()));
    }

    /// A link to another network, with its ends named and addressed.
    fn link(&self, other: &Self, [name, address]: [&str; 2], [peer, peers]: [&str; 2]) {
        let process = other.0.id();
        self.ip(&format!(
            "link add {name} type veth peer name {peer} netns {process}"
        ));
        self.ip(&format!("addr add {address}/24 dev {name}"));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("addr add {peers}/24 dev {peer}"));
        other.ip(&format!("link set {peer} up"));
    }

    /// An instance that runs in it.
    fn site(&self, options: Vec<String>) -> Site {
        let network = File::open(self.path()).unwrap();
        let start = move || {
            // Of this thread, and of the processes that it starts.
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            Site::start_with(&options)
        };
        std::thread::spawn(start).join().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy with this configuration, in this network.
struct Balancer(Child);

impl Balancer {
    fn start(network: &Network, site: &Site, configuration: &str) -> Self {
        let file = site.scratch().join("haproxy.cfg");
        fs::write(&file, configuration).unwrap();
        succeeds(network.command("haproxy").args(["-c", "-f"]).arg(&file));
        let child = Command::new("nsenter")
            .arg(format!("--net={}", network.path()))
            .args(["haproxy", "-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const DEFAULTS: &str = "global\n  maxconn 500\ndefaults\n  mode tcp\n  balance roundrobin\n  timeout connect 10s\n  \
                        timeout client 60s\n  timeout server 60s\n";

/// As README.md recommends it: control ports balanced, each instance's passive ports forwarded to it, every
/// connection introduced. But the instances take turns here, so that both have something to do.
fn configuration(sites: &[Site; 2]) -> String {
    let mut text = DEFAULTS.to_owned();
    for (name, port, instance_port, send) in [
        ("explicit", 21, 2121, "send-proxy-v2"),
        (
            "implicit",
            990,
            2990,
            "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        ),
        ("old", OLD_PORT, 2121, "send-proxy"),
    ] {
        text += &format!("listen {name}\n  bind {FRONT}:{port}\n");
        for (number, instance) in INSTANCES.iter().enumerate() {
            text += &format!(
                "  server s{number} {instance}:{instance_port} {send} check inter 200ms\n"
            );
        }
    }
    for (number, (site, instance)) in sites.iter().zip(INSTANCES).enumerate() {
        let (first, last) = site.server().passive_ports;
        // Without a port, the server's is the one that the client came to.
        text += &format!(
            "listen passive{number}\n  bind {FRONT}:{first}-{last}\n  server s{number} {instance} send-proxy-v2\n"
        );
    }
    text
}

/// curl in the client's network.
fn curl(network: &Network, site: &Site, port: Port) -> Command {
    let mut command = network.command("curl");
    command
        .args(["--disable", "--silent", "--show-error", "--noproxy", "*"])
        .args(["--connect-timeout", "30", "--no-ftp-skip-pasv-ip"])
        .args(["--user", &format!("{USER}:{PASSWORD}")])
        .arg("--cacert")
        .arg(site.certificate());
    for port in [21, 990, OLD_PORT] {
        command.args(["--resolve", &format!("localhost:{port}:{FRONT}")]);
    }
    if port == Port::Explicit {
        command.arg("--ssl-reqd");
    }
    command
}

/// Whether this machine can do it.
fn possible() -> bool {
    if !installed("haproxy", "haproxy")
        || !installed("curl", "curl")
        || !installed("ip", "iproute2")
    {
        return false;
    }
    if !rustix::process::geteuid().is_root() {
        skip("only root may make network namespaces");
        return false;
    }
    true
}

#[test]
fn haproxy_balances_two_instances_that_see_the_clients() {
    if !possible() {
        return;
    }
    let [outside, between, inside] = [(); 3].map(|()| Network::new());
    between.link(&outside, ["front", FRONT], ["client", CLIENT]);
    between.link(&inside, ["back", BACK], ["servers", INSTANCES[0]]);
    inside.ip(&format!("addr add {}/24 dev servers", INSTANCES[1]));
    let sites = INSTANCES.map(|address| {
        inside.site(
            [
                "--explicit",
                &format!("{address}:2121"),
                "--implicit",
                &format!("{address}:2990"),
                "--proxy-from",
                &format!("{BACK}/32"),
                "--proxy-others",
                "refuse",
            ]
            .map(str::to_owned)
            .to_vec(),
        )
    });
    let _balancer = Balancer::start(&between, &sites[0], &configuration(&sites));
    let content = octets(5, 3_000_000);
    for site in &sites {
        site.write("down.bin", &content);
    }
    let up = wait_until(PATIENCE, || {
        let mut probe = curl(&outside, &sites[0], Port::Explicit);
        let output = probe.args(["ftp://localhost:21/", "--head"]).output();
        output.unwrap().status.success()
    });
    assert!(up, "HAProxy does not answer");

    let ways = BOTH_PORTS.map(|port| match port {
        Port::Explicit => (port, "ftp://localhost:21".to_owned()),
        Port::Implicit => (port, "ftps://localhost:990".to_owned()),
    });
    let old = (Port::Explicit, format!("ftp://localhost:{OLD_PORT}"));
    let mut uploads = 0;
    for (port, url) in ways.into_iter().chain([old]) {
        for passive in [&[][..], &["--disable-epsv"]] {
            // Each of them twice: the instances take turns.
            for _ in 0..2 {
                let local = sites[0].scratch().join("local.bin");
                let mut down = curl(&outside, &sites[0], port);
                down.args(passive).arg("--output").arg(&local);
                succeeds(down.arg(format!("{url}/down.bin")));
                assert!(fs::read(&local).unwrap() == content);

                let name = format!("up-{}-{uploads}.bin", word(port));
                let mut upload = curl(&outside, &sites[0], port);
                upload.args(passive).arg("--upload-file").arg(&local);
                succeeds(upload.arg(format!("{url}/{name}")));
                let arrived = sites
                    .iter()
                    .filter(|site| site.served(&name).exists())
                    .map(|site| site.read(&name));
                assert!(arrived.collect::<Vec<_>>() == [content.clone()]);
                uploads += 1;

                let mut list = curl(&outside, &sites[0], port);
                let listing = succeeds(list.args(passive).arg(format!("{url}/")));
                assert!(listing.contains("down.bin"), "{listing}");
            }
        }
    }
    for site in &sites {
        assert_log(site);
    }
}

/// Data connections past HAProxy: PASV names the instance's own address, to which the client has a way of its own.
#[test]
fn haproxy_is_left_out_where_passive_addresses_say_so() {
    const SHORTCUT: &str = "10.77.3.11";
    if !possible() {
        return;
    }
    let [outside, between, inside] = [(); 3].map(|()| Network::new());
    between.link(&outside, ["front", FRONT], ["client", CLIENT]);
    between.link(&inside, ["back", BACK], ["servers", INSTANCES[0]]);
    inside.link(&outside, ["shortcut", SHORTCUT], ["direct", "10.77.3.2"]);
    // By that way, too, the client comes as who it is.
    outside.ip(&format!("route add {SHORTCUT}/32 dev direct src {CLIENT}"));
    inside.ip(&format!("route add {CLIENT}/32 dev shortcut"));
    let address = INSTANCES[0];
    let options = [
        "--explicit",
        &format!("{address}:2121"),
        "--implicit",
        &format!("{address}:2990"),
        "--proxy-from",
        BACK,
        "--passive-address",
        "192.0.2.1",
        "--passive-address-for",
        &format!("{CLIENT}={SHORTCUT}"),
    ];
    let site = inside.site(options.map(str::to_owned).to_vec());
    let mut configuration = DEFAULTS.to_owned();
    for (port, instance_port) in [(21, 2121), (990, 2990)] {
        configuration += &format!(
            "listen port{port}\n  bind {FRONT}:{port}\n  server one {address}:{instance_port} send-proxy-v2\n"
        );
    }
    let _balancer = Balancer::start(&between, &site, &configuration);
    let content = octets(6, 1_500_000);
    site.write("down.bin", &content);
    for (port, url) in [
        (Port::Explicit, "ftp://localhost:21"),
        (Port::Implicit, "ftps://localhost:990"),
    ] {
        let local = site.scratch().join(word(port));
        let down = wait_until(PATIENCE, || {
            let mut down = curl(&outside, &site, port);
            down.arg("--disable-epsv").arg("--output").arg(&local);
            let output = down.arg(format!("{url}/down.bin")).output();
            output.unwrap().status.success()
        });
        assert!(down, "no download by {url}");
        assert!(fs::read(&local).unwrap() == content);
        let mut upload = curl(&outside, &site, port);
        upload
            .arg("--disable-epsv")
            .arg("--upload-file")
            .arg(&local);
        succeeds(upload.arg(format!("{url}/{}", word(port))));
        assert!(site.read(word(port)) == content);
    }
    let log = || String::from_utf8_lossy(&site.server().log()).into_owned();
    let transfers = |log: &str| -> Vec<String> {
        let lines = log.lines().filter(|line| line.contains(" transfer "));
        lines.map(str::to_owned).collect()
    };
    let told = wait_until(PATIENCE, || transfers(&log()).len() >= 4);
    assert!(told, "{}", log());
    for transfer in transfers(&log()) {
        assert!(transfer.contains(&format!("peer={CLIENT} ")), "{transfer}");
    }
}

/// The log names the client, and never HAProxy for one; health checks leave no trace.
fn assert_log(site: &Site) {
    // Some checks more.
    std::thread::sleep(Duration::from_millis(500));
    let log = String::from_utf8_lossy(&site.server().log()).into_owned();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| {
            ["INFO", "WARN", "ERROR"]
                .iter()
                .any(|level| line.contains(level))
        })
        .collect();
    let from_client = format!("peer={CLIENT} ");
    for verb in ["\"RETR\"", "\"STOR\"", "\"LIST\""] {
        let count = told
            .iter()
            .filter(|line| line.contains(verb) && line.contains(&from_client))
            .count();
        assert!(count > 0, "no {verb} of the client: {told:#?}");
    }
    for line in told {
        assert!(!line.contains(BACK), "{line}");
        assert!(!line.contains("WARN") && !line.contains("ERROR"), "{line}");
    }
    let checked = format!("peer={BACK}:");
    let mut lines = log.lines();
    assert!(
        lines.any(|line| line.contains("control connection opened") && line.contains(&checked)),
        "no health check came"
    );
}
