//! What the names of a domain end in again and again, which carries nothing: a zone (`ebl`, `zen.dq`), a customer's key.

use std::hash::{BuildHasher, RandomState};

use crate::features::push_tight;

/// Endings remembered per domain, those met last.
const REMEMBERED: usize = 16;
/// So many labels an ending has at most.
const LABELS: usize = 4;

/// The endings of a domain's names, by hash, the last one met last. Most domains have none.
#[derive(Default, Debug)]
pub(super) struct Endings(Vec<u64>);

impl Endings {
    /// What a name has before the longest ending that another one had, too. Notes its endings.
    pub(super) fn before<'n>(&mut self, name: &'n str, hasher: &RandomState) -> &'n str {
        let mut new = name;
        for (at, _) in name.rmatch_indices('.').take(LABELS) {
            let (head, ending) = name.split_at(at);
            if self.meet(hasher.hash_one(ending)) {
                new = head;
            }
        }
        new
    }

    /// Whether an ending is known; it is now.
    fn meet(&mut self, ending: u64) -> bool {
        let Self(known) = self;
        if let Some(place) = known.iter().position(|one| *one == ending) {
            if let Some(since) = known.get_mut(place..) {
                since.rotate_left(1);
            }
            return true;
        }
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        push_tight(known, ending);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_end_in_again_carries_nothing() {
        let hasher = RandomState::new();
        let mut endings = Endings::default();
        let mut before = |name: &str| endings.before(name, &hasher).to_owned();
        // Of the first one nobody knows what comes again.
        assert_eq!(before("3.2.0.192.key.zen.dq"), "3.2.0.192.key.zen.dq");
        assert_eq!(before("4.2.0.192.key.zen.dq"), "4.2.0");
        assert_eq!(before("9.100.51.198.key.zen.dq"), "9.100.51.198");
        assert_eq!(before("somebody.key.dbl.dq"), "somebody.key.dbl");
        assert_eq!(before("else.key.dbl.dq"), "else");
        assert_eq!(before("7.2.0.203.key.zen.dq"), "7.2.0.203");
        assert_eq!(before("alone"), "alone");
        // Data in every label.
        for n in 0..40 {
            let name = format!("{n}a.{n}b.{n}c.{n}d.{n}e");
            assert_eq!(before(&name), name);
        }
    }
}
