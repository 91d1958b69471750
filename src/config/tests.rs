//! Settings are read as the contract says.

use super::*;

fn read<const N: usize>(pairs: [(&str, &str); N]) -> Result<Config, ConfigErrors> {
    Config::read(&MapSource::from(pairs))
}

#[test]
fn the_defaults_are_the_contracts() {
    let config = read([]).expect("defaults");
    assert_eq!(config.kafka.tickets_topic, "execution.tickets");
    assert_eq!(config.kafka.group_id, "worker-agents");
    assert_eq!(config.identity.max_concurrent_tasks, 5);
    assert_eq!(config.bridge.max_concurrent_tickets, 10);
    assert_eq!(config.identity.supported_task_types.len(), 8);
    assert_eq!((config.http.port, config.http.metrics_port), (8080, 9090));
    assert_eq!(config.temporal.task_queue, "worker-agents");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn inc_86_lists_are_commas_or_json() {
    for text in ["python, npm test ,sh", r#"["python","npm test","sh"]"#] {
        let config = read([("LOCAL_RUNTIME_ALLOWED_COMMANDS", text)]).expect(text);
        assert_eq!(config.local.allowed_commands, ["python", "npm test", "sh"], "{text}");
    }
}

#[test]
fn all_errors_are_reported_at_once_and_name_the_setting() {
    let errors = read([
        ("MAX_CONCURRENT_TASKS", "0"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL"),
        ("HTTP_PORT", "eighty"),
        ("SUPPORTED_TASK_TYPES", "BUILD,DANCE"),
        ("LOCAL_RUNTIME_ALLOWED_COMMANDS", "[1"),
        ("CONSUMER_PAUSE_THRESHOLD", "1.5"),
        ("KAFKA_DLQ_TOPIC", "execution.tickets"),
        ("LOCAL_RUNTIME_ENABLED", "maybe"),
    ])
    .expect_err("wrong settings");
    let text = errors.to_string();
    for name in [
        "MAX_CONCURRENT_TASKS",
        "KAFKA_SECURITY_PROTOCOL",
        "HTTP_PORT",
        "DANCE",
        "LOCAL_RUNTIME_ALLOWED_COMMANDS",
        "CONSUMER_PAUSE_THRESHOLD",
        "KAFKA_DLQ_TOPIC",
        "LOCAL_RUNTIME_ENABLED",
    ] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

#[test]
fn secrets_cannot_be_printed() {
    let config = read([
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_SASL_USERNAME", "user"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
    ])
    .expect("valid");
    assert!(!format!("{config:?}").contains("hunter2"));
    let shown = config.settings.iter().find(|setting| setting.name == "KAFKA_SASL_PASSWORD").expect("listed");
    assert_eq!(shown.value, REDACTED);
}

#[test]
fn a_setting_that_is_not_used_is_told() {
    let config = read([("VAULT_ENABLED", "true"), ("ENABLE_TEMPORAL_ACTIVITIES", "false")]).expect("valid");
    assert!(config.warnings.iter().any(|warning| warning.contains("VAULT_ENABLED")), "{:?}", config.warnings);
    assert!(config.warnings.iter().any(|warning| warning.contains("ENABLE_TEMPORAL_ACTIVITIES")));
}

#[test]
fn an_empty_registry_url_means_json_only_and_other_empty_texts_mean_unset() {
    let config = read([("KAFKA_SCHEMA_REGISTRY_URL", ""), ("KAFKA_SASL_USERNAME", ""), ("MAX_CONCURRENT_TASKS", " ")])
        .expect("valid");
    assert_eq!(config.kafka.schema_registry_url, None);
    assert_eq!(config.identity.max_concurrent_tasks, 5);
}

#[test]
fn inc_02_rejections_are_followed_only_when_a_topic_of_their_own_is_named() {
    let topic = |text| read([("KAFKA_REJECTED_TOPIC", text)]).map(|config| config.kafka.rejected_topic);
    assert_eq!(topic("").expect("off"), None);
    assert_eq!(topic("execution.tickets.rejected").expect("on").as_deref(), Some("execution.tickets.rejected"));
    for wrong in ["execution.tickets", "execution.results", "execution.tickets.dlq", "not a topic"] {
        assert!(topic(wrong).expect_err(wrong).to_string().contains("KAFKA_REJECTED_TOPIC"), "{wrong}");
    }
}

#[test]
fn host_and_port_are_an_address_unless_one_is_given() {
    let both = read([("TEMPORAL_HOST", "t"), ("TEMPORAL_PORT", "1")]).expect("valid");
    assert_eq!(both.temporal.address.as_deref(), Some("t:1"));
    let address = read([("TEMPORAL_HOST", "t"), ("TEMPORAL_ADDRESS", "a:2")]).expect("valid");
    assert_eq!(address.temporal.address.as_deref(), Some("a:2"));
}
