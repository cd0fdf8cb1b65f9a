//! Log sinks through faults, outages and restarts that a seed picks: every entry in order, at least once, and the bytes prove
//! it. `SIGNEDAPPROVAL_SINK_SEEDS=200` runs that many; a seed that failed runs alone with `SIGNEDAPPROVAL_SINK_SEED=17`.

use std::time::Duration;

use crate::sinks::Four;
use crate::sinks::assert_whole;
use crate::sinks::lines;
use crate::sinks::with_directory;
use crate::support::appliance::Appliance;
use crate::support::person::Person;
use crate::support::receivers::Fault;
use crate::support::receivers::Receiver;

/// Seeds of an ordinary run.
const SEEDS: u64 = 2;
/// Things that happen in one.
const STEPS: usize = 14;

/// Numbers that follow from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

fn fault(dice: &mut Dice) -> Fault {
    match dice.below(6) {
        0 => Fault::Status(500, None),
        1 => Fault::Status(503, Some(1)),
        2 => Fault::Status(429, Some(1)),
        3 => Fault::Slow(Duration::from_millis(20 * (1 + dice.below(10)))),
        _ => Fault::Cut,
    }
}

fn pick<'r>(four: &'r mut Four, dice: &mut Dice) -> &'r mut Receiver {
    match dice.below(3) {
        0 => &mut four.webhook,
        1 => &mut four.hec,
        _ => &mut four.datadog,
    }
}

async fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut appliance = Appliance::start(with_directory("")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let mut four = Four::start(&ada).await;
    let mut told = Vec::new();
    for step in 0..STEPS {
        let what = dice.below(6);
        told.push(what);
        match what {
            0 | 1 => {
                for n in 0..=dice.below(4) {
                    ada.create_group(&format!("{seed} {step} {n}"), &[]).await;
                }
            }
            2 | 3 => {
                let faults: Vec<Fault> = (0..=dice.below(2)).map(|_| fault(&mut dice)).collect();
                pick(&mut four, &mut dice).with(|it| it.faults.extend(faults));
                ada.create_group(&format!("{seed} {step}"), &[]).await;
            }
            4 => {
                let away = pick(&mut four, &mut dice);
                away.stop();
                ada.create_group(&format!("{seed} {step}"), &[]).await;
                away.go_on();
            }
            _ => {
                match dice.below(2) {
                    0 => appliance.kill9(),
                    _ => {
                        appliance.stop().await;
                    }
                }
                appliance.restart().await;
            }
        }
    }
    four.all_up_to_date(&ada).await;
    appliance.stop().await;
    let journal = assert_whole(&lines(&appliance.dir().join("journal.jsonl")));
    for receiver in [&four.webhook, &four.hec, &four.datadog] {
        assert_eq!(
            assert_whole(&receiver.records()),
            journal,
            "seed {seed}: {told:?}"
        );
        let refusals = receiver.with(|it| it.refusals.clone());
        assert!(refusals.is_empty(), "seed {seed}: {told:?}: {refusals:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_each_sink_has_every_entry_in_order() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    if let Some(seed) = number("SIGNEDAPPROVAL_SINK_SEED") {
        return run(seed).await;
    }
    for seed in 1..=number("SIGNEDAPPROVAL_SINK_SEEDS").unwrap_or(SEEDS) {
        eprintln!("seed {seed}");
        run(seed).await;
    }
}
