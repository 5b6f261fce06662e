use std::fs;

use memcloud_tests::authority::{Authority, Signed};
use memcloud_tests::process::Folder;

use super::*;

fn files(signed: &Signed) -> Files {
    Files { certificate: signed.certificate.clone(), key: signed.key.clone() }
}

#[test]
fn another_certificate_in_the_files_is_shown_and_a_broken_one_is_not() {
    let folder = Folder::new();
    let authority = Authority::new("ca", &folder);
    let signed = authority.sign_for("control", "DNS:localhost", 100);
    let certificate = Certificate::new(files(&signed)).unwrap();
    let first = certificate.shown.load().cert.clone();
    let until = certificate.expires().unwrap();
    assert_eq!(certificate.look(), Look::Same);

    authority.sign_for("control", "DNS:localhost", 200);
    assert_eq!(certificate.look(), Look::Replaced);
    let longer = certificate.expires().unwrap() - until - 100 * 86_400;
    assert!((0..600).contains(&longer), "{longer}");
    assert_eq!(certificate.look(), Look::Same);
    let second = certificate.shown.load().cert.clone();
    assert_ne!(first, second);

    let whole = fs::read(&signed.certificate).unwrap();
    for broken in [b"".as_slice(), b"nonsense", &whole[..whole.len() / 2]] {
        fs::write(&signed.certificate, broken).unwrap();
        assert!(matches!(certificate.look(), Look::Failed(BadCertificate::Certificate { .. })));
        assert_eq!(certificate.shown.load().cert, second);
    }
    fs::remove_file(&signed.certificate).unwrap();
    assert!(matches!(certificate.look(), Look::Failed(BadCertificate::Certificate { .. })));
    fs::write(&signed.certificate, whole).unwrap();
    assert_eq!(certificate.look(), Look::Same);
}

#[test]
fn a_key_of_another_certificate_is_refused_with_one_sentence() {
    let folder = Folder::new();
    let authority = Authority::new("ca", &folder);
    let (one, two) = (authority.sign("one", "DNS:localhost"), authority.sign("two", "DNS:localhost"));
    let mixed = Files { certificate: one.certificate.clone(), key: two.key.clone() };
    let says = Certificate::new(mixed).unwrap_err().to_string();
    let (certificate, key) = (one.certificate.display(), two.key.display());
    assert_eq!(
        says,
        format!(
            "the key in {key} is not the one of the certificate in {certificate}: name the two that were made together"
        )
    );
    let swapped = Files { certificate: one.key.clone(), key: one.certificate.clone() };
    let says = Certificate::new(swapped).unwrap_err().to_string();
    assert!(says.contains("one.key holds no certificate"), "{says}");
    let no_key = Files { certificate: one.certificate.clone(), key: one.certificate };
    let says = Certificate::new(no_key).unwrap_err().to_string();
    assert!(says.contains("one.pem holds no private key"), "{says}");
}
