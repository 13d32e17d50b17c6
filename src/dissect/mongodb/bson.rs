//! BSON, as far as it is here: fields of a document whose end may be missing.
//!
//! The crates for it want whole documents, and we keep only their beginnings.

/// A document's fields.
#[derive(Clone, Copy, Default)]
pub(super) struct Document<'a> {
    rest: &'a [u8],
}

/// Goes through a document's fields.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// A field's value, if it is of use here.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    Double(f64),
    Bool(bool),
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Document(Document<'a>),
    Array(Document<'a>),
    Null,
    Other,
}

impl<'a> Document<'a> {
    /// From its length on.
    pub(super) fn parse(bytes: &'a [u8]) -> Self {
        let length = super::le32(bytes, 0).unwrap_or_default() as usize;
        let end = length.min(bytes.len());
        Self {
            rest: bytes.get(4..end).unwrap_or_default(),
        }
    }

    /// The value of a field.
    pub(super) fn get(self, name: &[u8]) -> Option<Value<'a>> {
        let mut fields = self.fields();
        fields.find_map(|(known, value)| (known == name).then_some(value))
    }

    pub(super) const fn fields(self) -> Fields<'a> {
        Fields { rest: self.rest }
    }

    /// Whether it has no field.
    pub(super) fn is_empty(self) -> bool {
        self.fields().next().is_none()
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(part)
    }

    fn until_zero(&mut self) -> Option<&'a [u8]> {
        let len = self.rest.iter().position(|byte| *byte == 0)?;
        let text = self.take(len)?;
        self.take(1)?;
        Some(text)
    }

    fn length(&mut self) -> Option<usize> {
        let length = super::le32(self.take(4)?, 0)?;
        usize::try_from(length).ok()
    }

    /// Text after its length, which counts the zero byte at its end.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let text = self.take(length)?;
        text.split_last().map(|(_, text)| text)
    }

    /// A document within, even if its end isn't here; then that was the last field.
    fn within(&mut self) -> Option<Document<'a>> {
        let length = super::le32(self.rest, 0)? as usize;
        let document = Document::parse(self.rest);
        self.rest = self.rest.get(length.max(4)..).unwrap_or_default();
        Some(document)
    }

    fn field(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let kind = *self.take(1)?.first()?;
        if kind == 0 {
            return None;
        }
        let name = self.until_zero()?;
        let value = match kind {
            0x01 => Value::Double(f64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            0x02 => Value::Text(self.text()?),
            0x03 => Value::Document(self.within()?),
            0x04 => Value::Array(self.within()?),
            0x05 => {
                let length = self.length()?;
                self.take(1)?;
                Value::Binary(self.take(length)?)
            }
            0x08 => Value::Bool(*self.take(1)?.first()? != 0),
            0x0a => Value::Null,
            0x10 => Value::Int(i32::from_le_bytes(*self.take(4)?.first_chunk()?).into()),
            0x12 => Value::Int(i64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            0x06 | 0x7f | 0xff => Value::Other,
            0x07 => self.take(12).map(|_| Value::Other)?,
            0x09 | 0x11 => self.take(8).map(|_| Value::Other)?,
            0x0b => {
                self.until_zero()?;
                self.until_zero()?;
                Value::Other
            }
            0x0c => {
                self.text()?;
                self.take(12).map(|_| Value::Other)?
            }
            0x0d | 0x0e => self.text().map(|_| Value::Other)?,
            0x0f => {
                self.within()?;
                Value::Other
            }
            0x13 => self.take(16).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((name, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        field
    }
}

impl<'a> Value<'a> {
    /// A number, of whatever kind.
    pub(super) const fn number(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Double(number) => Some(number as i64),
            Self::Bool(yes) => Some(yes as i64),
            _ => None,
        }
    }

    pub(super) const fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) const fn document(self) -> Option<Document<'a>> {
        match self {
            Self::Document(document) => Some(document),
            _ => None,
        }
    }

    pub(super) const fn array(self) -> Option<Document<'a>> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }
}
