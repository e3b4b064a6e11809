//! What a started server says on standard output.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::accounts::OneTimeAccount;

/// How curl is to be told to trust the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CurlTrust<'a> {
    /// The self-signed certificate in this file, which names `localhost`.
    SelfSigned(&'a Path),
    /// A certificate whose names are not known here: it is not checked.
    Unchecked,
}

/// Writes ready-to-paste curl lines for the listeners: with the one-time account, or for the
/// anonymous account if there is none.
///
/// # Errors
/// The writer's.
pub fn print_welcome(
    out: &mut impl Write,
    explicit: &[SocketAddr],
    implicit: &[SocketAddr],
    account: Option<&OneTimeAccount>,
    trust: CurlTrust<'_>,
) -> io::Result<()> {
    if let Some(account) = account {
        writeln!(
            out,
            "One-time account: user {}, password {}",
            account.name, *account.password
        )?;
    }
    writeln!(out, "Try:")?;
    let user = account.map_or_else(String::new, |account| {
        format!(" --user {}:{}", account.name, *account.password)
    });
    for address in explicit.iter().take(1) {
        let (check, url) = target("ftp", *address, trust);
        writeln!(out, "  curl --ssl-reqd {check}{user} {url}")?;
    }
    for address in implicit.iter().take(1) {
        let (check, url) = target("ftps", *address, trust);
        writeln!(out, "  curl {check}{user} {url}")?;
    }
    out.flush()
}

/// Writes `explicit FTPS on ADDR:PORT` and `implicit FTPS on ADDR:PORT` for each listener, then
/// `ready`: the lines that programs wait for.
///
/// # Errors
/// The writer's.
pub fn print_listeners(
    out: &mut impl Write,
    explicit: &[SocketAddr],
    implicit: &[SocketAddr],
) -> io::Result<()> {
    for address in explicit {
        writeln!(out, "explicit FTPS on {address}")?;
    }
    for address in implicit {
        writeln!(out, "implicit FTPS on {address}")?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

/// Writes `metrics on http://ADDR:PORT/metrics`, for programs that wait for it.
///
/// # Errors
/// The writer's.
pub fn print_metrics(out: &mut impl Write, address: SocketAddr) -> io::Result<()> {
    writeln!(out, "metrics on http://{address}/metrics")
}

/// curl's options for the certificate, and the URL.
fn target(scheme: &str, address: SocketAddr, trust: CurlTrust<'_>) -> (String, String) {
    let (ip, port) = (address.ip(), address.port());
    let here = ip.is_unspecified() || ip.is_loopback();
    if here && let CurlTrust::SelfSigned(certificate) = trust {
        let check = format!("--cacert {}", quoted(certificate));
        return (check, format!("{scheme}://localhost:{port}/"));
    }
    let url = match ip {
        _ if ip.is_unspecified() => format!("{scheme}://127.0.0.1:{port}/"),
        IpAddr::V4(ip) => format!("{scheme}://{ip}:{port}/"),
        // Quoted: brackets are patterns to some shells.
        IpAddr::V6(ip) => format!("'{scheme}://[{ip}]:{port}/'"),
    };
    ("-k".to_owned(), url)
}

/// The path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+".contains(character);
    if text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(explicit: &str, implicit: &str, trust: CurlTrust<'_>) -> String {
        let account = OneTimeAccount {
            name: "user",
            password: zeroize::Zeroizing::new("secret".to_owned()),
        };
        let mut out = Vec::new();
        let addresses = |text: &str| text.parse().into_iter().collect::<Vec<SocketAddr>>();
        print_welcome(
            &mut out,
            &addresses(explicit),
            &addresses(implicit),
            Some(&account),
            trust,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn curl_lines_fit_the_listener_and_the_certificate() {
        let text = welcome("[::]:21", "0.0.0.0:990", CurlTrust::Unchecked);
        assert!(
            text.contains("curl --ssl-reqd -k --user user:secret ftp://127.0.0.1:21/\n"),
            "{text}"
        );
        assert!(
            text.contains("curl -k --user user:secret ftps://127.0.0.1:990/\n"),
            "{text}"
        );
        let own = Path::new("/var/lib/my server/self-signed-cert.pem");
        let text = welcome("127.0.0.1:2121", "off", CurlTrust::SelfSigned(own));
        let line = "curl --ssl-reqd --cacert '/var/lib/my server/self-signed-cert.pem' --user user:secret ftp://localhost:2121/\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("ftps:"), "{text}");
        let text = welcome("[2001:db8::1]:2121", "off", CurlTrust::SelfSigned(own));
        assert!(
            text.contains(" -k --user user:secret 'ftp://[2001:db8::1]:2121/'\n"),
            "{text}"
        );
    }

    #[test]
    fn programs_can_wait_for_the_listeners() {
        let mut out = Vec::new();
        let explicit = ["[::]:2121".parse().unwrap()];
        let implicit = ["127.0.0.1:2990".parse().unwrap()];
        print_listeners(&mut out, &explicit, &implicit).unwrap();
        let expected = "explicit FTPS on [::]:2121\nimplicit FTPS on 127.0.0.1:2990\nready\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
