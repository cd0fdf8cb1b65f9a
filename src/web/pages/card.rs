//! One request in a list: what, where, who asked, how it stands.

use crate::domain::ids::{IntegrationId, ProjectId};
use crate::domain::project::{ForgeKind, Integration, Project};
use crate::domain::request::{Kind, Request, Requester, Status};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;
use crate::texts::t;
use crate::web::pages::moment::{Moment, ago};
use crate::web::pages::receipt::Teller;
use crate::web::pages::shown;
use crate::web::pages::standing::People;
use std::collections::BTreeMap;

/// Longest title on a card, in characters.
const TITLE_MAX: usize = 160;
/// Longest name of a branch, environment, project or requester on a card, in characters.
const NAME_MAX: usize = 100;

/// The gated repositories and where they are.
pub struct Places {
    projects: BTreeMap<ProjectId, Project>,
    integrations: BTreeMap<IntegrationId, Integration>,
}

impl Places {
    /// Reads all of them. Projects and integrations stay few.
    pub fn load(state: &impl Read) -> Result<Self, Fault> {
        Ok(Places {
            projects: state
                .all::<Project>()?
                .into_iter()
                .map(|it| (it.id.clone(), it))
                .collect(),
            integrations: state
                .all::<Integration>()?
                .into_iter()
                .map(|it| (it.id.clone(), it))
                .collect(),
        })
    }

    /// The project a request is about, where it is a change or a deployment on a forge.
    pub fn project(&self, request: &Request) -> Option<&Project> {
        self.projects.get(request.gated_project()?)
    }

    /// The forge the request's change is on.
    pub fn forge(&self, request: &Request) -> Option<&Integration> {
        self.integrations.get(&self.project(request)?.integration)
    }

    /// A project's path, for people.
    pub fn path_of(&self, project: &ProjectId) -> String {
        self.projects
            .get(project)
            .map_or_else(|| project.to_string(), |it| shown(&it.path, NAME_MAX))
    }

    /// What the request is called in one or two words: `!142`, or the beginning of its action in quotes.
    pub fn called(&self, request: &Request) -> String {
        let kind = self.forge(request).map_or(ForgeKind::Gitlab, |it| it.kind);
        match &request.change {
            Some(change) => kind.change_text(change.number),
            None => format!("“{}”", shown(&request.title, 80)),
        }
    }
}

/// How a request stands, in a word with a colour and a sign of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Badge {
    /// Names the colour and the sign.
    pub look: &'static str,
    pub word: &'static str,
}

impl Badge {
    /// The badge of a request.
    pub fn of(request: &Request) -> Self {
        let (look, word) = match request.status {
            Status::Approved if request.lapsed => ("expired", t!("Approval lapsed")),
            Status::Approved if request.consumed_at.is_some() => ("approved", t!("Approved and used")),
            Status::Pending if request.blocked => ("rejected", t!("Blocked by policy")),
            Status::Pending => ("pending", t!("Waiting")),
            Status::Approved => ("approved", t!("Approved")),
            Status::Rejected => ("rejected", t!("Rejected")),
            Status::Expired => ("expired", t!("Expired")),
            Status::Cancelled => ("cancelled", t!("Cancelled")),
            Status::Superseded => ("superseded", t!("Superseded")),
            Status::Skipped => ("skipped", t!("Skipped by a rule")),
        };
        Badge { look, word }
    }
}

/// Where the effect would be, for the band at the top: the word stands there too, never the colour alone.
#[derive(Clone, Debug)]
pub struct Band {
    pub look: &'static str,
    pub word: String,
}

impl Band {
    /// The band of a request: its environment, or the branch it would change.
    pub fn of(request: &Request) -> Self {
        if let Some(environment) = &request.environment {
            let folded = environment.to_lowercase();
            let production = folded
                .split(|c: char| !c.is_alphanumeric())
                .any(|it| it == "live" || it.starts_with("prod"));
            let look = if production { "production" } else { "other" };
            return Band {
                look,
                word: shown(environment, NAME_MAX),
            };
        }
        let word = match (&request.target, &request.requester) {
            (Some(target), _) => {
                return Band {
                    look: "branch",
                    word: branch(target),
                };
            }
            (None, Requester::Person { .. }) => t!("Test: nothing changes"),
            (None, Requester::Key { .. } | Requester::ForgeAccount { .. }) => t!("No environment named"),
        };
        Band {
            look: "other",
            word: word.to_owned(),
        }
    }
}

/// A branch as people call it.
pub fn branch(reference: &str) -> String {
    shown(
        reference.strip_prefix("refs/heads/").unwrap_or(reference),
        NAME_MAX,
    )
}

/// One request in a list.
#[derive(Clone, Debug)]
pub struct Card {
    pub id: String,
    /// `Merge !142` or `Deployment`.
    pub what: String,
    /// Text from outside.
    pub title: String,
    pub place: String,
    pub band: Band,
    pub who: String,
    pub asked: Moment,
    pub asked_ago: String,
    /// While it waits, and where it has a limit.
    pub expires: Option<Moment>,
    pub progress: Option<String>,
    pub badge: Badge,
    /// When it ended.
    pub ended: Option<Moment>,
    /// Each decision in its one sentence.
    pub sentences: Vec<String>,
}

impl Card {
    /// The card of a request.
    ///
    /// # Errors
    /// When a credential can't be read.
    pub fn of(
        request: &Request,
        places: &Places,
        people: &People,
        teller: &Teller<'_, impl Read>,
        now: Time,
    ) -> Result<Self, Fault> {
        let what = match request.kind {
            Kind::Change => t!("Merge {request}", request = places.called(request)),
            Kind::Deployment => t!("Deployment").to_owned(),
            Kind::Action => t!("Action").to_owned(),
        };
        let place = match places.project(request) {
            Some(project) => shown(&project.path, NAME_MAX),
            None => request
                .project_name
                .as_deref()
                .map_or_else(String::new, |it| shown(it, NAME_MAX)),
        };
        let waits = request.status == Status::Pending;
        Ok(Card {
            id: request.id.to_string(),
            what,
            title: shown(&request.title, TITLE_MAX),
            place,
            band: Band::of(request),
            who: shown(request.requested_by(), NAME_MAX),
            asked: Moment::of(request.created_at),
            asked_ago: ago(now, request.created_at),
            expires: request.expires_at.filter(|_| waits).map(Moment::of),
            progress: people.progress(request, now),
            badge: Badge::of(request),
            ended: request.decided_at.map(Moment::of),
            sentences: teller.sentences(request, &places.called(request))?,
        })
    }
}
