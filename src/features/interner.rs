//! Equal texts, kept once: the same few domains are asked for by everybody.

use std::sync::Arc;

use super::Lately;

/// Texts told apart at once, more or less; what is rarer is kept as often as it comes.
const MAX: usize = 1 << 12;

/// Gives the same text for the same letters.
#[derive(Debug)]
pub struct Interner(Lately<Arc<str>>);

impl Default for Interner {
    fn default() -> Self {
        Self(Lately::new(MAX))
    }
}

impl Interner {
    /// A text that shares its room with others like it.
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(&text).filter(|known| ***known == *text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.put(&text, Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_many_are_bounded() {
        let mut texts = Interner::default();
        let first = texts.intern("shop.example");
        assert!(Arc::ptr_eq(&first, &texts.intern("shop.example")));
        for n in 0..3 * MAX {
            assert_eq!(*texts.intern(&n.to_string()), *n.to_string());
        }
        assert_eq!(*texts.intern("shop.example"), *first);
        assert_eq!(Arc::strong_count(&first), 1, "forgotten by then");
    }
}
