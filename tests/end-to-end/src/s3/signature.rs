//! AWS signature version 4, for requests whose body is not signed.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use crate::servers::{ACCESS_KEY, REGION, SECRET_KEY};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

/// What `x-amz-content-sha256` says when the body isn't part of the signature.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A moment as `YYYYMMDDTHHMMSSZ`.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    timestamp(since.as_secs())
}

/// The `authorization` header of a request with the headers `host`, `x-amz-content-sha256` and `x-amz-date`. `query` is
/// sorted and percent-encoded, as is `path`.
pub(super) fn authorization(method: &str, host: &str, path: &str, query: &str, timestamp: &str) -> String {
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{UNSIGNED}\nx-amz-date:{timestamp}\n\n{signed}\n{UNSIGNED}"
    );
    let day = &timestamp[..8];
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let digest = hex::encode(Sha256::digest(canonical));
    let to_sign = format!("AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}");
    let signature = hex::encode(mac(&signing_key(day), &to_sign));
    format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={signed}, Signature={signature}")
}

fn signing_key(day: &str) -> Vec<u8> {
    let secret = format!("AWS4{SECRET_KEY}").into_bytes();
    [day, REGION, "s3", "aws4_request"].iter().fold(secret, |key, part| mac(&key, part))
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Percent-encodes all but unreserved characters, and all but `keep`.
pub(super) fn encode(text: &str, keep: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            encoded.push(c);
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        encoded
    })
}

/// Seconds since the epoch as a UTC timestamp. The date comes from Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>): years that begin in March make leap days fall at the end.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// A moment's date as `YYYY-MM-DD`.
pub(super) fn date_of(timestamp: &str) -> String {
    format!("{}-{}-{}", &timestamp[..4], &timestamp[4..6], &timestamp[6..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_utc_dates() {
        assert_eq!(timestamp(0), "19700101T000000Z");
        assert_eq!(timestamp(951_827_696), "20000229T123456Z");
        assert_eq!(timestamp(1_795_230_151), "20261121T030231Z");
    }

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(encode("a/b c~é", "/"), "a/b%20c~%C3%A9");
    }
}
