//! For tests of dissectors: a conversation fed whole, and cut at every place, must come to the same; damaged, it must
//! only end.

use proptest::prelude::*;

use super::{DatabaseEvent, Dissector, Probe, Progress, Segment, Transaction};
use crate::flow::Direction;
use crate::time::Timestamp;

/// The next bytes of a direction.
pub(super) fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 1,
        data,
        gap: 0,
    }
}

type Build = fn() -> Box<dyn Dissector>;

/// What comes of a stream's turns, a line for each event, and the end if it came to one. Checks that it is the same
/// however the turns are cut.
pub(super) fn conversation(build: Build, turns: &[(Direction, &[u8])]) -> Vec<String> {
    let run = |pieces: Vec<(Direction, &[u8])>| {
        let mut dissector = build();
        let mut out = Vec::new();
        let mut lines = Vec::new();
        for (direction, data) in pieces {
            let progress = dissector.feed(&segment(direction, data), &mut out);
            lines.extend(out.drain(..).map(|transaction| line(&transaction)));
            if progress != Progress::More {
                let end = match dissector.starts_tls() {
                    Some(_) => "starts tls".to_owned(),
                    None => format!("{progress:?}").to_lowercase(),
                };
                lines.push(end);
                return lines;
            }
        }
        dissector.finish(&mut out);
        lines.extend(out.iter().map(line));
        lines
    };
    let whole = run(turns.to_vec());
    for size in [1, 2, 3, 7] {
        let pieces = turns
            .iter()
            .flat_map(|(direction, data)| data.chunks(size).map(|piece| (*direction, piece)));
        assert_eq!(run(pieces.collect()), whole, "in pieces of {size}");
    }
    for (turn, (direction, data)) in turns.iter().enumerate() {
        for at in 1..data.len() {
            let mut pieces = turns.to_vec();
            pieces[turn] = (*direction, &data[..at]);
            pieces.insert(turn + 1, (*direction, &data[at..]));
            assert_eq!(run(pieces), whole, "turn {turn} cut at {at}");
        }
    }
    damage(build, turns);
    whole
}

/// Overwrites each byte in turn, and leaves each out: whatever comes of it, it ends.
fn damage(build: Build, turns: &[(Direction, &[u8])]) {
    for (at_turn, (_, damaged)) in turns.iter().enumerate() {
        for at in 0..damaged.len() {
            for value in [0, 0x7f, 0xff] {
                let mut dissector = build();
                let mut out = Vec::new();
                for (turn, (direction, data)) in turns.iter().enumerate() {
                    let mut data = data.to_vec();
                    let mut gap = 0;
                    if turn == at_turn {
                        data[at] = value;
                        gap = u32::from(value == 0x7f);
                    }
                    let segment = Segment {
                        gap,
                        ..segment(*direction, &data)
                    };
                    if dissector.feed(&segment, &mut out) != Progress::More {
                        break;
                    }
                }
            }
        }
    }
}

/// Feeds any bytes at all, with holes.
pub(super) fn any_bytes_return(build: Build, probe: fn(&Segment<'_>) -> Probe) {
    let piece = (
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 1..60),
        prop_oneof![9 => Just(0_u32), 1 => any::<u32>()],
    );
    proptest!(|(pieces in proptest::collection::vec(piece, 0..12))| {
        let mut dissector = build();
        let mut out = Vec::new();
        for (to_server, data, gap) in &pieces {
            let direction = if *to_server { Direction::Orig } else { Direction::Resp };
            let segment = Segment { gap: *gap, ..segment(direction, data) };
            probe(&segment);
            if dissector.feed(&segment, &mut out) != Progress::More {
                break;
            }
        }
    });
}

/// Certain and not-for-us must hold for every longer beginning; gives the verdict on the whole.
pub(super) fn probed(probe: fn(&Segment<'_>) -> Probe, direction: Direction, data: &[u8]) -> Probe {
    let verdicts: Vec<Probe> = (1..=data.len())
        .map(|len| probe(&segment(direction, &data[..len])))
        .collect();
    let last = *verdicts.last().unwrap_or(&Probe::Unsure);
    for verdict in verdicts {
        assert!(
            verdict == Probe::Unsure || verdict == last,
            "{verdict:?}, then {last:?}: {data:?}"
        );
    }
    last
}

/// An event in one line; without a statement's length.
pub(super) fn line(transaction: &Transaction) -> String {
    let Transaction::Database(message) = transaction else {
        return format!("{transaction:?}");
    };
    let shown = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    match &message.event {
        DatabaseEvent::Hello { version } => format!("hello {}", shown(version)),
        DatabaseEvent::Login {
            user,
            database,
            client,
        } => format!(
            "login {} {} {}",
            shown(user),
            shown(database),
            shown(client)
        ),
        DatabaseEvent::Secret(secret) => format!("{secret:?}"),
        DatabaseEvent::LoginResult { success, code } => {
            let verdict = if *success { "let in" } else { "refused" };
            format!("{verdict} {}", shown(code))
        }
        DatabaseEvent::Statement {
            class, marks, verb, ..
        } => {
            let marks: Vec<&str> = marks.iter_names().map(|(name, _)| name).collect();
            format!("{verb} {class:?} {}", marks.join("|"))
                .trim_end()
                .to_owned()
        }
        DatabaseEvent::Result { rows, bytes, error } => {
            let rows = rows.map_or("-".to_owned(), |rows| rows.to_string());
            format!("result {rows} {bytes} {}", shown(error))
        }
    }
}
