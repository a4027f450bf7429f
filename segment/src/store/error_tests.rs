//! The real S3 client against scripted answers: its wording is what [`Outcome::of`] goes by.

use super::{ErrorKind, ObjectStoreConfig, Outcome, Patience, Purpose, Store, open};
use object_store::{
    ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, S3ConditionalPut},
    path::Path,
};
use std::{io, sync::Arc, time::Duration};
use thalweg_runtime::{Inline, Random, Runtime, SystemClock, TokioSpawner};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Answers every request with the same bytes.
async fn answering(answer: String) -> Store {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let server = runtime().spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let _ = respond(connection, &answer).await;
        }
    });
    server.detach();
    store(&endpoint)
}

/// The requests of the tests end with their header, or with a body of one byte behind it.
async fn respond(mut connection: TcpStream, answer: &str) -> io::Result<()> {
    let mut request = Vec::new();
    loop {
        if connection.read_buf(&mut request).await? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&request);
        let Some(header) = text.find("\r\n\r\n") else { continue };
        let body = usize::from(text.starts_with("PUT"));
        if request.len() >= header + 4 + body {
            break;
        }
    }
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}

fn store(endpoint: &str) -> Store {
    let client = AmazonS3Builder::new()
        .with_bucket_name("bucket")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_unsigned_payload(true)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig { max_retries: 0, ..Default::default() })
        .build();
    let client: Arc<dyn ObjectStore> = Arc::new(client.expect("valid settings"));
    // Nothing is repeated, so that each test is one request.
    let (attempt, total) = (Duration::from_secs(10), Duration::ZERO);
    let patience = Patience { attempt, total, backoff: attempt, max_backoff: attempt };
    Store::new(client, runtime(), patience)
}

fn runtime() -> Runtime {
    Runtime::new(Arc::new(SystemClock), Random::from_seed(1), Arc::new(TokioSpawner), Arc::new(Inline))
}

fn refusal(status: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn key() -> Path {
    Path::from("key")
}

async fn created(answer: String) -> (ErrorKind, Outcome) {
    let store = answering(answer).await;
    let error = store.create_once(&key(), "1".into(), Purpose::Wal).await.expect_err("it is refused");
    (error.kind(), only_outcome(&store))
}

async fn read(answer: String) -> (ErrorKind, Outcome) {
    let store = answering(answer).await;
    let error = store.get(&key(), Purpose::Wal).await.expect_err("it is refused");
    (error.kind(), only_outcome(&store))
}

fn only_outcome(store: &Store) -> Outcome {
    let counts = store.requests();
    assert_eq!(counts.total(), 1);
    let count = |outcome: &Outcome| {
        super::Method::ALL.iter().any(|method| counts.with_outcome(Purpose::Wal, *method, *outcome) == 1)
    };
    Outcome::ALL.into_iter().find(count).expect("one request has one outcome")
}

#[tokio::test]
async fn each_answer_to_a_conditional_put_says_what_can_be_done() {
    use {ErrorKind::*, Outcome as O};
    let cases = [
        ("412 Precondition Failed", "PreconditionFailed", Conflict, O::Conflict),
        ("409 Conflict", "ConditionalRequestConflict", Conflict, O::Conflict),
        ("304 Not Modified", "", Conflict, O::Conflict),
        ("503 Slow Down", "SlowDown", Retry, O::Throttled),
        ("429 Too Many Requests", "TooManyRequests", Retry, O::Throttled),
        ("500 Internal Server Error", "InternalError", Retry, O::Unavailable),
        ("502 Bad Gateway", "", Retry, O::Unavailable),
        ("408 Request Timeout", "", Retry, O::Unavailable),
        ("400 Bad Request", "RequestTimeout", Retry, O::Unavailable),
        ("400 Bad Request", "ExpiredToken", Retry, O::Unavailable),
        ("400 Bad Request", "InvalidArgument", Rejected, O::Rejected),
        ("401 Unauthorized", "", Rejected, O::Rejected),
        ("403 Forbidden", "AccessDenied", Rejected, O::Rejected),
        ("404 Not Found", "NoSuchBucket", Rejected, O::Rejected),
        ("404 Not Found", "NoSuchKey", Retry, O::NotFound),
        ("301 Moved Permanently", "PermanentRedirect", Rejected, O::Rejected),
        ("501 Not Implemented", "NotImplemented", Rejected, O::Rejected),
    ];
    for (status, code, kind, outcome) in cases {
        assert_eq!(created(refusal(status, code)).await, (kind, outcome), "{status} {code}");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_not_a_missing_object() {
    let missing = read(refusal("404 Not Found", "NoSuchKey")).await;
    assert_eq!(missing, (ErrorKind::NotFound, Outcome::NotFound));
    let no_bucket = read(refusal("404 Not Found", "NoSuchBucket")).await;
    assert_eq!(no_bucket, (ErrorKind::Rejected, Outcome::Rejected));
}

#[tokio::test]
async fn an_error_is_told_in_one_line() {
    let store = answering(refusal("403 Forbidden", "Access\nDenied")).await;
    let error = store.get(&key(), Purpose::Wal).await.expect_err("it is refused").to_string();
    assert!(error.contains("403") && !error.contains('\n'), "{error}");
}

#[tokio::test]
async fn a_broken_connection_is_unavailable() {
    assert_eq!(created(String::new()).await, (ErrorKind::Retry, Outcome::Unavailable));
    let header = "HTTP/1.1 200 OK\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\netag: \"1\"\r\n";
    let cut = format!("{header}content-length: 10\r\n\r\n01234");
    assert_eq!(read(cut).await, (ErrorKind::Retry, Outcome::Unavailable));
    let whole = format!("{header}content-length: 5\r\nconnection: close\r\n\r\n01234");
    assert_eq!(answering(whole).await.get(&key(), Purpose::Wal).await.expect("an object"), "01234");
}

#[tokio::test]
async fn an_empty_body_is_an_empty_object() {
    let header = "HTTP/1.1 200 OK\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\netag: \"1\"\r\n";
    let store = answering(format!("{header}content-length: 0\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(store.get(&key(), Purpose::Wal).await.expect("an object"), "");
    // The client's own way to read a body asks once more after its end.
    let answer = store.client(Purpose::Metadata).get_opts(&key(), Default::default()).await;
    assert_eq!(answer.expect("an object").bytes().await.expect("a body"), "");
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_at_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = store(&endpoint).get(&key(), Purpose::Wal).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_local_directory_that_is_a_file_is_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file:{}", directory.path().display());
    let config = ObjectStoreConfig { url, ..Default::default() };
    let client = open(&config, &runtime()).await.expect("it exists");
    std::fs::write(directory.path().join("a"), "a file").expect("written");
    let patience = Patience {
        attempt: Duration::from_secs(10),
        total: Duration::ZERO,
        backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
    };
    let store = Store::new(client, runtime(), patience);
    let error =
        store.create_once(&Path::from("a/b"), "1".into(), Purpose::Wal).await.expect_err("no directory");
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
}
