//! Every way in which something seen on the wire fails to reach a detector, as one enum.
//!
//! A reader of an alert must be able to tell "quiet" from "blind". So each place that gives something up counts it
//! here, under a cause of its own.

use std::fmt;

macro_rules! losses {
    ($($(#[$doc:meta])+ $name:ident = $label:literal: $text:literal;)+) => {
        /// One cause of loss.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Loss { $($(#[$doc])+ $name,)+ }

        impl Loss {
            /// Every cause, in display order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable name used in JSON and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// What it means, for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

losses! {
    /// A frame that the kernel had no room for: it came faster than it was read.
    Kernel = "kernel": "packet dropped by the kernel, which had no room left for it";
    /// A frame that the interface or its driver dropped before the kernel saw it.
    Interface = "interface": "packet dropped by the network interface or its driver";
    /// A frame that was captured and never read: left in the kernel's buffer at the end, or when its interface went.
    Unread = "unread": "packet captured, but not read before the capture ended";
    /// A result that a sink couldn't take in time.
    SinkFull = "sink_full": "alert or flow record not delivered, its sink was behind";
    /// A capture file ended in the middle of a record.
    FileTruncated = "file_truncated": "capture file ended inside a record";
    /// A record or block of a capture file could not be read; the rest of that file was given up.
    FileDamaged = "file_damaged": "capture file damaged, rest of it not read";
    /// A frame on an interface whose link type is not understood.
    LinkType = "link_type": "frame of an unsupported link type";
    /// A frame whose headers could not be followed to an address.
    Undecodable = "undecodable": "frame too short or malformed to find its addresses";
    /// A frame cut by the capture's snap length: headers kept, payload partly missing.
    Snaplen = "snaplen": "frame cut short by the capture's snap length";
    /// A fragment of an IP datagram that never became whole.
    Fragment = "fragment": "IP fragment of a datagram that never became whole";
    /// A fragment thrown away, alone or with all the others, because it overlapped them or disagreed with them.
    FragmentOverlap = "fragment_overlap": "IP fragment thrown away because it overlaps others";
    /// A tunnel whose ends have no business carrying others' packets: left closed.
    TunnelRefused = "tunnel_refused": "tunnel from a pod or from outside left closed";
    /// A flow that may have gone on, dropped from the table to make room for another.
    FlowEvicted = "flow_evicted": "flow evicted because the flow table was full";
    /// Bytes of a TCP stream that never came (or came too late), so a dissector skipped them.
    StreamGap = "stream_gap": "gap in a TCP stream";
    /// A dissector gave up on a flow: its bytes were not the protocol they had looked like, or a message passed its bound.
    DissectorGaveUp = "dissector_gave_up": "protocol parser gave up on a flow";
    /// A detector forgot an old subject to make room for a new one.
    DetectorEvicted = "detector_evicted": "detector state evicted at its bound";
    /// The baseline refused a new entry because a profile was at its bound.
    BaselineFull = "baseline_full": "baseline profile at its bound, entry not learned";
    /// An alert was not opened because too many were open.
    AlertBudget = "alert_budget": "alert not opened, too many are open";
}

/// A counter per cause.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LossCounts([u64; Loss::ALL.len()]);

impl LossCounts {
    /// Counts one loss.
    pub fn add(&mut self, loss: Loss) {
        self.add_n(loss, 1);
    }

    /// Counts `n` losses of one cause.
    pub fn add_n(&mut self, loss: Loss, n: u64) {
        if let Some(count) = self.0.get_mut(loss as usize) {
            *count = count.saturating_add(n);
        }
    }

    /// How many were lost to this cause.
    pub fn get(&self, loss: Loss) -> u64 {
        self.0.get(loss as usize).copied().unwrap_or(0)
    }

    /// The causes with a count, in display order.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> + '_ {
        Loss::ALL
            .iter()
            .map(|&loss| (loss, self.get(loss)))
            .filter(|&(_, count)| count > 0)
    }

    /// Adds another set of counters to this one.
    pub fn merge(&mut self, other: &Self) {
        for (loss, count) in other.iter() {
            self.add_n(loss, count);
        }
    }

    /// What was lost since `earlier`, a former copy of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = Self::default();
        for (loss, count) in self.iter() {
            delta.add_n(loss, count.saturating_sub(earlier.get(loss)));
        }
        delta
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_cause_and_window() {
        let mut counts = LossCounts::default();
        counts.add(Loss::StreamGap);
        let before = counts.clone();
        counts.add_n(Loss::StreamGap, 2);
        counts.add(Loss::FlowEvicted);
        let window = counts.since(&before);
        assert_eq!(window.get(Loss::StreamGap), 2);
        assert_eq!(window.get(Loss::FlowEvicted), 1);
        assert_eq!(window.iter().count(), 2);
    }

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<_> = Loss::ALL.iter().map(|loss| loss.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Loss::ALL.len());
    }
}
