//! Units of time of a pcapng interface: powers of ten or of two, from an offset. Saturates, knows no blocks.
//!
//! pcap-parser's own conversion knows no powers of two.

use crate::time::Timestamp;

/// How an interface counts time.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    unit: Unit,
    /// Nanoseconds to add to every stamp.
    offset: i64,
}

#[derive(Clone, Copy)]
enum Unit {
    /// A unit is so many nanoseconds.
    Nanos(i64),
    /// So many units are a nanosecond.
    PerNano(u64),
    /// 2^n units are a second.
    Binary(u32),
}

impl Clock {
    /// From an interface's if_tsresol and if_tsoffset, the latter in seconds (draft-ietf-opsawg-pcapng, 4.2).
    pub(super) fn new(resolution: u8, offset_secs: i64) -> Self {
        let exponent = u32::from(resolution & 0x7f);
        let unit = if resolution & 0x80 != 0 {
            Unit::Binary(exponent)
        } else if let Some(nanos) = 9_u32.checked_sub(exponent) {
            Unit::Nanos(10_i64.pow(nanos))
        } else {
            Unit::PerNano(10_u64.checked_pow(exponent - 9).unwrap_or(u64::MAX))
        };
        Self {
            unit,
            offset: Timestamp::from_secs(offset_secs).nanos(),
        }
    }

    /// The time at which so many units had passed.
    #[inline]
    pub(super) fn stamp(self, ticks: u64) -> Timestamp {
        let nanos = match self.unit {
            Unit::Nanos(nanos) => i64::try_from(ticks)
                .unwrap_or(i64::MAX)
                .saturating_mul(nanos),
            Unit::PerNano(units) => i64::try_from(ticks / units).unwrap_or(i64::MAX),
            Unit::Binary(bits) => {
                let nanos = (u128::from(ticks) * 1_000_000_000) >> bits;
                i64::try_from(nanos).unwrap_or(i64::MAX)
            }
        };
        Timestamp::from_nanos(nanos.saturating_add(self.offset))
    }
}
