//! Connections that one end of an SSH connection has the other make (`ssh -L`, `-D`, `-R`), by the sizes of packets.
//!
//! For each, one end sends a request that names two ends (RFC 4254 7.2: 58 bytes and more), waits, and goes on once the
//! other has said yes: a message of 17 bytes and nothing else (5.1). What a session asks for (a terminal, a command, an
//! agent) is shorter, comes once per connection, or is said yes to in 5 bytes. Sizes are measured from the shortest message
//! there is, the one byte by which a client is let in: after padding the yes is sixteen bytes longer, whatever the cipher.
//! Requests for one and the same end are equally long, which what programs say to one another hardly is. A server's output
//! may look like a request, and a key of the client's like a yes; but output follows a key, and a request nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::flow::{Direction, Turn};
use crate::time::Timestamp;

/// How much longer than the shortest message a yes is,
const YES: u32 = 16;
/// and a request at least, and at most: it holds two addresses or a name.
const REQUEST: std::ops::RangeInclusive<u32> = 48..=320;
/// How long the end of a channel is at most, compared so.
const CLOSE: u32 = 8;
/// The shortest message where packets are padded to eight bytes and have sixteen more to authenticate them
/// (chacha20-poly1305). Other ciphers pad to sixteen, and then other answers are as long as a yes.
const FINE: u32 = 28;
/// Requests that may be said at once.
const AT_ONCE: u32 = 8;
/// Lengths told apart.
const MAX_LENGTHS: usize = 16;
/// The silence before a server's request.
const SILENCE: Duration = Duration::from_millis(300);

/// What is known of one connection since its keys were agreed on.
#[derive(Debug)]
pub(super) struct Forwards {
    /// The server's shortest packet so far.
    shortest: u32,
    /// When somebody last spoke.
    spoke: Option<Timestamp>,
    /// What the client asks of the server, and the server of the client.
    by: [Asker; 2],
}

#[derive(Debug)]
struct Asker {
    /// Its last turn, if it may hold requests: how long they are, how many at most, and when it was over.
    asked: Option<(u32, u64, Timestamp)>,
    /// Whether a channel may have been closed since the last request.
    closed: bool,
    /// Requests granted, by their length.
    granted: BTreeMap<u32, u64>,
}

impl Default for Asker {
    fn default() -> Self {
        Self {
            asked: None,
            closed: true,
            granted: BTreeMap::new(),
        }
    }
}

impl Default for Forwards {
    fn default() -> Self {
        Self {
            shortest: u32::MAX,
            spoke: None,
            by: Default::default(),
        }
    }
}

impl Forwards {
    /// Takes a turn. Whose requests were granted by it, if somebody's were.
    pub(super) fn take(&mut self, turn: &Turn) -> Option<Direction> {
        let server = turn.direction == Direction::Resp;
        let before = self.spoke.replace(turn.end).unwrap_or(turn.start);
        // The end of a channel and the next request may be one turn.
        let unasked = turn.start.since(before).max(turn.end.since(turn.start)) >= SILENCE;
        let [client, other] = &mut self.by;
        let (asker, granter) = if server {
            (other, client)
        } else {
            (client, other)
        };
        let granted = granter.is_granted(turn, self.shortest, !server);
        if server {
            self.shortest = self.shortest.min(turn.smallest);
        }
        asker.ask(turn, self.shortest, unasked || !server);
        granted.then_some(if server {
            Direction::Orig
        } else {
            Direction::Resp
        })
    }

    /// Since when the client has waited for an answer to what may be a request, if `turn` may be a yes: a request for
    /// somebody who speaks first is answered by more than that.
    pub(super) fn may_grant(&self, turn: &Turn) -> Option<Timestamp> {
        let [client, _] = &self.by;
        let yes = self.shortest.saturating_add(YES);
        let (_, _, since) = client.asked?;
        (turn.direction == Direction::Resp && turn.smallest == yes).then_some(since)
    }

    /// Connections granted to one end: those of the most usual length of request, and all.
    pub(super) fn granted(&self, to: Direction) -> (u64, u64) {
        let counts = || {
            self.by
                .get(to as usize)
                .into_iter()
                .flat_map(|asker| asker.granted.values())
        };
        (counts().copied().max().unwrap_or(0), counts().sum())
    }
}

impl Asker {
    fn ask(&mut self, turn: &Turn, shortest: u32, may: bool) {
        self.closed |= turn.smallest <= shortest.saturating_add(CLOSE);
        let longer = turn.largest.saturating_sub(shortest);
        let may = may && REQUEST.contains(&longer) && turn.packets <= AT_ONCE;
        self.asked = may.then_some((turn.largest, u64::from(turn.packets), turn.end));
    }

    /// Whether the other end's turn grants what was asked. `strict`: a channel must have been closed in between.
    fn is_granted(&mut self, turn: &Turn, shortest: u32, strict: bool) -> bool {
        let yes = u64::from(shortest.saturating_add(YES));
        let Some((length, times, _)) = self.asked.take() else {
            return false;
        };
        let granted = turn.bytes / yes;
        let alone =
            turn.bytes.is_multiple_of(yes) && u64::from(turn.smallest) >= yes && granted <= times;
        if !alone || !self.closed && (strict || shortest != FINE) {
            return false;
        }
        self.closed = false;
        if self.granted.len() < MAX_LENGTHS || self.granted.contains_key(&length) {
            *self.granted.entry(length).or_default() += granted;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use Direction::{Orig, Resp};

    /// Packets of a connection, as recorded, `gap` seconds apart: consecutive ones in one direction are a turn.
    fn play(packets: &[(Direction, u32)], gap: impl Fn(usize) -> f64) -> Forwards {
        let mut forwards = Forwards::default();
        let turns = packets.chunk_by(|one, next| one.0 == next.0);
        let mut now = 0.0;
        for (number, turn) in turns.enumerate() {
            let sizes = || turn.iter().map(|packet| packet.1);
            now += gap(number);
            forwards.take(&Turn {
                direction: turn[0].0,
                start: Timestamp::from_secs_f64(now),
                end: Timestamp::from_secs_f64(now),
                packets: turn.len() as u32,
                bytes: sizes().map(u64::from).sum(),
                smallest: sizes().min().unwrap(),
                largest: sizes().max().unwrap(),
            });
        }
        forwards
    }

    fn granted(packets: &[(Direction, u32)]) -> (u64, u64) {
        let forwards = play(packets, |_| 0.01);
        assert_eq!(
            forwards.granted(Resp),
            (0, 0),
            "the server asked for nothing"
        );
        forwards.granted(Orig)
    }

    /// OpenSSH 9.2 with its first cipher, after keys were agreed on; `more` times what somebody does then.
    fn logged_in(more: usize, packets: &[(Direction, u32)]) -> Vec<(Direction, u32)> {
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
        [&login, packets.repeat(more).as_slice()].concat()
    }

    fn session(more: usize, packets: &[(Direction, u32)]) -> (u64, u64) {
        granted(&logged_in(more, packets))
    }

    #[test]
    fn connections_that_the_server_has_the_client_make_are_counted() {
        // Somebody beyond the server asks a Redis beyond the client every three seconds, always the same.
        let asked = [
            (Resp, 92),
            (Orig, 44),
            (Resp, 68),
            (Orig, 44),
            (Resp, 52),
            (Orig, 5012),
            (Resp, 36),
            (Orig, 72),
            (Resp, 36),
        ];
        let packets = logged_in(1, &asked.repeat(6));
        // The last word on a channel and the next request are one turn, unless it took too long.
        let split: Vec<_> = packets.chunk_by(|one, next| one.0 == next.0).collect();
        let mut forwards = Forwards::default();
        let mut now = 0.0;
        for turn in split {
            let start = Timestamp::from_secs_f64(now + 0.01);
            now += if turn.len() > 1 { 3.0 } else { 0.01 };
            let sizes = || turn.iter().map(|packet| packet.1);
            forwards.take(&Turn {
                direction: turn[0].0,
                start,
                end: Timestamp::from_secs_f64(now),
                packets: turn.len() as u32,
                bytes: sizes().map(u64::from).sum(),
                smallest: sizes().min().unwrap(),
                largest: sizes().max().unwrap(),
            });
        }
        assert!(
            forwards.granted(Resp).0 >= 5,
            "{:?}",
            forwards.granted(Resp)
        );
        assert_eq!(forwards.granted(Orig), (0, 0));
    }

    #[test]
    fn keys_and_what_they_make_a_server_draw_grant_nothing() {
        // Up and down in an editor: each key has three bytes, each time a line or two is drawn anew.
        let keys = logged_in(40, &[(Orig, 44), (Resp, 108), (Orig, 44), (Resp, 36)]);
        let forwards = play(&keys, |number| if number % 2 == 0 { 0.5 } else { 0.01 });
        assert_eq!(forwards.granted(Resp), (0, 0));
        // An agent asked on each login further on.
        let agent = logged_in(
            9,
            &[
                (Resp, 68),
                (Orig, 44),
                (Resp, 44),
                (Orig, 140),
                (Resp, 36),
                (Orig, 72),
            ],
        );
        let forwards = play(&agent, |_| 0.5);
        assert_eq!(forwards.granted(Resp), (0, 0));
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
