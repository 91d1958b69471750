//! Which offset may be committed: the contiguous prefix of records that are durable. A value without I/O (INC-15,
//! INC-18).
//!
//! Invariant: [`Window::committable`] never goes back, and never passes a record that is not done.

use std::collections::BTreeMap;

/// The records of one partition that are taken and not yet committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// Offset to done; in offset order, which is also arrival order.
    open: BTreeMap<i64, bool>,
    /// The next offset after the contiguous prefix of done records.
    position: Option<i64>,
}

impl Window {
    /// A record is taken. Offsets may have gaps (compaction, transactions). One that comes again, as after a pause of
    /// its partition, changes nothing: it is open, or durable already.
    pub fn take(&mut self, offset: i64) {
        if self.position.is_none_or(|position| offset >= position) {
            self.open.entry(offset).or_insert(false);
        }
    }

    /// A record is durable: started, recognised as a duplicate, dead-lettered or skipped.
    pub fn done(&mut self, offset: i64) {
        if let Some(done) = self.open.get_mut(&offset) {
            *done = true;
        }
        while let Some(first) = self.open.first_entry() {
            if !*first.get() {
                break;
            }
            self.position = Some(first.key() + 1);
            first.remove();
        }
    }

    /// Records taken and not done.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.open.values().filter(|done| !**done).count()
    }

    /// The offset to commit: the next record to read after a restart. `None` before the first record is done.
    #[must_use]
    pub fn committable(&self) -> Option<i64> {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(taken: &[i64], done: &[i64]) -> Window {
        let mut window = Window::default();
        taken.iter().for_each(|offset| window.take(*offset));
        done.iter().for_each(|offset| window.done(*offset));
        window
    }

    #[test]
    fn inc_18_only_the_contiguous_prefix_is_committed() {
        for (done, expected, in_flight) in [
            (vec![], None, 4),
            (vec![11], None, 3),
            (vec![11, 13], None, 2),
            (vec![11, 10], Some(12), 2),
            (vec![13, 12, 11, 10], Some(14), 0),
        ] {
            let window = window(&[10, 11, 12, 13], &done);
            assert_eq!(window.committable(), expected, "{done:?}");
            assert_eq!(window.in_flight(), in_flight, "{done:?}");
        }
    }

    #[test]
    fn gaps_in_offsets_are_passed() {
        assert_eq!(window(&[10, 15, 20], &[10, 15]).committable(), Some(16));
    }

    #[test]
    fn the_commit_never_goes_back_and_never_passes_an_open_record() {
        // Every order in which five records can end.
        let mut orders = vec![vec![]];
        for _ in 0..5 {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<i64>| {
                    (0..5).filter(|n| !order.contains(n)).map(|n| [order.clone(), vec![n]].concat()).collect::<Vec<_>>()
                })
                .collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut window = window(&[0, 1, 2, 3, 4], &[]);
            let mut last = None;
            for (step, offset) in order.iter().enumerate() {
                window.done(*offset);
                let committable = window.committable();
                assert!(committable >= last, "{order:?}");
                let open = (0..5).find(|n| !order[..=step].contains(n)).unwrap_or(5);
                assert_eq!(committable.unwrap_or(0), open, "{order:?} after {step}");
                last = committable;
            }
        }
    }

    #[test]
    fn inc_18_a_record_that_comes_again_does_not_take_the_commit_back() {
        let mut window = window(&[10, 11, 12], &[10, 12]);
        for offset in [10, 12, 11] {
            window.take(offset);
        }
        assert_eq!((window.committable(), window.in_flight()), (Some(11), 1));
        window.done(11);
        window.take(10);
        window.done(10);
        assert_eq!((window.committable(), window.in_flight()), (Some(13), 0));
    }

    #[test]
    fn an_unknown_offset_changes_nothing() {
        let mut window = window(&[10], &[]);
        window.done(9);
        assert_eq!(window.committable(), None);
    }
}
