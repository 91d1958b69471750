//! As whom the store is asked: keys that cannot be sent or read, and credentials that cannot be renewed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error};

use super::super::lasting::Lasting;
use super::*;
use crate::config::{S3Config, S3Keys, S3Login, Secret, SecretSource};

/// Why no log is opened as whom this says.
async fn refusal(login: S3Login) -> String {
    let config = S3Config { login, ..config("http://127.0.0.1:1".to_owned()) };
    let sink = ObjectSink::of(&config, 1000).expect("a client");
    sink.open(name("t")).await.err().expect("an error").to_string()
}

#[tokio::test]
async fn a_key_that_no_header_may_have_is_refused_by_its_setting_and_not_shown() {
    let source = |setting, text: &str| SecretSource::of_text(setting, Secret::new(text));
    for (id, session, setting) in [
        ("AKIA\nhunter2", "session", "AWS_ACCESS_KEY_ID"),
        ("AKIAé", "session", "AWS_ACCESS_KEY_ID"),
        ("AKIA", "hunter2\u{1b}", "AWS_SESSION_TOKEN"),
        ("AKIA", "two words", "AWS_SESSION_TOKEN"),
    ] {
        let keys = S3Keys {
            id: source("AWS_ACCESS_KEY_ID", id),
            secret: source("AWS_SECRET_ACCESS_KEY", "any\nsecret"),
            session: Some(source("AWS_SESSION_TOKEN", session)),
        };
        let error = refusal(S3Login::Keys(Box::new(keys))).await;
        assert!(error.contains(&format!("{setting}: expected printable ASCII")), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("two words"), "{error}");
    }
}

#[tokio::test]
async fn a_token_of_a_pod_that_no_header_may_have_ends_no_task() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "hunter2\n").expect("written");
    let token_file = file.path().to_str().expect("text").to_owned();
    let error = refusal(S3Login::PodAgent { url: "http://127.0.0.1:1/".to_owned(), token_file }).await;
    assert!(error.contains("the token that it is shown") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_file_of_a_key_that_does_not_answer_holds_up_its_log_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let keys = S3Keys {
        id: SecretSource::of_file("AWS_ACCESS_KEY_ID_FILE", path),
        secret: SecretSource::of_text("AWS_SECRET_ACCESS_KEY", Secret::new("secret")),
        session: None,
    };
    let began = Instant::now();
    let error = refusal(S3Login::Keys(Box::new(keys))).await;
    assert!(error.contains("the file system has not answered"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn whoever_has_no_key_to_give_is_not_taken_for_the_store() {
    let (url, _serving) =
        serve(Router::new().fallback(async || (StatusCode::NOT_FOUND, "<html>Not Found</html>"))).await;
    let token = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(token.path(), "a-token").expect("written");
    let token_file = token.path().to_str().expect("text").to_owned();
    let error = refusal(S3Login::PodAgent { url: url.clone(), token_file }).await;
    let said = format!("{} gives no reason; set AWS_ACCESS_KEY_ID", url.trim_start_matches("http://"));
    assert!(error.contains("no access key was to be had") && error.contains("404") && error.contains(&said), "{error}");
}

/// Gives keys, or does something else.
#[derive(Debug)]
enum Given {
    Key(&'static str),
    /// After a second.
    Late(&'static str),
    Fails,
}

#[derive(Debug)]
struct Source {
    given: Mutex<VecDeque<Given>>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl CredentialProvider for Source {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let given = self.given.lock().expect("no test panics with it").pop_front();
        let key = |id: &str| {
            Ok(Arc::new(AwsCredential { key_id: id.to_owned(), secret_key: "secret".to_owned(), token: None }))
        };
        match given.expect("it is not asked again") {
            Given::Key(id) => key(id),
            Given::Late(id) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                key(id)
            }
            Given::Fails => Err(Error::Generic { store: "S3", source: "STS is away".into() }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_key_is_used_while_the_next_one_cannot_be_had() {
    let asked = Arc::<AtomicUsize>::default();
    let given = [
        Given::Fails,
        Given::Key("a"),
        Given::Fails,
        Given::Key("no header\n"),
        Given::Key("b"),
        Given::Late("c"),
        Given::Key("d"),
        Given::Late("e"),
        Given::Fails,
    ];
    let source = Source { given: Mutex::new(given.into()), asked: Arc::clone(&asked) };
    let lasting = Lasting::new(Arc::new(source));
    let error = lasting.get_credential().await.expect_err("there was none yet").to_string();
    assert!(error.contains("STS is away"), "{error}");
    for (pause, id, longest) in [
        (0, "a", 0),
        (0, "a", 0),
        (0, "a", 0),
        (0, "b", 0),
        (0, "b", 500),
        // What has not answered for so long is not waited for again.
        (100, "b", 0),
        // What it answers when nobody waits is not taken for what there is hours later.
        (7_200_000, "d", 0),
        (0, "d", 500),
        (7_200_000, "e", 0),
    ] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let began = tokio::time::Instant::now();
        assert_eq!(lasting.get_credential().await.expect("a key").key_id, id);
        assert_eq!(began.elapsed(), Duration::from_millis(longest), "{id}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 9, "one question at a time");
}
