//! The Lambda runtime of EXECUTE.

use std::time::Duration;

use reqwest::Url;
use ticket_activities::execute::lambda::{FunctionName, FunctionPattern};

use super::kafka_security::file;
use super::near::is_near;
use super::outgoing::PeerAccess;
use super::reader::Reader;
use super::secrets::{SecretNames, SecretSource, Shown, secret_names};

/// Longest that a function runs (AWS, Lambda quotas).
const MOST_TIMEOUT: Duration = Duration::from_secs(900);

/// Settings of the Lambda runtime.
#[derive(Debug, Clone)]
pub struct LambdaRuntimeConfig {
    /// `LAMBDA_REGION`.
    pub region: String,
    /// `LAMBDA_ENDPOINT_URL`: where Lambda is; `None`: where AWS has it in that region.
    pub endpoint: Option<String>,
    /// `LAMBDA_ACCESS_KEY` and `LAMBDA_SECRET_KEY`; `None`: AWS's default chain.
    pub keys: Option<AccessKeys>,
    /// `LAMBDA_FUNCTION_NAME`: of tickets that name none.
    pub function: FunctionName,
    /// `LAMBDA_ALLOWED_FUNCTIONS`: what tickets may name.
    pub allowed: Vec<FunctionPattern>,
    /// `LAMBDA_TIMEOUT_SECONDS`: time of an invocation whose ticket names none, at most 900 s.
    pub timeout: Duration,
    /// `LAMBDA_CA_BUNDLE`, and what all peers share.
    pub peer: PeerAccess,
}

/// An access key of AWS that does not expire.
#[derive(Debug, Clone)]
pub struct AccessKeys {
    /// Its id.
    pub access_key: SecretSource,
    /// What requests are signed with.
    pub secret_key: SecretSource,
}

impl LambdaRuntimeConfig {
    /// `None`: `LAMBDA_ENABLED` is false.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let enabled = reader.boolean("LAMBDA_ENABLED", false, "whether tickets may invoke functions of AWS Lambda");
        let region = region(reader);
        let endpoint = endpoint(reader, enabled);
        let keys = keys(reader);
        let function = function(reader, &region);
        let allowed = allowed(reader, function.as_ref());
        let timeout = timeout(reader);
        let bundle = file(
            reader,
            "LAMBDA_CA_BUNDLE",
            "PEM file with the only authorities trusted with certificates of AWS; unset: the system's; added by this product",
        );
        let peer = reader.peer_access(bundle);
        function.filter(|_| enabled).map(|function| Self { region, endpoint, keys, function, allowed, timeout, peer })
    }
}

fn region(reader: &mut Reader<'_>) -> String {
    const NAME: &str = "LAMBDA_REGION";
    let region = reader.text(NAME, "us-east-1", "region of AWS");
    // It becomes a part of a host's name.
    if region.is_empty() || !region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        reader.error(format!("{NAME}={region:?}: expected a region of AWS, such as us-east-1"));
    }
    region
}

fn endpoint(reader: &mut Reader<'_>, enabled: bool) -> Option<String> {
    const NAME: &str = "LAMBDA_ENDPOINT_URL";
    let endpoint = reader.url(
        NAME,
        "where Lambda is, such as an endpoint of a VPC; unset: where AWS has it in the region; added by this product",
    )?;
    let url = Url::parse(&endpoint).ok();
    if enabled && url.is_some_and(|url| url.scheme() == "http" && !url.host_str().is_some_and(is_near)) {
        reader.warn(format!(
            "{NAME}={endpoint:?}: what functions are told and answer crosses the network in plaintext, and whoever is between may \
             change it; use https"
        ));
    }
    Some(endpoint)
}

/// What tickets may name; without the setting the function of those that name none.
fn allowed(reader: &mut Reader<'_>, function: Option<&FunctionName>) -> Vec<FunctionPattern> {
    const NAME: &str = "LAMBDA_ALLOWED_FUNCTIONS";
    let usual = function.map_or_else(String::new, |function| FunctionPattern::from(function).to_string());
    let texts = reader.list(
        NAME,
        &usual,
        "functions that tickets may name: a name, or `account:function:name` of another account; `*` at the end: all that begin so; \
         added by this product",
    );
    let mut allowed = Vec::new();
    for text in texts {
        match FunctionPattern::try_from(text.clone()) {
            Ok(pattern) => allowed.push(pattern),
            Err(error) => {
                reader.error(format!(
                    "{NAME}: {text:?}: {error}; no version or alias, and `*` at the end of the name only"
                ));
            }
        }
    }
    allowed
}

fn function(reader: &mut Reader<'_>, region: &str) -> Option<FunctionName> {
    const NAME: &str = "LAMBDA_FUNCTION_NAME";
    let name = reader.text(NAME, "neural-hive-executor", "function of tickets that name none");
    match FunctionName::try_from(name.clone()) {
        Ok(function) => {
            if function.region().is_some_and(|named| named != region) {
                reader.error(format!(
                    "{NAME}={name:?}: it is not in LAMBDA_REGION={region:?}; the two must be of one region"
                ));
            }
            Some(function)
        }
        Err(error) => {
            reader.error(format!("{NAME}={name:?}: {error}"));
            None
        }
    }
}

fn timeout(reader: &mut Reader<'_>) -> Duration {
    const NAME: &str = "LAMBDA_TIMEOUT_SECONDS";
    let timeout = reader.seconds(NAME, 900.0, "time of an invocation whose ticket names none, at most 900");
    if timeout > MOST_TIMEOUT {
        let most = MOST_TIMEOUT.as_secs();
        reader.warn(format!(
            "{NAME}={}: no function runs longer than {most} s, which is in force",
            timeout.as_secs_f64()
        ));
    }
    timeout.min(MOST_TIMEOUT)
}

fn keys(reader: &mut Reader<'_>) -> Option<AccessKeys> {
    const ACCESS: SecretNames = secret_names!("LAMBDA_ACCESS_KEY", "id of AWS's access key");
    const SECRET: SecretNames = secret_names!("LAMBDA_SECRET_KEY", "secret of AWS's access key");
    match (reader.secret(&ACCESS, Shown::Hidden), reader.secret(&SECRET, Shown::Hidden)) {
        (Some(access_key), Some(secret_key)) => Some(AccessKeys { access_key, secret_key }),
        (None, None) => None,
        _ => {
            reader.error(
                "LAMBDA_ACCESS_KEY and LAMBDA_SECRET_KEY belong together; set both, or none for AWS's default chain"
                    .to_owned(),
            );
            None
        }
    }
}
