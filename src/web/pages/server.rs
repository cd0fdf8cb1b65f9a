//! What about the server itself needs somebody.

use crate::domain::condition::{Condition, Severity};
use crate::web::app::App;
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, shown};

/// Longest text of others, in characters.
const TEXT_MAX: usize = 400;

/// One condition that lasts.
pub struct ConditionView {
    pub title: String,
    pub detail: String,
    pub degraded: bool,
    pub since: Moment,
}

/// What lasts and does not stand at the top of every page anyway, the worst first.
pub fn beside_the_frame(app: &App) -> Result<Vec<ConditionView>, PageError> {
    let standing = app.engine.health().standing();
    let mut all = app.conditions()?;
    all.retain(|it| standing.iter().all(|known| known.condition.name() != it.name));
    Ok(views(all))
}

/// All that lasts, the worst first.
pub fn conditions(app: &App) -> Result<Vec<ConditionView>, PageError> {
    Ok(views(app.conditions()?))
}

fn views(mut all: Vec<Condition>) -> Vec<ConditionView> {
    all.sort_by_key(|it| (std::cmp::Reverse(it.severity), it.since));
    let view = |it: Condition| ConditionView {
        title: title(&it.name),
        detail: shown(&it.detail, TEXT_MAX),
        degraded: it.severity == Severity::Degraded,
        since: Moment::of(it.since),
    };
    all.into_iter().map(view).collect()
}

/// `certificate.self_signed` as people read it: "Certificate: self signed".
fn title(name: &str) -> String {
    let (area, what) = name.split_once('.').unwrap_or((name, ""));
    let mut area = area.replace('_', " ");
    if let Some(first) = area.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match what {
        "" => area,
        what => format!("{area}: {}", what.replace('_', " ")),
    }
}
