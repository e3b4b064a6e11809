//! TLS client certificates: whether they are asked for, which are accepted, and what they say.
//!
//! A certificate counts for what the client proves by its handshake: that it holds the key. By itself that makes it as good as
//! its fingerprint. Its subject counts only where an authority that the operator names vouches for it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::provider;

/// Types of attributes as people write them (RFC 4514 §3, RFC 2985 §5.2.1), with their object identifiers.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// Why authorities or revocation lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// The file of authorities.
    #[error("{0}; give the certificates of the authorities in PEM")]
    Authorities(String),
    /// The file of revocation lists.
    #[error("{0}; give the revocation lists of the authorities in PEM (BEGIN X509 CRL)")]
    Revocations(String),
}

/// What a client has shown on its control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// The attributes of its subject, type and value, if an authority vouches for it; else empty.
    pub subject: Vec<(String, String)>,
}

impl fmt::Display for ClientCertificate {
    /// The fingerprint as a users file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.sha256
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Which client certificates there may be, and whether one there must be.
#[derive(Debug)]
pub struct Clients {
    required: bool,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// Asks for certificates. With authorities one that is `required` must lead to one of them, and one that is not may be
    /// of an unknown issuer, which makes it as good as without authorities: its fingerprint counts. `authorities` and
    /// `revocations` are PEM.
    ///
    /// # Errors
    /// [`ClientsError`].
    pub fn new(
        required: bool,
        authorities: Option<&[u8]>,
        revocations: Option<&[u8]>,
    ) -> Result<Self, ClientsError> {
        let provider = Arc::new(provider());
        let algorithms = provider.signature_verification_algorithms;
        let bad = |error: &dyn fmt::Display| ClientsError::Authorities(error.to_string());
        let Some(mut pem) = authorities else {
            return Ok(Self {
                required,
                authorities: None,
                algorithms,
            });
        };
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut pem) {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
        if roots.is_empty() {
            return Err(bad(&"no PEM certificate found"));
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let Some(mut pem) = revocations {
            let bad = |error: &dyn fmt::Display| ClientsError::Revocations(error.to_string());
            let lists: Result<Vec<_>, _> = rustls_pemfile::crls(&mut pem).collect();
            let lists = lists.map_err(|error| bad(&error))?;
            if lists.is_empty() {
                return Err(bad(&"no PEM revocation list found"));
            }
            builder = builder.with_crls(lists);
            let verifier = builder.build().map_err(|error| bad(&error))?;
            return Ok(Self {
                required,
                authorities: Some(verifier),
                algorithms,
            });
        }
        let verifier = builder.build().map_err(|error| bad(&error))?;
        Ok(Self {
            required,
            authorities: Some(verifier),
            algorithms,
        })
    }

    /// For control connections, or for data connections, which may always come without one: whether it is the right
    /// one is judged afterwards.
    pub(super) fn verifier(self: &Arc<Self>, control: bool) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier {
            clients: Arc::clone(self),
            mandatory: self.required && control,
        })
    }

    /// Looks at what a client has presented. Resumed sessions are looked at again: what has expired or was revoked
    /// since is refused, and so is a session from before certificates were required.
    pub(super) fn examine(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Result<Option<ClientCertificate>, Error> {
        let Some((own, above)) = chain.and_then(<[_]>::split_first) else {
            return match self.required {
                true => Err(Error::NoCertificatesPresented),
                false => Ok(None),
            };
        };
        let verified = self.judge(own, above, UnixTime::now())?;
        Ok(Some(ClientCertificate {
            sha256: fingerprint(own),
            subject: if verified { subject(own) } else { Vec::new() },
        }))
    }

    /// Whether an authority vouches for it.
    fn judge(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<bool, Error> {
        let Some(authorities) = &self.authorities else {
            return check_dates(own, now).map(|()| false);
        };
        match authorities.verify_client_cert(own, above, now) {
            Ok(_) => Ok(true),
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) if !self.required => {
                check_dates(own, now).map(|()| false)
            }
            Err(error) => Err(error),
        }
    }
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut octets = [0; 32];
    let digest = digest::digest(&digest::SHA256, certificate);
    for (to, from) in octets.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    octets
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |error| Err(Error::InvalidCertificate(error));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return bad(CertificateError::BadEncoding);
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if parsed.validity().not_before.timestamp() > now {
        return bad(CertificateError::NotValidYet);
    }
    if parsed.validity().not_after.timestamp() < now {
        return bad(CertificateError::Expired);
    }
    Ok(())
}

/// The attributes that are text.
fn subject(certificate: &CertificateDer<'_>) -> Vec<(String, String)> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map_or_else(|_| Vec::new(), |(_, parsed)| attributes(parsed.subject()))
}

fn attributes(name: &X509Name<'_>) -> Vec<(String, String)> {
    let attributes = name.iter_attributes().filter_map(|attribute| {
        let kind = attribute.attr_type().to_id_string();
        let known = ATTRIBUTES.iter().find(|(id, _)| *id == kind);
        let kind = known.map_or(kind.as_str(), |(_, name)| name).to_owned();
        let value = attribute.as_str().ok()?;
        Some((kind, value.to_owned()))
    });
    attributes.collect()
}

/// What a client's certificate is refused for, with the remedy, in words for the log.
#[must_use]
pub(super) fn remedy(error: &Error) -> Option<&'static str> {
    let Error::InvalidCertificate(certificate) = error else {
        return (*error == Error::NoCertificatesPresented)
            .then_some("give the client a certificate, or the server --client-cert optional");
    };
    Some(match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "renew the client's certificate"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "look at the clocks of both machines"
        }
        CertificateError::Revoked => "give the client another certificate",
        CertificateError::UnknownRevocationStatus => {
            "--client-crl needs a list of each authority in the chain"
        }
        CertificateError::UnknownIssuer => {
            "let an authority of --client-ca sign it, or add its issuer there"
        }
        _ => "use an X.509 version 3 certificate for clients (extended key usage clientAuth)",
    })
}

/// Asks rustls' handshake for a certificate.
#[derive(Debug)]
struct Verifier {
    clients: Arc<Clients>,
    mandatory: bool,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// Clients that choose by these hints would not show one of an unknown issuer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.clients.authorities {
            Some(authorities) if self.clients.required => authorities.root_hint_subjects(),
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let judged = self.clients.judge(end_entity, intermediates, now);
        judged.map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.clients.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.clients.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.algorithms.supported_schemes()
    }
}
