//! The scripted day, interrupted at each of its steps.
//!
//! The day is cut into chapters. A case goes on from what the chapter before left, fails one step, starts again, lets
//! the chapter end and compares with the chapter that nothing interrupted. Cases in which a failure outlives its
//! chapter (the forge does not answer, and the next thing happens) run the day as a whole.

use crate::appliance::{Left, Sim};
use crate::checks::{after_a_start, at_rest, summary};
use crate::day::{DAY, chapter, live, rest};
use crate::storage::{Coin, Failure, Machine, StepKind, Survival};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Summary = BTreeMap<String, String>;

/// A chapter as it goes when nothing interrupts it.
struct Chapter {
    before: Left,
    steps: Vec<StepKind>,
    after: Summary,
}

/// One interruption.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `None`: the whole day.
    chapter: Option<usize>,
    /// Counted from 1.
    step: u64,
    failure: Failure,
    survival: Survival,
    /// The start that follows is cut short too, after this many steps.
    again: Option<u64>,
}

/// Pass 1: the day in chapters.
fn chapters() -> Vec<Chapter> {
    let mut left = Sim::new(Machine::new([]), vec![Survival::Process]).leave();
    let mut chapters = Vec::new();
    for idx in 0..=DAY.len() {
        let mut sim = Sim::go_on(&left, Vec::new(), vec![Survival::Process]);
        chapter(&mut sim, idx, after_a_start);
        rest(&mut sim, after_a_start);
        at_rest(&sim);
        assert_eq!(sim.n_starts, 1, "nothing interrupts pass 1");
        let (steps, after) = (sim.machine.steps(), summary(&sim));
        chapters.push(Chapter {
            before: left,
            steps,
            after,
        });
        left = sim.leave();
    }
    chapters
}

/// A day that nothing interrupts: its steps and what it came to.
fn undisturbed() -> (Vec<StepKind>, Summary) {
    let mut sim = Sim::new(Machine::new([]), vec![Survival::Synced]);
    live(&mut sim, after_a_start);
    after_a_start(&sim);
    at_rest(&sim);
    assert_eq!(sim.n_starts, 1, "nothing interrupts this day");
    (sim.machine.steps(), summary(&sim))
}

fn run(case: Case, chapters: &[Chapter], whole_day: &Summary) {
    let mut failures = vec![(case.step, case.failure)];
    failures.extend(case.again.map(|it| (case.step + it, Failure::CrashBefore)));
    let survival = vec![case.survival];
    let (mut sim, expected) = match case.chapter {
        Some(idx) => (
            Sim::go_on(&chapters[idx].before, failures, survival),
            &chapters[idx].after,
        ),
        None => {
            let machine = Machine::new(failures);
            (Sim::new(machine, survival), whole_day)
        }
    };
    match case.chapter {
        Some(idx) => chapter(&mut sim, idx, after_a_start),
        None => live(&mut sim, after_a_start),
    }
    rest(&mut sim, after_a_start);
    assert!(sim.machine.n_failed() > 0, "the step was never reached");
    at_rest(&sim);
    let came_to = summary(&sim);
    let names: BTreeSet<&String> = came_to.keys().chain(expected.keys()).collect();
    for name in names {
        let (is, should) = (came_to.get(name), expected.get(name));
        assert_eq!(is, should, "{name} is not what it is without the interruption");
    }
}

/// Whether the whole product is asked for.
fn all() -> bool {
    std::env::var_os("SIM_ALL").is_some_and(|it| it == "1")
}

fn cases(chapters: &[Chapter], day: &[StepKind]) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut turn = 0;
    for (idx, chapter) in chapters.iter().enumerate() {
        for step in 1..=chapter.steps.len() as u64 {
            let survivals = [Survival::Synced, Survival::Torn(step * 7919), Survival::Process];
            for failure in Failure::ALL {
                for survival in survivals {
                    let again = (step % 5 == 0).then_some(1 + step % 11);
                    cases.push(Case {
                        chapter: Some(idx),
                        step,
                        failure,
                        survival,
                        again,
                    });
                }
            }
            if !all() {
                // Every step once, with failures and survivals in turn: 12 combinations, a stride prime to them.
                let all = cases.split_off(cases.len() - 12);
                cases.push(all[turn % 12]);
                turn += 5;
            }
        }
    }
    let calls = (1..=day.len() as u64).filter(|it| day[*it as usize - 1] == StepKind::Contact);
    for (n, step) in calls.enumerate() {
        for failure in [Failure::ErrorDone, Failure::ErrorUndone, Failure::CrashAfter] {
            if all() || failure == Failure::ErrorDone || n % 4 == 0 {
                cases.push(Case {
                    chapter: None,
                    step,
                    failure,
                    survival: Survival::Synced,
                    again: None,
                });
            }
        }
    }
    cases
}

#[test]
fn whatever_fails_nothing_acknowledged_is_lost_and_nothing_is_told_too_early() {
    let begun = std::time::Instant::now();
    let chapters = chapters();
    let (day, whole_day) = undisturbed();
    let cases = cases(&chapters, &day);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Vec<(Case, String)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |it| it.get()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let result = catch_unwind(AssertUnwindSafe(|| run(*case, &chapters, &whole_day)));
                    if let Err(panic) = result {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                        failed
                            .lock()
                            .expect("unpoisoned")
                            .push((*case, text.unwrap_or_default()));
                    }
                }
            });
        }
    });
    let n_steps: usize = chapters.iter().map(|it| it.steps.len()).sum();
    let n_kind = |kind| {
        chapters
            .iter()
            .flat_map(|it| &it.steps)
            .filter(|it| **it == kind)
            .count()
    };
    println!(
        "{n_steps} steps ({} writes, {} resizes, {} syncs, {} calls) in {} chapters; {} cases, {} failed, {:?}",
        n_kind(StepKind::Write),
        n_kind(StepKind::Resize),
        n_kind(StepKind::Sync),
        n_kind(StepKind::Contact),
        chapters.len(),
        cases.len(),
        failed.lock().expect("unpoisoned").len(),
        begun.elapsed(),
    );
    let failed = failed.into_inner().expect("unpoisoned");
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (case, text) in &failed {
        let name = case
            .chapter
            .map_or("the whole day", |it| DAY.get(it).map_or("the evening", |it| it.0));
        let kind = case.chapter.map_or(&day, |it| &chapters[it].steps)[case.step as usize - 1];
        let text: String = text.chars().take(600).collect();
        shown
            .entry(text)
            .or_default()
            .push(format!("{name}: {kind:?} {case:?}"));
    }
    for (text, cases) in &shown {
        println!("{} times, e.g. {}\n  {text}", cases.len(), cases[0]);
    }
    assert!(
        failed.is_empty(),
        "{} of {} interruptions were not survived",
        failed.len(),
        cases.len()
    );
}

#[test]
fn a_day_has_the_same_steps_each_time() {
    let (steps, came_to) = undisturbed();
    let (again, same) = undisturbed();
    assert_eq!(steps.len(), again.len());
    assert_eq!(came_to, same);
}

#[test]
fn a_second_power_cut_during_the_start_after_the_first_loses_nothing() {
    let chapters = chapters();
    let (_, whole_day) = undisturbed();
    let idx = DAY
        .iter()
        .position(|it| it.0 == "it is approved for good")
        .expect("it is in the script");
    let mut coin = Coin(1);
    for n in 0..40 {
        let step = 1 + coin.below(chapters[idx].steps.len() as u64);
        let survival = Survival::Torn(coin.next());
        let case = Case {
            chapter: Some(idx),
            step,
            failure: Failure::CrashBefore,
            survival,
            again: Some(1 + n % 20),
        };
        run(case, &chapters, &whole_day);
    }
}
