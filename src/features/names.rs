//! What a DNS name tells: whose it is, and how much a client said in the part it chose itself.
//!
//! A cluster's names have to be cleaned first: `ndots:5` makes a resolver ask for `example.com.prod.svc.cluster.local`
//! and three more before `example.com`, so names under the cluster's own domain say nothing about anybody outside.

use std::net::{IpAddr, Ipv6Addr};

/// More than any alphabet that survives resolvers carries per character (base64 has 6).
const MAX_BITS_PER_CHAR: f64 = 6.0;
/// The domain under which Kubernetes puts its own names, unless configured otherwise.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Top-level domains that nobody calls a namespace after; those of countries have two letters.
const OLD_TOP_LEVELS: &[&str] = &["com", "net", "org", "info", "biz", "edu", "gov", "mil"];

/// A name split where a registrar's word ends: `left` is the client's to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DomainName<'a> {
    /// Everything below the registered domain, without the joining dot; may be empty.
    pub left: &'a str,
    /// The registered domain: one label below a public suffix (`evil.co.uk`).
    pub registered: &'a str,
}

impl<'a> DomainName<'a> {
    /// Splits a name by the public suffix list. `None` for names that can't carry anything out: single labels, reverse
    /// look-ups, multicast names, the cluster's own names, and bare public suffixes.
    pub fn split(name: &'a str) -> Option<Self> {
        if has_suffix(name, "arpa") || name == CLUSTER_DOMAIN || has_suffix(name, CLUSTER_DOMAIN) {
            return None;
        }
        let registered = psl::domain_str(name)?;
        let left = name.strip_suffix(registered)?;
        Some(Self {
            left: left.strip_suffix('.').unwrap_or(left),
            registered,
        })
    }

    /// Whose site a name leads to: the registered domain, or a public suffix under which customers register that has a host of
    /// its own, as `s3.eu-west-1.amazonaws.com`.
    pub fn site(name: &'a str) -> Option<&'a str> {
        if let Some(split) = Self::split(name) {
            return Some(split.registered);
        }
        let inside = has_suffix(name, "arpa") || has_suffix(name, CLUSTER_DOMAIN);
        (!inside && name != CLUSTER_DOMAIN && name.contains('.')).then_some(name)
    }
}

/// A name of a cluster's own service: `redis.shop.svc.cluster.local`, whatever the cluster's domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClusterName<'a> {
    /// Service and namespace: `redis.shop`.
    pub service: &'a str,
    /// Whether it asks for everything at once, as CoreDNS once allowed: `any.any.svc.cluster.local`.
    pub wildcard: bool,
}

impl<'a> ClusterName<'a> {
    /// Reads a name. `None` for names of other kinds, and for those that a resolver makes up by appending the search list
    /// to a name outside, such as `www.example.com.shop.svc.cluster.local` and `example.com.svc.cluster.local`.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (left, _domain) = name.rsplit_once(".svc.")?;
        // What SRV names begin with: _http._tcp.
        let mut service = left;
        while let Some((first, rest)) = service.split_once('.')
            && first.starts_with('_')
        {
            service = rest;
        }
        let labels = service.split('.').count();
        let wildcard = labels > 1 && service.split('.').all(|label| matches!(label, "any" | "*"));
        if wildcard {
            return Some(Self { service, wildcard });
        }
        // Newer top-level domains are namespaces as well: shop, app, dev.
        let (_, last) = service.split_once('.')?;
        let outside = last.len() == 2 || OLD_TOP_LEVELS.contains(&last);
        (labels == 2 && !outside).then_some(Self { service, wildcard })
    }
}

/// The address that a name for looking up in reverse is for.
pub fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0_u8; 4];
        let mut labels = rest.rsplit('.');
        for octet in &mut octets {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| octets.into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let mut address = 0_u128;
    let mut nibbles = 0;
    for label in rest.rsplit('.') {
        if label.len() != 1 || nibbles == 32 {
            return None;
        }
        address = address << 4 | u128::from(u8::from_str_radix(label, 16).ok()?);
        nibbles += 1;
    }
    (nibbles == 32).then(|| Ipv6Addr::from_bits(address).into())
}

/// Whether a name starts with an IPv4 address in labels, as block lists are asked (RFC 5782 2.1).
pub fn is_listed_address(left: &str) -> bool {
    let mut octets = 0;
    for label in left.split('.').take(4) {
        if label.parse::<u8>().is_err() {
            return false;
        }
        octets += 1;
    }
    octets == 4
}

fn has_suffix(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|head| head.ends_with('.'))
}

/// How many bits a text can have carried: its length times its empirical entropy per character (Shannon), capped at what
/// an encoder can use. Escaped bytes (`\DDD`) count as the one byte they stand for.
pub fn information_bits(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    let mut total = 0_u32;
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, next) = match (first, tail) {
            (b'.', _) => {
                rest = tail;
                continue;
            }
            (b'\\', [a, b, c, after @ ..]) => (decimal(*a, *b, *c), after),
            _ => (*first, tail),
        };
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
        total += 1;
        rest = next;
    }
    let total = f64::from(total);
    let entropy: f64 = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let p = f64::from(count) / total;
            -p * p.log2()
        })
        .sum();
    total * entropy.min(MAX_BITS_PER_CHAR)
}

/// How much likelier a label is drawn at random from base32 (`a`–`z`, `2`–`7`) than made up by people, in bits; negative if
/// people are likelier. By letters alone: what people call sites has the letters of English, and few digits.
pub fn randomness_bits(label: &str) -> f64 {
    // Letters of English words, per 1000 (Lewand, "Cryptological Mathematics", 2000); the rest is for digits.
    const LETTERS: [f64; 26] = [
        81.7, 14.9, 27.8, 42.5, 127.0, 22.3, 20.2, 60.9, 69.7, 1.5, 7.7, 40.3, 24.1, 67.5, 75.1,
        19.3, 0.95, 59.9, 63.3, 90.6, 27.6, 9.8, 23.6, 1.5, 19.7, 0.74,
    ];
    // Rare letters are less rare in names than in words.
    const FLOOR: f64 = 6.0;
    const DIGIT: f64 = 6.0;
    const RANDOM: f64 = 1000.0 / 32.0;
    label
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' => LETTERS
                .get(usize::from(byte - b'a'))
                .map_or(FLOOR, |share| share.max(FLOOR)),
            _ => DIGIT,
        })
        .map(|share| (RANDOM / share).log2())
        .sum()
}

const fn decimal(a: u8, b: u8, c: u8) -> u8 {
    a.wrapping_sub(b'0')
        .wrapping_mul(100)
        .wrapping_add(b.wrapping_sub(b'0').wrapping_mul(10))
        .wrapping_add(c.wrapping_sub(b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str) -> Option<(&str, &str)> {
        DomainName::split(name).map(|name| (name.left, name.registered))
    }

    #[test]
    fn splits_at_the_registered_domain() {
        assert_eq!(split("a.b.example.com"), Some(("a.b", "example.com")));
        assert_eq!(split("x.evil.co.uk"), Some(("x", "evil.co.uk")));
        assert_eq!(split("example.com"), Some(("", "example.com")));
        // A top-level domain that nobody registered is taken as one (rule `*` of the list).
        assert_eq!(split("abc.pirate.sea"), Some(("abc", "pirate.sea")));
    }

    #[test]
    fn a_public_suffix_may_have_a_host() {
        let site = DomainName::site;
        assert_eq!(site("a.b.example.com"), Some("example.com"));
        assert_eq!(
            site("s3.eu-west-1.amazonaws.com"),
            Some("s3.eu-west-1.amazonaws.com")
        );
        for name in [
            "localhost",
            "7.1.244.10.in-addr.arpa",
            "db.shop.svc.cluster.local",
        ] {
            assert_eq!(site(name), None);
        }
    }

    #[test]
    fn random_labels_are_told_from_made_up_ones() {
        for random in [
            "e6r5p57kbafwrxj3plz",
            "gfu7hbxpfp",
            "t3i3ru",
            "q4cyamnc6mtokjurvdclt",
        ] {
            assert!(
                randomness_bits(random) > 1.0,
                "{random}: {}",
                randomness_bits(random)
            );
        }
        for made_up in [
            "microsoft",
            "wikipedia",
            "theguardian",
            "stackoverflow",
            "deutschebahn",
            "nytimes",
            "reuters",
        ] {
            assert!(
                randomness_bits(made_up) < 0.0,
                "{made_up}: {}",
                randomness_bits(made_up)
            );
        }
    }

    #[test]
    fn names_that_carry_nothing_out() {
        for name in [
            "",
            "localhost",
            "com",
            "10.0.0.1.in-addr.arpa",
            "web.prod.svc.cluster.local",
            "example.com.prod.svc.cluster.local",
        ] {
            assert_eq!(split(name), None, "{name}");
        }
        assert!(split("notcluster.local.example.com").is_some());
    }

    #[test]
    fn names_of_services_without_what_the_search_list_makes_up() {
        let service = |name| ClusterName::parse(name).map(|name| name.service);
        assert_eq!(service("redis.shop.svc.cluster.local"), Some("redis.shop"));
        assert_eq!(
            service("_http._tcp.web.shop.svc.k8s.corp"),
            Some("web.shop")
        );
        for name in [
            "www.example.com.shop.svc.cluster.local",
            "example.com.svc.cluster.local",
            "redis.svc.cluster.local",
            "redis-0.redis.shop.svc.cluster.local",
            "svc.cluster.local",
            "example.com",
        ] {
            assert_eq!(service(name), None, "{name}");
        }
        for name in [
            "any.any.svc.cluster.local",
            "*.*.svc.cluster.local",
            "any.any.any.svc.k8s",
        ] {
            assert!(ClusterName::parse(name).unwrap().wildcard, "{name}");
        }
    }

    #[test]
    fn names_in_reverse() {
        let ip = |text: &str| Some(text.parse().unwrap());
        assert_eq!(reverse_address("7.1.244.10.in-addr.arpa"), ip("10.244.1.7"));
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(reverse_address(v6), ip("2001:db8::1"));
        for name in [
            "1.244.10.in-addr.arpa",
            "a.1.244.10.in-addr.arpa",
            "0.7.1.244.10.in-addr.arpa",
            "10.ip6.arpa",
            "lb._dns-sd._udp.0.1.244.10.in-addr.arpa",
        ] {
            assert_eq!(reverse_address(name), None, "{name}");
        }
    }

    #[test]
    fn information_grows_with_variety_and_length() {
        assert_eq!(information_bits(""), 0.0);
        assert_eq!(information_bits("aaaaaaaa"), 0.0);
        assert!((information_bits("abcdabcd") - 16.0).abs() < 1e-9);
        assert_eq!(information_bits("ab.ab"), information_bits("abab"));
        assert!((information_bits("\\200\\201") - 2.0).abs() < 1e-9);
    }
}
