//! Events to numbers: what a name tells, whom a flow really reaches, how often things happen. Knows no detector and no
//! baseline.

mod acquaintances;
mod contacts;
mod histogram;
mod names;
mod peers;
mod rates;
mod sequential;
mod services;

pub use acquaintances::Acquaintances;
pub use contacts::{
    ContactLines, FirstContact, Line, Member, Source, SourceKey, source_key, success,
};
pub use histogram::LogHistogram;
pub use names::{DomainName, information_bits};
pub use peers::{Contact, PeerNamer, Role};
pub use rates::{Rate, RateWindows};
pub use sequential::SequentialTest;
pub use services::{DatabaseProduct, database_product};
