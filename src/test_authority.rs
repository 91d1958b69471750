//! Certificates for tests of TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority, and its certificate in a file.
pub(crate) struct Authority {
    pem: tempfile::NamedTempFile,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for `localhost`, and its key.
pub(crate) struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        let pem = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(pem.path(), certificate.pem()).expect("written");
        Self { pem, der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// The file with its certificate.
    pub(crate) fn path(&self) -> &str {
        self.pem.path().to_str().expect("utf-8")
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    pub(crate) fn issue(&self) -> Issued {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Issued { certificate, key }
    }
}

impl Issued {
    /// As a server of rustls wants it.
    pub(crate) fn chain(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.der().clone()], PrivateKeyDer::Pkcs8(self.key.serialize_der().into()))
    }

    /// Writes both as PEM files.
    pub(crate) fn write(&self, certificate: &Path, key: &Path) {
        std::fs::write(certificate, self.certificate.pem()).expect("written");
        std::fs::write(key, self.key.serialize_pem()).expect("written");
    }
}
