//! Connections that a client has its SSH server make for it (`ssh -L`, `ssh -D`), by the sizes of packets.
//!
//! For each, the client sends a request that names two ends (RFC 4254 7.2: 58 bytes and more), waits, and goes on once the
//! server has said yes: a message of 17 bytes and nothing else (5.1). What a session asks for (a terminal, a command) is
//! shorter, comes once per connection, or is said yes to in 5 bytes. Sizes are measured from the shortest message there is,
//! the one byte by which a client is let in: after padding the yes is sixteen bytes longer, whatever the cipher. The
//! client's requests for one and the same end are equally long, which what programs say to one another hardly is.

use std::collections::BTreeMap;

use crate::flow::{Direction, Turn};

/// How much longer than the shortest message a yes is,
const YES: u32 = 16;
/// and a request at least, and at most: it holds two addresses or a name.
const REQUEST: std::ops::RangeInclusive<u32> = 40..=320;
/// How long the end of a channel is at most, compared so.
const CLOSE: u32 = 8;
/// The shortest message where packets are padded to eight bytes and have sixteen more to authenticate them
/// (chacha20-poly1305). Other ciphers pad to sixteen, and then other answers are as long as a yes.
const FINE: u32 = 28;
/// Requests that may be said at once.
const AT_ONCE: u32 = 8;
/// Lengths told apart.
const MAX_LENGTHS: usize = 16;

/// What is known of one connection since its keys were agreed on.
#[derive(Debug)]
pub(super) struct Forwards {
    /// The server's shortest packet so far.
    shortest: u32,
    /// The client's last turn, if it may hold requests: how long they are, and how many at most.
    asked: Option<(u32, u64)>,
    /// Whether a channel may have been closed since the last request.
    closed: bool,
    /// Requests granted, by their length.
    granted: BTreeMap<u32, u64>,
}

impl Default for Forwards {
    fn default() -> Self {
        Self {
            shortest: u32::MAX,
            asked: None,
            closed: true,
            granted: BTreeMap::new(),
        }
    }
}

impl Forwards {
    /// Takes a turn. Whether connections were granted in it.
    pub(super) fn take(&mut self, turn: &Turn) -> bool {
        if turn.direction == Direction::Orig {
            self.closed |= turn.smallest <= self.shortest.saturating_add(CLOSE);
            let longer = turn.largest.saturating_sub(self.shortest);
            self.asked = (REQUEST.contains(&longer) && turn.packets <= AT_ONCE)
                .then_some((turn.largest, u64::from(turn.packets)));
            return false;
        }
        let yes = u64::from(self.shortest.saturating_add(YES));
        self.shortest = self.shortest.min(turn.smallest);
        let Some((length, times)) = self.asked.take() else {
            return false;
        };
        let granted = turn.bytes / yes;
        let alone =
            turn.bytes.is_multiple_of(yes) && u64::from(turn.smallest) >= yes && granted <= times;
        if !alone || !self.closed && self.shortest != FINE {
            return false;
        }
        self.closed = false;
        if self.granted.len() < MAX_LENGTHS || self.granted.contains_key(&length) {
            *self.granted.entry(length).or_default() += granted;
        }
        true
    }

    /// How often the connection most asked for was granted, as far as lengths tell.
    pub(super) fn most(&self) -> u64 {
        self.granted.values().copied().max().unwrap_or(0)
    }

    /// How many were granted in all.
    pub(super) fn all(&self) -> u64 {
        self.granted.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use Direction::{Orig, Resp};

    /// Packets of a connection, as recorded: consecutive ones in one direction are a turn.
    fn granted(packets: &[(Direction, u32)]) -> (u64, u64) {
        let mut forwards = Forwards::default();
        let turns = packets.chunk_by(|one, next| one.0 == next.0);
        for turn in turns {
            let sizes = || turn.iter().map(|packet| packet.1);
            forwards.take(&Turn {
                direction: turn[0].0,
                start: Timestamp::from_nanos(0),
                end: Timestamp::from_nanos(0),
                packets: turn.len() as u32,
                bytes: sizes().map(u64::from).sum(),
                smallest: sizes().min().unwrap(),
                largest: sizes().max().unwrap(),
            });
        }
        (forwards.most(), forwards.all())
    }

    /// OpenSSH 9.2 with its first cipher, after keys were agreed on; `more` times what somebody does then.
    fn session(more: usize, packets: &[(Direction, u32)]) -> (u64, u64) {
        let login = [
            (Orig, 44),
            (Resp, 44),
            (Orig, 60),
            (Resp, 76),
            (Orig, 140),
            (Resp, 100),
            (Orig, 308),
            (Resp, 28),
            (Orig, 60),
            (Resp, 664),
            (Resp, 140),
        ];
        granted(&[&login, packets.repeat(more).as_slice()].concat())
    }

    #[test]
    fn connections_granted_are_counted() {
        let web = [
            (Orig, 92),
            (Resp, 44),
            (Orig, 124),
            (Resp, 804),
            (Orig, 36),
            (Resp, 72),
            (Orig, 36),
        ];
        assert_eq!(session(6, &web), (6, 6));
        let database = [
            (Orig, 92),
            (Resp, 44),
            (Orig, 44),
            (Resp, 36),
            (Orig, 92),
            (Resp, 60),
            (Orig, 92),
            (Resp, 132),
            (Orig, 148),
            (Resp, 17_376),
            (Orig, 44),
            (Orig, 36),
            (Resp, 72),
            (Orig, 36),
        ];
        assert_eq!(session(4, &database), (4, 4));
        // Several at once, as browsers do; whoever is called speaks first.
        let browser = [
            (Orig, 92),
            (Orig, 92),
            (Orig, 100),
            (Resp, 44),
            (Resp, 44),
            (Resp, 44),
            (Orig, 124),
        ];
        assert_eq!(session(2, &browser).1, 6);
    }

    #[test]
    fn sessions_copies_and_automation_grant_nothing() {
        let typing = [
            (Orig, 36),
            (Resp, 36),
            (Orig, 36),
            (Resp, 44),
            (Orig, 36),
            (Resp, 108),
            (Resp, 460),
        ];
        assert_eq!(session(50, &typing), (0, 0));
        // A session per command over one connection, its request with a command, and the answer.
        let command = [
            (Orig, 52),
            (Resp, 44),
            (Orig, 180),
            (Resp, 36),
            (Resp, 36),
            (Resp, 260),
            (Resp, 108),
            (Orig, 36),
        ];
        assert_eq!(session(50, &command), (0, 0));
        // Files over SFTP: handle, status, status.
        let file = [
            (Orig, 100),
            (Resp, 52),
            (Orig, 16_424),
            (Resp, 68),
            (Orig, 52),
            (Resp, 68),
        ];
        assert_eq!(session(50, &file), (0, 0));
        // The same with a cipher whose blocks have sixteen bytes: a handle is as long as a yes, but nothing is closed.
        let coarse = [
            (Orig, 52),
            (Resp, 36),
            (Orig, 100),
            (Resp, 52),
            (Orig, 16_436),
            (Resp, 68),
            (Orig, 68),
            (Resp, 68),
        ];
        assert!(granted(&coarse.repeat(20)).1 <= 1);
        // Negotiation of a fetch: ever longer lists, refused alike.
        let fetch: Vec<_> = (1..6).flat_map(|n| [(Orig, 60 * n), (Resp, 44)]).collect();
        assert!(session(1, &fetch).0 <= 1);
    }
}
