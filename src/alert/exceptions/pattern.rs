//! Patterns of names and peers.

use ipnetwork::IpNetwork;

use crate::detectors::Target;

/// A name with `*` for any characters, none too, and `?` for one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Glob(String);

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Goes back to the last star at most, so the time is at most the product of the lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = text.get(t) {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p + 1, t));
                    p += 1;
                }
                Some('?') => (p, t) = (p + 1, t + 1),
                Some(wanted) if wanted == c => (p, t) = (p + 1, t + 1),
                _ => {
                    let Some((after, at)) = star else {
                        return false;
                    };
                    star = Some((after, at + 1));
                    (p, t) = (after, at + 1);
                }
            }
        }
        pattern.iter().skip(p).all(|&c| c == '*')
    }
}

/// Whom an alert may be aimed at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PeerPattern {
    /// An address, or a range of them.
    Network(IpNetwork),
    /// A workload (`namespace/kind/name`), a service or pod (`namespace/name`), a node's name or a registered domain.
    Name(Glob),
}

impl PeerPattern {
    pub(super) fn new(pattern: &str) -> Self {
        pattern
            .parse()
            .map_or_else(|_| Self::Name(Glob::new(pattern)), Self::Network)
    }

    pub(super) fn matches(&self, target: &Target) -> bool {
        let end = target.endpoint.as_ref();
        match self {
            Self::Network(network) => end.is_some_and(|end| network.contains(end.ip)),
            Self::Name(glob) => {
                let identity = end.map(|end| &end.who.identity);
                let workload = identity
                    .and_then(|identity| identity.workload.as_ref().map(ToString::to_string));
                let name = identity.and_then(|identity| {
                    let name = identity.name.as_ref()?;
                    Some(match &identity.namespace {
                        Some(namespace) => format!("{namespace}/{name}"),
                        None => name.to_string(),
                    })
                });
                [
                    workload.as_deref(),
                    name.as_deref(),
                    target.domain.as_deref(),
                ]
                .into_iter()
                .flatten()
                .any(|name| glob.matches(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        let yes = [
            ("*", ""),
            ("ops/*", "ops/Deployment/scanner"),
            ("*/scanner", "ops/Deployment/scanner"),
            ("o?s/*/sc*er", "ops/Deployment/scanner"),
            ("a*b*c", "aXbXbYc"),
            ("port-scan", "port-scan"),
        ];
        let no = [
            ("", "a"),
            ("ops/*", "dev/Deployment/x"),
            ("a?", "a"),
            ("a*b", "abc"),
            ("a", "A"),
        ];
        for (pattern, text) in yes {
            assert!(Glob::new(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in no {
            assert!(!Glob::new(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        // Would not end if every star were gone back to.
        let (pattern, text) = ("a*".repeat(60) + "b", "a".repeat(4000));
        assert!(!Glob::new(&pattern).matches(&text));
    }

    #[test]
    fn a_range_is_told_from_a_name() {
        assert!(matches!(
            PeerPattern::new("10.0.0.0/8"),
            PeerPattern::Network(_)
        ));
        assert!(matches!(
            PeerPattern::new("192.0.2.7"),
            PeerPattern::Network(_)
        ));
        assert!(matches!(
            PeerPattern::new("fd00::/8"),
            PeerPattern::Network(_)
        ));
        assert!(matches!(
            PeerPattern::new("*.example.com"),
            PeerPattern::Name(_)
        ));
    }
}
