//! Tokens for OAUTHBEARER, from an OAuth 2 token endpoint: the client credentials grant (RFC 6749 §4.4).

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};

use super::token;
use crate::config::TokenEndpoint;

/// How long the endpoint may take. librdkafka asks again 10 s after a failure.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds.
    expires_in: Option<f64>,
}

/// What an endpoint says that refuses (RFC 6749 §5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

/// A new token, for use at `now_ms`. Blocks up to 5 s: librdkafka's callback has to answer before it returns.
///
/// # Errors
/// One sentence that names the setting; it quotes neither secret nor token.
pub(super) fn ask(endpoint: &TokenEndpoint, now_ms: i64) -> Result<OAuthToken, String> {
    // The callback runs on a thread of the runtime or of the library. A thread of its own may wait in either case.
    let wait = || {
        std::thread::scope(|scope| {
            let asked =
                scope.spawn(|| Builder::new_current_thread().enable_all().build()?.block_on(fetch(endpoint, now_ms)));
            asked.join().unwrap_or_else(|_| Err(anyhow::anyhow!("asking broke")))
        })
    };
    let on_current_thread =
        Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread);
    let asked = if on_current_thread { wait() } else { tokio::task::block_in_place(wait) };
    asked.map_err(|error| format!("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL={}: {error:#}", endpoint.url))
}

async fn fetch(endpoint: &TokenEndpoint, now_ms: i64) -> anyhow::Result<OAuthToken> {
    let secret = endpoint.client_secret.read().map_err(anyhow::Error::msg)?;
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = &endpoint.scope {
        form += &format!("&scope={}", encoded(scope));
    }
    let response = crate::net::peer_client(TIMEOUT, &endpoint.peer)?
        .post(&endpoint.url)
        // Id and secret are form-encoded before they become a user and a password (RFC 6749 §2.3.1).
        .basic_auth(encoded(&endpoint.client_id), Some(encoded(secret.expose())))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .body(form)
        .send()
        .await;
    let response = response.map_err(|error| match crate::net::is_untrusted(&error) {
        true => anyhow::anyhow!("{}; set KAFKA_SASL_OAUTHBEARER_CA_BUNDLE", crate::net::describe(&error)),
        false => anyhow::anyhow!("{}", crate::net::describe(&error)),
    })?;
    let status = response.status();
    let body = crate::net::body(response, MAX_ANSWER_BYTES).await?;
    if !status.is_success() {
        let refusal = serde_json::from_slice(&body)
            .map(|Refusal { error, error_description }| format!(": {error} {}", error_description.unwrap_or_default()));
        let said: String = refusal.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
        anyhow::bail!(
            "{status}{said}; check KAFKA_SASL_OAUTHBEARER_CLIENT_ID, KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET and KAFKA_SASL_OAUTHBEARER_SCOPE"
        );
    }
    // What does not parse may hold the token, so it is not quoted.
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|error| anyhow::anyhow!("{status} without a usable access_token (column {})", error.column()))?;
    token_of(&answer, &endpoint.client_id, now_ms).map_err(|error| anyhow::anyhow!("the token cannot be used: {error}"))
}

/// Whose it is and how long it lasts says the token itself when it is a JWT. Brokers take opaque ones too.
fn token_of(answer: &Answer, client_id: &str, now_ms: i64) -> Result<OAuthToken, String> {
    let claims = token::claims(&answer.access_token).unwrap_or_default();
    let by_answer = answer.expires_in.map(|seconds| now_ms.saturating_add(token::milliseconds(seconds)));
    let lifetime_ms = by_answer
        .or(claims.exp.map(token::milliseconds))
        .filter(|ends| *ends > now_ms)
        .ok_or("neither expires_in nor its claim exp says that it lasts")?;
    let principal = claims.sub.filter(|sub| !sub.is_empty()).unwrap_or_else(|| client_id.to_owned());
    token::usable(&answer.access_token, principal, lifetime_ms)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;

    use super::*;
    use crate::config::{Config, MapSource, Origin, PeerAccess, Sasl, TokenSource};

    const NOW_MS: i64 = 1_773_653_400_000;
    /// `{"alg":"none"}`, `{"sub":"worker","exp":1773657000}`, no signature.
    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3b3JrZXIiLCJleHAiOjE3NzM2NTcwMDB9.";

    type Asked = Arc<Mutex<Vec<(String, String)>>>;

    async fn endpoint(status: u16, answer: &'static str) -> (TokenEndpoint, Asked) {
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        let router = Router::new().route(
            "/token",
            post(move |headers: HeaderMap, body: String| {
                let login = headers["authorization"].to_str().expect("text").to_owned();
                seen.lock().expect("lock").push((login, body));
                async move { (StatusCode::from_u16(status).expect("status"), answer) }
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}/token", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut source = MapSource::default();
        for (name, value) in [
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"),
            ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", url.as_str()),
            ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "wor:ker"),
            ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "hunter2 "),
            ("KAFKA_SASL_OAUTHBEARER_SCOPE", "kafka tickets"),
        ] {
            source.set(name, value, Origin::Environment);
        }
        match Config::read(&source).expect("valid").kafka.security.sasl {
            Some(Sasl::Token(TokenSource::Endpoint(endpoint))) => (endpoint, asked),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn client_credentials_are_exchanged_for_a_token() {
        for (answer, principal, lifetime_ms) in [
            (r#"{"access_token":"opaque","token_type":"Bearer","expires_in":300}"#, "wor:ker", NOW_MS + 300_000),
            (concat_jwt(r#","expires_in":60"#), "worker", NOW_MS + 60_000),
            (concat_jwt(""), "worker", 1_773_657_000_000),
        ] {
            let (endpoint, asked) = endpoint(200, answer).await;
            let token = ask(&endpoint, NOW_MS).expect(answer);
            assert_eq!((token.principal_name.as_str(), token.lifetime_ms), (principal, lifetime_ms));
            assert!(answer.contains(&token.token));
            // wor%3Aker:hunter2 — a setting's spaces at its ends do not belong to it.
            let expected = (
                "Basic d29yJTNBa2VyOmh1bnRlcjI=".to_owned(),
                "grant_type=client_credentials&scope=kafka%20tickets".to_owned(),
            );
            assert_eq!(*asked.lock().expect("lock"), [expected]);
        }
    }

    fn concat_jwt(rest: &str) -> &'static str {
        Box::leak(format!(r#"{{"access_token":"{JWT}"{rest}}}"#).into_boxed_str())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_names_the_settings_and_quotes_no_secret() {
        for (status, answer, expected) in [
            (401, r#"{"error":"invalid_client","error_description":"who are you"}"#, "invalid_client who are you"),
            (400, "<html>", "KAFKA_SASL_OAUTHBEARER_CLIENT_ID"),
            (302, "", "302"),
            (200, r#"{"token":"s3cret"}"#, "without a usable access_token"),
            (200, r#"{"access_token":"s3cret"}"#, "neither expires_in"),
            (200, r#"{"access_token":"s3cret x","expires_in":5}"#, "characters"),
        ] {
            let (endpoint, _) = endpoint(status, answer).await;
            let error = ask(&endpoint, NOW_MS).err().unwrap_or_else(|| panic!("{answer} was taken"));
            assert!(error.contains(expected) && error.contains("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn nobody_there_is_an_error_also_outside_a_runtime() {
        let endpoint = TokenEndpoint {
            url: "http://127.0.0.1:1/token".to_owned(),
            client_id: "worker".to_owned(),
            client_secret: crate::config::SecretSource::of_file(
                "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE",
                "/no/such/secret",
            ),
            scope: None,
            peer: PeerAccess::default(),
        };
        let error = ask(&endpoint, NOW_MS).err().expect("no secret");
        assert!(error.contains("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE: /no/such/secret"), "{error}");
    }
}
