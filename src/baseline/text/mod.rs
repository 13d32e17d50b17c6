//! A baseline as text: made to be read, reviewed, edited and kept under version control.
//!
//! One line per peer and word, sorted, so that a difference of two texts shows what was learned. Nothing is lost on the
//! way out and back.

mod read;
mod write;

pub use read::TextError;

/// The form that is written and read.
const FORMAT: &str = "spanwatch.baseline/1";

#[cfg(test)]
mod tests {
    use super::super::testing::{Making, at, contact, id};
    use super::super::{Accepted, Baseline};
    use crate::features::{Contact, Rate, Role, Vocabulary};
    use std::time::Duration;

    fn baseline() -> Baseline {
        let mut making = Making::default();
        let (web, db) = (id("shop", "web"), id("", "db"));
        for n in 0..20 {
            making.meets(&web, &contact("shop/StatefulSet/db"), n * 4000);
            let served = Contact {
                role: Role::Server,
                protocol: 17,
                ..contact("external")
            };
            making.meets(&db, &served, n * 100);
        }
        making.minutes(&web, Rate::BytesOut, 30, 1e6);
        let mut baseline = making.done();
        baseline.change(&web, |profile, names| {
            let word = "odd \" \\ \u{7} 'word' #";
            for vocabulary in Vocabulary::all() {
                let side = &mut profile.client;
                side.say(vocabulary, word, at(7), || names.get(word));
            }
            let peer = contact("shop/StatefulSet/db");
            profile
                .client
                .flow(&peer, 5000, 70_000, Duration::from_millis(3333));
            let habit = Some(Duration::from_millis(1234));
            for n in 0..5 {
                profile.client.meet(&peer, at(90_000 + n), habit, || None);
            }
            profile.run(&names.get("7d4b9c6f5").unwrap(), at(9));
            profile.left_out = 3;
            profile.accept(Accepted {
                alert: "0123456789abcdef".to_owned(),
                signature: "port-scan".to_owned(),
                targets: vec!["shop/StatefulSet/db 5432".to_owned()],
                target_count: 1,
                reason: "the blackbox exporter".to_owned(),
                time: at(11),
            });
        });
        baseline
    }

    #[test]
    fn what_is_exported_is_imported() {
        let before = baseline();
        let text = before.to_text();
        let after = Baseline::from_text(&text).unwrap();
        assert_eq!(after, before);
        assert_eq!(after.to_text(), text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn an_edited_text_is_taken() {
        let text = baseline().to_text();
        let added = "peers = [\n  { peer = \"domain:new.example\", port = 443 },";
        let edited = text.replacen("peers = [", added, 1);
        assert_ne!(edited, text);
        let after = Baseline::from_text(&edited).unwrap();
        let known = after.profiles().any(|(_, profile)| {
            profile.knows(&contact("domain:new.example"))
                || profile
                    .peers()
                    .any(|peer| peer.name == "domain:new.example")
        });
        assert!(known);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let text = baseline().to_text();
        for (from, to, told) in [
            (
                "spanwatch.baseline/1",
                "spanwatch.baseline/9",
                "spanwatch.baseline/9",
            ),
            ("port = ", "prot = ", "unknown field"),
            (
                "name = \"shop/Deployment/web\"",
                "name = \"nothing\"",
                "nothing",
            ),
            ("first = \"20", "first = \"no", "no"),
        ] {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text, "{from}");
            let error = Baseline::from_text(&edited).unwrap_err().to_string();
            assert!(error.contains(told), "{from}: {error}");
        }
    }
}
