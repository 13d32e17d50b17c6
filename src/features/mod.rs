//! Events to numbers: what a name tells, whom a flow really reaches, how often things happen. Knows no detector and no
//! baseline.

mod acquaintances;
mod attempts;
mod contacts;
mod habits;
mod histogram;
mod names;
mod peers;
mod rates;
mod refusals;
mod sequential;
mod services;
mod vocabulary;

pub use acquaintances::Acquaintances;
pub use attempts::{
    Account, Attempt, Attempts, Breakin, Crowd, Guesser, GuesserKey, Server, Taken,
};
pub use contacts::{
    ContactLines, FirstContact, Line, Member, Source, SourceKey, source_key, success,
};
pub use habits::Habits;
pub use histogram::LogHistogram;
pub use names::{DomainName, information_bits};
pub use peers::{Contact, PeerClass, PeerNamer, Role};
pub use rates::{Rate, RateWindows, Sample};
pub use refusals::refuses_credentials;
pub use sequential::SequentialTest;
pub use services::{DatabaseProduct, database_product};
pub use vocabulary::{Vocabulary, statement_word, words};
