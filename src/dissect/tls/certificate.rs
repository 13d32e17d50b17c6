//! The certificate that an end shows in clear (TLS 1.2 and before), reduced to what tells an odd one.

use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::dissect::text::{lower_text, text};
use crate::flow::Direction;
use crate::time::Timestamp;

/// The first certificate of a chain. Whether it is trusted, nobody on the wire can tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsCertificate {
    /// Whose it is.
    pub direction: Direction,
    /// The subject's common name, at most 128 bytes.
    pub subject: Option<Arc<str>>,
    /// The issuer's.
    pub issuer: Option<Arc<str>>,
    /// Whether it was issued by its own subject.
    pub self_issued: bool,
    /// The DNS names it is for, lower-case, the first 32; without any, its common name stands for them.
    pub names: Vec<Arc<str>>,
    /// Whether it is for addresses, too.
    pub for_addresses: bool,
    /// For how many days it is valid in all.
    pub valid_days: u32,
    /// How many days ago that began; negative if it hasn't yet.
    pub age_days: i32,
    /// How many certificates the chain has.
    pub chain: u8,
}

const MAX_NAME: usize = 128;
const MAX_NAMES: usize = 32;
/// The longest certificate read.
const MAX_CERTIFICATE: usize = 16 * 1024;
const DAY: i64 = 86_400;

/// Reads the body of a certificate message (RFC 5246 7.4.2).
pub(super) fn read(body: &[u8], direction: Direction, now: Timestamp) -> Option<TlsCertificate> {
    let (mut list, _) = prefixed(body)?;
    let mut leaf = None;
    let mut chain = 0_u8;
    while let Some((one, rest)) = prefixed(list) {
        list = rest;
        leaf = leaf.or(Some(one));
        chain = chain.saturating_add(1);
    }
    let leaf = leaf.filter(|leaf| leaf.len() <= MAX_CERTIFICATE)?;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let common_name = |name: &x509_parser::x509::X509Name<'_>| {
        let attribute = name.iter_common_name().next()?;
        Some(text(attribute.as_slice(), MAX_NAME))
    };
    let subject = common_name(certificate.subject());
    let mut names = Vec::new();
    let mut for_addresses = false;
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) if names.len() < MAX_NAMES => {
                    names.push(lower_text(name.as_bytes(), MAX_NAME));
                }
                GeneralName::IPAddress(_) => for_addresses = true,
                _ => {}
            }
        }
    }
    if names.is_empty()
        && !for_addresses
        && let Some(subject) = &subject
    {
        names.push(subject.to_lowercase().into());
    }
    let validity = certificate.validity();
    let (from, to) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let days = |seconds: i64| seconds.checked_div(DAY).unwrap_or_default();
    Some(TlsCertificate {
        direction,
        self_issued: certificate.issuer().as_raw() == certificate.subject().as_raw(),
        issuer: common_name(certificate.issuer()),
        subject,
        names,
        for_addresses,
        valid_days: u32::try_from(days(to.saturating_sub(from))).unwrap_or(0),
        age_days: i32::try_from(days(
            now.nanos().div_euclid(1_000_000_000).saturating_sub(from),
        ))
        .unwrap_or(i32::MAX),
        chain,
    })
}

/// What a length of three bytes says, and what follows.
fn prefixed(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[high, middle, low], rest) = data.split_first_chunk::<3>()?;
    let length = u32::from_be_bytes([0, high, middle, low]);
    rest.split_at_checked(usize::try_from(length).ok()?)
}
