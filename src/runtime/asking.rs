//! Runs what asks others over the network, on the thread that calls, until it has to stop.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

/// How often it is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(200);

/// Runs `work` until it ends or `stop` is set. `whom` is who then isn't asked if that can't be begun.
pub(super) fn until(stop: &AtomicBool, whom: &str, work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            warn!("{whom} is not asked: {error}");
            return;
        }
    };
    let stopped = async {
        while !stop.load(Ordering::Relaxed) {
            sleep(GLANCE).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = work => {}
            () = stopped => {}
        }
    });
    // Whatever a look-up of names still does, nobody waits for it.
    runtime.shutdown_background();
}
