//! Several sources as one, in order of time; ties go by the order of the sources.

use super::Source;
use crate::base::{FunctionId, Invocation, Result, Time};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module. Function ids of each source are shifted by its offset.
#[derive(Default)]
pub struct Merge {
    sources: Vec<(Box<dyn Source>, u32)>,
    heads: Vec<Option<Invocation>>,
    order: BinaryHeap<Reverse<(Time, usize)>>,
    started: bool,
}

impl Merge {
    /// Adds a source whose function 0 is function `offset` of the whole.
    pub fn add(&mut self, source: Box<dyn Source>, offset: u32) {
        self.sources.push((source, offset));
        self.heads.push(None);
    }

    fn pull(&mut self, i: usize) -> Result<()> {
        let (source, offset) = &mut self.sources[i];
        if let Some(mut call) = source.next()? {
            call.function = FunctionId(call.function.0 + *offset);
            self.order.push(Reverse((call.arrival, i)));
            self.heads[i] = Some(call);
        }
        Ok(())
    }
}

impl Source for Merge {
    fn next(&mut self) -> Result<Option<Invocation>> {
        if !std::mem::replace(&mut self.started, true) {
            for i in 0..self.sources.len() {
                self.pull(i)?;
            }
        }
        let Some(Reverse((_, i))) = self.order.pop() else { return Ok(None) };
        let call = self.heads[i].take();
        self.pull(i)?;
        Ok(call)
    }
}
