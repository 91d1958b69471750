//! A store of objects that speaks S3, where logs may go. Its settings have the names that AWS's own tools know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::kafka_security::check_file;
use super::near::{address, is_near_or_private};
use super::outgoing::PeerAccess;
use super::reader::Reader;
use super::secrets::{SecretNames, SecretSource, Shown, secret_names};

/// Longest prefix of keys, in bytes: a key has at most 1,024, and the ids below it need their room.
const LONGEST_PREFIX: usize = 256;

const CA_BUNDLE: &str = "AWS_CA_BUNDLE";
const WEB_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const AGENT_URL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const AGENT_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Where the agents of ECS and of EKS are, one link away.
const AGENTS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// A bucket, and how it is reached.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// Its name.
    pub bucket: String,
    /// What all keys begin with, without a slash at its ends; may be empty.
    pub prefix: String,
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`.
    pub region: String,
    /// `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`; `None`: where AWS has S3 in that region.
    pub endpoint: Option<String>,
    /// As whom it is asked.
    pub login: S3Login,
    /// `AWS_CA_BUNDLE`, and what all peers share.
    pub peer: PeerAccess,
}

/// As whom a store is asked: the first of these that is set.
#[derive(Debug, Clone)]
pub enum S3Login {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for a key that expires, `AWS_SESSION_TOKEN`.
    Keys(Box<S3Keys>),
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`: the role of a service account, which STS knows.
    WebIdentity {
        /// The file, read anew when credentials expire.
        token_file: String,
        /// The role.
        role: String,
    },
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI` and `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`: the agent of a pod.
    PodAgent {
        /// The agent.
        url: String,
        /// What it is shown.
        token_file: String,
    },
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`: the agent of a container of ECS, by its path.
    ContainerAgent(String),
    /// The machine's role, by its metadata service.
    Machine,
}

/// An access key.
#[derive(Debug, Clone)]
pub struct S3Keys {
    /// Its id.
    pub id: SecretSource,
    /// What requests are signed with.
    pub secret: SecretSource,
    /// What is sent with it, if it expires.
    pub session: Option<SecretSource>,
}

/// What `AWS_*` settings say of any bucket.
pub(super) struct S3Settings {
    /// With the name of the setting that says so.
    region: (&'static str, String),
    /// With the name of the setting that says so.
    endpoint: Option<(&'static str, String)>,
    login: Result<S3Login, &'static str>,
    ca_bundle: Option<String>,
}

impl S3Settings {
    /// They may be set for other programs too: what is wrong with them is told where a bucket is used, and secrets are read there only.
    pub(super) fn read(reader: &mut Reader<'_>, is_used: bool) -> Self {
        let region = reader.optional("AWS_REGION", "region of AWS, where logs go to S3; added by this product");
        let other = reader.optional("AWS_DEFAULT_REGION", "the same, without AWS_REGION; added by this product");
        let endpoint = reader.unchecked_url(
            "AWS_ENDPOINT_URL_S3",
            "where S3 is, such as a store of another make; unset: where AWS has it in the region; added by this product",
        );
        let any =
            reader.unchecked_url("AWS_ENDPOINT_URL", "the same, without AWS_ENDPOINT_URL_S3; added by this product");
        let login = login(reader, is_used);
        let ca_bundle = reader.optional(
            CA_BUNDLE,
            "PEM file with the only authorities trusted with certificates of S3 and STS; unset: the system's; added by this \
             product",
        );
        let region = match (region, other) {
            (None, Some(other)) => ("AWS_DEFAULT_REGION", other),
            (region, _) => ("AWS_REGION", region.unwrap_or_else(|| "us-east-1".to_owned())),
        };
        let endpoint = endpoint.map(|url| ("AWS_ENDPOINT_URL_S3", url)).or(any.map(|url| ("AWS_ENDPOINT_URL", url)));
        Self { region, endpoint, login, ca_bundle }
    }

    /// The bucket of a URL of the form `s3://bucket/prefix`, which the setting `name` holds.
    pub(super) fn bucket(self, reader: &mut Reader<'_>, name: &'static str, url: &str) -> Option<S3Config> {
        let Some((bucket, prefix)) = place(url) else {
            reader.error(format!(
                "{name}={url:?}: expected s3://bucket/prefix with the name of a bucket, and a prefix of at most {LONGEST_PREFIX} \
                 letters, digits and characters of -_.=/"
            ));
            return None;
        };
        self.check(reader);
        let login = self.login.map_err(|error| reader.error(format!("{name}={url:?}: {error}"))).ok()?;
        let (region, endpoint) = (self.region.1, self.endpoint.map(|(_, url)| url));
        Some(S3Config { bucket, prefix, region, endpoint, login, peer: reader.peer_access(self.ca_bundle) })
    }

    /// What is wrong with them, where a bucket is used.
    fn check(&self, reader: &mut Reader<'_>) {
        let (name, region) = &self.region;
        // It becomes a part of the name of S3's host, or of STS's.
        let is_of_aws = self.endpoint.is_none() || matches!(self.login, Ok(S3Login::WebIdentity { .. }));
        let is_label = region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_plain(region) || (is_of_aws && !is_label) {
            reader.error(format!("{name}={region:?}: expected a region of AWS, such as us-east-1"));
        }
        if let Some((name, url)) = &self.endpoint {
            check_address(reader, name, url);
            if url.contains('?') {
                reader.error(format!("{name}: expected a URL without a query: the bucket's name comes behind it"));
            }
            if is_exposed(url) {
                reader.warn(format!("{name} is http: logs are sent unencrypted"));
            }
        }
        if let Some(path) = &self.ca_bundle {
            check_file(reader, CA_BUNDLE, path);
        }
        match &self.login {
            Ok(S3Login::WebIdentity { token_file, .. }) => check_file(reader, WEB_TOKEN_FILE, token_file),
            Ok(S3Login::PodAgent { url, token_file }) => {
                check_address(reader, AGENT_URL, url);
                if reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_agent(&url)) {
                    reader.error(format!(
                        "{AGENT_URL}: without TLS only this machine and the agents of ECS and EKS are asked for credentials; use \
                         https"
                    ));
                }
                check_file(reader, AGENT_TOKEN_FILE, token_file);
            }
            _ => {}
        }
    }
}

fn login(reader: &mut Reader<'_>, is_used: bool) -> Result<S3Login, &'static str> {
    const ID: SecretNames = secret_names!("AWS_ACCESS_KEY_ID", "id of AWS's access key", "; added by this product");
    const SECRET: SecretNames =
        secret_names!("AWS_SECRET_ACCESS_KEY", "secret of AWS's access key", "; added by this product");
    const SESSION: SecretNames =
        secret_names!("AWS_SESSION_TOKEN", "token of AWS's access key, if it expires", "; added by this product");
    let mut part = |names: &SecretNames, shown| {
        if is_used {
            return reader.secret(names, shown);
        }
        reader.unused_secret(names, shown);
        None
    };
    // An id is in each request, and may be a word that many lines have.
    let id = part(&ID, Shown::Plainly);
    let secret = part(&SECRET, Shown::Hidden);
    let session = part(&SESSION, Shown::Hidden);
    let web_token = token_file(
        reader,
        is_used,
        WEB_TOKEN_FILE,
        "file with the token of this worker's service account, for AWS_ROLE_ARN; added by this product",
    );
    let role = reader.optional("AWS_ROLE_ARN", "role of AWS that the token stands for; added by this product");
    let url = reader.unchecked_url(AGENT_URL, "where a pod's agent gives credentials of AWS; added by this product");
    let agent_token =
        token_file(reader, is_used, AGENT_TOKEN_FILE, "file with what that agent is shown; added by this product");
    let path = reader.optional(
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "path where the agent of a container of ECS gives credentials of AWS; added by this product",
    );
    match (id, secret) {
        (Some(id), Some(secret)) => return Ok(S3Login::Keys(Box::new(S3Keys { id, secret, session }))),
        (None, None) if session.is_some() => {
            return Err("AWS_SESSION_TOKEN has no use without AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        }
        (None, None) => {}
        _ => return Err("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together; set both or none"),
    }
    match (web_token, role) {
        (Some(token_file), Some(role)) => return Ok(S3Login::WebIdentity { token_file, role }),
        (Some(_), None) => return Err("AWS_WEB_IDENTITY_TOKEN_FILE has no use without AWS_ROLE_ARN"),
        // A role by itself is what other programs are to take on.
        (None, _) => {}
    }
    match (url, agent_token, path) {
        (_, _, Some(path)) if !path.starts_with('/') || !is_plain(&path) => {
            Err("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: expected a path that begins with a slash, without spaces")
        }
        (_, _, Some(path)) => Ok(S3Login::ContainerAgent(path)),
        (Some(url), Some(token_file), None) => Ok(S3Login::PodAgent { url, token_file }),
        (Some(_), None, None) => {
            Err("AWS_CONTAINER_CREDENTIALS_FULL_URI needs AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE here")
        }
        (None, _, None) => Ok(S3Login::Machine),
    }
}

/// A file with a secret.
fn token_file(reader: &mut Reader<'_>, is_used: bool, name: &'static str, help: &'static str) -> Option<String> {
    let path = reader.optional(name, help);
    if let Some(path) = path.as_ref().filter(|_| is_used) {
        reader.remember(&SecretSource::of_file(name, path));
    }
    path
}

/// The store's client puts a path behind the text of a URL, and panics at what is no URI then: it is less lenient than a browser.
fn check_address(reader: &mut Reader<'_>, name: &str, url: &str) {
    let is_strict = url.parse::<hyper::Uri>().is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some());
    if is_plain(url) && is_strict && !url.contains('#') {
        reader.check_url(name, url);
    } else {
        reader.error(format!("{name}: expected an http(s) URL with a host, of ASCII characters, without spaces"));
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}

/// Whom AWS's own tools ask for credentials without TLS, too.
fn is_agent(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || address(host).is_some_and(|ip| ip.is_loopback() || AGENTS.contains(&ip))
}

/// Whether what is sent to a URL can be read on its way.
fn is_exposed(url: &str) -> bool {
    let near = |url: &reqwest::Url| url.host_str().is_some_and(is_near_or_private);
    reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !near(&url))
}

/// Bucket and prefix of `s3://bucket/prefix`.
fn place(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good_bucket = (3..=63).contains(&bucket.len())
        && bucket.chars().all(|c| outer(c) || c == '-' || c == '.')
        && bucket.starts_with(outer)
        && bucket.ends_with(outer);
    let part = |part: &str| {
        !matches!(part, "" | "." | "..") && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.=".contains(c))
    };
    let good_prefix = prefix.is_empty() || (prefix.len() <= LONGEST_PREFIX && prefix.split('/').all(part));
    (good_bucket && good_prefix).then(|| (bucket.to_owned(), prefix.to_owned()))
}
