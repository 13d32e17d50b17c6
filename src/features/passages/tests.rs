//! A glance tells what laying pieces side by side would.

use proptest::prelude::*;

use super::*;

/// Milliseconds of silence before each turn, who speaks, and how much.
type Said = Vec<(i64, bool, u32)>;

fn said() -> impl Strategy<Value = Said> {
    let silence = prop_oneof![0..300_i64, 300..4000_i64, 4000..40_000_i64];
    proptest::collection::vec((silence, any::<bool>(), 1..3000_u32), 1..30)
}

fn passages(pod: Direction, said: &Said) -> Passages {
    let mut passages = Passages::new(pod);
    let mut time = 0;
    for (silence, client, bytes) in said {
        time += silence;
        let direction = if *client {
            Direction::Orig
        } else {
            Direction::Resp
        };
        let at = Timestamp::from_nanos(time * 1_000_000);
        passages.turn(&Turn::new(direction, at, *bytes), Timestamp::from_nanos(0));
    }
    passages
}

proptest! {
    #[test]
    fn nothing_is_passed_over_that_meets(one in said(), other in said()) {
        let mut one = passages(Direction::Resp, &one);
        let other = passages(Direction::Orig, &other);
        let (mine, theirs) = (one.glance(), other.glance());
        let passed_over = mine.is_apart(&theirs) || mine.misses(&theirs);
        let mut met = 0;
        one.beside(0, &other, |_, _| met += 1);
        prop_assert!(!passed_over || met == 0);
    }

    #[test]
    fn what_was_passed_over_is_asked_again_once_there_is_more(said in said()) {
        let mut one = passages(Direction::Resp, &said);
        let mut glance = one.glance();
        prop_assume!(glance.has_spells());
        glance.pass_over(3);
        one.recall(&glance);
        // Where nothing was compared yet it is not known whether a spell has ended since.
        prop_assert!(one.glance().waits_among(1 << 3));
        one.beside(5, &passages(Direction::Orig, &vec![(100_000_000, true, 1)]), |_, _| ());
        prop_assert!(!one.glance().waits_among(1 << 5));
        let mut glance = one.glance();
        glance.pass_over(3);
        one.recall(&glance);
        prop_assert!(!one.glance().waits_among(1 << 3 | 1 << 5));
        glance.change(3);
        one.recall(&glance);
        prop_assert!(one.glance().waits_among(1 << 3));
    }
}
