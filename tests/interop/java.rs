//! Java: Apache Commons Net over the runtime's own TLS.

use std::path::Path;

use crate::support::{Port, Site, available, client, installed, octets, program_path, succeeds};

const COMMONS_NET: &str = "/usr/share/java/commons-net.jar";

fn run(kind: Port, tls: &str) {
    if !installed("javac", "default-jdk-headless")
        || !available(
            Path::new(COMMONS_NET).exists(),
            "Commons Net",
            "libcommons-net-java",
        )
    {
        return;
    }
    let site = Site::start();
    site.write("down.bin", &octets(6, 2_000_001));
    let mut command = client("java");
    site.environment(&mut command, kind)
        .args(["-Xshare:auto", "-cp", COMMONS_NET])
        .arg(program_path("CommonsNetClient.java"))
        .arg(tls);
    let said = succeeds(&mut command);
    assert!(said.ends_with("done\n"), "{said}");
    assert!(site.read("up.bin") == site.read("down.bin"));
}

#[test]
fn java_explicit_tls12() {
    run(Port::Explicit, "TLSv1.2");
}

#[test]
fn java_explicit_tls13() {
    run(Port::Explicit, "TLSv1.3");
}

#[test]
fn java_implicit_tls12() {
    run(Port::Implicit, "TLSv1.2");
}

#[test]
fn java_implicit_tls13() {
    run(Port::Implicit, "TLSv1.3");
}
