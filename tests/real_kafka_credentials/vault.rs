//! Credentials out of a real OpenBao: handed over, rotated, a lease that ends, and a restart that leaves it sealed, without a
//! ticket lost. `make test-vault`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::broker::{Kafka, Tickets, says, start, wanted};
use crate::instance::Instance;
use crate::world::{Worker, World, eventually};

/// Seconds that a token of the worker's role lasts at most, renewals included.
const LONGEST_TOKEN: u64 = 20;

/// A real OpenBao; ends when dropped.
struct Bao {
    server: Instance,
    folder: tempfile::TempDir,
    client: reqwest::Client,
}

impl Bao {
    /// `None`: it cannot be had here.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        Some(Self { server: start("openbao", folder.path(), &[])?, folder, client: client() })
    }

    fn run(&self, verb: &str) {
        self.server.run(verb, &[]).expect(verb);
    }

    fn address(&self) -> &str {
        self.server.address("VAULT_ADDRESS").expect("an address")
    }

    /// A call of its operator. One that was just unsealed takes a moment to lead.
    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        for _ in 0..100 {
            let request = self.client.request(method.clone(), format!("{}/v1/{path}", self.address()));
            let token = self.server.address("VAULT_ROOT_TOKEN").expect("a token");
            let request = request.header("x-vault-token", token).json(&body);
            let answer = request.send().await.expect("an answer");
            let (status, said) = (answer.status(), answer.text().await.expect("text"));
            if status.is_success() {
                return serde_json::from_str(&said).unwrap_or_default();
            }
            // So does a KV engine that was just mounted.
            let not_yet = status.is_server_error() || said.contains("Upgrading from non-versioned");
            assert!(not_yet, "{path}: {status} {said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path}: OpenBao does not get ready");
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    async fn put_secret(&self, path: &str, fields: Value) {
        self.post(&format!("secret/data/{path}"), json!({ "data": fields })).await;
    }

    /// The KV engine, and a policy that lets the worker read its part of it.
    async fn prepare(&self) {
        self.post("sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } })).await;
        let policy = r#"path "secret/data/worker/*" { capabilities = ["read"] }"#;
        self.post("sys/policies/acl/worker-agents", json!({ "policy": policy })).await;
    }

    /// Role id and secret id of the worker.
    async fn app_role(&self) -> (String, String) {
        self.post("sys/auth/approle", json!({ "type": "approle" })).await;
        let role = json!({ "token_policies": "worker-agents", "token_ttl": "6s", "token_max_ttl": LONGEST_TOKEN });
        self.post("auth/approle/role/worker-agents", role).await;
        let role_id = self.call(Method::GET, "auth/approle/role/worker-agents/role-id", Value::Null).await;
        let secret_id = self.post("auth/approle/role/worker-agents/secret-id", json!({})).await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&role_id["data"]["role_id"]), text(&secret_id["data"]["secret_id"]))
    }
}

fn client() -> reqwest::Client {
    worker_agents::net::client(Duration::from_secs(10)).expect("client")
}

async fn peer<T: Send + 'static>(start: fn() -> Option<T>) -> Option<T> {
    tokio::task::spawn_blocking(start).await.expect("joined")
}

/// What the worker's API says to this token.
async fn status_for(worker: &Worker, token: &str) -> u16 {
    let url = format!("http://{}/api/v1/status", worker.addresses().await.0);
    let answer = client().get(url).bearer_auth(token).send().await.expect("an answer");
    answer.status().as_u16()
}

async fn reaches_status(worker: &Worker, token: &str, wanted: u16) {
    for _ in 0..200 {
        if status_for(worker, token).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the API never answers {wanted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_13_inc_84_credentials_of_vault_reach_every_client_rotate_and_outlive_its_outage() {
    if !wanted() {
        return;
    }
    let (Some(kafka), Some(bao)) = (peer(Kafka::start).await, peer(Bao::start).await) else { return };
    bao.prepare().await;
    let (role_id, secret_id) = bao.app_role().await;
    let user = kafka.address("KAFKA_SCRAM_SHA_512_USERNAME");
    let first = kafka.address("KAFKA_SCRAM_SHA_512_PASSWORD").to_owned();
    bao.put_secret("worker/kafka", json!({ "username": user, "password": first })).await;
    bao.put_secret("worker/team/api", json!({ "tokens": "ops=api-token-of-the-first-day" })).await;

    let world = World::new().await;
    let worker = world
        .worker(&[
            ("VAULT_ENABLED", "true"),
            ("VAULT_ADDRESS", bao.address()),
            ("VAULT_AUTH_METHOD", "approle"),
            ("VAULT_APPROLE_ROLE_ID", &role_id),
            ("VAULT_APPROLE_SECRET_ID", &secret_id),
            ("VAULT_FAIL_OPEN", "false"),
            ("VAULT_REFRESH_SECONDS", "1"),
            ("HTTP_API_TOKEN_VAULT", "worker/team/api#tokens"),
            ("HTTP_API_ALLOW", "ops=*"),
            ("KAFKA_BOOTSTRAP_SERVERS", kafka.address("KAFKA_SASL_SSL_BOOTSTRAP_SERVERS")),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
            ("KAFKA_SSL_CA_LOCATION", kafka.address("KAFKA_TLS_CA")),
            ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ])
        .await;
    let mut tickets = Tickets::on(&world, &kafka);
    worker.wait_ready().await;
    tickets.publish("with-the-first").await;
    tickets.completed(&worker).await;
    reaches_status(&worker, "api-token-of-the-first-day", 200).await;

    // Rotation, while tickets come.
    kafka.password("pw-two");
    bao.put_secret("worker/kafka", json!({ "username": user, "password": "pw-two" })).await;
    bao.put_secret("worker/team/api", json!({ "tokens": "ops=api-token-of-another-day" })).await;
    for number in 0..20 {
        tickets.publish(&format!("meanwhile-{number}")).await;
    }
    says(&worker, "kafka_credentials_renewed", 1).await;
    says(&worker, "kafka_producer_replaced", 1).await;
    kafka.restart();
    tickets.publish("with-the-second").await;
    tickets.completed(&worker).await;
    reaches_status(&worker, "api-token-of-another-day", 200).await;
    reaches_status(&worker, "api-token-of-the-first-day", 401).await;

    // A token is renewed until it cannot be any more; then, and when it is revoked, the worker logs in again.
    let logins = r#"vault_requests_total{operation="login",status="success"}"#;
    worker.reaches(r#"vault_token_renewals_total{status="success"}"#, 1.0).await;
    worker.reaches(logins, 2.0).await;
    let so_far = worker.metric(logins).await;
    bao.post("sys/leases/revoke-prefix/auth/approle", json!({})).await;
    worker.reaches(logins, so_far + 1.0).await;

    // It is gone, then sealed: nothing is lost but news.
    bao.run("kill");
    says(&worker, "vault_fails", 1).await;
    tickets.publish("while-it-is-gone").await;
    tickets.completed(&worker).await;
    bao.run("restart");
    eventually("sealed", || worker.log().contains("Vault is sealed").then_some(())).await;
    let (_, health) = worker.get("/health").await;
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!(health["status"], "healthy", "a restart of the worker would not help");
    assert_eq!(health["checks"]["vault"]["status"], "unhealthy");
    let (code, ready) = worker.get("/ready").await;
    assert!(code == 503 && ready.contains("sealed"), "{ready}");
    kafka.password("pw-three");
    kafka.restart();
    tickets.publish("while-it-is-sealed").await;
    bao.run("unseal");
    bao.put_secret("worker/kafka", json!({ "username": user, "password": "pw-three" })).await;
    says(&worker, "kafka_credentials_renewed", 2).await;
    tickets.completed(&worker).await;
    worker.wait_ready().await;

    let worker = tickets.ended(&kafka, worker).await;
    for secret in [&*first, "pw-two", "pw-three", &secret_id, "api-token-of-the-first-day", "api-token-of-another-day"]
    {
        assert!(!worker.log().contains(secret), "a secret is in the log");
    }
}

/// A JWT that this key has signed.
fn jwt(key: &KeyPair) -> String {
    let now = ticket_activities::now_ms() / 1000;
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({ "sub": "worker", "aud": "vault", "iat": now - 10, "exp": now + 300 });
    let signed = format!("{}.{}", part(json!({ "alg": "EdDSA" })), part(claims));
    let signature = key.sign(signed.as_bytes()).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_lets_in_by_jwt_and_by_token_and_a_command_leaves_no_token_behind() {
    if !wanted() {
        return;
    }
    let Some(bao) = peer(Bao::start).await else { return };
    bao.prepare().await;
    bao.put_secret("worker/api", json!({ "tokens": "ops=a-token-of-the-api" })).await;
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("key");
    bao.post("sys/auth/jwt", json!({ "type": "jwt" })).await;
    bao.post("auth/jwt/config", json!({ "jwt_validation_pubkeys": [key.public_key_pem()] })).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": ["worker-agents"],
    });
    bao.post("auth/jwt/role/worker-agents", role).await;
    let token = bao.post("auth/token/create", json!({ "policies": ["worker-agents"], "ttl": "1h" })).await;
    let token = token["auth"]["client_token"].as_str().expect("a token").to_owned();

    let world = World::new().await;
    let file = bao.folder.path().join("jwt");
    std::fs::write(&file, jwt(&key)).expect("written");
    let file = file.to_str().expect("UTF-8").to_owned();
    let doctor = |method: &str, more: &[(&str, &str)]| {
        let common = [
            ("VAULT_ENABLED", "true"),
            ("VAULT_ADDRESS", bao.address()),
            ("VAULT_AUTH_METHOD", method),
            ("VAULT_TOKEN_PATH", file.as_str()),
            ("VAULT_MAX_RETRIES", "0"),
            ("HTTP_API_TOKEN_VAULT", "worker/api#tokens"),
            ("HTTP_API_ALLOW", "ops=*"),
        ];
        let output = world.command_with(&["doctor", "--json"], "", &[&common[..], more].concat());
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = report["checks"].as_array().expect("checks").clone();
        checks.into_iter().find(|check| check["check"] == "vault").expect("the check")
    };
    for (method, more) in [("jwt", vec![]), ("token", vec![("VAULT_TOKEN", token.as_str())])] {
        let check = doctor(method, &more);
        assert_eq!(check["state"], "ok", "{method}: {check}");
    }
    let refused = doctor("token", &[("VAULT_TOKEN", "s.of-another-vault")]);
    assert_eq!(refused["state"], "failed");
    assert!(refused["what"].as_str().is_some_and(|what| what.contains("refuses this worker's login")), "{refused}");

    // The root token, the one that was made above, and nobody else's.
    let accessors = bao.call(Method::from_bytes(b"LIST").expect("a method"), "auth/token/accessors", Value::Null).await;
    assert_eq!(accessors["data"]["keys"].as_array().map(Vec::len), Some(2), "{accessors}");
}
