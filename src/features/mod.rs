//! Events to numbers: distinct counts, information rates, sequential tests. Knows no detector and no baseline.
