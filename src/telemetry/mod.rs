//! What the program knows about itself: losses by cause. Usable from everywhere, knows nothing of packets.

mod loss;

pub use loss::{Loss, LossCounts};
