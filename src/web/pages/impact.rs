//! "What would change": the requests of the last 30 days that another version of a policy judges otherwise, in words.

use crate::domain::decide::Impact;
use crate::domain::policy::{Evaluation, Outcome};
use crate::web::pages::moment::Moment;
use crate::web::pages::shown;
use crate::web::words;

/// Most differences on a page.
const SHOWN_MAX: usize = 100;
/// Longest title, in characters.
const TITLE_MAX: usize = 120;

/// What another version would have changed.
pub struct ImpactView {
    pub looked_at: usize,
    /// Older requests of the period were left out.
    pub older_left_out: bool,
    pub differences: Vec<DifferenceView>,
    pub not_shown: usize,
    /// How many of them ask for less than before: the ones to look at first.
    pub weaker: usize,
}

/// One request that is judged otherwise.
pub struct DifferenceView {
    pub id: String,
    pub title: String,
    pub at: Moment,
    pub before: String,
    pub after: String,
    pub weaker: bool,
}

impl ImpactView {
    /// The same for people.
    pub fn of(found: &Impact) -> Self {
        let mut differences: Vec<DifferenceView> = found
            .differences
            .iter()
            .map(|it| DifferenceView {
                id: it.request.id.to_string(),
                title: shown(&it.request.title, TITLE_MAX),
                at: Moment::of(it.request.created_at),
                before: words::judged(&it.before),
                after: words::judged(&it.after),
                weaker: demand(&it.after) < demand(&it.before),
            })
            .collect();
        differences.sort_by_key(|it| !it.weaker);
        let weaker = differences.iter().filter(|it| it.weaker).count();
        let not_shown = differences.len().saturating_sub(SHOWN_MAX);
        differences.truncate(SHOWN_MAX);
        ImpactView {
            looked_at: found.looked_at,
            older_left_out: found.more,
            differences,
            not_shown,
            weaker,
        }
    }
}

/// How much is asked, roughly: blocked beats everything, then the most people over all rules, then how many rules.
fn demand(it: &Evaluation) -> (u8, u32, usize) {
    let grade = match it.outcome {
        Outcome::NotGated | Outcome::Skip => 0,
        Outcome::Require => 1,
        Outcome::Block => 2,
    };
    let most = it.obligations.iter().map(|it| it.quorum).max().unwrap_or(0);
    (grade, most, it.obligations.len())
}
