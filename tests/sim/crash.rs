//! The scripted day, interrupted at each of its steps.

use crate::appliance::Sim;
use crate::checks::{after_a_start, at_rest, summary};
use crate::day::live;
use crate::storage::{Failure, Machine, StepKind, Survival};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One interruption.
#[derive(Clone, Copy, Debug)]
struct Case {
    step: u64,
    failure: Failure,
    survival: Survival,
    /// Steps after which the start that follows is interrupted too.
    again_after: Option<u64>,
}

/// A day that nothing interrupts: the kinds of its steps and what it came to.
fn undisturbed() -> (Vec<StepKind>, BTreeMap<String, String>) {
    let mut sim = Sim::new(Machine::new([]), vec![Survival::Synced]);
    live(&mut sim, after_a_start);
    at_rest(&sim);
    assert_eq!(sim.n_starts, 1);
    (sim.machine.steps(), summary(&sim))
}

#[test]
fn a_day_is_the_same_day_each_time() {
    let (steps, outcome) = undisturbed();
    let (again, same) = undisturbed();
    assert_eq!(steps.len(), again.len());
    assert_eq!(outcome, same);
    let count = |kind| steps.iter().filter(|it| **it == kind).count();
    println!("{} steps: {} writes, {} syncs, {} calls", steps.len(), count(StepKind::Write), count(StepKind::Sync), count(StepKind::Contact));
    assert!(count(StepKind::Contact) > 30 && count(StepKind::Sync) > 100);
}
