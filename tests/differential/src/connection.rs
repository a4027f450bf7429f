//! One connection, by frames. What doesn't come is an outcome too.

use anyhow::Result;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Largest response that is taken.
const LARGEST: usize = 64 << 20;

/// A connection to one of the brokers.
pub struct Connection {
    socket: TcpStream,
}

/// What came.
#[derive(Debug, PartialEq)]
pub enum Received {
    /// A frame without its length.
    Frame(Vec<u8>),
    /// The broker closed the connection.
    Closed,
    /// Nothing, for as long as was waited.
    Silence,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket })
    }

    /// Sends a frame, with its length before it. That the broker has closed is seen by whoever receives.
    pub fn send(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        let _ = self.socket.write_all(&[&length, frame].concat());
    }

    /// Waits for a frame.
    pub fn receive(&mut self, patience: Duration) -> Result<Received> {
        let deadline = Instant::now() + patience;
        let mut length = [0; 4];
        if let Some(end) = self.fill(&mut length, deadline)? {
            return Ok(end);
        }
        let length = u32::from_be_bytes(length) as usize;
        anyhow::ensure!(length <= LARGEST, "a response of {length} bytes");
        let mut frame = vec![0; length];
        Ok(self.fill(&mut frame, deadline)?.unwrap_or(Received::Frame(frame)))
    }

    /// Fills the buffer; what happened instead, if something did.
    fn fill(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<Option<Received>> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.socket.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(Some(Received::Closed)),
                Ok(count) => filled += count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(Some(Received::Silence)),
                    // Reset, aborted: closed with less care.
                    _ => return Ok(Some(Received::Closed)),
                },
            }
        }
        Ok(None)
    }
}
