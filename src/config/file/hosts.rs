//! The section `[[hosts]]`: virtual hosts.

use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::sections::{Complaints, Section, Structures};
use super::table::Change;
use crate::auth::Welcome;
use crate::config::CertificateFiles;
use crate::config::hosts::{HostOptions, HostsOptions};
use crate::limits;
use crate::proto::Charset;
use crate::vhosts::Table;

pub(super) const HOSTS: Section = Section {
    name: "hosts",
    example: "\
# Virtual hosts (live): one [[hosts]] for each. Clients choose one by the name in their TLS
# handshake (SNI) or with HOST (RFC 7151); those that do neither, or name something else, get the
# server as it is described above, and so does what a host leaves out.
#
#[[hosts]]
#  names = [\"ftp.example.com\", \"*.files.example.com\"]  # `*` stands for one label
#  cert = \"example.com.pem\"         # certificate chain and key in PEM
#  key = \"example.com.key\"
#  directory = \"/srv/example\"       # what accounts without a home of their own see as /
#  users = \"example-users.toml\"     # accounts of this host alone
#  anonymous = false                # let in `anonymous` and `ftp`, to read only
#  greeting = \"Files of Example\"    # the text of 220
#  welcome = \"Welcome.\\nMirrors are in /mirrors.\"  # lines of 230, unless the user has others
#  charset = \"GBK\"                  # of names, unless the user has another",
    change: Change::Live,
    parse,
};

const KEYS: [&str; 9] = [
    "names",
    "cert",
    "key",
    "directory",
    "users",
    "anonymous",
    "greeting",
    "welcome",
    "charset",
];

fn parse(
    structures: &mut Structures,
    value: &Spanned<DeValue<'_>>,
    complaints: &mut Complaints<'_>,
) {
    let DeValue::Array(list) = value.get_ref() else {
        let message = "`hosts` is a list of tables: write [[hosts]] on a line of its own for each host, and its keys below";
        return complaints.add(&value.span(), message);
    };
    let mut names = Table::default();
    let mut hosts = Vec::new();
    for (number, host) in list.iter().enumerate() {
        if number == limits::VIRTUAL_HOSTS_MAX {
            let message = format!("there can be {} virtual hosts", limits::VIRTUAL_HOSTS_MAX);
            return complaints.add(&host.span(), message);
        }
        match host.get_ref() {
            DeValue::Table(keys) => hosts.extend(parse_host(keys, host, &mut names, complaints)),
            _ => complaints.add(&host.span(), "a host is a table: write [[hosts]]"),
        }
    }
    structures.hosts = HostsOptions {
        names: Arc::new(names),
        list: hosts,
    };
}

/// One host; `None` when its names are wrong, which was said.
fn parse_host(
    keys: &DeTable<'_>,
    host: &Spanned<DeValue<'_>>,
    names: &mut Table,
    complaints: &mut Complaints<'_>,
) -> Option<HostOptions> {
    for (key, _) in keys {
        let name = key.get_ref().as_ref();
        if !KEYS.contains(&name) {
            let hint = nearest(name, KEYS);
            let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let shown: String = name.chars().take(64).collect();
            let message = format!(
                "unknown key `{shown}` in [[hosts]]{hint} (keys here are {})",
                KEYS.join(", ")
            );
            complaints.add(&key.span(), message);
        }
    }
    let mut reader = Reader { keys, complaints };
    let certificate = match (reader.path("cert"), reader.path("key")) {
        (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => reader.lone("cert", "key"),
        (None, Some(_)) => reader.lone("key", "cert"),
    };
    let directory = reader.path("directory");
    let users = reader.path("users");
    let anonymous = reader.flag("anonymous");
    let greeting = reader.greeting();
    let welcome = reader.welcome();
    let charset = reader.charset();
    let name = reader.names(host, names)?;
    Some(HostOptions {
        name,
        place: complaints.place(&host.span()),
        certificate,
        directory,
        users,
        anonymous,
        greeting,
        welcome,
        charset,
    })
}

struct Reader<'a, 'b, 'c> {
    keys: &'a DeTable<'b>,
    complaints: &'a mut Complaints<'c>,
}

impl<'a, 'b> Reader<'a, 'b, '_> {
    fn find(&self, name: &str) -> Option<&'a Spanned<DeValue<'b>>> {
        self.keys.get(name)
    }

    fn text(&mut self, name: &str) -> Option<(&'a Spanned<DeValue<'b>>, &'a str)> {
        let value = self.find(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some((value, text.as_ref())),
            other => {
                let kind = other.type_str();
                let message = format!("{name}: it takes no {kind}: give a text in quotes");
                self.complaints.add(&value.span(), message);
                None
            }
        }
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        let (value, text) = self.text(name)?;
        let problem = if text.is_empty() {
            "give a path, or leave the key out"
        // SECURITY: whoever puts a private key here must not find it in a log.
        } else if text.contains(['\n', '\r', '\0']) || text.contains("-----BEGIN") {
            "this is no path: give that of the file, not its contents"
        } else {
            return Some(PathBuf::from(text));
        };
        let message = format!("{name}: {problem}");
        self.complaints.add(&value.span(), message);
        None
    }

    /// A certificate without its key, or the other way round. Where the other was wrong, that was said.
    fn lone(&mut self, name: &str, other: &str) -> Option<CertificateFiles> {
        if let (Some(value), None) = (self.find(name), self.find(other)) {
            let message = format!("{name} needs `{other}` beside it");
            self.complaints.add(&value.span(), message);
        }
        None
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.find(name)?;
        if let DeValue::Boolean(on) = value.get_ref() {
            return Some(*on);
        }
        let message = format!("{name}: give true or false");
        self.complaints.add(&value.span(), message);
        None
    }

    fn greeting(&mut self) -> Option<String> {
        let (value, text) = self.text("greeting")?;
        let printable = text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
        if printable && (1..=limits::GREETING_OCTETS_MAX).contains(&text.len()) {
            return Some(text.to_owned());
        }
        let message = format!(
            "greeting: give one line of 1 to {} printable ASCII characters",
            limits::GREETING_OCTETS_MAX
        );
        self.complaints.add(&value.span(), message);
        None
    }

    fn welcome(&mut self) -> Option<Welcome> {
        let (value, text) = self.text("welcome")?;
        match Welcome::parse(text) {
            Ok(welcome) => welcome,
            Err(problem) => {
                let message = format!("welcome: {problem}");
                self.complaints.add(&value.span(), message);
                None
            }
        }
    }

    fn charset(&mut self) -> Option<Charset> {
        let (value, text) = self.text("charset")?;
        let charset = text.parse();
        if let Err(problem) = &charset {
            let message = format!("charset: {problem}");
            self.complaints.add(&value.span(), message);
        }
        charset.ok()
    }

    /// Enters the names; the first of them.
    fn names(&mut self, host: &Spanned<DeValue<'_>>, names: &mut Table) -> Option<String> {
        let Some(value) = self.find("names") else {
            let message = "a host needs `names`: names = [\"ftp.example.com\"]";
            self.complaints.add(&host.span(), message);
            return None;
        };
        let list: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![value],
        };
        let before = names.hosts().len();
        for value in list {
            let DeValue::String(name) = value.get_ref() else {
                let message = "names: give names in quotes: [\"ftp.example.com\"]";
                self.complaints.add(&value.span(), message);
                continue;
            };
            let added = if names.hosts().len() == before {
                names.add_host(name)
            } else {
                names.add_name(name)
            };
            if let Err(problem) = added {
                self.complaints
                    .add(&value.span(), format!("names: {problem}"));
            }
        }
        let added = names.hosts().get(before);
        if added.is_none() && matches!(value.get_ref(), DeValue::Array(list) if list.is_empty()) {
            let message = "names: a host needs at least one name";
            self.complaints.add(&value.span(), message);
        }
        added.map(|host| host.name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (HostsOptions, Vec<String>) {
        let document = DeTable::parse(text).unwrap();
        let mut structures = Structures::default();
        let mut complaints = Complaints::new(text);
        let value = document.get_ref().get("hosts").unwrap();
        parse(&mut structures, value, &mut complaints);
        let told = complaints.into_list().into_iter();
        let told = told.map(|p| format!("{}: {}", p.place.unwrap(), p.message));
        (structures.hosts, told.collect())
    }

    #[test]
    fn whole_hosts() {
        let text = "[[hosts]]\nnames = 'ftp.Example.com.'\n\n[[hosts]]\nnames = ['b.example', '*.b.example']\n\
                    cert = 'c.pem'\nkey = '/k.pem'\ndirectory = 'd'\nusers = 'u.toml'\nanonymous = true\n\
                    greeting = 'Hello'\ncharset = 'latin1'\nwelcome = \"\"\"\none\ntwo\n\"\"\"\n";
        let (hosts, told) = read(text);
        assert_eq!(told, [] as [&str; 0]);
        let [one, two] = &hosts.list[..] else {
            panic!("{hosts:?}")
        };
        assert_eq!((one.name.as_str(), one.place.line), ("ftp.example.com", 1));
        assert_eq!(
            (&one.certificate, &one.users, one.anonymous),
            (&None, &None, None)
        );
        assert_eq!(two.anonymous, Some(true));
        assert_eq!(two.greeting.as_deref(), Some("Hello"));
        assert_eq!(two.charset.unwrap().name(), "windows-1252");
        assert_eq!(&**two.welcome.as_ref().unwrap().text(), "one\ntwo");
        assert_eq!(
            two.certificate.as_ref().unwrap().key,
            PathBuf::from("/k.pem")
        );
        assert_eq!(hosts.names.find("x.b.example").unwrap().index, 1);
    }

    #[test]
    fn the_example_is_a_host() {
        let is_text = |line: &&str| line.starts_with("# ") && !line.starts_with("#  ");
        let lines = HOSTS.example.lines().filter(|line| !is_text(line));
        let lines: Vec<&str> = lines.map(|line| line.trim_start_matches('#')).collect();
        let (hosts, told) = read(&lines.join("\n"));
        assert_eq!(told, [] as [&str; 0]);
        let [host] = &hosts.list[..] else {
            panic!("{hosts:?}")
        };
        assert_eq!(host.anonymous, Some(false));
        assert_eq!(host.welcome.as_ref().unwrap().text().lines().count(), 2);
        for key in KEYS {
            assert!(HOSTS.example.contains(&format!("#  {key} = ")), "{key}");
        }
    }

    #[test]
    fn all_errors_are_told_with_their_places() {
        for (text, expected) in [
            ("hosts = 3", "1:9: `hosts` is a list of tables"),
            ("hosts = [3]", "1:10: a host is a table"),
            ("[[hosts]]\ncert = 'a'", "2:8: cert needs `key` beside it"),
            (
                "[[hosts]]\nkey = 'a'\nnames = 'x'",
                "2:7: key needs `cert` beside it",
            ),
            ("[[hosts]]", "1:1: a host needs `names`"),
            (
                "[[hosts]]\nnames = []",
                "2:9: names: a host needs at least one name",
            ),
            (
                "[[hosts]]\nnames = ['a', 3]",
                "2:15: names: give names in quotes",
            ),
            (
                "[[hosts]]\nnames = ['a', 'A.']",
                "2:15: names: another host has this name",
            ),
            (
                "[[hosts]]\nnames = '10.0.0.1'",
                "2:9: names: an IP address is no name",
            ),
            (
                "[[hosts]]\nnames = ['a']\nroot = 'x'",
                "3:1: unknown key `root` in [[hosts]]",
            ),
            (
                "[[hosts]]\nnames = ['a']\nuser = 'x'",
                "3:1: unknown key `user` in [[hosts]]; did you mean `users`?",
            ),
            (
                "[[hosts]]\nnames = ['a']\nusers = true",
                "3:9: users: it takes no boolean",
            ),
            (
                "[[hosts]]\nnames = ['a']\ndirectory = ''",
                "3:13: directory: give a path",
            ),
            (
                "[[hosts]]\nnames = ['a']\nanonymous = 'x'",
                "3:13: anonymous: give true or false",
            ),
            (
                "[[hosts]]\nnames = ['a']\ngreeting = 'ä'",
                "3:12: greeting: give one line",
            ),
            (
                "[[hosts]]\nnames = ['a']\nwelcome = \"\\u001b\"",
                "3:11: welcome: it contains a control",
            ),
            (
                "[[hosts]]\nnames = ['a']\ncharset = 'gkb'",
                "3:11: charset: there is no character set `gkb`; did you mean `GBK`",
            ),
            (
                "[[hosts]]\nnames = ['a']\nkey = '-----BEGIN PRIVATE KEY-----'\ncert = 'c'",
                "3:7: key: this is no path",
            ),
        ] {
            let (_, told) = read(text);
            let found = told.iter().any(|told| told.starts_with(expected));
            assert!(found, "{text}: {told:?}");
            assert!(!told.iter().any(|told| told.contains("-----BEGIN")));
        }
        let (_, told) = read("[[hosts]]\nnames = 'a'\n[[hosts]]\nnames = 'a'\nusers = 1\n");
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
