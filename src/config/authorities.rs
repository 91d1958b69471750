//! Whose certificates of a peer are believed.

use super::kafka_security::file;
use super::reader::Reader;

/// The only authorities trusted with a peer's certificate; `None`: the system's. `bundle` is the setting and its help text,
/// `verify` the platform's switch, which cannot turn verification off, and `whose` the peer in the genitive.
pub(super) fn authorities(
    reader: &mut Reader<'_>,
    (bundle, help): (&'static str, &'static str),
    verify: &'static str,
    whose: &str,
) -> Option<String> {
    let path = file(reader, bundle, help);
    if let Some(path) = path.as_deref()
        && std::fs::read_to_string(path).is_ok_and(|text| !text.contains("-----BEGIN CERTIFICATE-----"))
    {
        reader.error(format!("{bundle}={path:?}: holds no PEM certificate"));
    }
    if !reader.boolean(verify, true, "not supported when false: certificates are always verified") {
        reader.error(format!(
            "{verify}=false: certificates are always verified; set {bundle} to a PEM file with {whose} authority"
        ));
    }
    path
}
