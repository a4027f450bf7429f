//! CRC-32C of two pieces put together, from the CRCs of the pieces.
//!
//! A CRC is a remainder of polynomials over GF(2). So that of `first | second` is the first one's times x^(8 · length of the
//! second), plus the second one's, modulo the polynomial. What a producer's checksum covers need not be read again to be part
//! of the checksum of a block, and stays covered from the producer to the reader.

/// The polynomial of CRC-32C (Castagnoli, RFC 3385), lowest power in the highest bit, x^32 left out.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0 in this notation.
const ONE: u32 = 1 << 31;
/// x^(8 · 2^k) for every bit k of a length in bytes.
const BYTE_SHIFTS: [u32; 32] = byte_shifts();
/// Below, reading the bytes is faster: they are about to be used anyway.
pub(crate) const WORTH_COMBINING: usize = 8 * 1024;

/// The CRC-32C of `first | second`, where `second` is of `second_len` bytes.
pub(crate) fn concatenated(first: u32, second: u32, second_len: u32) -> u32 {
    let mut shift = ONE;
    for (bit, power) in BYTE_SHIFTS.iter().enumerate() {
        if second_len >> bit & 1 == 1 {
            shift = product(shift, *power);
        }
    }
    product(shift, first) ^ second
}

/// a · b modulo the polynomial.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    let mut power = 0;
    while power < 32 {
        sum ^= b & 0u32.wrapping_sub(a >> (31 - power) & 1);
        b = b >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(b & 1);
        power += 1;
    }
    sum
}

const fn byte_shifts() -> [u32; 32] {
    let mut shifts = [ONE >> 8; 32];
    let mut bit = 1;
    while bit < 32 {
        shifts[bit] = product(shifts[bit - 1], shifts[bit - 1]);
        bit += 1;
    }
    shifts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_piece_changes_nothing() {
        let crc = crc32c::crc32c(b"123456789");
        assert_eq!(crc, 0xe306_9283, "the check value of RFC 3720");
        assert_eq!(concatenated(crc, crc32c::crc32c(b""), 0), crc);
        assert_eq!(concatenated(crc32c::crc32c(b""), crc, 9), crc);
    }

    proptest! {
        #[test]
        fn it_is_the_checksum_of_both_pieces(
            first in prop::collection::vec(any::<u8>(), 0..300),
            second in prop::collection::vec(any::<u8>(), 0..70_000),
        ) {
            let (of_first, of_second) = (crc32c::crc32c(&first), crc32c::crc32c(&second));
            let both = [first, second.clone()].concat();
            prop_assert_eq!(concatenated(of_first, of_second, second.len() as u32), crc32c::crc32c(&both));
        }
    }
}
