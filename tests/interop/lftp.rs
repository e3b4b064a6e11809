//! lftp (GnuTLS): mirrors both ways with four connections at a time, resuming, and the other file commands.

use std::fs;
use std::process::Command;

use crate::support::{
    BOTH_PORTS, PASSWORD, Port, Site, USER, assert_same_tree, client, fails, installed, octets,
    plant_tree, scheme, succeeds, tree_size, word,
};

/// lftp that runs `script` after logging in; it ends at the first failed command, tries nothing for ever.
fn lftp(site: &Site, port: Port, script: &str) -> Command {
    let mut command = client("lftp");
    let settings = format!(
        "set cmd:fail-exit true; set net:max-retries 2; set net:timeout 30; set net:reconnect-interval-base 1; \
         set ftp:ssl-force true; set ftp:ssl-protect-data true; set ssl:verify-certificate true; \
         set ssl:ca-file {}; set net:connection-limit 8; open -u {USER},{PASSWORD} {}://localhost:{}; {script}",
        site.certificate().display(),
        scheme(port),
        site.port(port),
    );
    command.args(["--norc", "-c", &settings]);
    command.env("HOME", site.scratch());
    command
}

fn site() -> Option<Site> {
    installed("lftp", "lftp").then(Site::start)
}

#[test]
fn lftp_mirrors_a_tree_down_and_up_with_four_connections() {
    let Some(site) = site() else { return };
    let (directories, files) = tree_size();
    plant_tree(&site.served("tree"), directories, files);
    for port in BOTH_PORTS {
        let local = site.scratch().join(word(port));
        succeeds(&mut lftp(
            &site,
            port,
            &format!("mirror --parallel=4 tree {}", local.display()),
        ));
        assert_eq!(
            assert_same_tree(&site.served("tree"), &local),
            directories * files
        );

        let back = format!("back-{}", word(port));
        succeeds(&mut lftp(
            &site,
            port,
            &format!("mirror -R --parallel=4 {} {back}", local.display()),
        ));
        assert_eq!(
            assert_same_tree(&local, &site.served(&back)),
            directories * files
        );

        // The second run finds sizes and times as they should be and transfers nothing.
        let again = succeeds(&mut lftp(
            &site,
            port,
            &format!("mirror --verbose=3 tree {}", local.display()),
        ));
        assert!(!again.contains("Transferring file"), "{again}");
    }
}

#[test]
fn lftp_resumes_moves_and_removes() {
    let Some(site) = site() else { return };
    let content = octets(3, 500_000);
    site.write("whole.bin", &content);
    for port in BOTH_PORTS {
        let local = site.scratch().join(format!("{}.bin", word(port)));
        fs::write(&local, &content[..123_456]).unwrap();
        succeeds(&mut lftp(
            &site,
            port,
            &format!("get -c whole.bin -o {}", local.display()),
        ));
        assert!(fs::read(&local).unwrap() == content);

        let name = format!("part-{}.bin", word(port));
        site.write(&name, &content[..123_456]);
        succeeds(&mut lftp(
            &site,
            port,
            &format!("put -c {} -o {name}", local.display()),
        ));
        assert!(site.read(&name) == content);

        let said = succeeds(&mut lftp(
            &site,
            port,
            &format!(
                "mkdir -p a/b/c; mv {name} a/b/c/moved; chmod 640 a/b/c/moved; cls -l a/b/c; \
                 pget -n 3 a/b/c/moved -o {}; rm -r a; pwd",
                site.scratch()
                    .join(format!("pget-{}", word(port)))
                    .display()
            ),
        ));
        assert!(
            said.contains("rw-r-----") && said.contains("moved"),
            "{said}"
        );
        assert!(!site.served("a").exists());
        assert!(fs::read(site.scratch().join(format!("pget-{}", word(port)))).unwrap() == content);
    }
}

#[test]
fn lftp_moves_files_in_active_mode() {
    let Some(site) = site() else { return };
    plant_tree(&site.served("tree"), 2, 10);
    for port in BOTH_PORTS {
        let local = site.scratch().join(word(port));
        let back = format!("back-{}", word(port));
        succeeds(&mut lftp(
            &site,
            port,
            &format!(
                "set ftp:passive-mode false; mirror --parallel=2 tree {local}; mirror -R --parallel=2 {local} {back}",
                local = local.display()
            ),
        ));
        assert_eq!(assert_same_tree(&site.served("tree"), &local), 20);
        assert_eq!(assert_same_tree(&local, &site.served(&back)), 20);
    }
}

#[test]
fn lftp_refuses_an_unknown_certificate() {
    let Some(site) = site() else { return };
    for port in BOTH_PORTS {
        let refused = fails(&mut lftp(&site, port, "set ssl:ca-file /dev/null; cls"));
        assert!(refused.contains("ertificate"), "{refused}");
    }
}
