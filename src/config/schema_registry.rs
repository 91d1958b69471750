//! The Schema Registry: where it is, who we are to it, whom we trust there.

use super::authorities::authorities;
use super::outgoing::PeerAccess;
use super::reader::Reader;
use super::secrets::{Secret, SecretSource, Shown, secret_names};

/// The name of the address.
const URL: &str = "KAFKA_SCHEMA_REGISTRY_URL";

/// Who this worker is to the registry.
#[derive(Debug, Clone, Default)]
pub enum RegistryLogin {
    /// Nobody in particular.
    #[default]
    None,
    /// `SCHEMA_REGISTRY_USERNAME` and `SCHEMA_REGISTRY_PASSWORD`, or the user info of the URL.
    Basic {
        /// User.
        username: String,
        /// Password.
        password: SecretSource,
    },
    /// `SCHEMA_REGISTRY_TOKEN`, its file, or Vault.
    Bearer(SecretSource),
}

/// How the registry is reached, beside its address.
#[derive(Debug, Clone, Default)]
pub struct RegistryAccess {
    /// Credentials.
    pub login: RegistryLogin,
    /// `SCHEMA_REGISTRY_CA_BUNDLE`, and what all peers share.
    pub peer: PeerAccess,
}

/// The registry's URL, without user info, and the access to it. No URL: JSON only.
pub(super) fn read(reader: &mut Reader<'_>) -> (Option<String>, RegistryAccess) {
    let text = reader.url_or_empty(
        URL,
        "https://schema-registry.kafka.svc.cluster.local:8081",
        "Schema Registry, with or without base path; empty: JSON only",
    );
    let (url, from_url) = if text.is_empty() { (None, None) } else { url(reader, &text) };
    let login = login(reader, from_url);
    let ca_bundle = authorities(
        reader,
        ("SCHEMA_REGISTRY_CA_BUNDLE", "PEM file with the authorities of the registry's certificate"),
        "SCHEMA_REGISTRY_TLS_VERIFY",
        "the registry's",
    );
    if !matches!(login, RegistryLogin::None) && url.as_deref().is_some_and(|url| url.starts_with("http://")) {
        reader.warn(format!("{URL} is http: the registry's credentials are sent unencrypted"));
    }
    (url, RegistryAccess { login, peer: reader.peer_access(ca_bundle) })
}

/// The URL without its user info, and the user info.
fn url(reader: &mut Reader<'_>, text: &str) -> (Option<String>, Option<(String, SecretSource)>) {
    let shown = without_user_info(text);
    let parsed = match reqwest::Url::parse(text) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => parsed,
        _ => {
            reader.error(format!("{URL}={shown:?}: expected an http(s) URL, or nothing for JSON only"));
            return (None, None);
        }
    };
    if parsed.query().is_some() || parsed.fragment().is_some() {
        reader.error(format!("{URL}={shown:?}: expected no ?query and no #fragment; paths are appended to it"));
    }
    if parsed.username().is_empty() && parsed.password().is_none() {
        return (Some(text.to_owned()), None);
    }
    reader.warn(format!(
        "{URL} holds credentials, which many tools print; prefer SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD"
    ));
    let password = Secret::new(decoded(parsed.password().unwrap_or_default()));
    let login = (decoded(parsed.username()), SecretSource::of_text(URL, password));
    reader.remember(&login.1);
    let mut plain = parsed;
    // Neither fails for a URL with a host.
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    (Some(plain.as_str().trim_end_matches('/').to_owned()), Some(login))
}

fn login(reader: &mut Reader<'_>, from_url: Option<(String, SecretSource)>) -> RegistryLogin {
    let username = reader
        .optional("SCHEMA_REGISTRY_USERNAME", "user of the registry, basic authentication; added by this product");
    let password = reader.secret(
        &secret_names!("SCHEMA_REGISTRY_PASSWORD", "password of the registry's user", "; added by this product"),
        Shown::Hidden,
    );
    let token = reader.secret(
        &secret_names!("SCHEMA_REGISTRY_TOKEN", "bearer token for the registry", "; added by this product"),
        Shown::Hidden,
    );
    if username.is_some() != password.is_some() {
        reader.error(
            "SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD belong together; set both or none".to_owned(),
        );
    }
    if username.as_deref().is_some_and(|name| name.contains(':')) {
        reader.error("SCHEMA_REGISTRY_USERNAME contains a colon, which basic authentication cannot carry".to_owned());
    }
    let given = [
        username.is_some().then_some("SCHEMA_REGISTRY_USERNAME"),
        token.is_some().then_some("SCHEMA_REGISTRY_TOKEN"),
        from_url.is_some().then_some("the user info in KAFKA_SCHEMA_REGISTRY_URL"),
    ];
    let given: Vec<&str> = given.into_iter().flatten().collect();
    if given.len() > 1 {
        reader.error(format!("{} are set; keep one way to log in to the schema registry", given.join(" and ")));
    }
    if let Some(token) = token {
        if token.read().is_ok_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
            reader.error(format!(
                "{}: expected printable ASCII without spaces, and not the word Bearer",
                token.setting()
            ));
        }
        return RegistryLogin::Bearer(token);
    }
    match (username, password, from_url) {
        (Some(username), Some(password), _) => RegistryLogin::Basic { username, password },
        (_, _, Some((username, password))) => RegistryLogin::Basic { username, password },
        _ => RegistryLogin::None,
    }
}

/// The text with what may be credentials hidden, also when it is no URL at all.
pub(super) fn without_user_info(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    match text[start..].rfind('@') {
        Some(at) => format!("{}(hidden)@{}", &text[..start], &text[start + at + 1..]),
        None => text.to_owned(),
    }
}

/// Percent-decoded.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
