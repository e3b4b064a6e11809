//! A Rust client crate (suppaftp over rustls). Its TLS library uses each session ticket of TLS 1.3 once, so that a
//! row of uploads, which bring no new tickets, runs out of them and ends with full handshakes.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use suppaftp::types::FileType;
use suppaftp::{FtpError, Mode, RustlsConnector, RustlsFtpStream};

use crate::support::{HOST, PASSWORD, Port, Site, USER, octets};

fn connect(site: &Site, port: Port, tls: &'static SupportedProtocolVersion) -> RustlsFtpStream {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(site.certificate()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[tls])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = RustlsConnector::from(Arc::new(config));
    let address = (HOST, site.port(port));
    let mut client = match port {
        Port::Explicit => RustlsFtpStream::connect(address)
            .unwrap()
            .into_secure(connector, HOST)
            .unwrap(),
        #[allow(
            deprecated,
            reason = "the crate counts implicit FTPS as deprecated; this server does not"
        )]
        Port::Implicit => {
            RustlsFtpStream::connect_secure_implicit(address, connector, HOST).unwrap()
        }
    };
    client.login(USER, PASSWORD).unwrap();
    client.transfer_type(FileType::Binary).unwrap();
    client
}

fn session(port: Port, tls: &'static SupportedProtocolVersion, mode: Mode) {
    let site = Site::start();
    let content = octets(9, 1_500_001);
    site.write("down.bin", &content);
    let mut client = connect(&site, port, tls);
    if mode == Mode::Active {
        client = client.active_mode(Duration::from_secs(30));
    }
    client.set_mode(mode);

    for round in 0..12 {
        let name = format!("up-{round}.bin");
        assert_eq!(
            client.put_file(&name, &mut Cursor::new(&content)).unwrap(),
            content.len() as u64
        );
        assert!(site.read(&name) == content, "upload {round}");
    }
    for round in 0..12 {
        assert!(
            client.retr_as_buffer("down.bin").unwrap().into_inner() == content,
            "download {round}"
        );
    }
    client.resume_transfer(1_000_000).unwrap();
    let tail = client.retr("down.bin", |stream| {
        let mut tail = Vec::new();
        stream
            .read_to_end(&mut tail)
            .map_err(FtpError::ConnectionError)?;
        Ok(tail)
    });
    assert!(tail.unwrap() == content[1_000_000..]);

    assert_eq!(client.size("down.bin").unwrap(), content.len());
    client.mkdir("d").unwrap();
    client.cwd("d").unwrap();
    assert_eq!(client.pwd().unwrap(), "/d");
    client
        .append_file("appended", &mut Cursor::new(b"head "))
        .unwrap();
    client
        .append_file("appended", &mut Cursor::new(b"tail"))
        .unwrap();
    assert_eq!(site.read("d/appended"), b"head tail");
    assert_eq!(client.nlst(None).unwrap(), ["appended"]);
    assert_eq!(client.list(None).unwrap().len(), 1);
    assert!(
        client
            .mlsd(None)
            .unwrap()
            .iter()
            .any(|line| line.ends_with(" appended"))
    );
    client.rename("appended", "/moved").unwrap();
    client.cdup().unwrap();
    client.mdtm("moved").unwrap();
    client.rm("moved").unwrap();
    client.rmdir("d").unwrap();
    client.noop().unwrap();
    client.quit().unwrap();
}

#[test]
fn suppaftp_explicit_passive_tls13() {
    session(Port::Explicit, &version::TLS13, Mode::ExtendedPassive);
}

#[test]
fn suppaftp_explicit_active_tls12() {
    session(Port::Explicit, &version::TLS12, Mode::Active);
}

#[test]
fn suppaftp_implicit_passive_tls12() {
    session(Port::Implicit, &version::TLS12, Mode::Passive);
}

#[test]
fn suppaftp_implicit_active_tls13() {
    session(Port::Implicit, &version::TLS13, Mode::Active);
}
