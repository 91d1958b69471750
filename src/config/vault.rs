//! Vault, or OpenBao: where it is, how this worker logs in, which secrets it keeps.

use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use super::authorities::authorities;
use super::http_api::DEVELOPMENT;
use super::near::is_near;
use super::outgoing::PeerAccess;
use super::reader::Reader;
use super::secrets::{SecretSource, Shown, secret_names};
use crate::vault::Held;

/// Where Kubernetes puts the token of the pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Where Vault Agent's injector puts a token.
const INJECTED_TOKEN: &str = "/vault/secrets/token";

/// Settings of the Vault client.
#[derive(Debug, Clone)]
pub struct VaultConfig {
    /// `VAULT_ADDRESS`, without a slash at its end.
    pub address: String,
    /// `VAULT_NAMESPACE`, of the editions that have namespaces.
    pub namespace: Option<String>,
    /// `VAULT_AUTH_METHOD` and its settings.
    pub login: VaultLogin,
    /// `VAULT_AUTH_MOUNT`: where the method is mounted, below `auth/`.
    pub auth_mount: String,
    /// `VAULT_MOUNT_KV`: where the KV v2 engine is mounted.
    pub kv_mount: String,
    /// `VAULT_CA_BUNDLE`, and what all peers share.
    pub peer: PeerAccess,
    /// `VAULT_TIMEOUT_SECONDS`: longest call.
    pub timeout: Duration,
    /// `VAULT_MAX_RETRIES`: further tries at start.
    pub retries: u32,
    /// `VAULT_REFRESH_SECONDS`: how old a secret may be.
    pub refresh: Duration,
    /// `VAULT_FAIL_OPEN`: whether the worker starts, and is ready, without Vault.
    pub fail_open: bool,
    /// What Vault has given.
    pub held: Held,
}

/// How the worker proves to Vault who it is.
#[derive(Debug, Clone)]
pub enum VaultLogin {
    /// `kubernetes` and `jwt`: with a JWT out of a file, as a role.
    Jwt {
        /// `VAULT_KUBERNETES_ROLE` or `VAULT_JWT_ROLE`.
        role: String,
        /// `VAULT_TOKEN_PATH`.
        jwt: SecretSource,
    },
    /// `approle`.
    AppRole {
        /// `VAULT_APPROLE_ROLE_ID`.
        role_id: String,
        /// `VAULT_APPROLE_SECRET_ID`, or its file.
        secret_id: SecretSource,
    },
    /// `token`: one that Vault has issued already, from `VAULT_TOKEN`, its file, or `VAULT_TOKEN_PATH`.
    Token(SecretSource),
}

/// A field of a secret of the KV v2 engine: `worker/kafka#password`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultPath {
    /// Path below `VAULT_MOUNT_KV`.
    pub path: String,
    /// Field.
    pub field: String,
}

impl FromStr for VaultPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected path#field below VAULT_MOUNT_KV, such as worker/kafka#password";
        let (path, field) = text.split_once('#').ok_or(wrong)?;
        let segment = |segment: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
        };
        let good =
            path.split('/').all(segment) && !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_graphic());
        if good { Ok(Self { path: path.to_owned(), field: field.to_owned() }) } else { Err(wrong) }
    }
}

impl Display for VaultPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.path, self.field)
    }
}

impl VaultConfig {
    /// Reads the settings; `None`: Vault is off. Secrets that are read afterwards may come from it.
    pub(super) fn read(reader: &mut Reader<'_>, environment: &str) -> Option<Self> {
        let enabled = reader.boolean("VAULT_ENABLED", false, "whether secrets come from Vault or OpenBao");
        let address = address(reader, environment, enabled);
        let namespace =
            reader.optional("VAULT_NAMESPACE", "namespace of Vault, where it has any; added by this product");
        let (login, method) = login(reader, enabled);
        let auth_mount =
            reader.text("VAULT_AUTH_MOUNT", method, "where the method is mounted, below auth/; added by this product");
        let kv_mount = reader.text("VAULT_MOUNT_KV", "secret", "where the KV v2 engine is mounted");
        let ca_bundle = authorities(
            reader,
            ("VAULT_CA_BUNDLE", "PEM file with the authorities of Vault's certificate"),
            "VAULT_TLS_VERIFY",
            "Vault's",
        );
        for (name, mount) in [("VAULT_AUTH_MOUNT", &auth_mount), ("VAULT_MOUNT_KV", &kv_mount)] {
            if format!("{mount}#f").parse::<VaultPath>().is_err() {
                reader.error(format!(
                    "{name}={mount:?}: expected the path of a mount, such as {method} or team/{method}"
                ));
            }
        }
        let timeout = reader.seconds("VAULT_TIMEOUT_SECONDS", 5.0, "longest call to Vault; added by this product");
        let retries =
            reader.number("VAULT_MAX_RETRIES", 3, 0, "further tries to reach Vault at start; added by this product");
        let refresh = reader.seconds(
            "VAULT_REFRESH_SECONDS",
            60.0,
            "how old a secret of Vault may be before it is read again; added by this product",
        );
        let fail_open = reader.boolean(
            "VAULT_FAIL_OPEN",
            true,
            "whether the worker starts, and is ready, while Vault gives nothing",
        );
        if !enabled {
            return None;
        }
        let held = Held::default();
        reader.secrets_from(held.clone(), fail_open);
        let retries = u32::try_from(retries).unwrap_or(u32::MAX);
        Some(Self {
            address,
            namespace,
            login: login?,
            auth_mount,
            kv_mount,
            peer: reader.peer_access(ca_bundle),
            timeout,
            retries,
            refresh,
            fail_open,
            held,
        })
    }
}

fn address(reader: &mut Reader<'_>, environment: &str, enabled: bool) -> String {
    const NAME: &str = "VAULT_ADDRESS";
    let text = reader.text(NAME, "https://vault.vault.svc.cluster.local:8200", "base URL of Vault");
    match reqwest::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty() => {
            let near = url.host_str().is_some_and(is_near);
            if enabled && url.scheme() == "http" && !near && environment != DEVELOPMENT {
                reader.error(format!(
                    "{NAME}={text:?}: secrets would cross the network in plaintext; use https, or ENVIRONMENT={DEVELOPMENT}"
                ));
            }
        }
        _ => reader.error(format!("{NAME}: expected an http(s) URL without user info")),
    }
    text.trim_end_matches('/').to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Kubernetes,
    Jwt,
    AppRole,
    Token,
}

/// The login, if its settings are whole, and the method's name.
fn login(reader: &mut Reader<'_>, enabled: bool) -> (Option<VaultLogin>, &'static str) {
    const METHODS: [(&str, Method); 4] = [
        ("kubernetes", Method::Kubernetes),
        ("jwt", Method::Jwt),
        ("approle", Method::AppRole),
        ("token", Method::Token),
    ];
    let method = reader
        .one_of("VAULT_AUTH_METHOD", &METHODS, "kubernetes", "kubernetes, jwt, approle or token; added by this product")
        .unwrap_or(Method::Kubernetes);
    let name = METHODS.iter().find(|(_, known)| *known == method).map_or("kubernetes", |(name, _)| name);
    let default = if method == Method::Kubernetes { SERVICE_ACCOUNT_TOKEN } else { INJECTED_TOKEN };
    let file = reader.text(
        "VAULT_TOKEN_PATH",
        default,
        "file to log in with, read for every login: the service account's token, the JWT, or Vault's own token",
    );
    let file = SecretSource::of_file("VAULT_TOKEN_PATH", file);
    reader.remember(&file);
    let kubernetes_role = reader.text("VAULT_KUBERNETES_ROLE", "worker-agents", "role of the method kubernetes");
    let jwt_role = reader.text("VAULT_JWT_ROLE", "worker-agents", "role of the method jwt; added by this product");
    let role_id = reader.optional("VAULT_APPROLE_ROLE_ID", "role id of the method approle; added by this product");
    let secret_id = reader.fixed(
        &secret_names!("VAULT_APPROLE_SECRET_ID", "secret id of the method approle", "; added by this product"),
        Shown::Hidden,
    );
    let given = reader
        .fixed(&secret_names!("VAULT_TOKEN", "token of the method token", "; added by this product"), Shown::Hidden);
    let login = match method {
        Method::Kubernetes => Some(VaultLogin::Jwt { role: kubernetes_role, jwt: file }),
        Method::Jwt => Some(VaultLogin::Jwt { role: jwt_role, jwt: file }),
        Method::AppRole => match (role_id, secret_id) {
            (Some(role_id), Some(secret_id)) => Some(VaultLogin::AppRole { role_id, secret_id }),
            _ => {
                if enabled {
                    reader.error(
                        "VAULT_AUTH_METHOD=approle needs VAULT_APPROLE_ROLE_ID, and VAULT_APPROLE_SECRET_ID or its _FILE"
                            .to_owned(),
                    );
                }
                None
            }
        },
        Method::Token => Some(VaultLogin::Token(given.unwrap_or(file))),
    };
    (login, name)
}
