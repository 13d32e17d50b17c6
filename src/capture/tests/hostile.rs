//! Bytes from anywhere: reading them ends, without a panic, with what was whole.

use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The beginnings that lead into each reader.
fn beginning() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        (any::<bool>(), any::<bool>()).prop_map(|(big, nanos)| {
            pcap(
                if big { Big } else { Little },
                if nanos { NANOS } else { MICROS },
                ETHERNET,
            )
        }),
        Just(pcap(Little, MODIFIED, ETHERNET)),
        any::<bool>().prop_map(|big| {
            let order = if big { Big } else { Little };
            [section(order), interface(order, 1, 0, &[])].concat()
        }),
        Just(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
        Just(vec![0x28, 0xb5, 0x2f, 0xfd]),
    ]
}

/// A valid file, of any format, and the offsets at which its frames end.
fn valid() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    (any::<bool>(), vec(0_usize..300, 0..12)).prop_map(|(classic, lengths)| {
        if classic {
            return pcap_of(&lengths);
        }
        let mut bytes = [section(Big), interface(Big, 1, 0, &[])].concat();
        let mut ends = Vec::new();
        for (i, &len) in lengths.iter().enumerate() {
            bytes.extend(packet(Big, 0, 1_000_000 * i as u64, &vec![i as u8; len]));
            ends.push(bytes.len());
        }
        (bytes, ends)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(start in beginning(), rest in vec(any::<u8>(), 0..2_000)) {
        let bytes = [start, rest].concat();
        if let Ok(outcome) = read(&bytes) {
            // A gzip or zstd stream that holds so much can't come from chance.
            prop_assert!(outcome.frames.len() <= bytes.len());
        }
    }

    #[test]
    fn a_valid_file_with_changed_bytes_is_read_to_an_end(
        (mut bytes, _) in valid(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(outcome) = read(&bytes)
            && let Some(damage) = outcome.damage
        {
            prop_assert!(damage.offset <= bytes.len() as u64);
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_exactly_the_whole_records(
        (bytes, ends) in valid(),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = read(&bytes).unwrap();
        prop_assert_eq!(whole.frames.len(), ends.len());
        prop_assert_eq!(&whole.damage, &None);

        let cut = cut.index(bytes.len());
        // Section and interface, or the file header.
        let header = if bytes[0] == 0x0a { 28 } else { 24 };
        match read(&bytes[..cut]) {
            Err(_) => prop_assert!(cut < header, "{} bytes", cut),
            Ok(outcome) => {
                let count = ends.iter().filter(|&&end| end <= cut).count();
                prop_assert_eq!(&outcome.frames[..], &whole.frames[..count]);
                let boundary = cut == header
                    || ends.contains(&cut)
                    || (header == 28 && cut == header + 20);
                prop_assert_eq!(outcome.damage.is_none(), boundary);
                if let Some(damage) = outcome.damage {
                    prop_assert!(damage.truncated);
                    let last = count.checked_sub(1).map(|last| ends[last] as u64);
                    if let Some(last) = last {
                        prop_assert_eq!(damage.offset, last);
                    }
                }
            }
        }
    }

    #[test]
    fn a_compressed_file_cut_anywhere_gives_some_of_the_records_and_damage(
        (bytes, _) in valid(),
        zstd in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let compressed = if zstd {
            zstd::encode_all(&*bytes, 1).unwrap()
        } else {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        };
        let whole = read(&bytes).unwrap();
        prop_assert_eq!(&read(&compressed).unwrap(), &whole);
        if let Ok(outcome) = read(&compressed[..cut.index(compressed.len())]) {
            prop_assert!(outcome.frames.len() <= whole.frames.len());
            prop_assert_eq!(&outcome.frames[..], &whole.frames[..outcome.frames.len()]);
            prop_assert!(outcome.damage.unwrap().truncated);
        }
    }
}
