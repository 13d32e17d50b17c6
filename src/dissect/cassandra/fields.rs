//! What a message's body is made of. Numbers have their highest byte first, text its length before it.

/// How deep a column's type may be: lists of maps of tuples.
const MAX_DEPTH: u32 = 8;

/// What is left of a body, of which the end may be missing.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }

    pub(super) fn up_to(&mut self, len: usize) -> &'a [u8] {
        let (part, rest) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        self.0 = rest;
        part
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn be16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    pub(super) fn be32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.be16()?;
        self.take(length.into())
    }

    pub(super) fn texts(&mut self) -> Option<()> {
        for _ in 0..self.be16()? {
            self.text()?;
        }
        Some(())
    }

    /// Names and bytes of any length.
    pub(super) fn payload(&mut self) -> Option<()> {
        for _ in 0..self.be16()? {
            self.text()?;
            let length = i32::from_be_bytes(*self.take(4)?.first_chunk()?);
            self.take(usize::try_from(length).unwrap_or_default())?;
        }
        Some(())
    }

    /// The value of one of the settings that are left.
    pub(super) fn setting(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        let mut fields = Self(self.0);
        for _ in 0..fields.be16()? {
            let name = fields.text()?;
            let value = fields.text()?;
            if name == wanted {
                return Some(value);
            }
        }
        None
    }

    /// The first of the values that a name has.
    pub(super) fn first_of(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        let mut fields = Self(self.0);
        for _ in 0..fields.be16()? {
            let name = fields.text()?;
            if name == wanted {
                return fields
                    .be16()
                    .filter(|count| *count > 0)
                    .and_then(|_| fields.text());
            }
            fields.texts()?;
        }
        None
    }

    /// How many rows a result has.
    pub(super) fn rows(&mut self) -> Option<u64> {
        const ROWS: u32 = 2;
        const ONE_TABLE: u32 = 1;
        const MORE_PAGES: u32 = 2;
        const NO_COLUMNS: u32 = 4;
        const CHANGED: u32 = 8;
        if self.be32()? != ROWS {
            return Some(0);
        }
        let flags = self.be32()?;
        let columns = self.be32()?;
        if flags & MORE_PAGES != 0 {
            let length = self.be32()?;
            self.take(length as usize)?;
        }
        if flags & CHANGED != 0 {
            self.text()?;
        }
        if flags & NO_COLUMNS == 0 {
            if flags & ONE_TABLE != 0 {
                self.text()?;
                self.text()?;
            }
            for _ in 0..columns {
                if flags & ONE_TABLE == 0 {
                    self.text()?;
                    self.text()?;
                }
                self.text()?;
                self.kind(MAX_DEPTH)?;
            }
        }
        self.be32().map(u64::from)
    }

    /// Passes over a column's type.
    fn kind(&mut self, depth: u32) -> Option<()> {
        let deeper = depth.checked_sub(1)?;
        match self.be16()? {
            0x0000 => drop(self.text()?),
            0x0020 | 0x0022 => self.kind(deeper)?,
            0x0021 => {
                self.kind(deeper)?;
                self.kind(deeper)?;
            }
            0x0030 => {
                self.text()?;
                self.text()?;
                for _ in 0..self.be16()? {
                    self.text()?;
                    self.kind(deeper)?;
                }
            }
            0x0031 => {
                for _ in 0..self.be16()? {
                    self.kind(deeper)?;
                }
            }
            _ => {}
        }
        Some(())
    }
}
