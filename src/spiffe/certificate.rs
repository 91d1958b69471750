//! What a certificate says. Whether it is to be believed is decided in the handshake.

use rustls::pki_types::CertificateDer;
use spiffe::SpiffeId;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The SPIFFE id of an X.509-SVID: its one URI.
pub(crate) fn spiffe_id(certificate: &CertificateDer<'_>) -> Option<SpiffeId> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return None };
    SpiffeId::new(uri).ok()
}

/// When it expires, in epoch seconds.
pub(super) fn expires_at(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
