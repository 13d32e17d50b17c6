//! The order of what clients and servers send, and since which revision of the protocol each part is there.

use super::units::Want;
use Want::{Bytes, Number, Text};

/// A part of a packet.
pub(super) struct Part {
    pub(super) want: Want,
    pub(super) when: When,
    pub(super) means: Means,
}

/// Whether a part is there.
#[derive(Clone, Copy)]
pub(super) enum When {
    Always,
    Since(u64),
    /// The client traces its queries.
    Traced,
    /// It passes on a token.
    Token,
    /// Blocks are compressed, or not.
    Compressed,
    Plain,
}
use When::{Always, Since};

/// What has to be done about a part.
#[derive(Clone, Copy)]
pub(super) enum Means {
    Nothing,
    /// A packet's kind.
    Kind,
    Name,
    Major,
    Minor,
    Revision,
    Database,
    User,
    /// The end of a hello.
    End,
    /// Whether packets come in chunks.
    Chunks,
    /// Who asks: somebody at first hand, or a server for another; through what.
    Asker,
    Interface,
    Traced,
    Token,
    /// A setting's name, empty after the last; its value two parts on.
    Setting,
    SettingValue,
    Compression,
    Statement,
    /// A block's compressed form: a checksum, how, how long, how long unpacked.
    Frame,
    /// A block's own settings, until one is 0; then columns and rows.
    BlockField,
    BlockFieldValue,
    Columns,
    Code,
}
use Means::Nothing;

const fn part(want: Want, when: When, means: Means) -> Part {
    Part { want, when, means }
}

const MAX_NAME: u16 = 64;

pub(super) const KIND: &[Part] = &[part(Number, Always, Means::Kind)];

pub(super) const CLIENT_HELLO: &[Part] = &[
    part(Text(MAX_NAME), Always, Means::Name),
    part(Number, Always, Nothing),
    part(Number, Always, Nothing),
    part(Number, Always, Means::Revision),
    part(Text(MAX_NAME), Always, Means::Database),
    part(Text(MAX_NAME), Always, Means::User),
    // The password.
    part(Text(0), Always, Means::End),
];

/// What a client adds after the server's hello.
pub(super) const ADDENDUM: &[Part] = &[
    part(Text(0), Since(54_458), Nothing),
    part(Text(MAX_NAME), Since(54_470), Means::Chunks),
    part(Text(MAX_NAME), Since(54_470), Means::Chunks),
    part(Number, Since(54_471), Nothing),
];

pub(super) const SERVER_HELLO: &[Part] = &[
    part(Text(MAX_NAME), Always, Means::Name),
    part(Number, Always, Means::Major),
    part(Number, Always, Means::Minor),
    part(Number, Always, Means::Revision),
];

pub(super) const QUERY: &[Part] = &[
    part(Text(0), Always, Nothing),
    // About the client.
    part(Bytes(1), Since(54_032), Means::Asker),
    part(Text(0), Since(54_032), Nothing),
    part(Text(0), Since(54_032), Nothing),
    part(Text(0), Since(54_032), Nothing),
    part(Bytes(8), Since(54_449), Nothing),
    part(Bytes(1), Since(54_032), Means::Interface),
    part(Text(0), Since(54_032), Nothing),
    part(Text(0), Since(54_032), Nothing),
    part(Text(0), Since(54_032), Nothing),
    part(Number, Since(54_032), Nothing),
    part(Number, Since(54_032), Nothing),
    part(Number, Since(54_032), Nothing),
    part(Text(0), Since(54_060), Nothing),
    part(Number, Since(54_448), Nothing),
    part(Number, Since(54_401), Nothing),
    part(Bytes(1), Since(54_442), Means::Traced),
    part(Bytes(24), When::Traced, Nothing),
    part(Text(0), When::Traced, Nothing),
    part(Bytes(1), When::Traced, Nothing),
    part(Number, Since(54_453), Nothing),
    part(Number, Since(54_453), Nothing),
    part(Number, Since(54_453), Nothing),
    part(Number, Since(54_475), Nothing),
    part(Number, Since(54_475), Nothing),
    part(Bytes(1), Since(54_476), Means::Token),
    part(Text(0), When::Token, Nothing),
    part(Text(0), Since(54_485), Nothing),
    // Settings; before, their values had a type.
    part(Text(1), Always, Means::Setting),
    part(Number, Since(SETTINGS_IN_TEXT), Nothing),
    part(Text(0), Always, Means::SettingValue),
    // Between servers: roles, a secret.
    part(Text(0), Since(54_472), Nothing),
    part(Text(0), Since(54_441), Nothing),
    // How far to go.
    part(Number, Always, Nothing),
    part(Number, Always, Means::Compression),
    part(Text(super::MAX_KEPT), Always, Means::Statement),
    part(Text(1), Since(54_459), Means::Setting),
    part(Number, Since(54_459), Nothing),
    part(Text(0), Since(54_459), Means::SettingValue),
];

pub(super) const SETTINGS_IN_TEXT: u64 = 54_429;

/// How many parts tell about the client after the first of them.
pub(super) const ABOUT_CLIENT: usize = 26;

pub(super) const DATA: &[Part] = &[
    part(Text(0), Since(50_264), Nothing),
    part(Bytes(25), When::Compressed, Means::Frame),
    part(Number, When::Plain, Means::BlockField),
    part(Bytes(1), When::Plain, Means::BlockFieldValue),
    part(Number, When::Plain, Means::Columns),
    part(Number, When::Plain, Nothing),
];

pub(super) const EXCEPTION: &[Part] = &[part(Bytes(4), Always, Means::Code)];

pub(super) const PROGRESS: &[Part] = &[
    part(Number, Always, Nothing),
    part(Number, Always, Nothing),
    part(Number, Since(51_554), Nothing),
    part(Number, Since(54_463), Nothing),
    part(Number, Since(54_420), Nothing),
    part(Number, Since(54_420), Nothing),
    part(Number, Since(54_460), Nothing),
];
