//! HOST, and the host that TLS names.

use super::*;
use crate::proto::session::Hosts;
use crate::vhosts::{Host, Table};

/// `a.example` greets in its own words, `b.example` in the server's.
pub(super) fn policy_with_hosts() -> Settings {
    let mut names = Table::default();
    names.add_host("a.example").unwrap();
    names.add_name("alias.example").unwrap();
    names.add_host("b.example").unwrap();
    Settings {
        hosts: Hosts {
            names: Arc::new(names),
            greetings: vec![Some("Host A".to_owned()), None],
        },
        tls_control: Requirement::Optional,
        ..policy()
    }
}

fn host(wire: &Wire) -> Option<&str> {
    wire.session.host().map(|host| &*host.name)
}

fn named(index: usize) -> Arc<Host> {
    Arc::clone(&policy_with_hosts().hosts.names.hosts()[index])
}

#[test]
fn host_greets_again() {
    let mut wire = Wire::explicit(policy_with_hosts());
    assert_eq!(host(&wire), None);
    assert_eq!(wire.text("HOST A.Example."), "220 Host A\r\n");
    assert_eq!(host(&wire), Some("a.example"));
    assert_eq!(wire.text("host b.example"), "220 ringftpd ready\r\n");
    assert_eq!(host(&wire), Some("b.example"), "the last one holds");
    assert_eq!(wire.tell("HOST c.example"), "504");
    assert_eq!(
        host(&wire),
        Some("b.example"),
        "a refused one changes nothing"
    );
}

#[test]
fn c059_what_host_refuses() {
    let mut wire = Wire::explicit(policy_with_hosts());
    for (line, code) in [
        ("HOST", "501"),
        ("HOST  ", "501"),
        ("HOST a.example:21", "501"),
        ("HOST a b", "501"),
        ("HOST [10.0.0.1]", "501"),
        ("HOST ::1", "501"),
        ("HOST *.example", "501"),
        ("HOST other.example", "504"),
        // Another address than the client connected to.
        ("HOST 10.0.0.2", "504"),
        ("HOST [::1]", "504"),
        ("HOST 10.0.0.1", "220"),
        ("HOST [::ffff:10.0.0.1]", "220"),
    ] {
        assert_eq!(wire.tell(line), code, "{line}");
    }
    assert_eq!(
        wire.tell("HOST a.example\r\nUSER x\r\nPASS y"),
        "220 331 230"
    );
    assert_eq!(wire.tell("HOST b.example\r\nHOST a.example"), "503 503");
    assert_eq!(host(&wire), Some("a.example"));
    assert_eq!(
        wire.tell("USER x\r\nHOST b.example\r\nPASS y"),
        "331 220 503"
    );
}

#[test]
fn an_address_means_the_server_itself() {
    let mut wire = Wire::explicit(policy_with_hosts());
    assert_eq!(wire.tell("HOST a.example\r\nHOST 10.0.0.1"), "220 220");
    assert_eq!(host(&wire), None);
}

#[test]
fn c013_host_outlives_auth_and_ends_with_rein() {
    let mut wire = Wire::explicit(policy_with_hosts());
    assert_eq!(wire.tell("HOST a.example"), "220");
    assert_eq!(wire.tell("AUTH TLS"), "234");
    assert_eq!(host(&wire), Some("a.example"));
    assert_eq!(wire.tell("HOST b.example"), "220", "TLS has named none");
    assert_eq!(wire.text("REIN"), "220 ringftpd ready\r\n");
    assert_eq!(host(&wire), None);
}

#[test]
fn tls_overrides_host_and_binds_it() {
    let mut wire = Wire::explicit(policy_with_hosts());
    wire.tls = false;
    assert_eq!(wire.tell("HOST b.example\r\nAUTH TLS"), "220 234");
    wire.session.serve_host(named(0));
    wire.event(Event::TlsUp);
    assert_eq!(host(&wire), Some("a.example"));
    assert_eq!(wire.tell("HOST b.example"), "504");
    assert_eq!(wire.tell("HOST 10.0.0.1"), "504");
    assert_eq!(
        wire.tell("HOST alias.example"),
        "220",
        "a name of the same host"
    );
    assert_eq!(wire.tell("REIN"), "220");
    wire.event(Event::TlsDown);
    assert_eq!(
        wire.tell("HOST b.example"),
        "220",
        "REIN has ended that TLS"
    );
}

#[test]
fn an_implicit_connection_greets_as_the_host_that_tls_names() {
    let mut wire = Wire::fresh(policy_with_hosts(), ChannelKind::Implicit);
    wire.tls = false;
    assert_eq!(wire.codes(), "");
    wire.session.serve_host(named(0));
    wire.event(Event::TlsUp);
    assert_eq!(wire.sent, b"220 Host A\r\n");
    assert_eq!(wire.text("REIN"), "220 ringftpd ready\r\n");
}

#[test]
fn host_is_a_command_only_where_there_are_hosts() {
    let mut without = Wire::ready();
    let mut with = Wire::ready_with(policy_with_hosts());
    assert!(!without.text("FEAT").contains("HOST") && with.text("FEAT").contains("\r\n HOST\r\n"));
    assert!(!without.text("HELP").contains("HOST") && with.text("HELP").contains("HOST"));
    assert_eq!(without.tell("HELP HOST\r\nHOST a.example"), "502 500");
    assert_eq!(with.tell("HELP HOST\r\nHOST a.example"), "214 503");
}

#[test]
fn a_welcome_has_as_many_lines_as_it_has() {
    let mut wire = Wire::explicit(policy_with_hosts());
    wire.session
        .welcome("Hello\n230 not the end\n\nthere".into());
    assert_eq!(wire.tell("USER x"), "331");
    let text = wire.text("PASS y");
    assert_eq!(
        text,
        "230-Hello\r\n 230 not the end\r\n\r\nthere\r\n230 Logged in.\r\n"
    );
    assert_eq!(
        wire.text("USER x\r\nPASS y"),
        "331 Password, please.\r\n230 Logged in.\r\n"
    );
    wire.session.welcome("Hello".into());
    wire.tell("USER x");
    assert_eq!(wire.text("PASS y"), "230-Hello\r\n230 Logged in.\r\n");
}
