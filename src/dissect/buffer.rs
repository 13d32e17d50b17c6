//! The one way in which dissectors keep bytes for later: never past a limit, never more memory than the limit.

/// Appends `bytes`, unless `buffer` would then hold more than `limit` bytes; says whether it did.
///
/// Memory grows with what arrives, by doubling, so a peer that only announces much costs nothing, and one that drips
/// costs no copying to speak of.
#[must_use]
pub(super) fn append(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize) -> bool {
    let wanted = buffer.len().saturating_add(bytes.len());
    if wanted > limit {
        return false;
    }
    if wanted > buffer.capacity() {
        let roomy = wanted.max(buffer.capacity().saturating_mul(2)).min(limit);
        buffer.reserve_exact(roomy.saturating_sub(buffer.len()));
    }
    buffer.extend_from_slice(bytes);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_length_nor_memory_passes_the_limit() {
        let mut buffer = Vec::new();
        for _ in 0..1000 {
            assert!(append(&mut buffer, b"x", 1000));
        }
        assert!(!append(&mut buffer, b"x", 1000));
        assert_eq!(buffer.len(), 1000);
        assert_eq!(buffer.capacity(), 1000);
    }
}
