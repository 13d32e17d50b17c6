//! Oddities of a packet, as a small set: reported beside what could be read, never instead of it.

/// A set of oddities.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Anomalies(u8);

impl Anomalies {
    /// The capture holds less of the frame than was on the wire.
    pub const SNAPLEN: Self = Self(1);
    /// A length field says more than the frame ever held.
    pub const LENGTH: Self = Self(1 << 1);
    /// The transport header was cut short or contradicts itself.
    pub const TRANSPORT: Self = Self(1 << 2);
    /// IPv6 extension headers could not be followed to their end.
    pub const EXTENSION: Self = Self(1 << 3);
    /// More VLAN tags or more tunnels in each other than are read.
    pub const NESTING: Self = Self(1 << 4);

    /// A tunnel between ends that aren't trusted to have one; it was left closed.
    pub const FORGED: Self = Self(1 << 5);

    /// Adds to the set.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether all of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing was odd.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
