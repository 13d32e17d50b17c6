//! What ClickHouse's packets are made of: numbers of a varying length, bytes of a known one, text after its length.

use super::super::buffer;

/// The longest text that makes sense.
const MAX_TEXT: u64 = 1 << 30;

/// What comes next.
#[derive(Clone, Copy)]
pub(super) enum Want {
    /// Seven bits a byte, the lowest first.
    Number,
    Bytes(u8),
    /// So much of it is kept.
    Text(u16),
}

pub(super) enum Unit {
    Number(u64),
    /// The first bytes, and how many there are in all.
    Bytes(Vec<u8>, u64),
    Bad,
}

/// One direction.
#[derive(Default)]
pub(super) struct Units {
    held: Vec<u8>,
    /// The number under way.
    value: u64,
    shift: u32,
    /// The length of the text under way.
    length: Option<u64>,
    /// Bytes to pass over.
    left: u64,
    /// Bytes taken in all, and those passed over unread.
    taken: u64,
    skipped: u64,
}

impl Units {
    /// The next unit, if all of it is here that is kept.
    pub(super) fn next(&mut self, data: &mut &[u8], want: Want) -> Option<Unit> {
        let passed = self.take(data, self.left).len() as u64;
        self.left = self.left.saturating_sub(passed);
        self.skipped = self.skipped.saturating_add(passed);
        if self.left > 0 {
            return None;
        }
        match want {
            Want::Number => self.number(data),
            Want::Bytes(length) => self.bytes(data, length.into(), length.into()),
            Want::Text(keep) => {
                let length = match self.length {
                    Some(length) => length,
                    None => match self.number(data)? {
                        Unit::Number(length) if length <= MAX_TEXT => *self.length.insert(length),
                        _ => return Some(Unit::Bad),
                    },
                };
                let text = self.bytes(data, length, keep.into());
                if text.is_some() {
                    self.length = None;
                }
                text
            }
        }
    }

    /// A number, if its end is here; bad if it has none.
    fn number(&mut self, data: &mut &[u8]) -> Option<Unit> {
        loop {
            let byte = *self.take(data, 1).first()?;
            self.value |= u64::from(byte & 0x7f) << self.shift;
            self.shift = self.shift.saturating_add(7);
            let ended = byte & 0x80 == 0;
            if ended || self.shift >= u64::BITS {
                self.shift = 0;
                let value = std::mem::take(&mut self.value);
                return Some(if ended {
                    Unit::Number(value)
                } else {
                    Unit::Bad
                });
            }
        }
    }

    fn bytes(&mut self, data: &mut &[u8], length: u64, keep: u64) -> Option<Unit> {
        let kept = length.min(keep);
        let part = self.take(data, kept.saturating_sub(self.held.len() as u64));
        if !buffer::append(&mut self.held, part, usize::from(u16::MAX)) {
            return Some(Unit::Bad);
        }
        if (self.held.len() as u64) < kept {
            return None;
        }
        self.left = length.saturating_sub(kept);
        Some(Unit::Bytes(std::mem::take(&mut self.held), length))
    }

    fn take<'a>(&mut self, data: &mut &'a [u8], len: u64) -> &'a [u8] {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (part, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
        *data = rest;
        self.taken = self.taken.saturating_add(part.len() as u64);
        part
    }

    /// Passes over all there is.
    pub(super) fn pass(&mut self, data: &mut &[u8]) {
        let passed = self.take(data, u64::MAX).len() as u64;
        self.skipped = self.skipped.saturating_add(passed);
    }

    /// Passes over so many bytes to come.
    pub(super) const fn pass_next(&mut self, length: u64) {
        self.left = length;
    }

    /// Bytes are missing: says whether all of them were to be passed over. If not, a new unit begins.
    pub(super) fn skip_gap(&mut self, gap: u64) -> bool {
        let known = gap <= self.left && self.held.is_empty() && self.shift == 0;
        if known {
            self.left = self.left.saturating_sub(gap);
            self.taken = self.taken.saturating_add(gap);
        } else {
            self.restart();
        }
        known
    }

    /// The next byte begins something new.
    pub(super) fn restart(&mut self) {
        *self = Self {
            taken: self.taken,
            skipped: self.skipped,
            ..Self::default()
        };
    }

    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes kept for later.
    pub(super) const fn held(&self) -> usize {
        self.held.capacity()
    }

    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }
}
