//! What a live run needs besides: time that passes without packets, news while it goes on, names that come late, and
//! signatures that change.

use std::sync::Arc;
use std::time::Duration;

use super::analysis::Analysis;
use super::{BuildError, Pipeline, Place, Stats, TICK};
use crate::alert::{Alert, Exceptions, Kept};
use crate::baseline::Learner;
use crate::identity::Journal;
use crate::signature::SignatureSet;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// How late a name may come.
const LATE: Duration = Duration::from_mins(1);

impl Pipeline {
    /// Time has passed without a packet: what waits for it to pass is done.
    pub fn advance(&mut self, now: Timestamp) {
        let second = now.nanos().div_euclid(TICK);
        if second <= self.ticked.nanos().div_euclid(TICK) {
            return;
        }
        self.front
            .advance(now, &self.journal, &mut self.batch.events);
        self.batch.mark(self.front.packets(), self.front.losses());
        self.back.take(&mut self.batch);
        self.tick(now);
    }

    /// Counts packets that were lost before they came here, so that alerts tell of it.
    pub fn lost(&mut self, loss: Loss, packets: u64) {
        self.front.lost(loss, packets);
    }

    /// What there is to tell of alerts by `now`: new ones, grown ones, those that are over. To be asked about once a second,
    /// in the order of time.
    pub fn updates(&mut self, now: Timestamp) -> Vec<Alert> {
        self.back.take(&mut self.batch);
        self.analysis()
            .map(|analysis| analysis.updates(now))
            .unwrap_or_default()
    }

    /// Who held which address is known better now. What began a minute ago or later and had no name is given it.
    pub fn renew(&mut self, journal: Arc<Journal>) {
        self.back.take(&mut self.batch);
        let since = self.ticked.before(LATE);
        self.front.rename(&journal, since);
        if let Some(back) = self.back.here() {
            back.renew(Arc::clone(&journal), since);
        }
        self.journal = journal;
    }

    /// Looks for what these signatures say from here on, and allows what these exceptions do; returns how many signatures are
    /// new or changed. Detectors of the others, alerts, flows and baselines stay.
    ///
    /// # Errors
    /// When a signature's thresholds don't fit its detector; then all stays as it was.
    pub fn reload(
        &mut self,
        signatures: &SignatureSet,
        exceptions: Exceptions,
    ) -> Result<usize, BuildError> {
        self.back.take(&mut self.batch);
        self.analysis()
            .map_or(Ok(0), |analysis| analysis.reload(signatures, exceptions))
    }

    /// Goes on with the alerts of an earlier run, and notes from here on what there is to keep of them. Returns those that can't be
    /// understood.
    pub fn recall(&mut self, kept: Vec<(String, Vec<u8>)>) -> Vec<String> {
        self.analysis()
            .map(|analysis| analysis.correlator().recall(kept))
            .unwrap_or_default()
    }

    /// What there is to keep of alerts for another run, since this was last called; all of them if this one has `ended`.
    pub fn to_keep(&mut self, ended: bool) -> Vec<Kept> {
        self.analysis()
            .map(|analysis| analysis.correlator().to_keep(ended))
            .unwrap_or_default()
    }

    /// What has been learned by now, when learning. What was seen in the last two hours is held back, in case an alert covers it;
    /// [`Learner::snapshot`] has it too.
    pub fn learner(&self) -> Option<&Learner> {
        match &self.back {
            Place::Here(back) => back.analysis.as_ref().and_then(Analysis::learner),
            Place::Beside(_) => None,
        }
    }

    fn analysis(&mut self) -> Option<&mut Analysis> {
        self.back.here().and_then(|back| back.analysis.as_mut())
    }

    /// What was seen so far.
    pub fn stats(&self) -> Stats {
        self.front.stats()
    }

    /// What was lost so far on the way to the analysis.
    pub fn losses(&self) -> LossCounts {
        let mut losses = self.front.losses().clone();
        losses.merge(self.front.flow_losses());
        losses
    }
}
