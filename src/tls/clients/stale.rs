//! What becomes of clients when authorities and their lists are out of date, or a list is missing: `ringftpd doctor` tells
//! operators so.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::*;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// One that expired long ago.
fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    Authority { pem, issuer }
}

fn client(serial: u64, authority: &Authority) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ann");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &authority.issuer).unwrap().into()
}

/// A list whose next one was due long ago.
fn old_list(serial: u64, authority: &Authority) -> String {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2020, 2, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&authority.issuer).unwrap().pem().unwrap()
}

fn refused(error: CertificateError) -> Error {
    Error::InvalidCertificate(error)
}

#[test]
fn an_old_list_counts_and_a_missing_one_refuses_all() {
    let (listed, other) = (authority("Listed"), authority("Other"));
    let authorities = format!("{}{}", listed.pem, other.pem);
    let lists = old_list(7, &listed);
    for required in [true, false] {
        let clients = Clients::new(
            required,
            Some(authorities.as_bytes()),
            Some(lists.as_bytes()),
        );
        let clients = clients.unwrap();
        let examine = |certificate| clients.examine(Some(&[certificate])).map(|_| ());
        assert_eq!(examine(client(1, &listed)), Ok(()), "{required}");
        assert_eq!(
            examine(client(7, &listed)),
            Err(refused(CertificateError::Revoked))
        );
        assert_eq!(
            examine(client(1, &other)),
            Err(refused(CertificateError::UnknownRevocationStatus))
        );
    }
}

#[test]
fn of_two_lists_of_an_authority_the_first_counts() {
    let root = authority("Root");
    let lists = [5, 6].map(|serial| old_list(serial, &root)).concat();
    let clients = Clients::new(true, Some(root.pem.as_bytes()), Some(lists.as_bytes())).unwrap();
    let examine = |serial| clients.examine(Some(&[client(serial, &root)]));
    assert_eq!(examine(5).unwrap_err(), refused(CertificateError::Revoked));
    // Change this, and `ringftpd doctor` must judge by another list.
    assert!(examine(6).unwrap().is_some());
}
