use std::collections::BTreeSet;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::*;
use crate::config::{Config, MapSource, Origin, VaultPath};

const LOGIN_REQUEST: &str = include_str!("../../tests/samples/http/vault/login-request.json");
const LOGIN_ANSWER: &str = include_str!("../../tests/samples/http/vault/login-200.json");
const SECRET_ANSWER: &str = include_str!("../../tests/samples/http/vault/kafka-200.json");

/// A Vault of the test.
#[derive(Default)]
struct Peer {
    sealed: bool,
    /// Answers with this, whatever is asked.
    always: Option<(StatusCode, &'static str)>,
    /// Tokens that are good.
    tokens: BTreeSet<String>,
    logins: usize,
    /// Bodies of logins.
    last_login: Value,
    renewals: usize,
    revoked: usize,
    /// Seconds.
    lease: u64,
    renewable: bool,
    /// Paths that the policy does not let in.
    forbidden: BTreeSet<String>,
    secrets: BTreeMap<String, Value>,
    seen: Vec<(Method, String, HeaderMap)>,
}

use std::collections::BTreeMap;

type Shared = Arc<Mutex<Peer>>;

/// The peer and its address.
async fn peer(peer: Peer) -> (Shared, String) {
    let shared: Shared = Arc::new(Mutex::new(peer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = format!("http://{}", listener.local_addr().expect("address"));
    let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (shared, address)
}

fn good() -> Peer {
    let secrets = [("worker/kafka".to_owned(), json!({ "username": "u", "password": "first" }))];
    Peer { lease: 3600, renewable: true, secrets: secrets.into(), ..Peer::default() }
}

async fn serve(State(peer): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut peer = peer.lock().expect("peer");
    peer.seen.push((method, uri.path().to_owned(), headers.clone()));
    if let Some((status, text)) = peer.always {
        return (status, [(header::LOCATION, "http://127.0.0.1:1/elsewhere")], text).into_response();
    }
    let answer = |status: StatusCode, body: Value| (status, body.to_string()).into_response();
    let refuse = |status: StatusCode, error: &str| answer(status, json!({ "errors": [error] }));
    if peer.sealed {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed");
    }
    let path = uri.path().trim_start_matches("/v1/").to_owned();
    if path.ends_with("/login") {
        peer.logins += 1;
        peer.last_login = serde_json::from_slice(&body).expect("JSON");
        let token = format!("token-{}", peer.logins);
        peer.tokens.insert(token.clone());
        let auth = json!({ "client_token": token, "lease_duration": peer.lease, "renewable": peer.renewable });
        return answer(StatusCode::OK, json!({ "auth": auth }));
    }
    let token = headers.get("x-vault-token").and_then(|token| token.to_str().ok()).unwrap_or_default().to_owned();
    if !peer.tokens.contains(&token) {
        return refuse(StatusCode::FORBIDDEN, "permission denied");
    }
    match path.as_str() {
        "auth/token/lookup-self" => {
            answer(StatusCode::OK, json!({ "data": { "ttl": peer.lease, "renewable": false } }))
        }
        "auth/token/renew-self" => {
            peer.renewals += 1;
            let auth = json!({ "client_token": token, "lease_duration": peer.lease, "renewable": peer.renewable });
            answer(StatusCode::OK, json!({ "auth": auth }))
        }
        "auth/token/revoke-self" => {
            peer.revoked += 1;
            peer.tokens.remove(&token);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => {
            let Some(path) = path.strip_prefix("secret/data/") else { return refuse(StatusCode::NOT_FOUND, "") };
            match peer.secrets.get(path) {
                _ if peer.forbidden.contains(path) => {
                    refuse(StatusCode::FORBIDDEN, "1 error occurred: permission denied")
                }
                Some(data) => answer(StatusCode::OK, json!({ "data": { "data": data, "metadata": { "version": 1 } } })),
                None => answer(StatusCode::NOT_FOUND, json!({ "errors": [] })),
            }
        }
    }
}

/// The settings of a worker whose Kafka password is in this Vault.
fn settings(address: &str, more: &[(&str, &str)]) -> Config {
    let folder = std::env::temp_dir().join(format!("vault-jwt-{}", std::process::id()));
    std::fs::write(&folder, "<service account token>\n").expect("written");
    let mut source = MapSource::default();
    for (name, value) in [
        ("VAULT_ENABLED", "true"),
        ("VAULT_ADDRESS", address),
        ("VAULT_TOKEN_PATH", folder.to_str().expect("UTF-8")),
        ("VAULT_MAX_RETRIES", "0"),
        ("VAULT_FAIL_OPEN", "false"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
    ]
    .iter()
    .chain(more)
    {
        source.set(name, *value, Origin::Environment);
    }
    Config::read(&source).expect("settings")
}

fn client(config: &Config) -> Vault {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    Vault::new(config.vault.clone().expect("enabled"), metrics, Health::default()).expect("a client")
}

fn password(config: &Config) -> Result<String, String> {
    let path: VaultPath = "worker/kafka#password".parse().expect("a path");
    config.vault.as_ref().expect("enabled").held.get(&path).map(|secret| secret.expose().to_owned())
}

#[tokio::test]
async fn the_contracts_bodies_are_sent_and_understood() {
    let (shared, address) = peer(good()).await;
    let config = settings(&address, &[("VAULT_NAMESPACE", "team")]);
    let mut vault = client(&config);
    vault.begin().await.expect("begun");
    assert_eq!(shared.lock().expect("peer").last_login, serde_json::from_str::<Value>(LOGIN_REQUEST).expect("JSON"));
    assert_eq!(password(&config).as_deref(), Ok("first"));
    {
        let peer = shared.lock().expect("peer");
        let paths: Vec<_> = peer.seen.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        assert_eq!(paths, ["POST /v1/auth/kubernetes/login", "GET /v1/secret/data/worker/kafka"]);
        assert_eq!(peer.seen[1].2["x-vault-token"], "token-1");
        assert!(peer.seen.iter().all(|(.., headers)| headers["x-vault-namespace"] == "team"));
    }
    // Word for word, with what a real one adds left out.
    shared.lock().expect("peer").always = Some((StatusCode::OK, SECRET_ANSWER));
    vault.look().await.expect("read");
    assert_eq!(password(&config).as_deref(), Ok("<secret>"));
    assert_eq!(vault.shortest_life, Some(Duration::from_secs(3600)));
    vault.token = None;
    shared.lock().expect("peer").always = Some((StatusCode::OK, LOGIN_ANSWER));
    vault.keep_token().await.expect("logged in");
    assert_eq!(vault.token.as_ref().map(|token| token.text.expose()), Some("<token>"));
}

#[tokio::test]
async fn each_method_logs_in_as_vault_expects() {
    for (method, more, expected) in [
        ("jwt", [("VAULT_JWT_ROLE", "r"), ("X", "x")], json!({ "role": "r", "jwt": "<service account token>" })),
        (
            "approle",
            [("VAULT_APPROLE_ROLE_ID", "id"), ("VAULT_APPROLE_SECRET_ID", "s")],
            json!({ "role_id": "id", "secret_id": "s" }),
        ),
    ] {
        let (shared, address) = peer(good()).await;
        let config =
            settings(&address, &[more[0], more[1], ("VAULT_AUTH_METHOD", method), ("VAULT_AUTH_MOUNT", "team/a")]);
        client(&config).begin().await.expect(method);
        let peer = shared.lock().expect("peer");
        assert_eq!(peer.last_login, expected);
        assert_eq!(peer.seen[0].1, "/v1/auth/team/a/login");
    }
    let (shared, address) = peer(good()).await;
    shared.lock().expect("peer").tokens.insert("given".to_owned());
    let config = settings(&address, &[("VAULT_AUTH_METHOD", "token"), ("VAULT_TOKEN", "given")]);
    let mut vault = client(&config);
    vault.begin().await.expect("begun");
    vault.end().await;
    let peer = shared.lock().expect("peer");
    assert_eq!((peer.logins, peer.revoked), (0, 0), "what it was given is not its to revoke");
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_to_do() {
    let (shared, address) = peer(good()).await;
    let begin = async |change: fn(&mut Peer)| {
        *shared.lock().expect("peer") = good();
        change(&mut shared.lock().expect("peer"));
        let config = settings(&address, &[]);
        let error = client(&config).begin().await.expect_err("nothing comes").to_string();
        assert!(password(&config).is_err());
        assert!(matches!(config.vault.expect("enabled").held.standing(), Standing::Failing(_)));
        error
    };
    let sealed = begin(|peer| peer.sealed = true).await;
    assert!(sealed.contains("sealed; unseal it"), "{sealed}");
    let forbidden = begin(|peer| peer.forbidden = BTreeSet::from(["worker/kafka".to_owned()])).await;
    assert!(forbidden.contains("secret/data/worker/kafka") && forbidden.contains("policy"), "{forbidden}");
    let missing = begin(|peer| peer.secrets.clear()).await;
    assert!(missing.contains("nothing at secret/data/worker/kafka"), "{missing}");
    let lacking = begin(|peer| {
        peer.secrets.insert("worker/kafka".to_owned(), json!({ "username": "u", "pass": "hunter2" }));
    })
    .await;
    assert!(lacking.contains("no field password") && !lacking.contains("hunter2"), "{lacking}");
    let refused = begin(|peer| peer.always = Some((StatusCode::BAD_REQUEST, r#"{"errors":["invalid role"]}"#))).await;
    assert!(refused.contains("VAULT_AUTH_METHOD") && refused.contains("invalid role"), "{refused}");
    let page = begin(|peer| peer.always = Some((StatusCode::OK, "<html>hunter2</html>"))).await;
    assert!(page.contains("not the expected JSON") && !page.contains("hunter2"), "{page}");
    let moved = begin(|peer| peer.always = Some((StatusCode::TEMPORARY_REDIRECT, ""))).await;
    assert!(moved.contains("VAULT_ADDRESS"), "{moved}");
    let gone = settings("http://127.0.0.1:1", &[]);
    let error = client(&gone).begin().await.expect_err("nobody").to_string();
    assert!(error.contains("Vault at http://127.0.0.1:1") && error.contains("no usable answer"), "{error}");
}

#[tokio::test]
async fn inc_13_a_worker_may_start_without_vault_only_where_that_is_allowed() {
    let config = settings("http://127.0.0.1:1", &[("VAULT_FAIL_OPEN", "true")]);
    client(&config).begin().await.expect("open");
    let said = password(&config).expect_err("nothing");
    assert!(said.contains("no usable answer"), "{said}");
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_a_policy_that_says_no_costs_no_login() {
    let (shared, address) = peer(good()).await;
    let config = settings(&address, &[]);
    let mut vault = client(&config);
    vault.begin().await.expect("begun");
    {
        let mut peer = shared.lock().expect("peer");
        peer.tokens.clear();
        peer.secrets.insert("worker/kafka".to_owned(), json!({ "username": "u", "password": "second" }));
    }
    vault.look().await.expect("logged in again");
    assert_eq!(password(&config).as_deref(), Ok("second"));
    assert_eq!(shared.lock().expect("peer").logins, 2);

    shared.lock().expect("peer").forbidden.insert("worker/kafka".to_owned());
    for _ in 0..3 {
        vault.look().await.expect_err("forbidden");
    }
    assert_eq!(password(&config).as_deref(), Ok("second"), "what was had stays");
    assert_eq!(shared.lock().expect("peer").logins, 2);
}

#[tokio::test]
async fn the_token_is_renewed_in_time_replaced_where_it_cannot_be_and_taken_back_at_the_end() {
    let (shared, address) = peer(Peer { lease: 2, ..good() }).await;
    let config = settings(&address, &[]);
    let mut vault = client(&config);
    vault.begin().await.expect("begun");
    let stop = CancellationToken::new();
    let running = tokio::spawn(vault.run(stop.clone()));
    let until = async |done: &dyn Fn(&Peer) -> bool| {
        for _ in 0..200 {
            if done(&shared.lock().expect("peer")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it never happened");
    };
    until(&|peer| peer.renewals > 0).await;
    assert_eq!(shared.lock().expect("peer").logins, 1);
    shared.lock().expect("peer").renewable = false;
    until(&|peer| peer.logins > 1).await;
    // An outage costs nothing, and what changed meanwhile is read after it.
    shared.lock().expect("peer").sealed = true;
    let held = &config.vault.as_ref().expect("enabled").held;
    until(&|_| matches!(held.standing(), Standing::Failing(_))).await;
    assert_eq!(password(&config).as_deref(), Ok("first"));
    {
        let mut peer = shared.lock().expect("peer");
        peer.sealed = false;
        peer.secrets.insert("worker/kafka".to_owned(), json!({ "username": "u", "password": "after" }));
    }
    until(&|_| password(&config).as_deref() == Ok("after")).await;
    stop.cancel();
    running.await.expect("ended");
    assert_eq!(shared.lock().expect("peer").revoked, 1);
}

#[tokio::test]
async fn a_lease_beyond_all_reason_is_a_long_one() {
    let (_shared, address) = peer(Peer { lease: u64::MAX, ..good() }).await;
    let config = settings(&address, &[]);
    let mut vault = client(&config);
    vault.begin().await.expect("begun");
    vault.look().await.expect("again");
}

#[tokio::test]
async fn what_is_wrong_with_one_secret_is_not_said_of_another() {
    let (shared, address) = peer(good()).await;
    shared.lock().expect("peer").forbidden.insert("worker/kafka".to_owned());
    let config = settings(&address, &[("HTTP_API_TOKEN_VAULT", "worker/api#tokens"), ("HTTP_API_ALLOW", "a=*")]);
    client(&config).begin().await.expect_err("neither is there");
    let tokens = config.http_api.tokens.expect("a source").read().expect_err("nothing");
    assert!(tokens.contains("nothing at secret/data/worker/api"), "{tokens}");
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_an_error_and_no_panic() {
    let (_shared, address) = peer(good()).await;
    let config = settings(&address, &[("VAULT_AUTH_METHOD", "token"), ("VAULT_TOKEN", "hunter2\u{7}hunter2")]);
    let error = client(&config).begin().await.expect_err("no token").to_string();
    assert!(error.contains("characters") && !error.contains("hunter2"), "{error}");
}
