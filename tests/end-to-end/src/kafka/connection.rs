//! One connection: frames out, frames in.

use super::wire::{Reader, Writer};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Largest answer that we take: more than any fetch of ours asks for.
const LARGEST_ANSWER: i32 = 256 << 20;

/// An API and its version.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    pub(super) key: i16,
    pub(super) version: i16,
}

/// The sending half: requests may follow one another before the first is answered.
#[derive(Debug)]
pub struct Requests {
    socket: OwnedWriteHalf,
    next_correlation: i32,
}

/// The receiving half: answers come in the order of their requests.
#[derive(Debug)]
pub struct Answers {
    socket: BufReader<OwnedReadHalf>,
    next_correlation: i32,
}

/// Both halves, for one request at a time.
#[derive(Debug)]
pub struct Connection {
    requests: Requests,
    answers: Answers,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        let (read, write) = socket.into_split();
        let requests = Requests { socket: write, next_correlation: 0 };
        Ok(Self {
            requests,
            answers: Answers { socket: BufReader::with_capacity(64 << 10, read), next_correlation: 0 },
        })
    }

    /// Takes the halves apart.
    pub fn split(self) -> (Requests, Answers) {
        (self.requests, self.answers)
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&mut self, api: Api, body: &[u8]) -> Result<Reader> {
        self.requests.send(api, body).await?;
        self.answers.receive().await
    }

    /// The ranges of versions that the broker speaks: (API key, lowest, highest).
    pub async fn api_versions(&mut self) -> Result<Vec<(i16, i16, i16)>> {
        let mut answer = self.call(Api { key: 18, version: 0 }, &[]).await?;
        let error = answer.i16()?;
        ensure!(error == 0, "ApiVersions: error {error}");
        answer.array(|from| Ok((from.i16()?, from.i16()?, from.i16()?)))
    }
}

impl Requests {
    /// Sends one request.
    pub(super) async fn send(&mut self, api: Api, body: &[u8]) -> Result<()> {
        let head = Writer::default()
            .i16(api.key)
            .i16(api.version)
            .i32(self.next_correlation)
            .string("thalweg-tests");
        self.next_correlation = self.next_correlation.wrapping_add(1);
        let frame = Writer::default().bytes(&head.raw(body).finish()).finish();
        Ok(self.socket.write_all(&frame).await?)
    }
}

impl Answers {
    /// Receives the next answer.
    pub(super) async fn receive(&mut self) -> Result<Reader> {
        let length = self.socket.read_i32().await?;
        ensure!((4..=LARGEST_ANSWER).contains(&length), "an answer of {length} bytes");
        let mut frame = vec![0; usize::try_from(length)?];
        self.socket.read_exact(&mut frame).await?;
        let mut answer = Reader::new(Bytes::from(frame));
        let correlation = answer.i32()?;
        ensure!(correlation == self.next_correlation, "answer {correlation}, not {}", self.next_correlation);
        self.next_correlation = self.next_correlation.wrapping_add(1);
        Ok(answer)
    }
}
