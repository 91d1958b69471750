//! What a writer makes of a store's answers, and of none.

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::logs::objects::store::{Store, told};

#[tokio::test(start_paused = true)]
async fn what_got_no_answer_is_written_again_under_another_name() {
    for then in [Then::Loses, Then::WritesUnheard] {
        let objects = Odd::of(&[Then::Writes, then]);
        let mut log = open(&objects, 1 << 20).await;
        for line in lines(1..=3) {
            tokio::time::sleep(PACE).await;
            assert_eq!(log.writer.append(vec![line]).await, Ok(0), "{then:?}");
        }
        let asked = objects.asked();
        assert_eq!((&asked[0], asked.len()), (&asked[1], 4), "{then:?}");
        assert!(asked[1] != asked[2] && asked[2] == asked[3], "what may still come overwrites nothing: {asked:?}");
        assert_eq!(read(&objects, "t").await, lines(1..=3), "{then:?}");
        assert_eq!(open(&objects, 1 << 20).await.last_seq, 3, "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_hangs_or_loses_everything_is_an_error_in_time_that_says_what_to_do() {
    for (then, asked, expected) in [
        (&[Then::Refuses][..], 1, "AccessDenied; check EXECUTION_LOG_SINK"),
        (&[Then::Loses, Then::Loses], 2, "connection reset; check EXECUTION_LOG_SINK"),
        (&[Then::Hangs], 1, "the store has not answered for 2.8 s; check AWS_ENDPOINT_URL_S3"),
        (&[Then::IsBusy, Then::IsBusy], 2, "429 Too Many Requests: TooManyRequests; check EXECUTION_LOG_SINK"),
    ] {
        let objects = Odd::of(then);
        let mut log = open(&objects, 1 << 20).await;
        let began = tokio::time::Instant::now();
        let error = log.writer.append(lines(1..=1)).await.expect_err("an error").to_string();
        assert!(error.starts_with("s3://bucket/all/logs/ticket-t/run.1/: ") && error.contains(expected), "{error}");
        assert!(began.elapsed() < Duration::from_secs(3), "{then:?}: {:?}", began.elapsed());
        assert_eq!(objects.asked().len(), asked, "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_busy_is_asked_again_under_the_same_name_a_second_later() {
    let objects = Odd::of(&[Then::IsBusy]);
    let mut log = open(&objects, 1 << 20).await;
    let began = tokio::time::Instant::now();
    assert_eq!(log.writer.append(lines(1..=1)).await, Ok(0));
    assert!((1..=2).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let asked = objects.asked();
    assert_eq!((&asked[0], asked.len()), (&asked[1], 2));
    assert_eq!(read(&objects, "t").await, lines(1..=1));
}

/// A store that speaks S3, on a port: it has no objects, and answers those who write with these, and then that it has written. What
/// it does not hear gets no answer.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    async fn answering(answers: &[(u16, &'static str)]) -> Self {
        Self::new(&[], answers).await
    }

    /// Does not hear the first requests of these methods.
    async fn deaf(methods: &[&'static str]) -> Self {
        Self::new(methods, &[]).await
    }

    async fn new(deaf: &[&'static str], answers: &[(u16, &'static str)]) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let deaf = Arc::new(Mutex::new(deaf.to_vec()));
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let heard = Arc::clone(&asked);
        let answer = move |request: Request| async move {
            let writes = request.method() == "PUT";
            if writes {
                heard.lock().expect("no test panics with it").push(request.uri().path().to_owned());
            }
            let unheard = deaf.lock().expect("no test panics with it").pop_if(|method| request.method() == *method);
            if unheard.is_some() {
                std::future::pending::<()>().await;
            }
            if !writes {
                return "<ListBucketResult></ListBucketResult>".into_response();
            }
            match answers.lock().expect("no test panics with it").pop_front() {
                Some((status, body)) => (StatusCode::from_u16(status).expect("a status"), body).into_response(),
                None => [(header::ETAG, "\"x\"")].into_response(),
            }
        };
        let (url, serving) = serve(Router::new().fallback(answer)).await;
        Self { url, asked, _serving: serving }
    }

    /// The paths that were written.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }

    async fn open(&self) -> OpenLog {
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned();
        let name = LogName { ticket_id: id.clone(), run_id: id, attempt: 1 };
        let sink = ObjectSink::of(&config(self.url.clone()), 1 << 20).expect("a client");
        sink.open(name).await.expect("it has no log")
    }
}

#[tokio::test]
async fn a_list_that_gets_no_answer_is_asked_for_again_in_time() {
    let server = Server::deaf(&["GET"]).await;
    let mut log = server.open().await;
    assert_eq!((log.last_seq, log.writer.append(lines(1..=1)).await), (0, Ok(0)));
}

#[tokio::test]
async fn a_segment_that_gets_no_answer_is_written_under_another_name_in_time_and_who_was_silent_is_told() {
    let server = Server::deaf(&["PUT"]).await;
    assert_eq!(server.open().await.writer.append(lines(1..=1)).await, Ok(0));
    let asked = server.asked();
    assert!(asked.len() == 2 && asked[0] != asked[1], "{asked:?}");

    let server = Server::deaf(&["PUT"]).await;
    let store = Store::of(&config(server.url.clone())).expect("a client");
    let error = told(&store.put(&Path::from("a"), "b").await.expect_err("silence"));
    assert!(error.starts_with("no answer from 127.0.0.1:") && error.contains(" within 1.2 s; check "), "{error}");
}

#[tokio::test]
async fn only_what_the_store_has_surely_not_done_is_written_again_under_the_same_name() {
    const SLOW: &str = "<Error><Code>SlowDown</Code><Message>reduce your rate</Message></Error>";
    for (status, body, same) in [
        (429, "", true),
        (503, SLOW, true),
        // A gateway's: it does not know what the store does.
        (500, "", false),
        (502, "<html>Bad gateway</html>", false),
        (503, "", false),
        (504, "", false),
        (408, "", false),
    ] {
        let server = Server::answering(&[(status, body)]).await;
        assert_eq!(server.open().await.writer.append(lines(1..=1)).await, Ok(0), "{status}");
        let asked = server.asked();
        assert_eq!((asked.len(), asked[0] == asked[1]), (2, same), "{status}: {asked:?}");
    }
}

#[tokio::test]
async fn why_a_segment_was_refused_is_told_however_long_its_name_is() {
    for (status, body, expected) in [
        (403, "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>", "AccessDenied: not you"),
        (404, "<Error><Code>NoSuchBucket</Code><Message>none such</Message></Error>", "NoSuchBucket: none such"),
    ] {
        let server = Server::answering(&[(status, body)]).await;
        let error = server.open().await.writer.append(lines(1..=1)).await.expect_err("refused");
        assert!(error.cause.contains(expected) && error.cause.contains(&status.to_string()), "{error}");
        assert!(!error.cause.contains("0f8fad5b") && error.cause.contains("check EXECUTION_LOG_SINK"), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_refusal_of_a_real_server_names_the_bucket_and_no_key_and_is_not_asked_for_again() {
    const REFUSAL: &str = "<Error><Code>AccessDenied</Code><Message>not you</Message>\
                           <AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId></Error>";
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let answer = move |request: Request| async move {
        let signed = request.headers().get("authorization").is_some_and(|text| {
            text.to_str().is_ok_and(|text| text.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"))
        });
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        heard.lock().expect("no test panics with it").push((method, path, signed));
        (StatusCode::FORBIDDEN, REFUSAL)
    };
    let (url, _serving) = serve(Router::new().fallback(answer)).await;
    let sink = ObjectSink::of(&config(url), 1000).expect("a client");
    let error = sink.try_out().await.expect_err("refused").to_string();
    for expected in ["s3://bucket/all/logs/.check/", "AccessDenied: not you", "check EXECUTION_LOG_SINK"] {
        assert!(error.contains(expected), "{error}");
    }
    assert!(!error.contains("AKIA") && !error.contains("hunter2"), "{error}");
    let asked = asked.lock().expect("no test panics with it").clone();
    assert_eq!(asked, [("PUT".to_owned(), "/bucket/all/logs/.check/check".to_owned(), true)]);
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_in_time() {
    let sink = ObjectSink::of(&config("http://127.0.0.1:1".to_owned()), 1000).expect("a client");
    let began = std::time::Instant::now();
    let error = sink.open(name("t")).await.err().expect("an error").to_string();
    assert!(error.starts_with("s3://bucket/all/logs/ticket-t/run.1/: ") && error.contains("127.0.0.1:1"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
