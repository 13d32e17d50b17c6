//! Room for flows, in blocks: it grows without moving what is there.

use crate::flow::live::Flow;

/// Slots per block.
const BLOCK: usize = 512;

/// A place for a flow. Its generation tells timers whether it is still the flow they were set for.
#[derive(Debug)]
pub(super) struct Slot<S> {
    pub(super) generation: u32,
    pub(super) flow: Option<Flow<S>>,
}

#[derive(Debug)]
pub(super) struct Slots<S> {
    blocks: Vec<Vec<Slot<S>>>,
    len: usize,
}

impl<S> Slots<S> {
    pub(super) const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, number: u32) -> Option<&Slot<S>> {
        let number = number as usize;
        self.blocks.get(number / BLOCK)?.get(number % BLOCK)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Slot<S>> {
        let number = number as usize;
        self.blocks.get_mut(number / BLOCK)?.get_mut(number % BLOCK)
    }

    /// The flow in a slot.
    pub(super) fn flow(&self, number: u32) -> Option<&Flow<S>> {
        self.get(number)?.flow.as_ref()
    }

    /// The flow in a slot, to be changed.
    pub(super) fn flow_mut(&mut self, number: u32) -> Option<&mut Flow<S>> {
        self.get_mut(number)?.flow.as_mut()
    }

    /// Another slot, without a flow: its number.
    pub(super) fn push(&mut self) -> u32 {
        let empty = Slot {
            generation: 0,
            flow: None,
        };
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(empty),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(empty);
                self.blocks.push(block);
            }
        }
        let number = self.len as u32;
        self.len = self.len.saturating_add(1);
        number
    }

    /// Every flow, to be changed.
    pub(super) fn flows_mut(&mut self) -> impl Iterator<Item = &mut Flow<S>> {
        let slots = self.blocks.iter_mut().flatten();
        slots.filter_map(|slot| slot.flow.as_mut())
    }

    /// Every flow with the number of its slot.
    pub(super) fn flows(&self) -> impl Iterator<Item = (u32, &Flow<S>)> {
        let slots = self.blocks.iter().flatten();
        (0_u32..)
            .zip(slots)
            .filter_map(|(number, slot)| Some((number, slot.flow.as_ref()?)))
    }
}
