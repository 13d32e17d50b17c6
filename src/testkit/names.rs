//! Generated names as Kubernetes makes them: random suffixes, template hashes, job names.
//!
//! The alphabets are those of apimachinery's `rand` package: no vowels, so that nothing rude comes out, and nothing that
//! is easily misread.

use super::rng::Rng;
use crate::time::Timestamp;

/// The 27 characters of a random suffix.
pub const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The five random characters at the end of a generated name.
pub fn suffix(rng: &mut Rng) -> String {
    rng.text(SUFFIX_ALPHABET, 5)
}

/// The `pod-template-hash` of a template: its 32-bit FNV-1a hash in decimal, each digit's character code replaced by the
/// suffix alphabet's character at that code modulo 27.
pub fn template_hash(template: &str) -> String {
    let hash = template.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_string()
        .bytes()
        .map(|digit| char::from(SUFFIX_ALPHABET[usize::from(digit) % SUFFIX_ALPHABET.len()]))
        .collect()
}

/// The Job that a CronJob makes for a time: named by minutes since the epoch.
pub fn cron_job(name: &str, scheduled: Timestamp) -> String {
    format!("{name}-{}", scheduled.nanos() / 60_000_000_000)
}

/// A Kubernetes uid: a random UUID (RFC 9562 version 4).
pub fn uid(rng: &mut Rng) -> String {
    let mut bytes: [u8; 16] = rng.array();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let group = |range: std::ops::Range<usize>| hex[range].concat();
    [
        group(0..4),
        group(4..6),
        group(6..8),
        group(8..10),
        group(10..16),
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_hashes_use_the_ten_characters_digits_map_to() {
        let hash = template_hash("web:1");
        assert!((7..=10).contains(&hash.len()), "{hash}");
        assert!(hash.chars().all(|c| "456789bcdf".contains(c)), "{hash}");
        // Digits '0' and '9' have codes 48 and 57: characters 21 and 3 of the alphabet.
        assert_eq!(SUFFIX_ALPHABET[48 % 27], b'4');
        assert_eq!(SUFFIX_ALPHABET[57 % 27], b'f');
    }

    #[test]
    fn cron_jobs_count_minutes() {
        let nine = Timestamp::from_secs(1_772_442_000);
        assert_eq!(cron_job("pg-backup", nine), "pg-backup-29540700");
    }

    #[test]
    fn uids_are_version_four() {
        let uid = uid(&mut Rng::new(3));
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
    }
}
