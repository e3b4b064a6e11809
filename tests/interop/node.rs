//! Node.js: the basic-ftp package, which resumes the control connection's TLS session on data connections.

use std::path::Path;

use crate::support::{Port, Site, available, client, installed, octets, program_path, succeeds};

/// The version that the test was written with.
const PACKAGE: &str = "basic-ftp@5.3.1";

/// Installs the package below the build directory, once for all tests; false where npm cannot get it.
fn package() -> &'static Path {
    static INSTALLED: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    INSTALLED.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
        std::fs::create_dir_all(&directory).unwrap();
        if !directory
            .join("node_modules/basic-ftp/package.json")
            .exists()
        {
            let mut npm = client("npm");
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(&directory)
                .arg(PACKAGE);
            let _ = npm.output();
        }
        directory
    })
}

fn run(kind: Port, tls: &str) {
    if !installed("node", "nodejs") || !installed("npm", "npm") {
        return;
    }
    let package = package();
    let found = package.join("node_modules/basic-ftp/package.json").exists();
    if !available(found, PACKAGE, "npm, and let it reach the package registry") {
        return;
    }
    let site = Site::start();
    site.write("down.bin", &octets(8, 2_000_001));
    let mut command = client("node");
    site.environment(&mut command, kind)
        .env("NODE_PATH", package.join("node_modules"))
        .arg(program_path("basic_ftp_client.js"))
        .arg(tls);
    let said = succeeds(&mut command);
    assert!(said.ends_with("done\n"), "{said}");
    assert!(site.read("up.bin") == site.read("down.bin"));
}

#[test]
fn node_explicit_tls12() {
    run(Port::Explicit, "TLSv1.2");
}

#[test]
fn node_explicit_tls13() {
    run(Port::Explicit, "TLSv1.3");
}

#[test]
fn node_implicit_tls12() {
    run(Port::Implicit, "TLSv1.2");
}

#[test]
fn node_implicit_tls13() {
    run(Port::Implicit, "TLSv1.3");
}
