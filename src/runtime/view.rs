//! What the threads show of themselves, each about once a second, for whoever asks meanwhile.

use std::sync::{Mutex, PoisonError};

use super::{IdentityState, Standing, TapState};

/// How a live run stands.
#[derive(Default, Debug)]
pub(super) struct View {
    standing: Mutex<Standing>,
    taps: Mutex<Vec<TapState>>,
    identity: Mutex<IdentityState>,
}

impl View {
    pub(super) fn standing(&self) -> Standing {
        get(&self.standing)
    }

    pub(super) fn taps(&self) -> Vec<TapState> {
        get(&self.taps)
    }

    pub(super) fn identity(&self) -> IdentityState {
        get(&self.identity)
    }

    pub(super) fn show_standing(&self, standing: Standing) {
        set(&self.standing, standing);
    }

    pub(super) fn show_taps(&self, taps: Vec<TapState>) {
        set(&self.taps, taps);
    }

    pub(super) fn show_identity(&self, identity: IdentityState) {
        set(&self.identity, identity);
    }
}

/// Whoever panicked while it held the lock replaced the whole value or nothing of it.
fn get<T: Clone>(shown: &Mutex<T>) -> T {
    shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set<T>(shown: &Mutex<T>, value: T) {
    *shown.lock().unwrap_or_else(PoisonError::into_inner) = value;
}
