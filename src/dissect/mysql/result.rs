//! Where the answer to a command begins and ends, how many rows it has, and how many bytes.

use super::login::Fields;
use super::{ERROR, FULL};

const OK: u8 = 0x00;
/// Ends columns or rows; also a length of eight bytes, but only of packets that are full.
const END: u8 = 0xfe;
/// The client is to send a file.
const FILE: u8 = 0xfb;
/// Status: another result follows.
const MORE_RESULTS: u16 = 0x0008;

/// The answer under way.
#[derive(Default)]
pub(super) struct Results {
    place: Place,
    deprecates_eof: bool,
    rows: u64,
    bytes: u64,
    /// Whether the next packet goes on with a full one.
    continues: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Nothing is awaited that is worth reporting.
    #[default]
    Idle,
    /// The first packet of an answer; to the preparing of a statement or to something else.
    First {
        prepares: bool,
    },
    /// So many columns' descriptions are to come; then rows, or first an end of columns.
    Columns(u64),
    Rows,
}

/// What a packet means.
pub(super) enum Answer {
    More,
    Result { rows: Option<u64>, bytes: u64 },
    Error { bytes: u64 },
}

impl Results {
    pub(super) fn new(deprecates_eof: bool) -> Self {
        Self {
            deprecates_eof,
            ..Self::default()
        }
    }

    pub(super) const fn deprecates_eof(&self) -> bool {
        self.deprecates_eof
    }

    /// A command was sent that is answered by a result. If another's answer hasn't begun yet, that one comes first.
    pub(super) const fn expect(&mut self, prepares: bool) {
        if !matches!(self.place, Place::First { .. }) {
            self.place = Place::First { prepares };
        }
    }

    /// A command was sent whose answer isn't reported.
    pub(super) const fn forget(&mut self) {
        self.place = Place::Idle;
    }

    /// Whether the packets to come are many and small.
    pub(super) const fn in_mass(&self) -> bool {
        !matches!(self.place, Place::First { .. })
    }

    /// Takes a packet's first bytes, and its length.
    pub(super) fn take(&mut self, body: &[u8], length: u32) -> Answer {
        let continued = std::mem::replace(&mut self.continues, length == FULL);
        let first = body.first().copied();
        match self.place {
            Place::Idle => Answer::More,
            Place::First { prepares } => self.begin(body, prepares),
            Place::Columns(_) | Place::Rows if first == Some(ERROR) && !continued => {
                self.place = Place::Idle;
                let bytes = std::mem::take(&mut self.bytes);
                Answer::Error { bytes }
            }
            Place::Columns(left) => {
                self.place = match left.checked_sub(1) {
                    Some(0) if self.deprecates_eof => Place::Rows,
                    Some(left) => Place::Columns(left),
                    None => Place::Rows,
                };
                Answer::More
            }
            Place::Rows if first == Some(END) && length < FULL && !continued => self.end(body),
            Place::Rows => {
                self.rows = self.rows.saturating_add(u64::from(!continued));
                self.bytes = self.bytes.saturating_add(length.into());
                Answer::More
            }
        }
    }

    fn begin(&mut self, body: &[u8], prepares: bool) -> Answer {
        self.place = Place::Idle;
        (self.rows, self.bytes) = (0, 0);
        match body.first() {
            Some(&ERROR) => Answer::Error { bytes: 0 },
            Some(&OK) if prepares => Answer::More,
            Some(&OK) => {
                let mut fields = Fields(body.get(1..).unwrap_or_default());
                let rows = fields.number();
                self.go_on(fields.number().and_then(|_| status(fields.0)));
                Answer::Result { rows, bytes: 0 }
            }
            // Its answer comes after the file.
            Some(&FILE) => {
                self.place = Place::First { prepares: false };
                Answer::More
            }
            _ => {
                if let Some(columns) = Fields(body).number().filter(|count| *count > 0) {
                    self.place = Place::Columns(columns);
                }
                Answer::More
            }
        }
    }

    fn end(&mut self, body: &[u8]) -> Answer {
        let fields = body.get(1..).unwrap_or_default();
        let status = if self.deprecates_eof {
            let mut fields = Fields(fields);
            let counts = fields.number().and_then(|_| fields.number());
            counts.and_then(|_| status(fields.0))
        } else {
            fields.get(2..).and_then(status)
        };
        self.go_on(status);
        Answer::Result {
            rows: Some(std::mem::take(&mut self.rows)),
            bytes: std::mem::take(&mut self.bytes),
        }
    }

    fn go_on(&mut self, status: Option<u16>) {
        self.place = if status.is_some_and(|status| status & MORE_RESULTS != 0) {
            Place::First { prepares: false }
        } else {
            Place::Idle
        };
    }
}

fn status(bytes: &[u8]) -> Option<u16> {
    bytes.get(..2).map(super::le16)
}
