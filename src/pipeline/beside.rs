//! The other half on a thread of its own, beside the packet half.
//!
//! All that is told to it comes in the order in which it would have come on one thread, so that the result is the same. The
//! way there is short: whoever is ahead waits.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::back::{Back, Tick};
use super::batch::Batch;
use super::lists::{EndedFlow, Said};

/// Batches on their way at most.
const AHEAD: usize = 8;

enum Work {
    Events(Batch),
    Tick(Box<Tick>),
}

/// What there is to fetch while the thread goes on.
#[derive(Default, Debug)]
struct Listed {
    flows: Vec<EndedFlow>,
    said: Vec<Said>,
}

/// A half that works on another thread.
#[derive(Debug)]
pub(super) struct Beside {
    work: SyncSender<Work>,
    /// Empty batches, to be filled again.
    spent: Receiver<Batch>,
    listed: Arc<Mutex<Listed>>,
    thread: JoinHandle<Back>,
}

impl Beside {
    /// Sends a half off.
    pub(super) fn new(back: Back) -> std::io::Result<Self> {
        let (work, queue) = sync_channel(AHEAD);
        let (empty, spent) = sync_channel(AHEAD);
        let listed = Arc::<Mutex<Listed>>::default();
        let shared = Arc::clone(&listed);
        let thread = std::thread::Builder::new()
            .name("analysis".into())
            .spawn(move || run(back, &queue, &empty, &shared))?;
        Ok(Self {
            work,
            spent,
            listed,
            thread,
        })
    }

    /// Passes a batch on and leaves an empty one in its place.
    pub(super) fn take(&self, batch: &mut Batch) {
        let empty = self.spent.try_recv().unwrap_or_default();
        self.send(Work::Events(std::mem::replace(batch, empty)));
    }

    pub(super) fn tick(&self, tick: Tick) {
        self.send(Work::Tick(Box::new(tick)));
    }

    fn send(&self, work: Work) {
        // Nobody listens only after a panic over there, of which `home` tells.
        let _lost = self.work.send(work);
    }

    pub(super) fn take_flows(&self) -> Vec<EndedFlow> {
        std::mem::take(&mut lock(&self.listed).flows)
    }

    pub(super) fn take_messages(&self) -> Vec<Said> {
        std::mem::take(&mut lock(&self.listed).said)
    }

    /// Has the half back once it has done what it was sent.
    pub(super) fn home(self) -> Back {
        drop(self.work);
        let mut back = match self.thread.join() {
            Ok(back) => back,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // What was listed there and not fetched.
        let listed = std::mem::take(&mut *lock(&self.listed));
        if let Some(flows) = &mut back.flows {
            flows.put_before(listed.flows);
        }
        if let Some(messages) = &mut back.messages {
            messages.put_before(listed.said);
        }
        back
    }
}

fn lock(listed: &Mutex<Listed>) -> std::sync::MutexGuard<'_, Listed> {
    // Whatever holds it only moves lists, which are whole at any moment.
    listed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(
    mut back: Back,
    queue: &Receiver<Work>,
    empty: &SyncSender<Batch>,
    listed: &Mutex<Listed>,
) -> Back {
    for work in queue {
        match work {
            Work::Tick(tick) => back.tick(&tick),
            Work::Events(mut batch) => {
                back.take(&mut batch);
                // If there are enough to fill, this one isn't needed.
                let _enough = empty.try_send(batch);
                let (flows, said) = (back.take_flows(), back.take_messages());
                if !(flows.is_empty() && said.is_empty()) {
                    let mut listed = lock(listed);
                    listed.flows.extend(flows);
                    listed.said.extend(said);
                }
            }
        }
    }
    back
}
