//! The way of one request through the proxy.

use super::{
    Counts, Faults, Kind, Latency, Operation, Shared, Tally,
    body::{Meter, Metered},
    counts::Repetitions,
    faults::Fate,
    shared,
};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

/// Shorter than any store's own, so that a kept connection is not closed under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

type Answer = Response<Either<Metered, Full<Bytes>>>;

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Dropped {
    #[error("by a fault that was asked for")]
    OnPurpose,
    #[error("the store does not answer")]
    Upstream(#[from] hyper_util::client::legacy::Error),
    #[error("the request makes no sense")]
    Request(#[from] hyper::http::Error),
}

/// Everything that connections share.
pub(super) struct Relay {
    upstream: SocketAddr,
    client: Client<HttpConnector, Metered>,
    random: Shared<SmallRng>,
    latency: Shared<Latency>,
    counts: Shared<Counts>,
    repetitions: Shared<Repetitions>,
    faults: watch::Sender<Faults>,
    waiting: AtomicUsize,
}

impl Relay {
    pub(super) fn new(upstream: SocketAddr, latency: Latency, seed: u64) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            upstream,
            client,
            random: shared(SmallRng::seed_from_u64(seed)),
            latency: shared(latency),
            counts: Shared::default(),
            repetitions: Shared::default(),
            faults: watch::Sender::new(Faults::default()),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    pub(super) fn set_latency(&self, latency: Latency) {
        *self.latency.lock() = latency;
    }

    /// Accepts connections until it's dropped, and closes them all then.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().serve_connection(stream))),
                    // Out of file descriptors, most likely: some will be given back.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let relay = self.clone();
            async move { relay.pass(request).await }
        });
        // Ends in an error whenever an answer is lost on purpose, or the peer goes away.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Answer, Dropped> {
        let arrived = Instant::now();
        let operation = Operation::of(request.method(), request.uri().query());
        let kind = Kind::of(request.uri().path(), request.uri().query());
        let kind = self.repetitions.lock().classify(operation, kind, request.uri().path());
        self.until_not_paused().await;
        let (fate, latency) = self.draw(operation);
        match fate {
            Fate::Lost => return Err(Dropped::OnPurpose),
            Fate::SlowedDown => return slow_down(),
            Fate::Served | Fate::AnswerLost => {}
        }
        let meter = Meter::default();
        let answer = self.client.request(self.redirect(request, meter.clone())?).await;
        self.count(operation, kind, meter.bytes());
        let answer = answer?;
        tokio::time::sleep_until(meter.ended().unwrap_or(arrived) + latency).await;
        if fate == Fate::AnswerLost {
            return Err(Dropped::OnPurpose);
        }
        Ok(answer.map(|body| Either::Left(self.counted_body(body, operation, kind))))
    }

    /// Waits while the proxy is paused.
    async fn until_not_paused(&self) {
        let mut faults = self.faults.subscribe();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Fails only when the sender, which we hold, is gone.
        let _ = faults.wait_for(|faults| !faults.paused).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// What happens to a request and how long it takes at least.
    fn draw(&self, operation: Operation) -> (Fate, Duration) {
        let latency = *self.latency.lock();
        let profile = if operation.is_write() { latency.write } else { latency.read };
        let mut random = self.random.lock();
        let drawn = random.random();
        let latency = profile.map_or(Duration::ZERO, |profile| profile.draw(&mut *random));
        (self.faults.borrow().fate(operation, drawn), latency)
    }

    /// The same request for the store behind; only the address changes.
    fn redirect(&self, request: Request<Incoming>, meter: Meter) -> Result<Request<Metered>, Dropped> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = Uri::builder()
            .scheme("http")
            .authority(self.upstream.to_string())
            .path_and_query(path)
            .build()?;
        Ok(Request::from_parts(head, Metered::new(body, meter)))
    }

    fn count(&self, operation: Operation, kind: Kind, bytes_up: u64) {
        self.counts.lock().add(operation, kind, Tally { requests: 1, bytes_up, bytes_down: 0 });
    }

    fn counted_body(&self, body: Incoming, operation: Operation, kind: Kind) -> Metered {
        let counts = self.counts.clone();
        Metered::new(body, Meter::default()).at_end(move |bytes_down| {
            counts.lock().add(operation, kind, Tally { requests: 0, bytes_up: 0, bytes_down });
        })
    }
}

/// S3's answer to a client that asks too much.
fn slow_down() -> Result<Answer, Dropped> {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code>\
                <Message>Please reduce your request rate.</Message></Error>";
    let answer = Response::builder()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .header("content-type", "application/xml")
        .header("connection", "close");
    Ok(answer.body(Either::Right(Full::new(Bytes::from_static(body.as_bytes()))))?)
}
