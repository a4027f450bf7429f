//! Reads one frame: its length, its first bytes, then the rest into a buffer of its own that its records stay slices of.

use super::{
    Service,
    limits::NetSettings,
    low_water::{Incoming, LowWater},
    pace::{LOOK, is_too_slow},
};
use bytes::{Bytes, BytesMut};
use std::{io, time::Duration};
use thalweg_runtime::{Budget, Charge};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};

/// Under which bounds a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Record data, kept as it is: large, charged once, to the produce budget, until it has left the log cache.
    Produce,
    /// Anything else: small, but decoded into a multiple of its size.
    Other,
}

/// A request as it came in, without its length field.
#[derive(Debug)]
pub struct Frame {
    /// Name of its API, for metrics.
    pub api: &'static str,
    /// Header and body.
    pub bytes: Bytes,
    /// What its bytes are charged to: the produce budget, or the one of requests on their way in. The service charges what
    /// handling it takes, all at once: were a part taken here, requests that hold theirs could wait for one another for ever.
    pub charge: Charge,
    /// Its class.
    pub class: Class,
}

/// Why no frame was read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The client closed the connection between two requests.
    #[error("closed by the client")]
    Closed,
    /// It broke.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    /// Nothing moved for `connections.max.idle.ms`.
    #[error("idle for too long")]
    Idle,
    /// The length field is not that of a request that we take.
    #[error("a frame of {length} bytes is not between {min} and {max}")]
    Length {
        /// What it says.
        length: i32,
        /// A request header.
        min: usize,
        /// What is allowed for this API.
        max: usize,
    },
    /// Its beginning tells of more than is taken.
    #[error("a request of too many elements")]
    Refused,
    /// It arrives slowly, and others wait for the memory that it takes.
    #[error("a frame arrives too slowly: {0} bytes so far")]
    Slow(usize),
    /// Memory for the rest of a frame did not become free in time.
    #[error("no memory for a frame of {0} bytes: the broker is overloaded")]
    Overloaded(usize),
}

/// Length, API key, version, correlation id: every request begins with these.
const PREFIX: usize = 12;
/// The shortest request: key, version, correlation id.
const MIN_FRAME: usize = 8;
/// Buffers grow in these steps as bytes arrive, so that a length alone costs nothing …
const GROWTH: usize = 16;
/// … and from here on in steps of two, so that a frame takes no more than twice what has arrived of it.
const LARGE: usize = 1024 * 1024;
/// What a Produce takes beyond its frame while it waits for its PUT.
const PENDING_PRODUCE: usize = 1024;
/// Every connection may hold this much of a frame uncharged.
const FIRST_BUFFER: usize = 4 * 1024;
/// How long a frame that has begun to arrive may stand still.
const STALL_PATIENCE: Duration = Duration::from_secs(30);
/// How long a frame that has begun to arrive may wait for memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(30);

/// Reads the next frame.
pub async fn read_frame<S: Incoming>(
    socket: &mut S,
    settings: &NetSettings,
    service: &dyn Service,
) -> Result<Frame, FrameError> {
    let mut prefix = [0; PREFIX];
    let largest = settings.max_produce_frame.max(settings.max_other_frame);
    read_prefix(socket, &mut prefix, settings.max_idle, largest).await?;
    let (class, api) = service.class(i16::from_be_bytes([prefix[4], prefix[5]]));
    let length = i32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
    let max = if class == Class::Produce { settings.max_produce_frame } else { settings.max_other_frame };
    let size = checked_size(length, max)?;
    let (bytes, charge) = read_body(socket, &prefix[4..], size, class, settings, service).await?;
    Ok(Frame { api, bytes, charge, class })
}

/// The frame's size, if it is that of a request.
fn checked_size(length: i32, max: usize) -> Result<usize, FrameError> {
    let size = usize::try_from(length).ok().filter(|size| (MIN_FRAME..=max).contains(size));
    size.ok_or(FrameError::Length { length, min: MIN_FRAME, max })
}

/// Reads the prefix. A length that no request has ends it at once, whether or not more follows.
async fn read_prefix<S: Incoming>(
    socket: &mut S,
    prefix: &mut [u8; PREFIX],
    max_idle: Duration,
    largest: usize,
) -> Result<(), FrameError> {
    let first = timeout(max_idle, socket.read(prefix)).await.map_err(|_| FrameError::Idle)??;
    if first == 0 {
        return Err(FrameError::Closed);
    }
    if let Some(length) = prefix[..first].first_chunk() {
        checked_size(i32::from_be_bytes(*length), largest)?;
    }
    let rest = timeout(max_idle, socket.read_exact(&mut prefix[first..])).await;
    rest.map_err(|_| FrameError::Idle)??;
    Ok(())
}

/// Reads the rest. The first few KiB are part of what a connection costs; beyond that, memory is charged before it is filled.
async fn read_body<S: Incoming>(
    socket: &mut S,
    begun: &[u8],
    size: usize,
    class: Class,
    settings: &NetSettings,
    service: &dyn Service,
) -> Result<(Bytes, Charge), FrameError> {
    let budgets = &settings.budgets;
    let arriving = match class {
        Class::Produce => &budgets.produce,
        Class::Other => &budgets.receiving,
    };
    if class == Class::Produce {
        // Wait for room before the rest is read rather than half-way; only what arrives is then taken. Not for more than most
        // frames have: a length alone must not hold up others.
        drop(budgets.produce.charge(size.min(LARGE)).await);
    }
    let begun_at = Instant::now();
    let mut held = None;
    let mut target = FIRST_BUFFER.min(size);
    let mut buffer = BytesMut::with_capacity(target);
    buffer.extend_from_slice(begun);
    loop {
        let may_go_on = |arrived: usize| {
            !(held.as_ref().is_some_and(Charge::is_wanted) && is_too_slow(begun_at, arrived))
        };
        fill(socket, &mut buffer, target, settings.max_idle.min(STALL_PATIENCE), may_go_on).await?;
        if target == size {
            break;
        }
        if target < LARGE && service.is_too_large(&buffer, size - target) {
            return Err(FrameError::Refused);
        }
        target = (target * if target < LARGE { GROWTH } else { 2 }).min(size);
        held = Some(regrow(arriving, held, target).await?);
        if target > buffer.capacity() {
            // Of a large frame's buffer, memory is taken as it is filled: it is made as large as it will be, and never copied.
            let mut larger = BytesMut::with_capacity(if target < LARGE { target } else { size });
            larger.extend_from_slice(&buffer);
            buffer = larger;
        }
    }
    let charge = match (held, class) {
        // Held already, but for what is too little to wait for again.
        (Some(held), _) => held,
        (None, Class::Produce) => budgets.produce.charge(size + PENDING_PRODUCE).await,
        (None, Class::Other) => budgets.receiving.charge(0).await,
    };
    Ok((buffer.freeze(), charge))
}

/// Exchanges a charge for a larger one. Frames that hold a part wait only so long for the rest, so that they cannot block one
/// another for ever.
async fn regrow(budget: &Budget, held: Option<Charge>, size: usize) -> Result<Charge, FrameError> {
    drop(held);
    timeout(MEMORY_PATIENCE, budget.charge(size)).await.map_err(|_| FrameError::Overloaded(size))
}

async fn fill<S: Incoming>(
    socket: &mut S,
    buffer: &mut BytesMut,
    target: usize,
    max_idle: Duration,
    may_go_on: impl Fn(usize) -> bool,
) -> Result<(), FrameError> {
    let mut moved = Instant::now();
    let mut mark = LowWater::default();
    let mut hesitant = false;
    while buffer.len() < target {
        let left = target - buffer.len();
        mark.set(socket, if hesitant { 1 } else { LowWater::for_the_next(left) });
        let mut limited = (&mut *socket).take(left.min(LARGE) as u64);
        match timeout(LOOK.min(max_idle), limited.read_buf(buffer)).await {
            Ok(read) => {
                if read? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                moved = Instant::now();
                if buffer.len() > LARGE {
                    // A socket that always has more must not keep its thread from others.
                    tokio::task::yield_now().await;
                }
            }
            // It may have sent less than is worthwhile, which is not silence.
            Err(_) => hesitant = true,
        }
        if moved.elapsed() >= max_idle {
            return Err(FrameError::Idle);
        }
        if buffer.len() < target && !may_go_on(buffer.len()) {
            return Err(FrameError::Slow(buffer.len()));
        }
    }
    mark.set(socket, 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::Budgets,
        net::{Peer, Reply, pace::GRACE},
    };
    use futures::future::BoxFuture;
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };
    use tokio::{
        io::{AsyncRead, AsyncWriteExt, ReadBuf},
        net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    };

    fn settings() -> NetSettings {
        let budgets = Budgets {
            produce: Budget::new("produce", 1 << 20),
            requests: Budget::new("requests", 1 << 20),
            receiving: Budget::new("receiving", 1 << 20),
            responses: Budget::new("responses", 1 << 20),
            block_reads: Budget::new("block_reads", 1 << 20),
            read_ahead: Budget::new("read_ahead", 1 << 20),
            unpacking: Budget::new("unpacking", 1 << 20),
        };
        NetSettings {
            max_connections: 1,
            max_connections_per_ip: 1,
            max_idle: Duration::from_secs(60),
            max_produce_frame: 1 << 20,
            max_other_frame: 1 << 20,
            max_in_flight: 1,
            budgets,
        }
    }

    /// A service that takes any request, or none but the smallest.
    struct Takes {
        class: Class,
        large: bool,
    }

    impl Service for Takes {
        fn class(&self, _: i16) -> (Class, &'static str) {
            (self.class, "test")
        }

        fn is_too_large(&self, _: &[u8], _: usize) -> bool {
            !self.large
        }

        fn serve<'a>(&'a self, _: &'a Peer, _: Frame) -> BoxFuture<'a, BoxFuture<'static, Reply>> {
            unreachable!("frames are only read")
        }
    }

    async fn receive(settings: &NetSettings, class: Class, size: usize) -> Frame {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        client.write_all(&i32::try_from(size).expect("small").to_be_bytes()).await.expect("there is room");
        client.write_all(&vec![0; size]).await.expect("there is room");
        read_frame(&mut server, settings, &Takes { class, large: true }).await.expect("a whole frame")
    }

    #[tokio::test]
    async fn a_request_that_was_read_holds_nothing_of_what_handling_it_is_charged_to() {
        let settings = settings();
        for size in [100, 100_000] {
            let frame = receive(&settings, Class::Other, size).await;
            assert_eq!(settings.budgets.requests.used(), 0);
            let arrived = if size > FIRST_BUFFER { size } else { 0 };
            assert_eq!((frame.charge.bytes(), settings.budgets.receiving.used()), (arrived, arrived));
        }
        assert_eq!(settings.budgets.receiving.used(), 0);
    }

    #[tokio::test]
    async fn a_length_that_no_request_has_is_refused_before_anything_follows() {
        for length in [i32::MAX, -5, 0] {
            let (mut client, mut server) = tokio::io::duplex(64);
            client.write_all(&length.to_be_bytes()).await.expect("there is room");
            let takes = Takes { class: Class::Other, large: true };
            let read = read_frame(&mut server, &settings(), &takes).await;
            assert!(matches!(read, Err(FrameError::Length { .. })), "{length}");
        }
    }

    #[tokio::test]
    async fn a_frame_that_begins_with_too_much_is_refused_before_its_rest_arrives() {
        for class in [Class::Produce, Class::Other] {
            let (mut client, mut server) = tokio::io::duplex(1 << 20);
            client.write_all(&(1_i32 << 20).to_be_bytes()).await.expect("there is room");
            client.write_all(&[0; FIRST_BUFFER]).await.expect("there is room");
            let read = read_frame(&mut server, &settings(), &Takes { class, large: false }).await;
            assert!(matches!(read, Err(FrameError::Refused)));
        }
    }

    /// A frame of 300 KiB of which 100 KiB arrive, and then a byte every five seconds.
    async fn trickle(settings: &NetSettings) -> FrameError {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        let sending = async {
            client.write_all(&(300_i32 << 10).to_be_bytes()).await.expect("there is room");
            client.write_all(&vec![0; 100 << 10]).await.expect("there is room");
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                client.write_all(&[0]).await.expect("there is room");
            }
            std::future::pending::<()>().await;
        };
        let takes = Takes { class: Class::Produce, large: true };
        tokio::select! {
            () = sending => unreachable!("it never ends"),
            read = read_frame(&mut server, settings, &takes) => read.expect_err("cut off"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_may_arrive_slowly_while_nobody_waits_for_its_memory() {
        let begun = Instant::now();
        assert!(matches!(trickle(&settings()).await, FrameError::Idle));
        assert!(begun.elapsed() > Duration::from_secs(1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_arrives_slowly_is_given_up_once_others_wait_for_its_memory() {
        let settings = settings();
        let begun = Instant::now();
        let (ended, ()) = tokio::join!(trickle(&settings), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(settings.budgets.produce.charge(1 << 20).await);
        });
        assert!(matches!(ended, FrameError::Slow(_)), "{ended}");
        assert!(begun.elapsed() < GRACE + Duration::from_secs(6), "{:?}", begun.elapsed());
        assert_eq!(settings.budgets.produce.used(), 0);
    }

    /// Counts how often something was read.
    struct Counting(OwnedReadHalf, usize);

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let read = Pin::new(&mut self.0).poll_read(context, buffer);
            self.1 += usize::from(read.is_ready());
            read
        }
    }

    impl Incoming for Counting {
        fn set_low_water(&self, bytes: usize) {
            self.0.set_low_water(bytes);
        }
    }

    async fn connection() -> (TcpStream, Counting) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it listens");
        client.set_nodelay(true).expect("a socket");
        let (server, _) = listener.accept().await.expect("a connection");
        (client, Counting(server.into_split().0, 0))
    }

    #[tokio::test]
    async fn a_large_frame_is_read_in_few_pieces_and_what_follows_it_at_once() {
        const PIECES: usize = 256;
        let (mut client, mut server) = connection().await;
        let size = (1_usize << 20) - 4;
        let settings = settings();
        let takes = Takes { class: Class::Produce, large: true };
        let sending = async {
            client.write_all(&i32::try_from(size).expect("small").to_be_bytes()).await.expect("connected");
            let piece = vec![0; size / PIECES];
            for _ in 0..PIECES {
                client.write_all(&piece).await.expect("connected");
                tokio::task::yield_now().await;
            }
            client.write_all(&vec![0; size % PIECES]).await.expect("connected");
            // The beginning of the next.
            client.write_all(&8_i32.to_be_bytes()).await.expect("connected");
            client.write_all(&[0; 8]).await.expect("connected");
        };
        let (frame, ()) = tokio::join!(read_frame(&mut server, &settings, &takes), sending);
        assert_eq!(frame.expect("a whole frame").bytes.len(), size);
        assert!(server.1 < PIECES / 4, "{} reads", server.1);
        let begun = Instant::now();
        let next = read_frame(&mut server, &settings, &takes).await.expect("another frame");
        assert_eq!(next.bytes.len(), 8);
        assert!(begun.elapsed() < LOOK, "it waited for more than it will get");
    }

    #[tokio::test]
    async fn a_large_frame_that_stops_and_goes_on_is_read_as_it_comes() {
        let (mut client, mut server) = connection().await;
        let size = 1_i32 << 20;
        let settings = NetSettings { max_idle: 3 * LOOK, ..settings() };
        let takes = Takes { class: Class::Produce, large: true };
        let sending = async {
            client.write_all(&size.to_be_bytes()).await.expect("connected");
            client.write_all(&[0; 200 << 10]).await.expect("connected");
            // Together it takes longer than it may be silent.
            for _ in 0..8 {
                tokio::time::sleep(LOOK / 2).await;
                client.write_all(&[0; 10 << 10]).await.expect("connected");
            }
            client.write_all(&vec![0; (size as usize) - (280 << 10)]).await.expect("connected");
        };
        let (frame, ()) = tokio::join!(read_frame(&mut server, &settings, &takes), sending);
        assert_eq!(frame.expect("a whole frame").bytes.len(), size as usize);
    }

    #[tokio::test]
    async fn a_produce_request_is_charged_for_as_long_as_its_charge_lives() {
        let settings = settings();
        for size in [100, 100_000] {
            let frame = receive(&settings, Class::Produce, size).await;
            assert!(settings.budgets.produce.used() >= size);
            drop(frame);
            assert_eq!(settings.budgets.produce.used(), 0);
        }
    }
}
