//! Spanwatch: container traffic, seen from the network.
//!
//! Data goes one way, and the modules stand in its order:
//!
//! ```text
//! capture ─▶ decode ─▶ flow ─▶ identity ─▶ dissect ─▶ event ─▶ features ─▶ baseline ─▶ detectors ─▶ alert ─▶ sinks
//! ```
//!
//! [`pipeline`] composes the stages without I/O, clocks or threads; `cli` drives it. A module uses only modules
//! that stand before it, which a test checks.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    expect(
        clippy::float_cmp,
        clippy::needless_pass_by_value,
        reason = "tests compare exact results and read better with owned arguments"
    )
)]

pub mod address;
pub mod memory;
pub mod telemetry;
pub mod time;

pub mod capture;
pub mod decode;
pub mod flow;
pub mod identity;

pub mod dissect;
pub mod event;
pub mod features;

pub mod baseline;
pub mod signature;

pub mod detectors;

pub mod alert;

pub mod report;
pub mod sinks;

pub mod pipeline;

#[cfg(target_os = "linux")]
pub mod runtime;

pub mod cli;

#[cfg(feature = "testkit")]
pub mod testkit;
