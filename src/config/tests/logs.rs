//! Where logs go: a folder, or a bucket and what AWS's settings say of it.

use super::*;

fn folder(logs: &LogsConfig) -> Option<&Path> {
    match &logs.place {
        Some(LogPlace::Folder(folder)) => Some(folder),
        _ => None,
    }
}

#[test]
fn logs_are_kept_nowhere_unless_a_folder_is_named_that_commands_cannot_write() {
    let logs = read([]).expect("defaults").logs;
    assert!(logs.place.is_none() && logs.max_bytes == 256 << 20);
    let logs = read([("EXECUTION_LOG_SINK", "file:///var/log/worker%20agents"), ("EXECUTION_LOG_MAX_MB", "1")]);
    let logs = logs.expect("a folder").logs;
    assert_eq!((folder(&logs), logs.max_bytes), (Some("/var/log/worker agents".as_ref()), 1 << 20));
    for wrong in [
        "/var/log",
        "logs",
        "http://bucket/logs",
        "file:///",
        "file://",
        "file://elsewhere/logs",
        "file:///logs?a=b",
        "file:///tmp/neural-hive-execution/logs",
        "file:///tmp",
    ] {
        let text = errors(&[("EXECUTION_LOG_SINK", wrong)]);
        assert!(text.contains("EXECUTION_LOG_SINK"), "{wrong}: {text}");
    }
    assert!(errors(&[("EXECUTION_LOG_MAX_MB", "0")]).contains("EXECUTION_LOG_MAX_MB"));
}

const BUCKET: (&str, &str) = ("EXECUTION_LOG_SINK", "s3://logs.of-workers/a/b=1/");

/// The bucket that these settings name, and what is odd about them.
fn bucket(settings: &[(&str, &str)]) -> (S3Config, Vec<String>) {
    let config = of(&[&[BUCKET][..], settings].concat());
    match config.logs.place {
        Some(LogPlace::Bucket(bucket)) => (*bucket, config.warnings),
        other => panic!("{other:?}"),
    }
}

#[test]
fn logs_go_to_a_bucket_that_is_reached_as_awss_own_settings_say() {
    let (usual, warnings) = bucket(&[]);
    assert_eq!((usual.bucket.as_str(), usual.prefix.as_str()), ("logs.of-workers", "a/b=1"));
    assert_eq!((usual.region.as_str(), usual.endpoint), ("us-east-1", None));
    assert!(matches!(usual.login, S3Login::Machine) && warnings.is_empty(), "{warnings:?}");
    let (other, warnings) = bucket(&[
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", "http://store"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2"),
    ]);
    assert_eq!((other.region.as_str(), other.endpoint.as_deref()), ("eu-west-1", Some("http://store")));
    assert!(
        matches!(&other.login, S3Login::Keys(keys) if keys.session.is_none()) && warnings.is_empty(),
        "{warnings:?}"
    );
    let (nearer, warnings) = bucket(&[
        ("AWS_REGION", "eu-central-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_S3", "http://store.example.org"),
        ("AWS_ENDPOINT_URL", "http://store"),
    ]);
    assert_eq!(
        (nearer.region.as_str(), nearer.endpoint.as_deref()),
        ("eu-central-1", Some("http://store.example.org"))
    );
    assert!(warnings.iter().any(|warning| warning.contains("unencrypted")), "{warnings:?}");
    assert!(matches!(bucket(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2")]).0.login, S3Login::ContainerAgent(_)));
}

#[test]
fn a_bucket_that_cannot_be_used_is_an_error_where_logs_go_to_it_and_nowhere_else() {
    let long = format!("s3://bucket/{}", "x".repeat(257));
    for wrong in [
        "s3:bucket",
        "s3://",
        "s3:///logs",
        "s3://B/logs",
        "s3://Bucket/logs",
        "s3://user:hunter2@bucket/logs",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://bucket/a b",
        "s3://bucket/logs?a=b",
        "s3://-bucket",
        &long,
    ] {
        let text = errors(&[("EXECUTION_LOG_SINK", wrong)]);
        assert!(text.contains("expected s3://bucket/prefix"), "{wrong}: {text}");
    }
    for (name, value) in [
        ("AWS_REGION", "us-east-1.example.org/"),
        ("AWS_DEFAULT_REGION", "us-east-1.example.org/"),
        ("AWS_ENDPOINT_URL_S3", "store:9000"),
        ("AWS_ENDPOINT_URL_S3", "http:/store:9000"),
        ("AWS_ENDPOINT_URL_S3", "https:///store"),
        ("AWS_ENDPOINT_URL_S3", "https://store/<tenant>"),
        ("AWS_ENDPOINT_URL_S3", "https://store/?tenant=1"),
        ("AWS_ENDPOINT_URL_S3", "https://store/#tenant"),
        ("AWS_ENDPOINT_URL", "https://store:hunter2@store"),
        ("AWS_ENDPOINT_URL", "https://store/a b"),
        ("AWS_CA_BUNDLE", "/no/such"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter2"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", FILE),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "v2"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/a b"),
    ] {
        let text = errors(&[BUCKET, (name, value)]);
        assert!(text.contains(name) && !text.contains("hunter2"), "{name}: {text}");
        // They may be there for other programs.
        of(&[(name, value)]);
    }
    let no_token = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
    assert!(errors(&[BUCKET, no_token[0], no_token[1]]).contains("AWS_WEB_IDENTITY_TOKEN_FILE=\"/no/such\""));
    of(&no_token);
}

#[test]
fn a_region_is_looked_at_where_it_is_a_part_of_a_hosts_name() {
    let (region, store) = (("AWS_DEFAULT_REGION", "garage.eu_1"), ("AWS_ENDPOINT_URL_S3", "https://store.example.org"));
    assert_eq!(bucket(&[region, store]).0.region, "garage.eu_1");
    let sts = [("AWS_WEB_IDENTITY_TOKEN_FILE", FILE), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
    for wrong in [&[BUCKET, region][..], &[BUCKET, region, store, sts[0], sts[1]]] {
        assert!(errors(wrong).contains("AWS_DEFAULT_REGION=\"garage.eu_1\""), "{wrong:?}");
    }
    assert!(errors(&[BUCKET, store, ("AWS_REGION", "a\nb")]).contains("AWS_REGION"));
}

#[test]
fn credentials_are_asked_for_without_tls_where_awss_own_tools_do_so_and_nowhere_else() {
    const URL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", FILE);
    for good in [
        "http://169.254.170.2/v2/credentials",
        "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
        "http://127.0.0.1:1338/credentials",
        "http://[::1]/credentials",
        "http://localhost/credentials",
        "https://agent.example.org/credentials",
    ] {
        let (bucket, _) = bucket(&[(URL, good), token]);
        assert!(matches!(bucket.login, S3Login::PodAgent { .. }), "{good}");
    }
    for wrong in
        ["http://agent.example.org/", "http://agent/", "http://10.0.0.7/", "http://169.254.169.254/", "ftp://agent/"]
    {
        let text = errors(&[BUCKET, (URL, wrong), token]);
        assert!(text.contains(URL), "{wrong}: {text}");
        of(&[(URL, wrong), token]);
    }
    let missing = errors(&[BUCKET, (URL, "http://127.0.0.1/"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/no/such")]);
    assert!(missing.contains("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=\"/no/such\""), "{missing}");
}

#[test]
fn secrets_of_a_bucket_are_looked_at_where_logs_go_to_one_and_nowhere_else() {
    for (settings, expected) in [
        (&[("AWS_SECRET_ACCESS_KEY_FILE", "/no/such")][..], "AWS_SECRET_ACCESS_KEY_FILE: /no/such"),
        (&[("AWS_SESSION_TOKEN", "a"), ("AWS_SESSION_TOKEN_FILE", FILE)], "AWS_SESSION_TOKEN_FILE are both set"),
        (&[("AWS_ACCESS_KEY_ID_VAULT", "worker/aws#id")], "AWS_ACCESS_KEY_ID_VAULT: "),
    ] {
        let text = errors(&[&[BUCKET][..], settings].concat());
        assert!(text.contains(expected), "{settings:?}: {text}");
        of(settings);
    }
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", FILE);
    assert_eq!(of(&[token]).secrets.len(), of(&[]).secrets.len(), "no file of another program is read");
    let vault = [("VAULT_ENABLED", "true"), ("AWS_SECRET_ACCESS_KEY_VAULT", "worker/aws#secret")];
    assert!(of(&vault).vault.expect("enabled").held.paths().is_empty(), "nothing is asked for");
}

#[test]
fn what_a_worker_shows_to_a_store_is_a_secret_but_its_id_is_not() {
    let token = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(token.path(), "of-a-service-account").expect("written");
    let config = of(&[
        BUCKET,
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "of-a-key-of-aws"),
        ("AWS_SESSION_TOKEN", "of-a-session"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().expect("text")),
    ]);
    let held: Vec<_> = config.secrets.iter().filter_map(|secret| secret.read().ok()).collect();
    for secret in ["of-a-key-of-aws", "of-a-session", "of-a-service-account"] {
        assert!(held.iter().any(|held| held.expose() == secret), "{secret}");
        assert!(!format!("{:?}", config.settings).contains(secret), "{secret}");
    }
    assert!(held.iter().all(|held| held.expose() != "test"), "lines may have the word");
    let id = config.settings.iter().find(|setting| setting.name == "AWS_ACCESS_KEY_ID");
    assert_eq!(id.map(|setting| setting.value.as_str()), Some("test"));
}
