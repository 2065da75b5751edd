//! GPUs of this host, by number, and which of them containers have.

use crate::engine::EngineFault;
use std::cell::RefCell;
use std::rc::Rc;

/// The GPUs that containers may have, each with whether one has it.
#[derive(Clone)]
pub(crate) struct Gpus(Rc<RefCell<Vec<bool>>>);

/// GPUs of a container, until it is gone.
pub(crate) struct GpuLease {
    all: Gpus,
    pub(crate) taken: Vec<usize>,
}

impl Gpus {
    /// Numbered from 0, all free.
    pub(crate) fn new(count: u32) -> Gpus {
        Gpus(Rc::new(RefCell::new(vec![false; count as usize])))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// The lowest that are free.
    ///
    /// # Errors
    /// If fewer are.
    pub(crate) fn take(&self, count: usize) -> Result<GpuLease, EngineFault> {
        let free: Vec<usize> =
            self.0.borrow().iter().enumerate().filter(|(_, taken)| !**taken).map(|(i, _)| i).collect();
        if free.len() < count {
            return Err(EngineFault::passing("every GPU is taken"));
        }
        Ok(self.these(free[..count].iter().copied()))
    }

    /// These, whoever has them: a container of an earlier life does.
    pub(crate) fn these(&self, numbers: impl Iterator<Item = usize>) -> GpuLease {
        let taken: Vec<usize> = numbers.filter(|i| *i < self.count()).collect();
        taken.iter().for_each(|i| self.0.borrow_mut()[*i] = true);
        GpuLease { all: self.clone(), taken }
    }
}

impl Drop for GpuLease {
    fn drop(&mut self) {
        self.taken.iter().for_each(|i| self.all.0.borrow_mut()[*i] = false);
    }
}
