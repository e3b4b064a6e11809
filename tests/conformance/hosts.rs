//! Virtual hosts: HOST (RFC 7151) and SNI choose certificate, accounts, directory and greeting.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, process_directory, wait_until};
use crate::common::tls::{Identity, Profile, Version};
use crate::common::{PATIENCE, Port, skip};

const BOTH: [Port; 2] = [Port::Explicit, Port::Implicit];

/// A server with the hosts `a.example` (everything its own), `*.b.example` (a directory of its own, the server's users), and
/// `c.example` (nothing of its own), and its configuration file.
struct Site {
    server: Server,
    file: PathBuf,
    text: String,
    own: Identity,
    a: Identity,
    b: Identity,
}

impl Site {
    fn start(name: &str) -> Self {
        Self::start_with(name, "")
    }

    /// With further sections.
    fn start_with(name: &str, sections: &str) -> Self {
        let base = process_directory().join(name);
        for directory in ["public", "a", "b"] {
            std::fs::create_dir_all(base.join(directory)).unwrap();
            std::fs::write(base.join(directory).join("which"), directory).unwrap();
        }
        // The same name with another home and, below, another password.
        let own_users = users(&base.join("users.toml"), "sam", PASSWORD);
        let a_users = users(&base.join("a-users.toml"), "sam", "another one 1");
        let [own, a, b] = ["own", "a", "b"].map(|host| Identity::generate(&base, host));
        let text = format!(
            "directory = 'public'\n[listening]\nexplicit = '127.0.0.1:0'\nimplicit = '127.0.0.1:0'\n\
             [accounts]\ncert = '{}'\nkey = '{}'\nusers = '{}'\n\
             [process]\nstate-dir = 'state'\n[timers]\nbad-login-delay = 0\n\
             [logs]\ntransfer-log = 'transfers'\ntransfer-log-format = 'json'\n{sections}\
             [[hosts]]\nnames = ['a.example', 'alias.example']\ncert = 'a.crt'\nkey = 'a.key'\n\
             directory = 'a'\nusers = '{}'\nanonymous = true\ngreeting = 'Host A'\nwelcome = \"one\\ntwo\"\n\
             [[hosts]]\nnames = '*.b.example'\ncert = 'b.crt'\nkey = 'b.key'\ndirectory = 'b'\n\
             [[hosts]]\nnames = 'c.example'\n",
            own.certificate_file.display(),
            own.key_file.display(),
            own_users.display(),
            a_users.display(),
        );
        let file = base.join("ringftpd.toml");
        std::fs::write(&file, &text).unwrap();
        let server = start(&file);
        Self {
            server,
            file,
            text,
            own,
            a,
            b,
        }
    }

    /// Connects as a client that names this server in its handshake, or none.
    fn connect(&self, port: Port, sni: Option<&str>) -> Client {
        self.connect_as(port, sni, Profile::usual())
    }

    fn connect_as(&self, port: Port, sni: Option<&str>, profile: Profile) -> Client {
        let profile = match sni {
            Some(_) => profile,
            None => profile.without_name(),
        };
        let mut client = Client::connect_as(&self.server, port, profile, None);
        client.link.name = sni.unwrap_or("localhost").to_owned();
        client
    }

    /// The same until TLS is up.
    fn secure(&self, port: Port, sni: Option<&str>) -> Client {
        let mut client = self.connect(port, sni);
        client.secure();
        client
    }

    fn reload(&self, text: &str, words: &str) {
        std::fs::write(&self.file, text).unwrap();
        self.server.signal(Signal::HUP);
        assert!(self.server.wait_for_log(words), "{words}");
    }
}

/// Starts a server by its file.
fn start(file: &Path) -> Server {
    let mut options = vec!["--config", file.to_str().unwrap()];
    if rustix::process::geteuid().is_root() {
        options.extend(["--run-as", "root"]);
    }
    Server::start(&options)
}

fn users(file: &Path, name: &str, password: &str) -> PathBuf {
    let status = std::process::Command::new("sh")
        .args([
            "-c",
            r#"printf '%s\n' "$1" | "$2" user add --users "$3" "$4" --password-stdin"#,
        ])
        .arg("sh")
        .arg(password)
        .arg(crate::common::server::program())
        .arg(file)
        .arg(name)
        .status();
    assert!(status.unwrap().success());
    file.to_path_buf()
}

/// The directory that the client is in, by the file there.
fn which(client: &mut Client) -> String {
    if client.port == Port::Explicit {
        client.protect();
    }
    client.ok("TYPE I", 200);
    String::from_utf8(client.download("RETR which")).unwrap()
}

#[test]
fn the_name_in_the_handshake_chooses_everything() {
    let site = Site::start("hosts-sni");
    for port in BOTH {
        let mut client = site.secure(port, Some("a.example"));
        assert_eq!(client.link.certificate(), site.a.der.as_ref());
        client.ok("USER sam", 331);
        client.ok(format!("PASS {PASSWORD}"), 530);
        client.ok("USER sam", 331);
        let reply = client.ok("PASS another one 1", 230);
        assert_eq!(reply.text(), "230-one\r\ntwo\r\n230 Logged in.\r\n");
        assert_eq!(which(&mut client), "a");

        let mut client = site.secure(port, Some("x.b.example"));
        assert_eq!(client.link.certificate(), site.b.der.as_ref());
        client.login("sam", PASSWORD);
        assert_eq!(which(&mut client), "b");

        for sni in [Some("c.example"), Some("unknown.example"), None] {
            let mut client = site.secure(port, sni);
            assert_eq!(client.link.certificate(), site.own.der.as_ref(), "{sni:?}");
            client.ok("USER anonymous", 331);
            client.ok("PASS x@", 530);
            client.login("sam", PASSWORD);
            assert_eq!(which(&mut client), "public", "{sni:?}");
        }
    }
    // The greeting of an implicit connection follows the handshake.
    let mut client = site.connect(Port::Implicit, Some("A.Example"));
    client.handshake();
    assert_eq!(client.expect(220).message(), b"Host A");
    let mut client = site.secure(Port::Explicit, Some("alias.example"));
    client.login("anonymous", "x@");
    assert_eq!(which(&mut client), "a");
    client.ok("DELE which", 550);
}

#[test]
fn host_chooses_without_a_name_in_the_handshake() {
    let site = Site::start("hosts-host");
    let mut client = site.connect(Port::Explicit, None);
    assert_eq!(client.expect(220).message(), b"ringftpd ready");
    assert!(client.ok("FEAT", 211).inner().contains(&" HOST".to_owned()));
    for (line, code) in [
        ("HOST nobody.example", 504),
        ("HOST a.example:21", 501),
        ("HOST [::1]", 504),
        ("HOST 127.0.0.1", 220),
    ] {
        client.ok(line, code);
    }
    assert_eq!(client.ok("HOST a.example", 220).message(), b"Host A");
    client.auth_tls();
    assert_eq!(
        client.link.certificate(),
        site.a.der.as_ref(),
        "that of the chosen host"
    );
    client.login("sam", "another one 1");
    assert_eq!(which(&mut client), "a");
    client.ok("HOST x.b.example", 503);
    client.ok("REIN", 220);
    client.leave_tls();
    client.protected = false;
    // HOST is gone with it.
    client.auth_tls();
    assert_eq!(client.link.certificate(), site.own.der.as_ref());
    client.login("sam", PASSWORD);
    assert_eq!(which(&mut client), "public");

    // After the handshake, on both ports.
    for port in BOTH {
        let mut client = site.secure(port, None);
        client.ok("HOST x.b.example", 220);
        client.login("sam", PASSWORD);
        assert_eq!(which(&mut client), "b");
    }
}

#[test]
fn the_handshake_overrides_host_and_binds_it() {
    let site = Site::start("hosts-both");
    let mut client = site.connect(Port::Explicit, Some("a.example"));
    client.expect(220);
    client.ok("HOST x.b.example", 220);
    client.auth_tls();
    assert_eq!(client.link.certificate(), site.a.der.as_ref());
    client.ok("HOST x.b.example", 504);
    client.ok("HOST alias.example", 220);
    client.login("sam", "another one 1");
    assert_eq!(which(&mut client), "a");
}

#[test]
fn no_session_goes_from_one_host_to_another() {
    let site = Site::start("hosts-sessions");
    for version in [Version::Tls12, Version::Tls13] {
        let profile = Profile::new(version);
        let resumed = |client: &Client| client.link.handshake_kind() == HandshakeKind::Resumed;
        let connect = |sni, line: Option<&str>| {
            let mut client = site.connect_as(Port::Explicit, sni, profile.clone());
            client.expect(220);
            if let Some(line) = line {
                client.ok(line, 220);
            }
            client.auth_tls();
            client
        };
        let mut first = connect(Some("a.example"), None);
        first.login("sam", "another one 1");
        // Its own data connections resume it, and so does the same host.
        assert_eq!(which(&mut first), "a");
        assert!(resumed(&connect(Some("a.example"), None)), "{version:?}");
        assert!(!resumed(&connect(Some("x.b.example"), None)), "{version:?}");

        // Without names in handshakes HOST alone tells the hosts apart.
        let mut first = connect(None, Some("HOST a.example"));
        first.login("sam", "another one 1");
        assert_eq!(which(&mut first), "a");
        assert!(
            resumed(&connect(None, Some("HOST alias.example"))),
            "{version:?}"
        );
        let other = connect(None, Some("HOST x.b.example"));
        assert!(!resumed(&other), "{version:?}");
        assert_eq!(other.link.certificate(), site.b.der.as_ref());
        drop(first);
        assert!(!resumed(&connect(None, None)), "{version:?}");
    }
}

#[test]
fn a_data_connection_of_another_host_is_refused() {
    let site = Site::start("hosts-data");
    let mut b = site.secure(Port::Explicit, Some("x.b.example"));
    b.login("sam", PASSWORD);
    let mut a = site.secure(Port::Explicit, Some("a.example"));
    a.login("sam", "another one 1");
    a.protect();
    let address = a.pasv();
    let mut data = a.data(address);
    a.ok("LIST", 150);
    data.name = "x.b.example".to_owned();
    // The ticket of the other host's session is somebody else's here, and the certificate is that of the control connection's
    // host, whatever the data connection names.
    data.handshake(&b.profile.resuming()).unwrap();
    assert_eq!(data.handshake_kind(), HandshakeKind::Full);
    assert_eq!(data.certificate(), site.a.der.as_ref());
    a.expect(522);
    // So it is between hosts that have the same users, where one user at one address would else count as one client.
    let mut c = site.secure(Port::Explicit, Some("c.example"));
    let mut other = site.secure(Port::Explicit, Some("y.b.example"));
    c.login("sam", PASSWORD);
    other.login("sam", PASSWORD);
    c.protect();
    let address = c.pasv();
    let mut data = c.data(address);
    c.ok("LIST", 150);
    data.name = "y.b.example".to_owned();
    data.handshake(&other.profile.resuming()).unwrap();
    assert_eq!(data.handshake_kind(), HandshakeKind::Full);
    c.expect(522);
}

#[test]
fn logs_name_the_host() {
    let site = Site::start("hosts-logs");
    let mut client = site.secure(Port::Explicit, Some("a.example"));
    client.login("sam", "another one 1");
    which(&mut client);
    assert!(
        site.server.wait_for_log("host=\"a.example\"")
            || site.server.wait_for_log("host=a.example")
    );
    let log = site.file.with_file_name("transfers");
    let line = || std::fs::read_to_string(&log).unwrap_or_default();
    let found = wait_until(PATIENCE, || {
        line().contains(r#""host":"a.example","user":"sam""#)
    });
    assert!(found, "{}", line());
}

#[test]
fn hosts_are_reloaded_live() {
    let site = Site::start("hosts-reload");
    let mut waiting = site.connect(Port::Explicit, Some("a.example"));
    waiting.secure();
    // Another password for those who come, and for those who are waiting.
    let file = site.file.with_file_name("a-users.toml");
    std::fs::remove_file(&file).unwrap();
    users(&file, "sam", "a third one 3");
    let text = site.text.replace("c.example", "d.example");
    site.reload(&text, "configuration reloaded");
    waiting.login("sam", "a third one 3");
    assert_eq!(which(&mut waiting), "a");
    let mut client = site.connect(Port::Explicit, None);
    client.expect(220);
    client.ok("HOST c.example", 504);
    client.ok("HOST d.example", 220);

    // What is wrong leaves everything as it was.
    site.reload(&text.replace("a.crt", "missing.crt"), "host a.example:");
    let client = site.secure(Port::Explicit, Some("a.example"));
    assert_eq!(client.link.certificate(), site.a.der.as_ref());
    // A new certificate in the old files, without a change of the configuration.
    let renewed = Identity::generate(site.file.parent().unwrap(), "a");
    site.reload(&text, "certificate reloaded");
    // The reload that failed has said so before.
    let found = wait_until(PATIENCE, || {
        let client = site.secure(Port::Explicit, Some("a.example"));
        client.link.certificate() == renewed.der.as_ref()
    });
    assert!(found, "the old certificate");

    // Whose host is not there any more has no accounts.
    let mut waiting = site.secure(Port::Explicit, Some("a.example"));
    let renamed = text.replace("['a.example', 'alias.example']", "'e.example'");
    site.reload(&renamed, "host=e.example");
    waiting.ok("USER sam", 331);
    waiting.ok("PASS a third one 3", 530);
}

#[test]
fn the_same_name_on_two_hosts_is_two_users() {
    let base = process_directory().join("hosts-limits");
    std::fs::create_dir_all(&base).unwrap();
    let own = Identity::generate(&base, "own");
    let other = users(&base.join("other.toml"), "main", "another one 1");
    let text = format!(
        "directory = 'public'\n[listening]\nexplicit = '127.0.0.1:0'\nimplicit = '127.0.0.1:0'\n\
         [accounts]\nusers = '{}'\ncert = '{}'\nkey = '{}'\n[process]\nstate-dir = 'state'\n[limits]\nsessions-per-user-max = 1\n\
         [[hosts]]\nnames = 'a.example'\nusers = '{}'\n",
        Accounts::shared().file.display(),
        own.certificate_file.display(),
        own.key_file.display(),
        other.display()
    );
    let file = base.join("ringftpd.toml");
    std::fs::write(&file, text).unwrap();
    let server = start(&file);
    let secure = || {
        let mut client = Client::connect(&server, Port::Implicit);
        client.secure();
        client
    };
    let mut own = secure();
    own.login("main", PASSWORD);
    let mut other = secure();
    other.ok("HOST a.example", 220);
    other.login("main", "another one 1");
    // Each has had its one session.
    let mut third = secure();
    third.ok("HOST a.example", 220);
    third.ok("USER main", 331);
    third.ok("PASS another one 1", 421);
    let checked = std::process::Command::new(crate::common::server::program())
        .arg("check-config")
        .arg(&file)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_user_of_another_host_forgives_nothing() {
    let site = Site::start_with("hosts-bans", "[access]\nlogin-failures-max = 3\n");
    let fail = |host: Option<&str>| {
        let mut client = site.secure(Port::Implicit, host);
        client.ok("USER sam", 331);
        client.command("PASS wrong").code
    };
    let log_in = |host: Option<&str>, password: &str| {
        site.secure(Port::Implicit, host).login("sam", password);
    };
    // Failures of one's own are mistakes, on each host.
    for _ in 0..3 {
        assert_eq!(fail(None), 530);
        log_in(None, PASSWORD);
        assert_eq!(fail(Some("a.example")), 530);
        log_in(Some("a.example"), "another one 1");
    }
    assert_eq!(fail(None), 530);
    log_in(Some("a.example"), "another one 1");
    assert_eq!(fail(None), 530);
    log_in(Some("a.example"), "another one 1");
    assert_eq!(fail(None), 421);
}

#[test]
fn check_config_looks_into_the_files_of_hosts() {
    let base = process_directory().join("hosts-check");
    std::fs::create_dir_all(&base).unwrap();
    let one = Identity::generate(&base, "one");
    let two = Identity::generate(&base, "two");
    std::fs::write(base.join("bad.toml"), "[users.x]\npassword = 'plain'\n").unwrap();
    let file = base.join("ringftpd.toml");
    let text = format!(
        "[[hosts]]\nnames = 'a.example'\ncert = '{}'\nkey = '{}'\n\
         [[hosts]]\nnames = 'b.example'\nusers = 'bad.toml'\n",
        one.certificate_file.display(),
        two.key_file.display(),
    );
    std::fs::write(&file, text).unwrap();
    let output = std::process::Command::new(crate::common::server::program())
        .arg("check-config")
        .arg(&file)
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(
        words.contains("ringftpd.toml:1:1: host a.example: "),
        "{words}"
    );
    assert!(words.contains("private key does not belong"), "{words}");
    assert!(
        words.contains("ringftpd.toml:5:1: host b.example: "),
        "{words}"
    );
}

#[test]
fn pythons_ftplib_chooses_a_host() {
    let site = Site::start("hosts-python");
    let script = r#"
import ftplib, ssl, sys
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
ftp = ftplib.FTP_TLS(context=context)
ftp.connect("127.0.0.1", int(sys.argv[1]), timeout=20)
print(ftp.sendcmd("HOST a.example"))
ftp.login("sam", "another one 1")
ftp.prot_p()
ftp.retrbinary("RETR which", lambda octets: print(octets.decode()))
ftp.quit()
"#;
    let output = std::process::Command::new("python3")
        .args(["-c", script, &site.server.explicit.port().to_string()])
        .output();
    let Ok(output) = output else {
        return skip("no python3");
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told, "220 Host A\na\n", "{words}");
}

#[test]
fn curl_chooses_a_host_by_the_name_of_its_url() {
    let site = Site::start("hosts-curl");
    let port = site.server.explicit.port();
    let output = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--ssl-reqd"])
        .arg("--cacert")
        .arg(&site.a.certificate_file)
        // The test certificates name localhost only; the name in the handshake is what counts here.
        .args(["--insecure", "--user", "sam:another one 1"])
        .args(["--resolve", &format!("a.example:{port}:127.0.0.1")])
        .arg(format!("ftp://a.example:{port}/which"))
        .output();
    let Ok(output) = output else {
        return skip("no curl");
    };
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a", "{words}");
}
