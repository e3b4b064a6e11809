//! Options of `ringftpd user add` beside rights and bounds: rules for files, certificates, and the welcome.

use std::io;
use std::path::Path;

use clap::Args;

use super::failure::cause;
use super::{Exit, Failure};
use crate::auth::{
    BadCertificates, Certificates, FileRules, Mount, NamePattern, PathRule, Personal, RuleList,
    User, Welcome,
};
use crate::limits;
use crate::proto::Charset;

const FILES: &str = "Files";
const LOGIN: &str = "Login";

/// What an account has of its own, in addition to what holds for all.
#[derive(Debug, Args)]
pub struct UserOptions {
    /// Permissions at a path and below it, instead of --permissions: /incoming=write,make-directory; nothing after `=` for none. Repeatable.
    #[arg(long, value_name = "PATH=LIST", help_heading = FILES)]
    pub path_permissions: Vec<PathRule>,
    /// A directory of this system, seen at a path: /music=/srv/music; --path-permissions for that path says what may be done there. Repeatable.
    #[arg(long, value_name = "PATH=DIR", help_heading = FILES)]
    pub mount: Vec<Mount>,
    /// Names that listings leave out, as `*.tmp`; whoever knows such a name can use it. Repeatable.
    #[arg(long, value_name = "PATTERN", help_heading = FILES)]
    pub hidden_name: Vec<NamePattern>,
    /// Names that are as if absent, as `.ht*`; none can be made. Repeatable.
    #[arg(long, value_name = "PATTERN", help_heading = FILES)]
    pub denied_name: Vec<NamePattern>,
    /// Character set of names for its clients, as GBK, Shift_JIS, windows-1252 or UTF-8 [default: --charset of `ringftpd serve`].
    #[arg(long, value_name = "LABEL", help_heading = FILES)]
    pub charset: Option<Charset>,
    /// A TLS client certificate that logs in: sha256: and its fingerprint in hexadecimal digits, with or without colons; or
    /// subject:CN=alice,O=Example, vouched for by --client-ca of `ringftpd serve`. Repeatable.
    #[arg(long, value_name = "CERTIFICATE", help_heading = LOGIN)]
    pub certificate: Vec<String>,
    /// What a certificate is good for: `enough`, as is the password; `only`, and no password is asked for here; `and-password`, both are
    /// needed [default: enough].
    #[arg(long, value_name = "enough|only|and-password", help_heading = LOGIN)]
    pub certificate_login: Option<String>,
    /// What the account is told at login: up to 50 lines of at most 500 octets, separated by line ends [default: that of its virtual host].
    #[arg(long, value_name = "TEXT", help_heading = LOGIN)]
    pub welcome: Option<String>,
}

// The numbers in the help above.
const _: () = assert!(limits::WELCOME_LINES_MAX == 50 && limits::WELCOME_LINE_OCTETS_MAX == 500);

/// The same, checked as a users file is.
pub(super) struct Own {
    rules: FileRules,
    personal: Personal,
}

impl UserOptions {
    pub(super) fn check(self) -> Result<Own, Failure> {
        let usage = |option: &str, problem: &dyn std::fmt::Display| {
            Failure::new(Exit::Usage, format!("{option}: {problem}"))
        };
        let rules = FileRules::of_lists(
            self.path_permissions,
            self.mount,
            self.hidden_name,
            self.denied_name,
        );
        let login = self.certificate_login.as_deref();
        let certificates = Certificates::parse(&self.certificate, login);
        // In the words of the options: the texts of these two are about keys of the file.
        let certificates = certificates.map_err(|problem| match problem {
            BadCertificates::Login => {
                usage("--certificate-login", &"give enough, only or and-password")
            }
            BadCertificates::None => usage(
                "--certificate-login",
                &"say which certificates, by --certificate beside it",
            ),
            _ => usage("--certificate", &problem),
        })?;
        let welcome = self.welcome.as_deref().map(Welcome::parse).transpose();
        Ok(Own {
            rules: rules.map_err(|(list, problem)| {
                let problem = problem.to_string();
                // The option says what the keys of the file would.
                let of_key = ["path: ", "at: "].iter();
                let mut bare = of_key.filter_map(|key| problem.strip_prefix(key));
                usage(option_of(list), &bare.next().unwrap_or(&problem))
            })?,
            personal: Personal {
                certificates,
                welcome: welcome
                    .map_err(|problem| usage("--welcome", &problem))?
                    .flatten(),
                charset: self.charset,
            },
        })
    }
}

impl Own {
    /// Whether a password opens nothing.
    pub(super) fn needs_no_password(&self) -> bool {
        self.personal.certificates.login() == Some("only")
    }

    /// What the directories to mount lack, with the remedy.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.rules.mounts().iter().filter_map(|mount| {
            let given = format!("--mount {}={}", mount.at, mount.directory.display());
            unusable(&given, &mount.directory)
        })
    }

    pub(super) fn give_to(self, user: User) -> User {
        user.with_file_rules(self.rules)
            .with_personal(self.personal)
    }
}

fn option_of(list: RuleList) -> &'static str {
    match list {
        RuleList::Paths => "--path-permissions",
        RuleList::Mounts => "--mount",
        RuleList::Hidden => "--hidden-name",
        RuleList::Denied => "--denied-name",
    }
}

/// Why no account can log in with this directory as things are, with the remedy. `given`: the option with its value.
pub(super) fn unusable(given: &str, directory: &Path) -> Option<String> {
    let problem = match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return None,
        Ok(_) => "it is no directory".to_owned(),
        // The server's account may be able to see it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        Err(error) => cause(&error),
    };
    Some(format!(
        "{given}: {problem}; the account cannot log in before the directory is there: make it, or mount what holds it"
    ))
}

/// What an account has of its own, in a few words for a list; empty where there is nothing.
pub(super) fn summary(user: &User) -> String {
    let rules = user.file_rules();
    let personal = user.personal();
    let counts = [
        ("paths", rules.paths().len()),
        ("mounts", rules.mounts().len()),
        ("hidden", rules.hidden().len()),
        ("denied", rules.denied().len()),
        (
            "certificates",
            personal.certificates.listed().map_or(0, |list| list.len()),
        ),
        ("welcome", usize::from(personal.welcome.is_some())),
    ];
    let there = counts.iter().filter(|(_, count)| *count > 0);
    let words = there.map(|(word, count)| match *word {
        "welcome" => (*word).to_owned(),
        _ => format!("{word}={count}"),
    });
    let charset = personal.charset.map(|charset| format!("charset={charset}"));
    words.chain(charset).collect::<Vec<_>>().join(",")
}
