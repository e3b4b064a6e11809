//! TLS client certificates: whether they are asked for, which are accepted, and what they say.
//!
//! A certificate counts for what the client proves by its handshake: that it holds the key. By itself that makes it as good as
//! its fingerprint. Its subject counts only where an authority that the operator names vouches for it.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
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
    authorities: Option<Authorities>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// SHA-256 of each.
    roots: Vec<[u8; 32]>,
    revoked: Revoked,
}

/// Issuer (DER) and serial number of everything that a list has.
type Revoked = HashSet<(Vec<u8>, Vec<u8>)>;

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
        let authorities = authorities.map(|pem| Authorities::new(pem, revocations, provider));
        Ok(Self {
            required,
            authorities: authorities.transpose()?,
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
        match authorities.verifier.verify_client_cert(own, above, now) {
            Ok(_) => Ok(true),
            Err(Error::InvalidCertificate(error))
                if !self.required && authorities.do_not_know(own, &error) =>
            {
                check_dates(own, now).map(|()| false)
            }
            // SECURITY: a client must not escape a list by leaving out the certificates between.
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
                if authorities.have_revoked(own) =>
            {
                Err(Error::InvalidCertificate(CertificateError::Revoked))
            }
            Err(error) => Err(error),
        }
    }
}

impl Authorities {
    fn new(
        mut pem: &[u8],
        revocations: Option<&[u8]>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, ClientsError> {
        let bad = |error: &dyn fmt::Display| ClientsError::Authorities(error.to_string());
        let mut store = RootCertStore::empty();
        let mut roots = Vec::new();
        for certificate in rustls_pemfile::certs(&mut pem) {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.push(fingerprint(&certificate));
            store.add(certificate).map_err(|error| bad(&error))?;
        }
        if roots.is_empty() {
            return Err(bad(&"no PEM certificate found"));
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        let mut revoked = Revoked::new();
        if let Some(pem) = revocations {
            let lists = lists(pem)?;
            for list in &lists {
                add_revoked(&mut revoked, list)?;
            }
            builder = builder.with_crls(lists);
        }
        Ok(Self {
            verifier: builder.build().map_err(|error| match error {
                VerifierBuilderError::InvalidCrl(_) => ClientsError::Revocations(error.to_string()),
                _ => bad(&error),
            })?,
            roots,
            revoked,
        })
    }

    /// Whether what was found wrong with it is only that they have nothing to do with it.
    fn do_not_know(&self, own: &CertificateDer<'_>, error: &CertificateError) -> bool {
        match error {
            CertificateError::UnknownIssuer => !self.have_revoked(own),
            // What `openssl req -x509` makes is an authority, which webpki refuses before it looks for the issuer.
            CertificateError::Other(_) => {
                let parsed = X509Certificate::from_der(own);
                let own_issuer = parsed.is_ok_and(|(_, own)| own.issuer() == own.subject());
                own_issuer && !self.roots.contains(&fingerprint(own)) && !self.have_revoked(own)
            }
            _ => false,
        }
    }

    fn have_revoked(&self, own: &CertificateDer<'_>) -> bool {
        let parsed = X509Certificate::from_der(own);
        parsed.is_ok_and(|(_, own)| {
            let issuer = own.issuer().as_raw().to_vec();
            self.revoked.contains(&(issuer, own.raw_serial().to_vec()))
        })
    }
}

fn lists(mut pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, ClientsError> {
    let lists: Result<Vec<_>, _> = rustls_pemfile::crls(&mut pem).collect();
    let lists = lists.map_err(|error| ClientsError::Revocations(error.to_string()))?;
    if lists.is_empty() {
        let message = "no PEM revocation list found".to_owned();
        return Err(ClientsError::Revocations(message));
    }
    Ok(lists)
}

fn add_revoked(
    revoked: &mut Revoked,
    list: &CertificateRevocationListDer<'_>,
) -> Result<(), ClientsError> {
    let (_, list) = CertificateRevocationList::from_der(list)
        .map_err(|error| ClientsError::Revocations(error.to_string()))?;
    let issuer = list.issuer().as_raw();
    let entries = list.iter_revoked_certificates();
    revoked.extend(entries.map(|entry| (issuer.to_vec(), entry.raw_serial().to_vec())));
    Ok(())
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
            Some(authorities) if self.clients.required => authorities.verifier.root_hint_subjects(),
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

#[cfg(test)]
mod stale;

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
        ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
        RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    fn params(name: &str, authority: bool) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        } else {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        params
    }

    fn leaf(serial: u64, issuer: &Issuer<'_, KeyPair>) -> Certificate {
        let mut params = params("ann", false);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap()
    }

    fn list(serial: u64, issuer: &Issuer<'_, KeyPair>) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(issuer).unwrap().pem().unwrap()
    }

    #[test]
    fn a_revoked_certificate_is_none_without_those_between_either() {
        let key = KeyPair::generate().unwrap();
        let root = params("Root", true).self_signed(&key).unwrap();
        let top = Issuer::new(params("Root", true), key);
        let key = KeyPair::generate().unwrap();
        let between = params("Between", true);
        let middle = between.signed_by(&key, &top).unwrap();
        let issuer = Issuer::new(between, key);
        // A serial number whose DER begins with a zero octet.
        let lists = list(99, &top) + &list(200, &issuer);
        let clients = |required| {
            let (root, lists) = (root.pem(), lists.as_bytes());
            Clients::new(required, Some(root.as_bytes()), Some(lists)).unwrap()
        };
        let optional = clients(false);
        let examine = |clients: &Clients, chain: &[&Certificate]| {
            let chain: Vec<_> = chain.iter().map(|one| one.der().clone()).collect();
            let shown = clients.examine(Some(&chain));
            shown.map(|shown| !shown.unwrap().subject.is_empty())
        };
        let (good, revoked) = (leaf(1, &issuer), leaf(200, &issuer));
        assert_eq!(examine(&optional, &[&good, &middle]), Ok(true));
        assert_eq!(examine(&optional, &[&good]), Ok(false));
        let refused = Err(Error::InvalidCertificate(CertificateError::Revoked));
        assert_eq!(examine(&optional, &[&revoked, &middle]), refused);
        assert_eq!(examine(&optional, &[&revoked]), refused);
        // The serial number of one authority says nothing of another's.
        assert_eq!(examine(&optional, &[&leaf(99, &issuer)]), Ok(false));
        let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(examine(&clients(true), &[&good]), unknown);
    }

    #[test]
    fn a_self_signed_certificate_may_be_an_authority() {
        let make = |name| {
            let key = KeyPair::generate().unwrap();
            params(name, true).self_signed(&key).unwrap()
        };
        let (root, own) = (make("Root"), make("ann"));
        let examine = |required, shown: &Certificate| {
            let clients = Clients::new(required, Some(root.pem().as_bytes()), None).unwrap();
            let chain = [shown.der().clone()];
            clients.examine(Some(&chain)).map(Option::unwrap)
        };
        let shown = examine(false, &own).unwrap();
        assert_eq!(shown.sha256, fingerprint(own.der()));
        assert_eq!(shown.subject, [], "nobody vouches for it");
        assert!(examine(true, &own).is_err());
        assert!(examine(false, &root).is_err(), "an authority is no client");
    }
}
