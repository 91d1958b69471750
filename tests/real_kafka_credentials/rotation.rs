//! Credentials that change while the worker runs, against a real broker with SASL_SSL (INC-13).

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use worker_agents::config::{Config, MapSource, Origin};
use worker_agents::kafka::{Clients, describe_topic};

use crate::broker::{Kafka, Tickets, says, wanted};
use crate::world::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn inc_13_a_new_password_reaches_every_client_without_a_restart_and_loses_nothing() {
    if !wanted() {
        return;
    }
    let Some(kafka) = tokio::task::spawn_blocking(Kafka::start).await.expect("joined") else { return };
    let world = World::new().await;
    let file = |name: &str| kafka.folder.path().join(name).to_str().expect("utf-8").to_owned();
    let write = |name: &str, text: &str| std::fs::write(file(name), format!("{text}\n")).expect("written");
    let first = kafka.address("KAFKA_SCRAM_SHA_512_PASSWORD").to_owned();
    write("user", kafka.address("KAFKA_SCRAM_SHA_512_USERNAME"));
    write("password", &first);
    let worker = world
        .worker(&[
            ("KAFKA_BOOTSTRAP_SERVERS", kafka.address("KAFKA_SASL_SSL_BOOTSTRAP_SERVERS")),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
            ("KAFKA_SASL_USERNAME_FILE", &file("user")),
            ("KAFKA_SASL_PASSWORD_FILE", &file("password")),
            ("KAFKA_SSL_CA_LOCATION", kafka.address("KAFKA_TLS_CA")),
            ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
            ("MAX_CONCURRENT_TICKETS", "1000"),
            ("MAX_CONCURRENT_TASKS", "2"),
        ])
        .await;
    let mut tickets = Tickets::on(&world, &kafka);
    let consumers = "worker_agent_kafka_consumer_initialized_total";
    worker.wait_ready().await;
    tickets.publish("with-the-first").await;
    tickets.completed(&worker).await;

    // A password that no broker knows changes nothing.
    write("password", "pw-mistaken");
    says(&worker, "kafka_credentials_kept", 1).await;
    tickets.publish("during-a-mistake").await;
    tickets.completed(&worker).await;
    assert_eq!(worker.get("/ready").await.0, 200);
    assert!((worker.metric(consumers).await - 1.0).abs() < 0.1);

    // The broker's new password, then the file's: consumer and producer are replaced.
    kafka.password("pw-two");
    write("password", "pw-two");
    // Tickets come all the while.
    let line = "\"message\":\"kafka_consumer_replaced\"";
    for number in 0..400 {
        tickets.publish(&format!("meanwhile-{number}")).await;
        if number >= 40 && worker.log().contains(line) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    says(&worker, "kafka_credentials_renewed", 1).await;
    says(&worker, "kafka_consumer_replaced", 1).await;
    says(&worker, "kafka_producer_replaced", 1).await;
    tickets.publish("with-the-second").await;
    tickets.completed(&worker).await;
    assert!((worker.metric(consumers).await - 2.0).abs() < 0.1);
    assert_eq!(worker.get("/health").await.0, 200);

    println!("hand-over to a consumer with other credentials: {} ms", hand_over_ms(&worker.log()));

    // Whoever still had the first one is not let in after this.
    kafka.restart();
    tickets.publish("after-a-restart").await;
    tickets.completed(&worker).await;

    // A password that changed without the file: told, not silent.
    kafka.password("pw-three");
    kafka.restart();
    worker.reaches(r#"worker_agent_kafka_consumer_errors_total{error_type="Authentication"}"#, 1.0).await;
    worker.reaches(r#"worker_agent_setup_faults_total{fault="kafka_authentication"}"#, 1.0).await;
    let (status, reason) = worker.get("/ready").await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("kafka_access") && reason.contains("KAFKA_SASL_PASSWORD"), "{reason}");
    tickets.publish("while-locked-out").await;
    write("password", "pw-three");
    says(&worker, "kafka_credentials_renewed", 2).await;
    tickets.completed(&worker).await;
    worker.wait_ready().await;

    // Foreign clients find each ticket's one run and nothing else.
    let worker = tickets.ended(&kafka, worker).await;
    // A record that is read again after a hand-over is answered with the run that it has started already.
    let log = worker.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let runs: std::collections::BTreeSet<String> = lines
        .filter(|line| line["message"] == "ticket_started")
        .map(|line| line["run_id"].as_str().expect("a run").to_owned())
        .collect();
    assert_eq!(runs.len(), tickets.names.len(), "each ticket was started once");
    for secret in [first.as_str(), "pw-mistaken", "pw-two", "pw-three"] {
        assert!(!worker.log().contains(secret), "a password is in the log");
    }
}

/// From the end of the first consumer to the first partition of the next, as the log dates them.
fn hand_over_ms(log: &str) -> i64 {
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |line: &Value| {
        // 2026-01-31T12:34:56.789012Z; both are of one hour, or the number is odd and nothing breaks.
        let text = line["timestamp"].as_str().unwrap_or_default();
        let part = |range: std::ops::Range<usize>| text.get(range).and_then(|it| it.parse::<i64>().ok()).unwrap_or(0);
        part(14..16) * 60_000 + part(17..19) * 1000 + part(20..23)
    };
    let ended = lines.iter().position(|line| line["message"] == "kafka_consumer_replaced").expect("replaced");
    let given_up = lines[..ended].iter().rev().find(|line| line["message"] == "partition_given_up").expect("given up");
    let assigned = lines[ended..].iter().find(|line| line["message"] == "partition_assigned").expect("assigned");
    at(assigned) - at(given_up)
}

/// What a client with these settings is told.
async fn asks(kafka: &Kafka, listener: &str, settings: &[(&str, &str)]) -> Result<(), String> {
    let mut source = MapSource::default();
    let servers = [("KAFKA_BOOTSTRAP_SERVERS", kafka.address(listener))];
    for (name, value) in servers.iter().chain(settings) {
        source.set(name, *value, Origin::Environment);
    }
    let config = Config::read(&source).expect("valid").kafka;
    let asked = tokio::task::spawn_blocking(move || {
        let asked = Clients::new(&config)
            .and_then(|clients| clients.reader("doctor"))
            .and_then(|reader| describe_topic(&config, &reader, "execution.tickets"));
        asked.map(drop).map_err(|error| format!("{error:#}"))
    });
    asked.await.expect("joined")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mechanism_is_let_in_and_a_refusal_names_its_setting() {
    if !wanted() {
        return;
    }
    let Some(kafka) = tokio::task::spawn_blocking(Kafka::start).await.expect("joined") else { return };
    let file = |name: &str| kafka.folder.path().join(name).to_str().expect("utf-8").to_owned();
    let ca = ("KAFKA_SSL_CA_LOCATION", kafka.address("KAFKA_TLS_CA"));
    let certificate = ("KAFKA_SSL_CERTIFICATE_LOCATION", kafka.address("KAFKA_TLS_CLIENT_CERTIFICATE"));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let key = mechanism.replace('-', "_");
        let user = ("KAFKA_SASL_USERNAME", kafka.address(&format!("KAFKA_{key}_USERNAME")));
        let password = ("KAFKA_SASL_PASSWORD", kafka.address(&format!("KAFKA_{key}_PASSWORD")));
        let wrong = ("KAFKA_SASL_PASSWORD", "pw-mistaken");
        let mechanism = ("KAFKA_SASL_MECHANISM", mechanism);
        for protocol in ["SASL_SSL", "SASL_PLAINTEXT"] {
            let listener = format!("KAFKA_{protocol}_BOOTSTRAP_SERVERS");
            let common = [("KAFKA_SECURITY_PROTOCOL", protocol), mechanism, user, ca];
            asks(&kafka, &listener, &[&common[..], &[password]].concat()).await.expect(protocol);
            let error = asks(&kafka, &listener, &[&common[..], &[wrong]].concat()).await.expect_err("wrong password");
            assert!(error.contains("KAFKA_SASL_PASSWORD") && !error.contains("pw-mistaken"), "{error}");
        }
    }

    // A client certificate whose key is encrypted.
    let made = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:key-secret", "-in", kafka.address("KAFKA_TLS_CLIENT_KEY"), "-out"])
        .arg(file("key"))
        .status();
    assert!(made.expect("openssl").success());
    let key = file("key");
    let (ssl, key) = (("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_SSL_KEY_LOCATION", key.as_str()));
    let listener = "KAFKA_SSL_BOOTSTRAP_SERVERS";
    let opened = ("KAFKA_SSL_KEY_PASSWORD", "key-secret");
    asks(&kafka, listener, &[ssl, ca, certificate, key, opened]).await.expect("a client certificate");
    let error = asks(&kafka, listener, &[ssl, ca]).await.expect_err("no client certificate");
    assert!(error.contains("KAFKA_SSL_CERTIFICATE_LOCATION"), "{error}");
    let other = ("KAFKA_SSL_CA_LOCATION", kafka.address("KAFKA_TLS_OTHER_CA"));
    let error = asks(&kafka, listener, &[ssl, other, certificate, key, opened]).await.expect_err("another authority");
    assert!(error.contains("KAFKA_SSL_CA_LOCATION"), "{error}");

    // A token, one that has expired, one whose file is renewed.
    let path = file("token");
    let settings = [
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", path.as_str()),
        ca,
    ];
    let listener = "KAFKA_SASL_SSL_BOOTSTRAP_SERVERS";
    std::fs::write(&path, token(-5)).expect("written");
    let error = asks(&kafka, listener, &settings).await.expect_err("expired");
    assert!(error.contains("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE") && error.contains("expired"), "{error}");
    std::fs::write(&path, token(300)).expect("written");
    asks(&kafka, listener, &settings).await.expect("a token");
}

/// An unsigned token that lasts for so many seconds.
fn token(seconds: i64) -> String {
    let now = ticket_activities::now_ms() / 1000;
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = part(json!({ "sub": "worker", "iat": now - 60, "exp": now + seconds }));
    format!("{}.{claims}.", part(json!({ "alg": "none" })))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_endpoint_are_renewed_before_they_expire() {
    if !wanted() {
        return;
    }
    let Some(kafka) = tokio::task::spawn_blocking(Kafka::start).await.expect("joined") else { return };
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&issued);
    let issuer = axum::Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async { axum::Json(json!({ "access_token": token(30), "token_type": "Bearer", "expires_in": 30 })) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}/token", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, issuer).await });
    let world = World::new().await;
    let worker = world
        .worker(&[
            ("KAFKA_BOOTSTRAP_SERVERS", kafka.address("KAFKA_SASL_SSL_BOOTSTRAP_SERVERS")),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"),
            ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", &url),
            ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "worker"),
            ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "pw-client"),
            ("KAFKA_SSL_CA_LOCATION", kafka.address("KAFKA_TLS_CA")),
            ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ])
        .await;
    let mut tickets = Tickets::on(&world, &kafka);
    worker.wait_ready().await;
    tickets.publish("with-the-first").await;
    tickets.completed(&worker).await;
    // One more for the consumer and one for the producer: the first ones are almost over.
    let before = issued.load(Ordering::Relaxed);
    eventually("new tokens", || (issued.load(Ordering::Relaxed) >= before + 2).then_some(())).await;
    kafka.restart();
    tickets.publish("with-a-later-one").await;
    tickets.completed(&worker).await;
    worker.wait_ready().await;
    assert!(!worker.log().contains("pw-client"));
}
