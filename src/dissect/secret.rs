//! Marks of secrets: whether two are the same, and nothing else.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// A mark of a secret that was sent in clear: equal for equal secrets within one run of the program. It is made with a
/// key that is drawn at random when the program starts and never leaves it, so it tells nobody anything; to be sure, it
/// doesn't show itself either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretMark(u64);

/// SipHash keys.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl SecretMark {
    /// The mark of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(KEYS.hash_one(secret))
    }
}

impl fmt::Debug for SecretMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretMark")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_for_equal_secrets_and_silent() {
        assert_eq!(SecretMark::of(b"hunter2"), SecretMark::of(b"hunter2"));
        assert_ne!(SecretMark::of(b"hunter2"), SecretMark::of(b"hunter3"));
        assert_eq!(format!("{:?}", SecretMark::of(b"hunter2")), "SecretMark");
    }
}
