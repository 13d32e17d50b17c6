//! Traffic made up from a seed: the captures under `captures/`, and what benches and tests feed on.
//!
//! Everything here is a pure function of its seed: no clock, no hash map order, no floating-point function whose last bit
//! depends on the machine. It serves every module and none of them uses it, except in tests.
//!
//! ```text
//! rng ─▶ wire (frames) ─▶ scene (recording) ─▶ talk (conversations) ─▶ background, scenarios ─▶ catalogue (files)
//! ```
#![expect(
    clippy::expect_used,
    reason = "a generator that contradicts itself must stop at once, not write a wrong capture"
)]

pub mod background;
pub mod bulk;
pub mod catalogue;
pub mod cluster;
pub mod dissected;
pub mod inventory;
pub mod names;
pub mod pcap;
pub mod plot;
pub mod relays;
pub mod resolver;
pub mod rng;
pub mod scenarios;
pub mod scene;
pub mod talk;
pub mod wire;
pub mod wrapped;
