//! What the counting of logins holds to, whatever comes.

use super::*;
use crate::address::NetworkId;
use crate::event::Endpoint;
use crate::flow::{FlowId, Protocol};
use crate::identity::{Attribution, Confidence, Identity, IdentityKind, Source as Told};

fn end(ip: u32) -> Endpoint {
    Endpoint {
        ip: std::net::Ipv4Addr::from(ip).into(),
        who: Attribution {
            identity: Arc::new(Identity::bare(IdentityKind::Unknown)),
            confidence: Confidence::UnknownPrivate,
            source: Told::None,
        },
    }
}

fn flow(id: u64, from: u32, to: u32) -> Arc<FlowInfo> {
    Arc::new(FlowInfo {
        id: FlowId(id),
        network: NetworkId::default(),
        protocol: Protocol::Tcp,
        start: Timestamp::from_secs(0),
        orig: end(from),
        resp: end(to),
        orig_port: 40_000,
        resp_port: 22,
        service: None,
        masquerade: None,
        sender: None,
        begun: true,
    })
}

fn attempt<'a>(
    flow: &'a Arc<FlowInfo>,
    user: Option<&'a Arc<str>>,
    secret: Option<u8>,
    secs: f64,
    success: bool,
) -> Attempt<'a> {
    Attempt {
        flow,
        service: "ssh",
        user,
        secret: secret.map(|secret| SecretMark::of(&[secret])),
        size: None,
        code: None,
        began: Timestamp::from_secs_f64(secs),
        decided: Timestamp::from_secs_f64(secs + 0.1),
        success,
        as_tool: false,
    }
}

const ME: u32 = 0x0a00_0001;
const SERVER: u32 = 0x0a00_0100;

#[test]
fn nothing_grows_without_bound() {
    let mut attempts = Attempts::new(100, 5);
    for n in 0..3000_u32 {
        let user: Arc<str> = format!("user{n}").into();
        let many_users = flow(1, ME, SERVER);
        attempts.take(&attempt(
            &many_users,
            Some(&user),
            None,
            f64::from(n),
            false,
        ));
        let many_servers = flow(2, ME + 1, SERVER + n);
        attempts.take(&attempt(&many_servers, None, None, f64::from(n), false));
        let many_sources = flow(3, ME + 2 + n, SERVER);
        attempts.take(&attempt(&many_sources, None, None, f64::from(n), false));
    }
    assert_eq!((attempts.len(), attempts.limit()), (100, 100));
    assert!(attempts.evicted() > 2000);
    let source = attempts.source(&(source_key(&end(ME)), "ssh")).unwrap();
    assert_eq!(source.refused, 3000);
    assert!(source.user_count() <= 256 && source.counted == 3000);
    let source = attempts.source(&(source_key(&end(ME + 1)), "ssh")).unwrap();
    assert!(source.server_count() <= 512 && source.targets.len() <= 16);
    attempts.forget(Timestamp::from_secs(100_000));
    assert!(attempts.is_empty());
}

#[test]
fn the_same_secret_twice_is_no_guess() {
    let flow = flow(1, ME, SERVER);
    for (secrets, counted) in [([7, 7, 7, 7], 1), ([7, 8, 9, 10], 4)] {
        let mut attempts = Attempts::new(10, 5);
        for (n, secret) in secrets.into_iter().enumerate() {
            // All at once: without a mark only the first would count.
            attempts.take(&attempt(&flow, None, Some(secret), n as f64 * 1e-3, false));
        }
        let source = attempts.source(&(source_key(&end(ME)), "ssh")).unwrap();
        assert_eq!((source.refused, source.counted), (4, counted));
    }
}

#[test]
fn a_login_after_few_refusals_settles_them_and_after_many_does_not() {
    let flow = flow(1, ME, SERVER);
    let run = |refusals: u32| {
        let mut attempts = Attempts::new(10, 5);
        for n in 0..refusals {
            let at = f64::from(n * n) / 3.0;
            attempts.take(&attempt(&flow, None, None, at, false));
        }
        let taken = attempts.take(&attempt(&flow, None, None, 1000.0, true));
        let counted = attempts
            .source(&(source_key(&end(ME)), "ssh"))
            .unwrap()
            .counted;
        (taken, counted)
    };
    assert_eq!(run(4), (Taken::Nothing, 0));
    assert_eq!(run(0), (Taken::Nothing, 0));
    assert_eq!(run(1), (Taken::Nothing, 0));
}

#[test]
fn whoever_was_reported_and_is_let_in_has_guessed() {
    let flow = flow(1, ME, SERVER);
    let run = |mark: u64| {
        let mut attempts = Attempts::new(10, 5);
        let users: [Arc<str>; 2] = ["root".into(), "admin".into()];
        for n in 0..8_u32 {
            let user = users.get(n as usize / 4);
            attempts.take(&attempt(&flow, user, None, f64::from(n * n) / 3.0, false));
        }
        let key = (source_key(&end(ME)), "ssh");
        attempts.source(&key).unwrap().mark = mark;
        attempts.take(&attempt(&flow, users.get(1), None, 30.0, true))
    };
    assert_eq!(run(0), Taken::Nothing);
    assert_eq!(run(8), Taken::BrokeIn);
}

#[test]
fn one_user_of_many_that_is_let_in_was_guessed() {
    let flow = flow(1, ME, SERVER);
    let mut attempts = Attempts::new(10, 5);
    for n in 0..8 {
        let user: Arc<str> = format!("user{n}").into();
        attempts.take(&attempt(&flow, Some(&user), None, f64::from(n), false));
    }
    let user: Arc<str> = "user9".into();
    let taken = attempts.take(&attempt(&flow, Some(&user), None, 9.0, true));
    assert_eq!(taken, Taken::BrokeIn);
    let source = attempts.source(&(source_key(&end(ME)), "ssh")).unwrap();
    assert_eq!(
        source.breakin.as_ref().unwrap().user.as_deref(),
        Some("user9")
    );
}

#[test]
fn many_hands_that_never_rest_guess_and_a_pool_that_waits_does_not() {
    let flow = flow(1, ME, SERVER);
    let run = |round: f64| {
        let mut attempts = Attempts::new(10, 5);
        for n in 0..60_u32 {
            // Ten hands, each a little after the one before; an attempt takes a tenth of a second.
            let at = f64::from(n / 10) * round + f64::from(n % 10) * 0.01;
            attempts.take(&attempt(&flow, None, None, at, false));
        }
        let source = attempts.source(&(source_key(&end(ME)), "ssh")).unwrap();
        (source.counted, source.eager)
    };
    assert_eq!(run(0.11), (51, 50));
    assert_eq!(run(10.0), (6, 0));
}
