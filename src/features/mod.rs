//! Events to numbers: what a name tells, whom a flow really reaches, how often things happen. Knows no detector and no
//! baseline.

mod acquaintances;
mod attempts;
mod bounded;
mod by_use;
mod contacts;
mod control_plane;
mod coupling;
mod debuts;
mod habits;
mod histogram;
mod inner_tcp;
mod interner;
mod lately;
mod names;
mod nested;
mod passages;
mod peers;
mod rates;
mod recollection;
mod refusals;
mod registry_names;
mod regularity;
mod releases;
mod sequential;
mod services;
mod siblings;
mod small;
mod throng;
mod utterances;
mod vocabulary;

pub use acquaintances::Acquaintances;
pub use attempts::{
    Account, Attempt, Attempts, Breakin, Campaign, Crowd, Guesser, GuesserKey, Server, Taken,
};
pub use bounded::Bounded;
pub use by_use::by_use;
pub use contacts::{
    ContactLines, FirstContact, Line, Member, Source, SourceKey, source_key, success,
};
pub use control_plane::{Component, Wanted, is_metadata};
pub use coupling::{Coupling, Likeness, Strength};
pub use debuts::{Callee, Debuts, goes_out, is_of_pods, is_outside};
pub use habits::Habits;
pub use histogram::LogHistogram;
pub use inner_tcp::carries_tcp;
pub use interner::Interner;
pub use lately::Lately;
pub use names::{
    ClusterName, DomainName, information_bits, is_listed_address, randomness_bits, reverse_address,
};
pub use nested::{Sized, begins_ssh, begins_tls, grid_bits};
pub use passages::{Glance, Passage, Passages, Span};
pub use peers::{Contact, PeerClass, PeerNamer, Role, network_name};
pub use rates::{Rate, RateWindows, Sample};
pub use refusals::refuses_credentials;
pub use registry_names::{is_public_registry, is_registry};
pub use regularity::{Regularity, regularity};
pub use releases::Releases;
pub use sequential::SequentialTest;
pub use services::{DatabaseProduct, database_product, is_monitoring, is_session_port};
pub use siblings::{Replicas, Siblings};
pub use small::{SortedMap, push_back_tight, push_tight};
pub use throng::Throng;
pub use utterances::{LastUttered, Utterance, Utterances};
pub use vocabulary::{Vocabulary, statement_word, words};
