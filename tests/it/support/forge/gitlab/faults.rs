//! Planned faults of the fake GitLab: which calls they meet and what they answer instead.
//! A fault never fires by chance; it counts down the calls it matches.

use std::time::Duration;

use serde_json::Value;

/// What a fault does to a call.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// 429, plain text `Retry later`, `Retry-After` in seconds; calls of that token before its end are recorded.
    RetryLater(u64),
    /// 409 as GitLab answers while another update of the same commit's statuses is under way.
    StatusLocked,
    /// The code alone, with an HTML error page for 5xx and GitLab's JSON otherwise; nothing is done.
    Code(u16),
    /// The call is done, but answered with this code (a gateway that lost the answer).
    LostAnswer(u16),
    /// The answer, a true one, comes only after this time.
    Hang(Duration),
    /// The call is done; the answer's body breaks off half way and the connection closes.
    CutBody,
    /// 200 with an HTML page instead of JSON; nothing is done.
    Html,
    /// A true-looking success, but nothing is stored.
    NotStored,
    /// Exactly this code and JSON; nothing is done.
    Json(u16, Value),
    /// 200 with a JSON body of this many bytes, sent piece by piece; nothing is done.
    Flood(u64),
    /// 302 to this address; nothing is done.
    Redirect(String),
}

/// A trouble and the calls it is for.
#[derive(Clone, Debug)]
pub struct Fault {
    /// None: any method.
    pub method: Option<String>,
    /// With `*`: the path below `/api/v4`, each `*` standing for one segment. Without: any part of `path?query`, so
    /// `&page=7` meets a page (`page=7` alone also meets `per_page=70`).
    pub path: String,
    /// How many matching calls pass untouched first.
    pub after: usize,
    /// How many it still meets.
    pub left: usize,
    pub trouble: Trouble,
}

impl Fault {
    pub fn matches(&self, method: &str, path: &str, query: &str) -> bool {
        if self.method.as_deref().is_some_and(|wanted| wanted != method) {
            return false;
        }
        if !self.path.contains('*') {
            return format!("{path}?{query}").contains(&self.path);
        }
        let (wanted, given): (Vec<&str>, Vec<&str>) =
            (self.path.split('/').collect(), path.split('/').collect());
        wanted.len() == given.len() && wanted.iter().zip(&given).all(|(w, g)| *w == "*" || w == g)
    }
}

/// The trouble that meets this call, if any; counts it down.
pub fn strike(faults: &mut [Fault], method: &str, path: &str, query: &str) -> Option<Trouble> {
    let at = faults
        .iter()
        .position(|fault| fault.left > 0 && fault.matches(method, path, query))?;
    let fault = &mut faults[at];
    if fault.after > 0 {
        fault.after -= 1;
        return None;
    }
    fault.left -= 1;
    Some(fault.trouble.clone())
}
