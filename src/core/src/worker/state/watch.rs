//! Readings of containers' memory: each interval while an invocation runs, and right after it; never while they are idle.

use super::{Key, LoopDue, Shell, State};
use crate::base::{Mem, Time};
use crate::worker::event::WorkerEvent;

impl State {
    /// Begins to watch the memory of a container in which an execution begins.
    #[inline]
    pub(super) fn watch_memory(&mut self, key: Key, due: Option<Time>, now: Time, shell: &mut impl Shell) {
        let interval = self.config.memory_check;
        let c = self.pool.get(key);
        if c.in_flight != 1 && c.next_read != Time::MAX {
            return;
        }
        c.working_set = Mem(0);
        // What is known to end before its first reading needs no watch, if nobody else may enter meanwhile.
        let short = due.is_some_and(|due| due < now + interval);
        if short && c.concurrency == 1 {
            return;
        }
        let first = now + interval;
        c.next_read = first;
        let epoch = c.epoch;
        self.watch.push_back((first, key, epoch));
        shell.look_by(LoopDue::Reading, first);
    }

    /// Reads a container's memory right after an invocation, and first whatever was due by then.
    #[inline]
    pub(super) fn read_after(&mut self, key: Key, now: Time, shell: &mut impl Shell) -> Mem {
        if self.pool.get(key).next_read <= now {
            self.read_overdue(key, now, shell);
        }
        self.read_memory(key, now, shell)
    }

    #[cold]
    fn read_overdue(&mut self, key: Key, now: Time, shell: &mut impl Shell) {
        while self.pool.get(key).next_read <= now {
            self.read_memory(key, now, shell);
        }
    }

    /// Reads a container's memory once; the highest working set since it became busy.
    #[inline(always)]
    fn read_memory(&mut self, key: Key, now: Time, shell: &mut impl Shell) -> Mem {
        let interval = self.config.memory_check;
        let c = self.pool.get(key);
        if c.next_read <= now {
            c.next_read = c.next_read + interval;
        }
        let memory = c.sandbox.and_then(|s| shell.read(c.backend, s)).unwrap_or(c.memory);
        c.reading = Some(memory);
        c.working_set = c.working_set.max(memory);
        let highest = c.working_set;
        self.emit(now, |state| WorkerEvent::Read { container: state.pool.number(key), memory });
        highest
    }

    /// Reads what is due by now; when the next reading is.
    pub(in crate::worker) fn read_due(&mut self, now: Time, shell: &mut impl Shell) -> Option<Time> {
        let next = loop {
            let Some((due, key, epoch)) = self.watch.front().copied() else { break None };
            match self.pool.in_epoch(key, epoch).map(|c| c.next_read) {
                Some(_) if due > now => break Some(due),
                Some(next_read) => {
                    if next_read <= now {
                        self.read_memory(key, now, shell);
                    }
                    let due = self.pool.get(key).next_read;
                    self.watch.push_back((due, key, epoch));
                }
                None => {}
            }
            self.watch.pop_front();
        };
        self.settled();
        next
    }
}
