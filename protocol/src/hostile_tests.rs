//! Requests made up along the schemas, whole and damaged: the walk must agree with the decoder, and foretell its memory.

use crate::apis::ApiKey;
use crate::errors::DecodeError;
use crate::frame::{Request, RequestHeader, decode_header, decode_request, is_surely_larger};
use crate::schema::{Field, Kind, Schema};
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// What decoding may allocate that isn't measured: an error's text.
const SLACK: usize = 16 << 10;

mod counting {
    //! An allocator that knows how much each thread holds.
    #![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static LIVE: Cell<isize> = const { Cell::new(0) };
        static PEAK: Cell<isize> = const { Cell::new(0) };
    }

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn add(size: isize) {
        let live = LIVE.get() + size;
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
    }

    // Safety: all is left to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            add(layout.size() as isize);
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            add(-(layout.size() as isize));
            unsafe { System.dealloc(at, layout) }
        }
    }

    /// Runs `work`, and gives the most bytes that it held at a time.
    pub(super) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = LIVE.get();
        PEAK.set(before);
        let result = work();
        (result, usize::try_from(PEAK.get() - before).expect("the peak is not below the start"))
    }
}

/// Writes a random body along a schema.
struct Maker<'a> {
    rng: &'a mut TestRng,
    version: i16,
    flexible: bool,
    out: BytesMut,
}

impl Maker<'_> {
    fn body(schema: &'static Schema, version: i16, rng: &mut TestRng) -> Bytes {
        let flexible = version >= schema.flexible;
        let mut maker = Maker { rng, version, flexible, out: BytesMut::new() };
        maker.fields(schema.fields);
        maker.out.freeze()
    }

    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_plain(version)) {
            self.value(field);
        }
        if self.flexible {
            self.tagged(fields);
        }
    }

    fn value(&mut self, field: &'static Field) {
        let null = field.is_nullable(self.version) && self.rng.random_bool(0.2);
        match (field.kind(), null) {
            (Kind::Struct(_), null) if field.is_nullable(self.version) => {
                self.out.put_i8(if null { -1 } else { 1 });
                if !null {
                    self.kind(field.kind());
                }
            }
            (kind, true) => self.length(matches!(kind, Kind::Str), -1),
            (kind, false) => self.kind(kind),
        }
    }

    fn kind(&mut self, kind: &'static Kind) {
        match kind {
            Kind::Fixed(size) => (0..*size).for_each(|_| {
                let byte = self.rng.random();
                self.out.put_u8(byte);
            }),
            Kind::Struct(fields) => self.fields(fields),
            Kind::Str | Kind::Blob => {
                let length = self.rng.random_range(0..20);
                self.length(matches!(kind, Kind::Str), length);
                self.out.put_bytes(b'x', length as usize);
            }
            Kind::Array(element, _) => {
                let count = self.rng.random_range(0..4);
                self.length(false, count);
                (0..count).for_each(|_| self.kind(element));
            }
        }
    }

    fn tagged(&mut self, fields: &'static [Field]) {
        let known = fields.iter().filter_map(|field| Some((field.tag(self.version)?, field)));
        let known: Vec<_> = known.filter(|_| self.rng.random_bool(0.5)).collect();
        let unknown = self.rng.random_range(0..3u32);
        self.uvarint(known.len() as u32 + unknown);
        for (tag, field) in known {
            let before = std::mem::take(&mut self.out);
            self.value(field);
            let value = std::mem::replace(&mut self.out, before);
            self.uvarint(tag);
            self.uvarint(value.len() as u32);
            self.out.put_slice(&value);
        }
        for tag in 0..unknown {
            self.uvarint(100 + tag);
            self.uvarint(3);
            self.out.put_slice(b"tag");
        }
    }

    fn length(&mut self, short: bool, length: i32) {
        match (self.flexible, short) {
            (true, _) => self.uvarint((length + 1) as u32),
            (false, true) => self.out.put_i16(length as i16),
            (false, false) => self.out.put_i32(length),
        }
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}

fn any_api() -> impl Strategy<Value = RequestHeader> {
    let versions = |api: ApiKey| (Just(api), api.versions().0..=api.versions().1);
    prop::sample::select(ApiKey::ALL).prop_flat_map(versions).prop_map(|(api_key, api_version)| {
        RequestHeader { api_key, api_version, correlation_id: 1, client_id: String::new() }
    })
}

/// A header and a body that fits it.
fn any_request() -> impl Strategy<Value = (RequestHeader, Bytes)> {
    any_api().prop_perturb(|header, mut rng| {
        let body = Maker::body(header.api_key.schema(), header.api_version, &mut rng);
        (header, body)
    })
}

/// Header and body, without a client id.
fn frame_of(header: &RequestHeader, body: &Bytes) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(header.api_key.key());
    frame.put_i16(header.api_version);
    frame.put_i32(header.correlation_id);
    frame.put_i16(-1);
    if header.api_key.request_header_version(header.api_version) >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame.freeze()
}

fn measure(header: &RequestHeader, body: &Bytes) -> Result<usize, DecodeError> {
    header.check(body.clone(), usize::MAX).map(|checked| checked.memory())
}

fn decode_body(header: &RequestHeader, body: Bytes) -> Result<Request, DecodeError> {
    header.check(body, usize::MAX)?.decode()
}

/// Decodes, and holds what that took against what was foretold.
fn decode_within_measure(header: &RequestHeader, body: &Bytes) -> Result<(), TestCaseError> {
    let Ok(measured) = measure(header, body) else {
        let (_, peak) = counting::peak_of(|| decode_body(header, body.clone()));
        prop_assert!(peak <= SLACK, "{peak} bytes for what the walk refuses");
        return Ok(());
    };
    let (_, peak) = counting::peak_of(|| decode_body(header, body.clone()));
    prop_assert!(peak <= measured + SLACK, "{peak} bytes where {measured} were foretold");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_walk_and_the_decoder_agree_on_every_well_formed_request((header, body) in any_request()) {
        let measured = measure(&header, &body).expect("well-formed");
        let mut rest = body.clone();
        let (decoded, peak) =
            counting::peak_of(|| Request::decode(header.api_key, header.api_version, &mut rest));
        prop_assert!(decoded.is_ok(), "{decoded:?}");
        prop_assert!(rest.is_empty(), "{} bytes left", rest.len());
        prop_assert!(peak <= measured, "{peak} bytes where {measured} were foretold");
    }

    #[test]
    fn a_request_cut_off_anywhere_is_refused((header, body) in any_request(), at in any::<prop::sample::Index>()) {
        prop_assume!(!body.is_empty());
        let cut = body.slice(..at.index(body.len()));
        prop_assert!(decode_body(&header, cut).is_err());
    }

    #[test]
    fn what_takes_more_than_allowed_is_refused_and_what_is_refused_early_takes_more(
        (header, body) in any_request(),
        at in any::<prop::sample::Index>(),
        most in 0..2000_usize,
    ) {
        let measured = measure(&header, &body).expect("well-formed");
        let refused = matches!(header.check(body.clone(), most), Err(DecodeError::TooLarge { .. }));
        prop_assert_eq!(refused, measured > most);
        prop_assume!(!body.is_empty());
        let frame = frame_of(&header, &body);
        let cut = at.index(frame.len());
        if is_surely_larger(&frame[..cut], frame.len() - cut, most) {
            prop_assert!(measured > most, "{measured} bytes refused for {most}");
        }
    }

    #[test]
    fn damaged_requests_take_no_more_memory_than_foretold(
        (header, body) in any_request(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        prop_assume!(!body.is_empty());
        let mut body = BytesMut::from(&body[..]);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        decode_within_measure(&header, &body.freeze())?;
    }

    #[test]
    fn random_bytes_take_no_more_memory_than_foretold(header in any_api(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_within_measure(&header, &body.into())?;
    }

    #[test]
    fn random_frames_never_panic(frame in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode_header(&frame);
        let _ = decode_request(frame.into());
    }
}

#[test]
fn the_first_bytes_of_a_frame_tell_of_many_elements() {
    // Metadata, version 1, with 2^20 topics.
    let begun = [0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0x10, 0, 0, 0, 1];
    assert!(is_surely_larger(&begun, 4 << 20, 1 << 20));
    // As many elements can't follow: that is malformed, which shows when the frame is whole.
    assert!(!is_surely_larger(&begun, 1 << 10, 1 << 20));
    assert!(!is_surely_larger(&begun[..9], 4 << 20, 1 << 20));
}

#[test]
fn a_length_that_lies_reserves_nothing() {
    // Metadata, version 1, with 2^31 - 1 topics.
    let frame = Bytes::from_static(&[0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let (result, peak) = counting::peak_of(|| decode_request(frame));
    assert!(result.is_err());
    assert!(peak < SLACK);
}

#[test]
fn the_costliest_small_frame_is_foretold_exactly() {
    // Metadata, version 1: names of no length take two bytes each on the wire.
    let count = 1 << 20;
    let mut body = BytesMut::new();
    body.put_i32(count);
    body.put_bytes(0, 2 * count as usize);
    let body = body.freeze();
    let header = RequestHeader {
        api_key: ApiKey::Metadata,
        api_version: 1,
        correlation_id: 0,
        client_id: String::new(),
    };
    let measured = measure(&header, &body).expect("well-formed");
    let (request, peak) = counting::peak_of(|| decode_body(&header, body));
    assert!(request.is_ok());
    assert_eq!(peak, measured);
}
