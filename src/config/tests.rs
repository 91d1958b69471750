//! Settings are read as the contract says.

use std::num::NonZeroU32;
use std::path::Path;

use ticket_activities::external::EndpointLimits;
use ticket_activities::sandbox::Network;

use super::*;

mod logs;

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
    assert!(config.dead_letters.consumer_enabled && config.dead_letters.alerts_enabled);
    assert_eq!(config.dead_letters.alert_topic, "sre.alerts");
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
        ("LOG_LEVEL", "%%%"),
        ("TEMPORAL_ADDRESS", "::::"),
        ("TASK_TIMEOUT_MULTIPLIER", "1e300"),
        ("CONSUMER_PAUSE_THRESHOLD", "1.5"),
        ("KAFKA_DLQ_TOPIC", "execution.tickets"),
        ("LOCAL_RUNTIME_ENABLED", "maybe"),
        ("DLQ_ALERT_KAFKA_TOPIC", "execution.results"),
    ])
    .expect_err("wrong settings");
    let text = errors.to_string();
    for name in [
        "MAX_CONCURRENT_TASKS",
        "KAFKA_SECURITY_PROTOCOL",
        "HTTP_PORT",
        "DANCE",
        "LOCAL_RUNTIME_ALLOWED_COMMANDS",
        "LOG_LEVEL",
        "TEMPORAL_ADDRESS",
        "TASK_TIMEOUT_MULTIPLIER",
        "CONSUMER_PAUSE_THRESHOLD",
        "KAFKA_DLQ_TOPIC",
        "LOCAL_RUNTIME_ENABLED",
        "DLQ_ALERT_KAFKA_TOPIC",
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
    let config = read([("REDIS_URL", "redis://r"), ("ENABLE_TEMPORAL_ACTIVITIES", "false")]).expect("valid");
    assert!(config.warnings.iter().any(|warning| warning.contains("REDIS_URL")), "{:?}", config.warnings);
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

#[test]
fn the_pods_namespace_wins_unless_it_says_nothing() {
    let namespace = |pairs: [(&str, &str); 2]| read(pairs).expect("valid").identity.namespace;
    assert_eq!(namespace([("NAMESPACE", "a"), ("POD_NAMESPACE", "b")]), "b");
    for nothing in ["", " ", "default"] {
        assert_eq!(namespace([("NAMESPACE", "a"), ("POD_NAMESPACE", nothing)]), "a", "{nothing:?}");
    }
    let identity = read([]).expect("defaults").identity;
    assert_eq!(
        [identity.namespace, identity.cluster, identity.service_version],
        ["neural-hive", "local", "1.0.0"],
        "as the contract says"
    );
}

/// A file that is there and holds no certificate.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

fn of(pairs: &[(&str, &str)]) -> Config {
    let mut source = MapSource::default();
    pairs.iter().for_each(|(name, value)| source.set(name, *value, Origin::Environment));
    Config::read(&source).expect("valid")
}

fn errors(pairs: &[(&str, &str)]) -> String {
    let mut source = MapSource::default();
    for (name, value) in pairs {
        source.set(name, *value, Origin::Environment);
    }
    Config::read(&source).map_or_else(|errors| errors.to_string(), |_| String::new())
}

#[test]
fn incomplete_kafka_security_is_refused_and_says_what_is_missing() {
    let sasl = ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL");
    let token = ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", FILE);
    let oauth = ("KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    let (user, password) = (("KAFKA_SASL_USERNAME", "u"), ("KAFKA_SASL_PASSWORD", "hunter2"));
    let (certificate, key) = (("KAFKA_SSL_CERTIFICATE_LOCATION", FILE), ("KAFKA_SSL_KEY_LOCATION", FILE));
    for (settings, expected) in [
        (&[sasl][..], &["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"][..]),
        (&[sasl, user], &["KAFKA_SASL_PASSWORD, KAFKA_SASL_PASSWORD_FILE or KAFKA_SASL_PASSWORD_VAULT"]),
        (&[sasl, user, password, ("KAFKA_SASL_USERNAME_FILE", FILE)], &["KAFKA_SASL_USERNAME_FILE are both set"]),
        (&[sasl, user, ("KAFKA_SASL_PASSWORD_FILE", "/no/such")], &["KAFKA_SASL_PASSWORD_FILE: /no/such"]),
        (&[sasl, user, ("KAFKA_SASL_PASSWORD_FILE", "/dev/null")], &["/dev/null is empty"]),
        (
            &[sasl, user, password, ("KAFKA_SASL_MECHANISM", "GSSAPI")],
            &["\"GSSAPI\": expected one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"],
        ),
        (&[sasl, user, password, ("KAFKA_SASL_MECHANISM", "OAUTHBEARER")], &["KAFKA_SASL_OAUTHBEARER_TOKEN_FILE"]),
        (&[oauth, token, ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "https://i")], &["keep one of them"]),
        (
            &[
                sasl,
                oauth,
                ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "https://i"),
                ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "x"),
            ],
            &["KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET or its _FILE"],
        ),
        (
            &[sasl, oauth, ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "https://u:hunter2@i")],
            &["\"https://(hidden)@i\": expected an http(s) URL without user info"],
        ),
        (&[sasl, ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"), token, key], &["KAFKA_SSL_CERTIFICATE_LOCATION and"]),
        (&[("KAFKA_SECURITY_PROTOCOL", "SSL"), certificate], &["KAFKA_SSL_KEY_LOCATION belong together"]),
        (&[("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_SSL_CA_LOCATION", "/no/such")], &["KAFKA_SSL_CA_LOCATION"]),
        (&[("KAFKA_SSL_KEY_PASSWORD", "hunter2")], &["KAFKA_SSL_KEY_PASSWORD needs KAFKA_SSL_KEY_LOCATION"]),
    ] {
        let text = errors(settings);
        for part in expected {
            assert!(text.contains(part), "{settings:?}: {part} is missing in {text:?}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn security_that_protects_less_than_it_looks_is_told() {
    for (settings, expected) in [
        (vec![("KAFKA_SSL_CA_LOCATION", FILE)], "KAFKA_SSL_* settings have no effect"),
        (vec![("KAFKA_SASL_PASSWORD", "x")], "KAFKA_SASL_* settings have no effect"),
        (
            vec![
                ("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext"),
                ("KAFKA_SASL_MECHANISM", "plain"),
                ("KAFKA_SASL_USERNAME", "u"),
                ("KAFKA_SASL_PASSWORD", "p"),
            ],
            "unencrypted",
        ),
        (
            vec![("KAFKA_SCHEMA_REGISTRY_URL", "http://registry:8081"), ("SCHEMA_REGISTRY_TOKEN", "x")],
            "KAFKA_SCHEMA_REGISTRY_URL is http",
        ),
        (vec![("K8S_JOBS_BACKOFF_LIMIT", "3")], "0 is in force"),
    ] {
        let mut source = MapSource::default();
        for (name, value) in &settings {
            source.set(name, *value, Origin::Environment);
        }
        let warnings = Config::read(&source).expect("valid").warnings;
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{settings:?}: {warnings:?}");
    }
}

#[test]
fn registry_credentials_come_from_settings_or_the_url_and_are_never_shown() {
    let login = |pairs: &[(&str, &str)]| {
        let mut source = MapSource::default();
        for (name, value) in pairs {
            source.set(name, *value, Origin::Environment);
        }
        let config = Config::read(&source).expect("valid");
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("hunter%"), "{shown}");
        (config.kafka.schema_registry_url.expect("a URL"), config.kafka.schema_registry.login)
    };
    let basic = |login: &RegistryLogin| match login {
        RegistryLogin::Basic { username, password } => {
            (username.clone(), password.read().expect("set").expose().to_owned())
        }
        other => panic!("{other:?}"),
    };
    let (_, found) = login(&[("SCHEMA_REGISTRY_USERNAME", "u"), ("SCHEMA_REGISTRY_PASSWORD", "hunter2")]);
    assert_eq!(basic(&found), ("u".to_owned(), "hunter2".to_owned()));
    let (url, found) =
        login(&[("KAFKA_SCHEMA_REGISTRY_URL", "https://us%40er:hunter%2F2@registry:8081/apis/ccompat/v6/")]);
    assert_eq!(url, "https://registry:8081/apis/ccompat/v6");
    assert_eq!(basic(&found), ("us@er".to_owned(), "hunter/2".to_owned()));
    let (_, found) = login(&[("SCHEMA_REGISTRY_TOKEN", "hunter2")]);
    assert!(
        matches!(&found, RegistryLogin::Bearer(token) if token.read().is_ok_and(|token| token.expose() == "hunter2")),
        "{found:?}"
    );
    let (url, found) = login(&[("KAFKA_SCHEMA_REGISTRY_URL", "http://registry")]);
    assert!(url == "http://registry" && matches!(found, RegistryLogin::None), "{url} {found:?}");
}

#[test]
fn registry_settings_that_cannot_be_right_are_refused_without_showing_secrets() {
    let user = ("SCHEMA_REGISTRY_USERNAME", "u");
    let password = ("SCHEMA_REGISTRY_PASSWORD", "hunter2");
    for (settings, expected) in [
        (&[user][..], "SCHEMA_REGISTRY_PASSWORD belong together"),
        (&[("SCHEMA_REGISTRY_USERNAME", "a:b"), password], "colon"),
        (&[user, password, ("SCHEMA_REGISTRY_TOKEN", "hunter2")], "keep one way to log in"),
        (&[("SCHEMA_REGISTRY_TOKEN", "Bearer hunter2")], "SCHEMA_REGISTRY_TOKEN: expected printable"),
        (
            &[user, password, ("KAFKA_SCHEMA_REGISTRY_URL", "https://u:hunter2@r")],
            "the user info in KAFKA_SCHEMA_REGISTRY_URL",
        ),
        (&[("KAFKA_SCHEMA_REGISTRY_URL", "u:hunter2@registry:8081")], "(hidden)@registry:8081"),
        (&[("KAFKA_SCHEMA_REGISTRY_URL", "ftp://u:hunter2@registry")], "ftp://(hidden)@registry"),
        (&[("KAFKA_SCHEMA_REGISTRY_URL", "https://registry?x=1")], "no ?query"),
        (&[("SCHEMA_REGISTRY_CA_BUNDLE", "/no/such")], "SCHEMA_REGISTRY_CA_BUNDLE"),
        (&[("SCHEMA_REGISTRY_CA_BUNDLE", FILE)], "holds no PEM certificate"),
        (&[("SCHEMA_REGISTRY_TLS_VERIFY", "false")], "set SCHEMA_REGISTRY_CA_BUNDLE"),
    ] {
        let text = errors(settings);
        assert!(text.contains(expected) && !text.contains("hunter2"), "{settings:?}: {text:?}");
    }
}

#[test]
fn a_version_needs_its_name_and_its_build_id() {
    use temporalio_common::worker::VersioningBehavior;

    let (name, build_id) = (("TEMPORAL_DEPLOYMENT_NAME", "agents"), ("TEMPORAL_WORKER_BUILD_ID", "1.2:b3"));
    let behavior = |value| ("TEMPORAL_VERSIONING_BEHAVIOR", value);
    assert_eq!(read([]).expect("valid").temporal.deployment, None);
    for (settings, expected) in [
        ([name, build_id, behavior("")], VersioningBehavior::AutoUpgrade),
        ([name, build_id, behavior("PINNED")], VersioningBehavior::Pinned),
    ] {
        let options = read(settings).expect("valid").temporal.deployment.expect("a version");
        assert!(options.use_worker_versioning);
        assert_eq!(options.default_versioning_behavior, Some(expected));
        assert_eq!((options.version.deployment_name.as_str(), options.version.build_id.as_str()), ("agents", "1.2:b3"));
    }
    let long = "x".repeat(481);
    for (settings, expected) in [
        (&[name][..], "TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID belong together"),
        (&[build_id], "TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID belong together"),
        (&[name, ("TEMPORAL_WORKER_BUILD_ID", " ")], "belong together"),
        (&[name, build_id, behavior("latest")], "\"latest\": expected one of auto_upgrade, pinned"),
        (&[("TEMPORAL_DEPLOYMENT_NAME", "a.b"), build_id], "TEMPORAL_DEPLOYMENT_NAME=\"a.b\""),
        (&[("TEMPORAL_DEPLOYMENT_NAME", "a:b"), build_id], "TEMPORAL_DEPLOYMENT_NAME=\"a:b\""),
        (&[name, ("TEMPORAL_WORKER_BUILD_ID", "__x")], "\"__\""),
        (&[name, ("TEMPORAL_WORKER_BUILD_ID", &long)], "at most 480 bytes"),
    ] {
        let text = errors(settings);
        assert!(text.contains(expected), "{settings:?}: {expected:?} is missing in {text:?}");
    }
    let warnings = read([behavior("pinned")]).expect("valid").warnings;
    assert!(warnings.iter().any(|warning| warning.contains("has no effect without")), "{warnings:?}");
}

#[test]
fn without_a_host_the_worker_does_not_register_and_an_address_is_put_together() {
    let address = |pairs: &[(&str, &str)]| {
        let mut source = MapSource::default();
        pairs.iter().for_each(|(name, value)| source.set(name, *value, Origin::Environment));
        Config::read(&source).expect("valid").service_registry.address
    };
    assert_eq!(address(&[("SERVICE_REGISTRY_PORT", "50051")]), None);
    let development = ("ENVIRONMENT", "development");
    let host = |host| address(&[("SERVICE_REGISTRY_HOST", host), development]).expect("an address");
    assert_eq!(host("service-registry"), "service-registry:50051");
    assert_eq!(host("fd00::1"), "[fd00::1]:50051");
    assert_eq!(host("[fd00::1]"), "[fd00::1]:50051");
    assert_eq!(address(&[("SERVICE_REGISTRY_HOST", "r"), ("SERVICE_REGISTRY_PORT", "1")]).as_deref(), Some("r:1"));
    let registry = read([]).expect("defaults").service_registry;
    assert_eq!((registry.heartbeat_interval.as_secs(), registry.timeout.as_secs()), (30, 5));
    assert_eq!(registry.capabilities.len(), 14);
    assert_eq!(registry.mtls, None);
}

#[test]
fn registrations_that_cannot_work_are_refused_and_say_why() {
    for (settings, expected) in [
        (
            &[("SERVICE_REGISTRY_HOST", "http://registry")][..],
            "SERVICE_REGISTRY_HOST=\"http://registry\": expected the name",
        ),
        (&[("SERVICE_REGISTRY_HOST", "two words")], "SERVICE_REGISTRY_HOST=\"two words\""),
        // What Kubernetes sets beside a Service of this name.
        (&[("SERVICE_REGISTRY_PORT", "tcp://10.0.0.1:50051")], "enableServiceLinks: false"),
        (&[("SECURITY_LEVELS", "INTERNAL,SECRET")], "SECURITY_LEVELS: \"SECRET\" is not a security level"),
        (&[("SECURITY_LEVELS", ",")], "SECURITY_LEVELS: at least one"),
        (&[("CAPABILITIES", "[]")], "CAPABILITIES: at least one"),
        (&[("HEARTBEAT_INTERVAL_SECONDS", "0")], "HEARTBEAT_INTERVAL_SECONDS=0"),
        (&[("AGENT_ENDPOINT", "worker:8080")], "AGENT_ENDPOINT=\"worker:8080\""),
        (&[("POD_IP", "here")], "POD_IP=\"here\""),
        (&[("SPIFFE_ID", "worker")], "SPIFFE_ID=\"worker\""),
        (
            &[("ENABLE_MTLS", "true"), ("MTLS_CERT_PATH", FILE), ("MTLS_KEY_PATH", "/no/such")],
            "MTLS_KEY_PATH=\"/no/such\"",
        ),
        (&[("ENABLE_MTLS", "true"), ("MTLS_CA_PATH", "/no/such")], "MTLS_CA_PATH"),
    ] {
        let text = errors(settings);
        assert!(text.contains(expected), "{settings:?}: {expected} is missing in {text:?}");
    }
}

#[test]
fn plaintext_beyond_the_cluster_is_for_development_only() {
    for near in ["localhost", "127.0.0.1", "::1", "service-registry", "service-registry.neural-hive.svc.cluster.local"]
    {
        let config = read([("SERVICE_REGISTRY_HOST", near)]).expect(near);
        assert!(config.warnings.is_empty(), "{near}: {:?}", config.warnings);
        assert_eq!(config.registry_connection(), "plaintext");
    }
    for far in ["registry.example.com", "10.0.0.1", "localhost.example.com"] {
        let host = ("SERVICE_REGISTRY_HOST", far);
        for environment in ["production", "staging"] {
            let text = errors(&[host, ("ENVIRONMENT", environment)]);
            assert!(text.contains("in plaintext") && text.contains("SPIFFE_ENABLED or ENABLE_MTLS"), "{far}: {text}");
        }
        let warnings = read([host, ("ENVIRONMENT", "development")]).expect(far).warnings;
        assert!(warnings.iter().any(|warning| warning.contains("plaintext")), "{far}: {warnings:?}");
        read([host, ("SPIFFE_ENABLED", "true")]).expect("encrypted");
    }
}

#[test]
fn inc_30_each_peer_has_its_own_audience_and_the_trust_domain_names_them() {
    assert!(read([("SPIFFE_TRUST_DOMAIN", "td")]).expect("valid").spiffe.is_none(), "off by default");
    let on = ("SPIFFE_ENABLED", "true");
    let spiffe = read([on]).expect("valid").spiffe.expect("on");
    assert_eq!(spiffe.endpoint, "unix:///run/spire/sockets/agent.sock");
    assert_eq!(spiffe.registry_audience, "service-registry.neural-hive.local");
    assert_eq!(spiffe.api_audience, "worker-agents.neural-hive.local");
    assert!(spiffe.x509 && !spiffe.fallback);
    let spiffe = read([on, ("SPIFFE_TRUST_DOMAIN", "td"), ("SPIFFE_JWT_AUDIENCE", "r")]).expect("valid").spiffe;
    let spiffe = spiffe.expect("on");
    assert_eq!((&*spiffe.registry_audience, &*spiffe.api_audience), ("r", "worker-agents.td"));
    assert_eq!(spiffe.registry_id.to_string(), "spiffe://td/ns/neural-hive/sa/service-registry");
}

#[test]
fn a_workload_apis_socket_is_a_path_or_a_uri_and_has_two_names() {
    let endpoint =
        |name, value| read([("SPIFFE_ENABLED", "true"), (name, value)]).expect("valid").spiffe.expect("on").endpoint;
    assert_eq!(endpoint("SPIFFE_SOCKET_PATH", "/run/a.sock"), "unix:///run/a.sock");
    assert_eq!(endpoint("SPIFFE_SOCKET_PATH", "tcp://127.0.0.1:8081"), "tcp://127.0.0.1:8081");
    assert_eq!(endpoint("SPIFFE_ENDPOINT_SOCKET", "unix:///run/b.sock"), "unix:///run/b.sock");
    let both =
        [("SPIFFE_SOCKET_PATH", "/run/a.sock"), ("SPIFFE_ENDPOINT_SOCKET", "/run/b.sock"), ("SPIFFE_ENABLED", "true")];
    assert_eq!(read(both).expect("valid").spiffe.expect("on").endpoint, "unix:///run/a.sock");
}

#[test]
fn an_identity_that_cannot_work_is_refused_and_says_why_all_at_once() {
    let wrong = [
        ("SPIFFE_SOCKET_PATH", "http://agent"),
        ("SPIFFE_TRUST_DOMAIN", "Not A Domain"),
        ("SERVICE_REGISTRY_SPIFFE_ID", "registry"),
        ("SPIFFE_ENABLE_X509", "perhaps"),
        ("SPIFFE_FALLBACK_ALLOWED", "true"),
    ];
    let text = errors(&wrong);
    for (name, _) in wrong {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
    assert!(text.contains("SPIFFE_FALLBACK_ALLOWED=true lets anyone in reach cancel tickets"), "{text}");
    let allowed = [("SPIFFE_FALLBACK_ALLOWED", "true"), ("SPIFFE_ENABLED", "true"), ("ENVIRONMENT", "development")];
    assert!(read(allowed).expect("valid").spiffe.expect("on").fallback);
}

#[test]
fn identity_settings_that_do_nothing_or_protect_little_are_told() {
    let (on, host) = (("SPIFFE_ENABLED", "true"), ("SERVICE_REGISTRY_HOST", "service-registry"));
    let files = [("ENABLE_MTLS", "true"), ("MTLS_CERT_PATH", FILE), ("MTLS_KEY_PATH", FILE)];
    for (settings, expected, connection) in [
        (vec![("SPIFFE_JWT_TTL_SECONDS", "3600")], "SPIFFE_JWT_TTL_SECONDS has no effect", "not called"),
        (
            [&[on, host][..], &files].concat(),
            "ENABLE_MTLS has no effect with SPIFFE_ENABLED",
            "mutual TLS with an X.509-SVID",
        ),
        (vec![on, host, ("SPIFFE_ENABLE_X509", "false")], "the JWT-SVID goes to the Service Registry", "plaintext"),
    ] {
        let config = of(&settings);
        assert!(
            config.warnings.iter().any(|warning| warning.contains(expected)),
            "{settings:?}: {:?}",
            config.warnings
        );
        assert_eq!(config.registry_connection(), connection);
    }
    assert_eq!(of(&[&[host][..], &files].concat()).registry_connection(), "mutual TLS with certificates from files");
}

#[test]
fn inc_106_callers_of_the_api_are_named_and_what_is_wrong_with_them_shows_no_token() {
    let token = ("HTTP_API_TOKEN", "ops=hunter2-0123456789, spiffe://a/b=hunter2+/0123456789==");
    let config = read([token, ("HTTP_API_ALLOW", "ops=*, spiffe://a/b=cancel|status")]).expect("valid");
    assert!(config.http_api.authenticated && config.warnings.is_empty(), "{:?}", config.warnings);
    let tokens = config.http_api.tokens.as_ref().expect("tokens").read().expect("readable");
    let identities: Vec<_> = tokens.iter().map(|(identity, token)| (identity.as_str(), token.expose())).collect();
    assert_eq!(identities, [("ops", "hunter2-0123456789"), ("spiffe://a/b", "hunter2+/0123456789==")]);
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for (settings, expected) in [
        (&[("HTTP_API_TOKEN", "hunter2hunter2hunter2")][..], "HTTP_API_TOKEN: entry 1: expected identity=token"),
        (&[("HTTP_API_TOKEN", "a=0123456789abcdef,b=hunter2")], "entry 2: its token must have at least 16"),
        (&[("HTTP_API_TOKEN", "hunter2hunter2hunter2==")], "entry 1: its token must"),
        (&[("HTTP_API_TOKEN", "a=hunter2 hunter2 hunter2")], "entry 1: its token must have"),
        (&[("HTTP_API_TOKEN", "a b=hunter2hunter2hunter2")], "entry 1: an identity is"),
        (&[token, ("HTTP_API_TOKEN_FILE", FILE)], "HTTP_API_TOKEN and HTTP_API_TOKEN_FILE are both set"),
        (&[("HTTP_API_TOKEN_FILE", "/no/such")], "HTTP_API_TOKEN_FILE: /no/such"),
        (&[("HTTP_API_ALLOW", "ops")], "HTTP_API_ALLOW: \"ops\": expected identity=verb"),
        (&[("HTTP_API_ALLOW", "ops=cancel|dance")], "\"dance\" is no verb of the API (known: status, read"),
        (&[("HTTP_API_AUTH", "false")], "HTTP_API_AUTH=false lets anyone in reach cancel tickets"),
        (&[("HTTP_API_AUTH", "false"), ("ENVIRONMENT", "staging")], "which is \"staging\""),
        (&[("HTTP_API_RATE", "0")], "HTTP_API_RATE=0"),
    ] {
        let text = errors(settings);
        assert!(
            text.contains(expected) && !text.contains("hunter2"),
            "{settings:?}: {expected:?} is missing in {text:?}"
        );
    }
    for settings in [&[token][..], &[token, ("HTTP_API_AUTH", "false"), ("ENVIRONMENT", "development")]] {
        let mut source = MapSource::default();
        for (name, value) in settings {
            source.set(name, *value, Origin::Environment);
        }
        let warnings = Config::read(&source).expect("valid").warnings;
        assert!(warnings.iter().any(|warning| warning.starts_with("HTTP_API_TOKEN has no effect")), "{warnings:?}");
    }
}

#[test]
fn inc_87_spans_go_to_a_collector_of_the_cluster_in_plaintext_and_elsewhere_with_tls() {
    let collector = |name: &str, url: &str, environment: &str| {
        read([(name, url), ("ENVIRONMENT", environment)]).map(|config| (config.tracing.collector, config.warnings))
    };
    for near in [
        "http://otel-collector:4317",
        "http://localhost:4317",
        "http://127.0.0.1:4317/",
        "http://opentelemetry-collector.observability.svc.cluster.local:4317",
        "http://10.1.2.3:4317",
        "http://[fd00::1]:4317",
        "https://collector.example.com",
    ] {
        for name in ["OTEL_EXPORTER_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            let (collector, warnings) = collector(name, near, "production").expect(near);
            assert_eq!(collector.expect("a collector").url, near);
            assert!(warnings.is_empty(), "{near}: {warnings:?}");
        }
    }
    let far = "http://collector.example.com:4317";
    for environment in ["production", "staging"] {
        let error = collector("OTEL_EXPORTER_ENDPOINT", far, environment).expect_err(far).to_string();
        assert!(error.contains("OTEL_EXPORTER_ENDPOINT") && error.contains("use https"), "{error}");
    }
    let (_, warnings) = collector("OTEL_EXPORTER_ENDPOINT", far, "development").expect(far);
    assert!(warnings[0].contains("plaintext"), "{warnings:?}");

    let both = read([("OTEL_EXPORTER_ENDPOINT", "http://a:1"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:2")]);
    assert_eq!(both.expect("valid").tracing.collector.expect("a collector").url, "http://b:2");
    assert!(read([]).expect("defaults").tracing.collector.is_none());
}

#[test]
fn settings_of_tracing_are_opentelemetrys() {
    let tracing = read([]).expect("defaults").tracing;
    assert_eq!(tracing.sampling, Sampling { parent_based: true, ratio: 1.0 });
    assert_eq!((tracing.queue, tracing.delay), (2048, std::time::Duration::from_secs(5)));
    for (sampler, parent_based, ratio) in [
        ("always_on", false, 1.0),
        ("always_off", false, 0.0),
        ("traceidratio", false, 0.25),
        ("parentbased_always_off", true, 0.0),
        ("parentbased_traceidratio", true, 0.25),
    ] {
        let tracing = read([("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", "0.25")]).expect(sampler);
        assert_eq!(tracing.tracing.sampling, Sampling { parent_based, ratio }, "{sampler}");
    }
    for (settings, expected) in [
        (&[("OTEL_TRACES_SAMPLER", "sometimes")][..], "OTEL_TRACES_SAMPLER=\"sometimes\": expected one of always_on"),
        (&[("OTEL_TRACES_SAMPLER_ARG", "2")], "OTEL_TRACES_SAMPLER_ARG=2: expected a fraction"),
        (&[("OTEL_EXPORTER_ENDPOINT", "otel-collector:4317")], "OTEL_EXPORTER_ENDPOINT=\"otel-collector:4317\""),
        (&[("OTEL_EXPORTER_ENDPOINT", "http://a:4318/v1/traces")], "OTLP over gRPC has no path"),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], "only grpc is spoken"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "0")], "OTEL_EXPORTER_OTLP_TIMEOUT=0"),
        (&[("OTEL_BSP_MAX_QUEUE_SIZE", "0")], "OTEL_BSP_MAX_QUEUE_SIZE=0"),
        (&[("OTEL_BSP_SCHEDULE_DELAY", "soon")], "OTEL_BSP_SCHEDULE_DELAY=\"soon\""),
        (&[("OTEL_RESOURCE_ATTRIBUTES", "team=a,nothing")], "OTEL_RESOURCE_ATTRIBUTES: entry 2 is no key=value pair"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2")], "OTEL_EXPORTER_OTLP_HEADERS: entry 2 is no header"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,,c d=hunter2")], "entry 3 is no header"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%FF")], "entry 1 is no header"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0A")], "entry 1 is no header"),
        (&[("OTEL_TLS_VERIFY", "false")], "OTEL_TLS_VERIFY=false"),
        (&[("OTEL_CA_BUNDLE", "/no/such")], "OTEL_CA_BUNDLE=\"/no/such\""),
        (&[("OTEL_CA_BUNDLE", FILE)], "holds no PEM certificate"),
    ] {
        let text = errors(settings);
        assert!(text.contains(expected), "{settings:?}: {expected:?} is missing in {text:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn inc_54_inc_72_nothing_takes_over_and_nothing_is_simulated_unless_the_settings_say_so() {
    let simulation = |text: &str| text == "simulation";
    for (settings, unconfigured, configured) in [
        (&[][..], &[][..], &[][..]),
        (&[("ENVIRONMENT", "staging")], &[], &[]),
        (&[("ENVIRONMENT", "Production-eu")], &[], &[]),
        (&[("ENVIRONMENT", "development")], &["simulation"], &[]),
        (&[("RUNTIME_FALLBACK_CHAIN", "docker,local")], &["docker", "local"], &["docker", "local"]),
        // It takes over when it may, not because it stands there.
        (&[("RUNTIME_FALLBACK_CHAIN", "docker,simulation,local")], &["docker", "local"], &["docker", "local"]),
        (
            &[("SIMULATION_FALLBACK", "always")],
            &["k8s", "docker", "local", "simulation"],
            &["k8s", "docker", "local", "simulation"],
        ),
        (
            &[("SIMULATION_FALLBACK", "always"), ("RUNTIME_FALLBACK_CHAIN", "local")],
            &["local", "simulation"],
            &["local", "simulation"],
        ),
    ] {
        let config = of(settings);
        assert_eq!(config.runtimes.fallbacks(false), unconfigured, "{settings:?}");
        assert_eq!(config.runtimes.fallbacks(true), configured, "{settings:?}");
        let warned = config.warnings.iter().any(|warning| warning.contains("reported COMPLETED"));
        assert_eq!(warned, configured.iter().any(|name| simulation(name)), "{settings:?}: {:?}", config.warnings);
    }
    assert!(errors(&[("RUNTIME_FALLBACK_CHAIN", "local,podman")]).contains("\"podman\" is no runtime"));
    assert!(errors(&[("RUNTIME_FALLBACK_CHAIN", "local,k8s,local")]).contains("twice"));
    assert!(errors(&[("SIMULATION_FALLBACK", "sometimes")]).contains("SIMULATION_FALLBACK"));
    assert!(errors(&[("DEFAULT_RUNTIME", "dokcer")]).contains("\"dokcer\" is no runtime"));
    assert_eq!(of(&[("DEFAULT_RUNTIME", "Docker")]).runtimes.default, "docker");
}

#[test]
fn inc_75_commands_are_confined_unless_that_is_switched_off_which_is_told() {
    let sandbox = read([]).expect("defaults").local.sandbox.expect("on");
    assert_eq!((sandbox.network, sandbox.cgroups), (Network::None, true));
    assert_eq!((sandbox.limits.memory, sandbox.limits.file, sandbox.limits.folder), (2 << 30, 1 << 30, 4 << 30));
    assert_eq!((sandbox.limits.processes, sandbox.limits.open_files), (256, 1024));
    let set = read([
        ("LOCAL_RUNTIME_NETWORK", "host"),
        ("LOCAL_RUNTIME_READABLE_PATHS", "/opt/a, /srv/b"),
        ("LOCAL_RUNTIME_MEMORY_LIMIT_MB", "16"),
        ("LOCAL_RUNTIME_CGROUPS", "false"),
    ]);
    let set = set.expect("valid").local.sandbox.expect("on");
    assert_eq!((set.network, set.cgroups, set.limits.memory), (Network::Host, false, 16 << 20));
    assert_eq!(set.readable, ["/opt/a", "/srv/b"].map(std::path::PathBuf::from));
    let off = read([("LOCAL_RUNTIME_ENABLE_SANDBOX", "false")]).expect("valid");
    assert!(off.local.sandbox.is_none() && !off.local.allow_list);
    assert!(
        off.warnings.iter().any(|warning| warning.contains("commands of tickets run unconfined")),
        "{:?}",
        off.warnings
    );
}

#[test]
fn a_sandbox_that_cannot_work_or_keeps_nothing_apart_is_refused() {
    let wrong = [
        ("LOCAL_RUNTIME_NETWORK", "bridge"),
        ("LOCAL_RUNTIME_MEMORY_LIMIT_MB", "15"),
        ("LOCAL_RUNTIME_MAX_PROCESSES", "0"),
        ("LOCAL_RUNTIME_MAX_FILE_SIZE_MB", "99999999999"),
        ("LOCAL_RUNTIME_MAX_FOLDER_SIZE_MB", "much"),
        ("LOCAL_RUNTIME_MAX_OPEN_FILES", "1"),
        ("LOCAL_RUNTIME_CGROUPS", "perhaps"),
    ];
    let text = errors(&wrong);
    for (name, value) in wrong {
        assert!(
            text.contains(&format!("{name}={value}")) || text.contains(&format!("{name}={value:?}")),
            "{name}: {text}"
        );
    }
    assert!(text.contains("a whole number from 16 to"), "{text}");
    for path in ["/", "/tmp", "/tmp/neural-hive-execution", "/tmp/neural-hive-execution/a", "relative"] {
        assert!(errors(&[("LOCAL_RUNTIME_READABLE_PATHS", path)]).contains("LOCAL_RUNTIME_READABLE_PATHS"), "{path}");
    }
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    std::fs::create_dir(path("work")).expect("folder");
    std::os::unix::fs::symlink(path("work"), path("link")).expect("link");
    for (working_dir, shown) in [("work", "link"), ("link/a", "work"), ("work", "work/tools"), ("tools/work", "tools")]
    {
        for name in ["LOCAL_RUNTIME_READABLE_PATHS", "LOCAL_RUNTIME_PATH"] {
            let text = errors(&[("LOCAL_RUNTIME_WORKING_DIR", &path(working_dir)), (name, &path(shown))]);
            assert!(text.contains(name), "{name} {working_dir} {shown}: {text}");
        }
    }
}

#[test]
fn a_stopped_command_has_at_most_as_long_as_the_server_waits_for_its_attempt() {
    const NAME: &str = "LOCAL_RUNTIME_KILL_GRACE_SECONDS";
    assert_eq!(read([(NAME, "17")]).expect("the most").local.grace.as_secs(), 17);
    for wrong in ["17.1", "25"] {
        let text = errors(&[(NAME, wrong)]);
        assert!(text.contains(NAME) && text.contains("at most 17"), "{text}");
    }
}

#[test]
fn the_ticket_services_grpc_address_is_a_host_and_a_port() {
    const NAME: &str = "EXECUTION_TICKET_SERVICE_GRPC_ADDRESS";
    for good in
        ["execution-ticket-service:50052", "127.0.0.1:50052", "[::1]:80", "ets.neural-hive.svc.cluster.local:80"]
    {
        let config = read([(NAME, good)]).expect(good);
        assert_eq!(config.ticket_service.grpc_address.as_deref(), Some(good));
        assert!(config.warnings.is_empty(), "{good}: {:?}", config.warnings);
        assert!(config.bridge.policy.reporting.expect("a policy").unknown_after_ms.is_some(), "statuses are reported");
    }
    for wrong in ["ets", "ets:", "ets:0", "http://ets:50052", "ets:50052/path", "user@ets:50052", ":50052"] {
        assert!(errors(&[(NAME, wrong)]).contains(NAME), "{wrong}");
    }
    let far = read([(NAME, "ets.example.com:50052")]).expect("valid");
    assert!(far.warnings[0].contains("plaintext"), "{:?}", far.warnings);
}

#[test]
fn inc_72_inc_74_the_docker_runtime_is_off_and_closed_unless_settings_say_otherwise() {
    assert!(read([]).expect("defaults").docker.is_none());
    let config = read([("DOCKER_ENABLED", "true")]).expect("defaults");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let docker = config.docker.expect("on");
    assert_eq!(docker.address, "unix:///var/run/docker.sock");
    assert_eq!((docker.network_mode.as_str(), docker.user.as_str()), ("none", "65534:65534"));
    assert_eq!(docker.allowed_networks, ["none", "bridge"]);
    assert_eq!((docker.cpu_limit, docker.memory_limit, docker.pids_limit), (1.0, 512 << 20, 256));
    assert_eq!((docker.timeout.as_secs(), docker.grace.as_secs()), (600, 10));
    assert!(docker.clean_up && docker.registry.is_none());
    let opened =
        read([("DOCKER_ENABLED", "true"), ("DOCKER_ALLOWED_NETWORK_MODES", "none,host"), ("DOCKER_USER", "0:0")])
            .expect("allowed");
    let warnings = opened.warnings.join("\n");
    assert!(warnings.contains("host") && warnings.contains("run as root"), "{warnings}");
}

#[test]
fn docker_settings_that_cannot_be_right_are_refused_all_at_once() {
    let errors = errors(&[
        ("DOCKER_ENABLED", "true"),
        ("DOCKER_BASE_URL", "https://docker:2376"),
        ("DOCKER_DEFAULT_MEMORY_LIMIT", "lots"),
        ("DOCKER_DEFAULT_CPU_LIMIT", "0"),
        ("DOCKER_ALLOWED_NETWORK_MODES", "container:abc"),
        ("DOCKER_PULL_POLICY", "sometimes"),
        ("DOCKER_REGISTRY_USERNAME", "user"),
        ("DOCKER_STOP_GRACE_SECONDS", "60"),
    ]);
    for name in [
        "DOCKER_BASE_URL",
        "DOCKER_DEFAULT_MEMORY_LIMIT",
        "DOCKER_DEFAULT_CPU_LIMIT",
        "container:abc",
        "DOCKER_PULL_POLICY",
        "DOCKER_REGISTRY_PASSWORD",
        "DOCKER_STOP_GRACE_SECONDS",
    ] {
        assert!(errors.contains(name), "{name}: {errors}");
    }
}

#[test]
fn inc_103_code_forge_is_used_where_it_is_named_and_not_switched_off() {
    const URL: (&str, &str) = ("CODE_FORGE_URL", "http://code-forge.neural-hive-execution:8000");
    assert!(read([]).expect("defaults").code_forge.is_none(), "the platform's sources disagree about the address");
    assert!(of(&[URL, ("CODE_FORGE_ENABLED", "false")]).code_forge.is_none());
    assert!(errors(&[("CODE_FORGE_ENABLED", "true")]).contains("set CODE_FORGE_URL"), "nothing is off in silence");
    let config = of(&[URL]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let forge = config.code_forge.expect("on");
    assert_eq!(forge.url, URL.1);
    assert_eq!((forge.generation_timeout.as_secs(), forge.poll_interval.as_secs()), (1800, 5));
    for (name, value) in [
        ("CODE_FORGE_URL", "code-forge:8000"),
        ("CODE_FORGE_URL", "http://user:hunter2@code-forge"),
        ("CODE_FORGE_ENABLED", "perhaps"),
        ("CODE_FORGE_GENERATION_TIMEOUT_SECONDS", "0"),
        ("CODE_FORGE_POLL_INTERVAL_SECONDS", "often"),
        ("CODE_FORGE_POLL_INTERVAL_SECONDS", "0"),
        ("CODE_FORGE_POLL_INTERVAL_SECONDS", "61"),
    ] {
        let text = errors(&[(name, value)]);
        assert!(text.contains(name) && !text.contains("hunter2"), "{value}: {text}");
    }
}

#[test]
fn the_lambda_runtime_is_off_unless_settings_say_otherwise() {
    const ON: (&str, &str) = ("LAMBDA_ENABLED", "true");
    assert!(read([]).expect("defaults").lambda.is_none());
    let config = of(&[ON]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let lambda = config.lambda.expect("on");
    assert_eq!((lambda.region.as_str(), lambda.function.as_str()), ("us-east-1", "neural-hive-executor"));
    assert!(lambda.timeout.as_secs() == 900 && lambda.keys.is_none() && lambda.endpoint.is_none());
    let config = of(&[ON, ("LAMBDA_TIMEOUT_SECONDS", "1200")]);
    assert!(config.warnings[0].contains("LAMBDA_TIMEOUT_SECONDS=1200"), "{:?}", config.warnings);
    assert_eq!(config.lambda.expect("on").timeout.as_secs(), 900, "no function runs longer");
    for (name, value) in [
        ("LAMBDA_REGION", "us-east-1.example.org/"),
        ("LAMBDA_FUNCTION_NAME", "../other"),
        ("LAMBDA_FUNCTION_NAME", "arn:aws:lambda:eu-central-1:123456789012:function:f"),
        ("LAMBDA_ALLOWED_FUNCTIONS", "f:7"),
        ("LAMBDA_ALLOWED_FUNCTIONS", "*-executor"),
        ("LAMBDA_ENDPOINT_URL", "lambda:4566"),
        ("LAMBDA_ENDPOINT_URL", "http://user:hunter2@lambda"),
        ("LAMBDA_TIMEOUT_SECONDS", "0"),
        ("LAMBDA_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("LAMBDA_SECRET_KEY", "hunter2"),
        ("LAMBDA_CA_BUNDLE", "/no/such"),
        ("LAMBDA_RATE_PER_SECOND", "many"),
    ] {
        let text = errors(&[(name, value)]);
        assert!(text.contains(name) && !text.contains("hunter2"), "{value}: {text}");
    }
}

#[test]
fn inc_77_tickets_may_name_the_settings_function_and_those_that_are_listed() {
    const ON: (&str, &str) = ("LAMBDA_ENABLED", "true");
    let allowed = |settings: &[(&str, &str)]| {
        let settings: Vec<_> = [ON].into_iter().chain(settings.iter().copied()).collect();
        let allowed = of(&settings).lambda.expect("on").allowed;
        allowed.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(allowed(&[]), ["neural-hive-executor"]);
    assert_eq!(allowed(&[("LAMBDA_FUNCTION_NAME", "own:live")]), ["own"], "in whichever version");
    let listed = "build-*, 123456789012:function:shared";
    assert_eq!(allowed(&[("LAMBDA_ALLOWED_FUNCTIONS", listed)]), ["build-*", "123456789012:function:shared"]);
}

#[test]
fn invocations_that_cross_the_network_in_plaintext_are_warned_about() {
    const ON: (&str, &str) = ("LAMBDA_ENABLED", "true");
    for (url, warned) in [
        ("http://lambda.example.org", true),
        ("http://10.0.0.7:4566", true),
        ("https://lambda.example.org", false),
        ("http://localhost:4566", false),
        ("http://localstack:4566", false),
    ] {
        let config = of(&[ON, ("LAMBDA_ENDPOINT_URL", url)]);
        let warnings = config.warnings.join("\n");
        assert_eq!(
            warnings.contains("LAMBDA_ENDPOINT_URL") && warnings.contains("plaintext"),
            warned,
            "{url}: {warnings}"
        );
    }
}

#[test]
fn endpoints_are_spared_unless_settings_say_otherwise() {
    let usual = read([]).expect("defaults").endpoints.of("docker");
    assert_eq!(usual, EndpointLimits::default());
    let config = read([
        ("CIRCUIT_BREAKER_FAULTS", "3"),
        ("CIRCUIT_BREAKER_OPEN_SECONDS", "1.5"),
        ("DOCKER_RATE_PER_SECOND", "7"),
    ])
    .expect("settings");
    let docker = config.endpoints.of("docker");
    assert_eq!((docker.faults_to_open, docker.rate), (NonZeroU32::new(3), NonZeroU32::new(7)));
    assert_eq!(docker.pause.as_millis(), 1_500);
    assert_eq!(config.endpoints.of("code_forge").rate, usual.rate, "the rate is Docker's alone");
    let forge = read([("CODE_FORGE_RATE_PER_SECOND", "3")]).expect("settings").endpoints;
    assert_eq!((forge.of("code_forge").rate, forge.of("docker").rate), (NonZeroU32::new(3), usual.rate));
    let jobs = read([("K8S_JOBS_RATE_PER_SECOND", "9")]).expect("settings").endpoints;
    assert_eq!((jobs.of("k8s").rate, jobs.of("docker").rate), (NonZeroU32::new(9), usual.rate));
    let off = read([("CIRCUIT_BREAKER_FAULTS", "0"), ("DOCKER_RATE_PER_SECOND", "0")]).expect("settings");
    let docker = off.endpoints.of("docker");
    assert_eq!((docker.faults_to_open, docker.rate), (None, None));

    let wrong = [
        ("CIRCUIT_BREAKER_FAULTS", "-1"),
        ("CIRCUIT_BREAKER_OPEN_SECONDS", "1e12"),
        ("DOCKER_RATE_PER_SECOND", "1e9"),
        ("CODE_FORGE_RATE_PER_SECOND", "many"),
    ];
    let errors = errors(&wrong);
    for (name, _) in wrong {
        assert!(errors.contains(name), "{name}: {errors}");
    }
}

#[test]
fn providers_of_external_work_are_those_that_are_on_and_in_this_build() {
    assert!(of(&[]).external_providers().is_empty());
    let on = of(&[
        ("DOCKER_ENABLED", "true"),
        ("K8S_JOBS_ENABLED", "true"),
        ("CODE_FORGE_URL", "http://code-forge"),
        ("LAMBDA_ENABLED", "true"),
    ])
    .external_providers();
    assert_eq!(on.contains(&"docker"), cfg!(feature = "docker"));
    assert_eq!(on.contains(&"k8s"), cfg!(feature = "kubernetes"));
    assert_eq!(on.contains(&"lambda"), cfg!(feature = "lambda"));
    assert!(on.contains(&"code_forge"));
}

#[test]
fn inc_72_inc_73_the_kubernetes_runtime_is_off_and_has_the_contracts_defaults() {
    assert!(read([]).expect("defaults").kubernetes.is_none());
    let config = read([("K8S_JOBS_ENABLED", "true")]).expect("defaults");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let kubernetes = config.kubernetes.expect("on");
    assert_eq!((kubernetes.namespace.as_str(), kubernetes.kubeconfig), ("neural-hive-execution", None));
    assert_eq!((kubernetes.cpu.request.as_str(), kubernetes.cpu.limit.as_str()), ("100m", "1000m"));
    assert_eq!((kubernetes.memory.request.as_str(), kubernetes.memory.limit.as_str()), ("128Mi", "512Mi"));
    assert_eq!(kubernetes.service_account, "worker-agent-executor");
    assert!(
        kubernetes.clean_up
            && kubernetes.trial
            && kubernetes.allowed_service_accounts.is_empty()
            && kubernetes.pull_secret.is_none()
    );
    assert_eq!((kubernetes.timeout.as_secs(), kubernetes.poll_interval.as_secs()), (600, 5));
    assert_eq!((kubernetes.ttl.as_secs(), kubernetes.grace.as_secs()), (86_400, 10));
}

#[test]
fn kubernetes_settings_that_cannot_be_right_are_refused_all_at_once() {
    let errors = errors(&[
        ("K8S_JOBS_ENABLED", "true"),
        ("K8S_JOBS_NAMESPACE", "../kube-system"),
        ("K8S_JOBS_DEFAULT_CPU_REQUEST", "2"),
        ("K8S_JOBS_DEFAULT_MEMORY_LIMIT", "512m"),
        ("K8S_JOBS_SERVICE_ACCOUNT", "Not A Name"),
        ("K8S_JOBS_SCRATCH_SIZE", "lots"),
        ("K8S_JOBS_IMAGE_PULL_POLICY", "sometimes"),
        ("K8S_JOBS_STOP_GRACE_SECONDS", "60"),
        ("K8S_JOBS_TTL_SECONDS", "299"),
    ]);
    for name in [
        "K8S_JOBS_NAMESPACE",
        "K8S_JOBS_DEFAULT_CPU_REQUEST=2 is above",
        "K8S_JOBS_DEFAULT_MEMORY_LIMIT",
        "Not A Name",
        "K8S_JOBS_SCRATCH_SIZE",
        "K8S_JOBS_IMAGE_PULL_POLICY",
        "K8S_JOBS_STOP_GRACE_SECONDS",
        "K8S_JOBS_TTL_SECONDS",
    ] {
        assert!(errors.contains(name), "{name}: {errors}");
    }
}
