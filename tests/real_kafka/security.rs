//! Every way that a connection to a broker can be secured, and what a worker says when it is not let in.

use std::process::Output;

use crate::lane::{RealWorld, full, world};
use crate::world::{Worker, eventually};

type Settings = Vec<(&'static str, String)>;

/// An address or file that the instance told.
fn told(world: &RealWorld, key: &str) -> String {
    world.kafka.address(key).expect("told").to_owned()
}

fn ssl(world: &RealWorld) -> Settings {
    vec![
        ("KAFKA_SECURITY_PROTOCOL", "SSL".to_owned()),
        ("KAFKA_BOOTSTRAP_SERVERS", told(world, "KAFKA_SSL_BOOTSTRAP_SERVERS")),
        ("KAFKA_SSL_CA_LOCATION", told(world, "KAFKA_TLS_CA")),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", told(world, "KAFKA_TLS_CLIENT_CERTIFICATE")),
        ("KAFKA_SSL_KEY_LOCATION", told(world, "KAFKA_TLS_CLIENT_KEY")),
    ]
}

fn sasl(world: &RealWorld, protocol: &str, mechanism: &str) -> Settings {
    let user = format!("KAFKA_{}", mechanism.replace('-', "_"));
    let mut settings = vec![
        ("KAFKA_SECURITY_PROTOCOL", protocol.to_owned()),
        ("KAFKA_BOOTSTRAP_SERVERS", told(world, &format!("KAFKA_{protocol}_BOOTSTRAP_SERVERS"))),
        ("KAFKA_SASL_MECHANISM", mechanism.to_owned()),
        ("KAFKA_SASL_USERNAME", told(world, &format!("{user}_USERNAME"))),
        ("KAFKA_SASL_PASSWORD", told(world, &format!("{user}_PASSWORD"))),
    ];
    if protocol == "SASL_SSL" {
        settings.push(("KAFKA_SSL_CA_LOCATION", told(world, "KAFKA_TLS_CA")));
    }
    settings
}

fn with(mut settings: Settings, name: &'static str, value: &str) -> Settings {
    settings.retain(|(other, _)| *other != name);
    settings.push((name, value.to_owned()));
    settings
}

fn borrowed(settings: &Settings) -> Vec<(&'static str, &str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: make test-kafka"]
async fn tickets_run_over_every_secured_listener() {
    let world = world(&["--sasl-ssl"]).await;
    let mut cases = vec![("ssl-client-certificate".to_owned(), ssl(&world))];
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"] {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            cases.push((format!("{protocol}-{mechanism}"), sasl(&world, protocol, mechanism)));
        }
    }
    for (name, settings) in &cases {
        world.publish_spread(&world.ticket(name, "echo secured")).await;
        // The killed worker of the case before is in its group for a session time-out.
        let settings = with(settings.clone(), "KAFKA_CONSUMER_GROUP_ID", name);
        let worker = world.worker(&borrowed(&settings)).await;
        assert_eq!(world.result(name).await["status"], "COMPLETED", "{name}");
        println!("{name}: a ticket ran and its result was published");
        drop(worker);
    }
    assert!(world.dead_letters().is_empty());
}

/// What a worker that cannot start has said.
async fn refused(world: &RealWorld, settings: &Settings) -> Output {
    let mut worker: Worker = world.spawn(&borrowed(settings));
    let status = eventually("the worker gives up", || worker.child.try_wait().expect("asked")).await;
    Output { status, stdout: Vec::new(), stderr: worker.log().into_bytes() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: make test-kafka"]
async fn whoever_is_not_let_in_says_why_in_one_sentence_that_names_the_setting() {
    let world = world(&["--sasl-ssl"]).await;
    let good = sasl(&world, "SASL_SSL", "SCRAM-SHA-512");
    let mut cases = vec![
        ("a wrong password", with(good.clone(), "KAFKA_SASL_PASSWORD", "wrong"), "KAFKA_SASL_PASSWORD"),
        (
            "a wrong CA",
            with(good, "KAFKA_SSL_CA_LOCATION", &told(&world, "KAFKA_TLS_OTHER_CA")),
            "KAFKA_SSL_CA_LOCATION",
        ),
    ];
    if full() {
        for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
            let wrong = with(sasl(&world, "SASL_PLAINTEXT", mechanism), "KAFKA_SASL_PASSWORD", "wrong");
            cases.push((mechanism, wrong, "KAFKA_SASL_PASSWORD"));
        }
    }
    for (what, settings, setting) in &cases {
        let output = refused(&world, settings).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{what}: infrastructure is at fault: {said}");
        let sentences: Vec<&str> = said.lines().filter(|line| line.starts_with("worker-agents: ")).collect();
        assert_eq!(sentences.len(), 1, "{what}: {said}");
        println!("{what}: {}", sentences[0]);
        assert!(sentences[0].contains(setting), "{what}: {}", sentences[0]);
        assert!(!said.contains("wrong\""), "{what}: the password is not for logs: {said}");
    }
}
