//! One working day of a team behind a GitLab, as a list of things that happen. Each can be done again after an
//! interruption, as the people and programs that do them would.

use crate::appliance::{Down, Sim, at};
use crate::forge::{MergeRequest, Number, account, commit};
use crate::passkey::Passkey;
use signedapproval::domain::command::{Command, Govern, NewInvitation, NewSession, OpenRequest, Reply};
use signedapproval::domain::event::Actor;
use signedapproval::domain::facts::{ChangeState, Merged};
use signedapproval::domain::governance::Governed;
use signedapproval::domain::ids::{
    ApiKeyId, Digest, IntegrationId, InvitationId, PersonId, ProjectId, ProposalId, RequestId,
};
use signedapproval::domain::people::{Person, Role, Scope};
use signedapproval::domain::policy::{BindBase, Unattributed};
use signedapproval::domain::project::{ForgeKind, ProjectSettings};
use signedapproval::domain::refusal::Refusal;
use signedapproval::domain::request::{Answer, GateState, Request, Requester, Status};
use signedapproval::domain::state::Read;
use signedapproval::engine::{Error, Submission};
use signedapproval::evidence::subject::{ActionDigest, ActionKind, ActionSubject};
use std::collections::BTreeSet;

/// The repository whose changes people merge themselves: one approval.
pub const APP: &str = "41";
/// The repository that the gate merges: two approvals, each worth ten minutes.
pub const INFRA: &str = "42";
/// The gated branch.
pub const MAIN: &str = "refs/heads/main";

const DEFAULT_POLICY: &str = r#"{"rules":[{"name":"docs","match":{"branch":"main","paths":["docs/**"]},"action":"skip"}],"default":{"method":["passkey","biometric"],"quorum":1}}"#;
const STRICT_POLICY: &str = r#"{"rules":[{"name":"two","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":2,"ttl_max":600}}]}"#;

/// One thing that happens.
pub type Happening = fn(&mut Sim) -> Result<(), Down>;

/// The whole day. Minutes pass between two happenings.
pub const DAY: &[(&str, Happening)] = &[
    ("the set-up link is claimed", |sim| claim(sim)),
    ("people are added", |sim| add_people(sim)),
    ("people enrol", |sim| enrol(sim)),
    ("a forge and two projects are connected", |sim| connect(sim)),
    ("accounts are linked, a key is made", |sim| link(sim)),
    ("policies are activated", |sim| activate(sim)),
    ("a change is opened", |sim| {
        push(sim, APP, 1, "1a", "src/a.rs", "d1")
    }),
    ("its author may not approve it", |sim| refused_author(sim)),
    ("it is approved", |sim| {
        decide(sim, "Bea", APP, 1, Answer::Approve)
    }),
    ("a new head supersedes", |sim| {
        push(sim, APP, 1, "1b", "src/a.rs", "d2")
    }),
    ("it is approved again", |sim| {
        decide(sim, "Cem", APP, 1, Answer::Approve)
    }),
    ("the old head comes back", |sim| {
        push(sim, APP, 1, "1a", "src/a.rs", "d3")
    }),
    ("it is rejected", |sim| decide(sim, "Bea", APP, 1, Answer::Reject)),
    ("a third head", |sim| push(sim, APP, 1, "1c", "src/a.rs", "d4")),
    ("it is approved for good", |sim| {
        decide(sim, "Bea", APP, 1, Answer::Approve)
    }),
    ("its author sees green and merges it", |sim| {
        while sim.forge.statuses.get(&(APP.into(), commit("1c"), MAIN.into())) != Some(&GateState::Success) {
            sim.round()?;
        }
        merge_by_hand(sim, APP, 1, "d5")
    }),
    ("a change of documents is skipped", |sim| {
        push(sim, APP, 2, "2a", "docs/a.md", "d6")
    }),
    ("a change of the infrastructure", |sim| {
        push(sim, INFRA, 3, "3a", "main.tf", "d7")
    }),
    ("a first approval", |sim| {
        decide(sim, "Bea", INFRA, 3, Answer::Approve)
    }),
    (
        "a second approval: the gate merges, the forge tells of it",
        |sim| {
            decide(sim, "Cem", INFRA, 3, Answer::Approve)?;
            // A merge that was not answered is asked for again.
            for _ in 0..4 {
                sim.round()?;
            }
            sim.hook(&(INFRA.into(), 3), "d8")
        },
    ),
    ("a deployment is asked for", |sim| ask(sim, "deploy one")),
    ("it is approved", |sim| approve_action(sim, "deploy one")),
    ("it is used", |sim| consume(sim, "deploy one")),
    ("another deployment, and an action", |sim| {
        ask(sim, "deploy two")?;
        ask(sim, "drop a table")
    }),
    ("the action is cancelled", |sim| cancel(sim, "drop a table")),
    ("nobody decides in time", |sim| expire(sim)),
    ("a change is merged behind the gate's back", |sim| {
        push(sim, APP, 4, "4a", "src/b.rs", "d9")?;
        merge_by_hand(sim, APP, 4, "d10")
    }),
    ("two changes share a head", |sim| {
        push(sim, APP, 5, "5a", "src/c.rs", "d11")?;
        push(sim, APP, 6, "5a", "src/c.rs", "d12")
    }),
    ("one of them is approved", |sim| {
        decide(sim, "Cem", APP, 5, Answer::Approve)
    }),
    ("the other is closed", |sim| close(sim, APP, 6, "d13")),
    ("an approval that is not used in time", |sim| {
        push(sim, INFRA, 7, "7a", "main.tf", "d14")?;
        decide(sim, "Bea", INFRA, 7, Answer::Approve)
    }),
    ("a ceremony that does not verify", |sim| refused_ceremony(sim)),
];

/// Lets a whole day happen, starting again whenever the appliance goes down; `check` runs after every start but the
/// first.
pub fn live(sim: &mut Sim, check: impl Fn(&Sim)) {
    for idx in 0..=DAY.len() {
        chapter(sim, idx, &check);
    }
}

/// Lets one thing happen, the last one being the evening: every deadline has passed, the reconciler has looked.
pub fn chapter(sim: &mut Sim, idx: usize, check: impl Fn(&Sim)) {
    through(sim, &check, |sim| match DAY.get(idx) {
        Some((_, happening)) => {
            sim.clock.set(at(60 * idx as i64 + 60));
            sim.start()?;
            happening(sim)?;
            sim.round().map(drop)
        }
        None => {
            sim.clock.set(at(86_400));
            sim.start()?;
            sim.quiet()?;
            sim.reconcile()?;
            sim.quiet()
        }
    });
}

/// Lets the followers come to rest.
pub fn rest(sim: &mut Sim, check: impl Fn(&Sim)) {
    through(sim, &check, |sim| {
        sim.start()?;
        sim.quiet()
    });
}

fn through(sim: &mut Sim, check: &impl Fn(&Sim), mut act: impl FnMut(&mut Sim) -> Result<(), Down>) {
    while act(sim).is_err() {
        sim.recover();
        while sim.start().is_err() {
            sim.recover();
        }
        check(sim);
    }
}

fn digits(name: &str) -> [u8; 16] {
    Digest::of(name.as_bytes()).0[..16]
        .try_into()
        .expect("sixteen bytes")
}

/// The id of a person by name.
pub fn person(name: &str) -> PersonId {
    PersonId::from_random(digits(name))
}

/// A person as the one who acts.
pub fn by(name: &str) -> Actor {
    Actor::Person {
        id: person(name),
        name: name.into(),
    }
}

fn token(name: &str) -> Digest {
    Digest::of(format!("token of {name}").as_bytes())
}

fn session(name: &str) -> NewSession {
    NewSession {
        token_sha256: Digest::of(format!("session of {name}").as_bytes()),
        lifetime_seconds: 3600,
    }
}

/// Done now, or before the interruption: whoever repeats a command is told that it has been done.
fn once(result: Result<Reply, Error>) {
    match result {
        Ok(_) => {}
        Err(Error::Refused(
            Refusal::LinkSpent
            | Refusal::Duplicate { .. }
            | Refusal::AlreadyDecided
            | Refusal::AlreadyEnded { .. }
            | Refusal::NotUsable { .. },
        )) => {}
        Err(other) => panic!("refused: {other:?}"),
    }
}

pub fn claim(sim: &mut Sim) -> Result<(), Down> {
    let command = Command::ClaimSetUp {
        person: person("Ada"),
        name: "Ada".into(),
        email: "ada@example.org".into(),
        passkey: Passkey::of("Ada").enrolment(),
        session: session("Ada"),
    };
    once(sim.give(Actor::Host, command)?);
    Ok(())
}

/// A change of the configuration with its reason.
fn why(command: Command) -> Command {
    Command::Because {
        reason: "a day begins".into(),
        command: Box::new(command),
    }
}

/// Three people in one group, committed together.
pub fn add_people(sim: &mut Sim) -> Result<(), Down> {
    let add = |name: &str| Submission {
        actor: by("Ada"),
        command: why(Command::AddPerson {
            person: person(name),
            name: name.into(),
            email: format!("{}@example.org", name.to_lowercase()),
            roles: BTreeSet::from([Role::Approver]),
            invitation: NewInvitation {
                id: InvitationId::from_random(digits(name)),
                token_sha256: token(name),
                lifetime_seconds: 86_400,
            },
        }),
        secrets: Vec::new(),
        cursor: None,
    };
    for result in sim.give_all(["Otto", "Bea", "Cem"].map(add).into())? {
        once(result);
    }
    Ok(())
}

pub fn enrol(sim: &mut Sim) -> Result<(), Down> {
    for name in ["Otto", "Bea", "Cem"] {
        let command = Command::Enrol {
            token_sha256: token(name),
            passkey: Passkey::of(name).enrolment(),
            session: session(name),
        };
        once(sim.give(by(name), command)?);
    }
    Ok(())
}

fn integration() -> IntegrationId {
    IntegrationId::from_random(digits("gitlab"))
}

fn settings(number: &str) -> ProjectSettings {
    ProjectSettings {
        forge_project_id: number.into(),
        branch_patterns: vec!["main".into()],
        quorum: 1,
        auto_merge: number == INFRA,
        enforcement: Default::default(),
        policy: None,
        approvers: Vec::new(),
        methods: None,
        bind_base: BindBase::default(),
        unattributed: Unattributed::default(),
        control_files: Vec::new(),
        environments: Vec::new(),
        retention_days: 400,
    }
}

pub fn connect(sim: &mut Sim) -> Result<(), Down> {
    let add = Submission {
        actor: by("Ada"),
        command: why(Command::AddIntegration {
            integration: integration(),
            kind: ForgeKind::Gitlab,
            name: "forge".into(),
            base_url: "https://forge.example.org".into(),
            ca_pem: None,
            account: Some(account("Gate")),
        }),
        secrets: vec![("forge token".into(), b"sealed token".to_vec())],
        cursor: None,
    };
    once(sim.give_all(vec![add])?.remove(0));
    assert_eq!(
        sim.read().secret("forge token").expect("secrets read").as_deref(),
        Some(&b"sealed token"[..])
    );
    for number in [APP, INFRA] {
        let command = Command::AddProject {
            project: ProjectId::from_random(digits(number)),
            integration: integration(),
            path: format!("acme/{number}"),
            web_url: format!("https://forge.example.org/acme/{number}"),
            settings: settings(number),
        };
        once(sim.give(by("Ada"), why(command))?);
    }
    Ok(())
}

pub fn link(sim: &mut Sim) -> Result<(), Down> {
    for name in ["Otto", "Bea"] {
        let linked: Person = sim
            .read()
            .get(person(name).as_str())
            .expect("people read")
            .expect("they were added");
        if linked.accounts.is_empty() {
            let command = Command::LinkAccount {
                person: person(name),
                integration: integration(),
                account_id: account(name).id,
                proof: None,
            };
            once(sim.give(by("Ada"), why(command))?);
        }
    }
    let secret_sha256 = Digest::of(b"the pipeline's key");
    let there = sim
        .read()
        .get::<signedapproval::domain::people::ApiKey>(&secret_sha256.to_string())
        .expect("keys read")
        .is_some();
    if !there {
        let command = Command::CreateApiKey {
            key: ApiKeyId::from_random(digits("pipeline")),
            name: "pipeline".into(),
            secret_sha256,
            scopes: BTreeSet::from([Scope::Request]),
            projects: BTreeSet::new(),
            owner: Some(person("Otto")),
            lifetime_seconds: 86_400 * 90,
        };
        once(sim.give(by("Ada"), why(command))?);
    }
    Ok(())
}

pub fn activate(sim: &mut Sim) -> Result<(), Down> {
    for (name, document) in [("default", DEFAULT_POLICY), ("strict", STRICT_POLICY)] {
        let change = Governed::Policy {
            name: name.into(),
            document: Digest::of(document.as_bytes()),
        };
        once(sim.give(by("Ada"), govern(change, Some(document), name))?);
    }
    let project = ProjectId::from_random(digits(INFRA));
    let settings = ProjectSettings {
        policy: Some("strict".into()),
        ..settings(INFRA)
    };
    if sim.project(INFRA).1.settings != settings {
        let change = Governed::Project { project, settings };
        once(sim.give(by("Ada"), govern(change, None, INFRA))?);
    }
    Ok(())
}

fn govern(change: Governed, document: Option<&str>, name: &str) -> Command {
    Command::Govern(Box::new(Govern {
        change,
        document: document.map(|it| it.as_bytes().to_vec()),
        expected: None,
        reason: "first version".into(),
        fresh: ProposalId::from_random(digits(name)),
    }))
}

/// A head appears on the forge, and a webhook says so.
pub fn push(
    sim: &mut Sim,
    project: &str,
    number: u64,
    head: &str,
    path: &str,
    delivery: &str,
) -> Result<(), Down> {
    let number: Number = (project.into(), number);
    let change = MergeRequest {
        state: ChangeState::Open,
        title: format!("Change {}", number.1),
        head: commit(head),
        target: MAIN.into(),
        author: account("Otto"),
        paths: vec![path.into()],
        merged: None,
    };
    sim.forge.changes.insert(number.clone(), change);
    sim.hook(&number, delivery)?;
    see(sim, &number, head)
}

/// Whoever waits for a head looks again until it shows.
fn see(sim: &mut Sim, number: &Number, head: &str) -> Result<(), Down> {
    for _ in 0..4 {
        if sim
            .request_of(number)
            .is_some_and(|it| it.head == Some(commit(head)))
        {
            return Ok(());
        }
        sim.round()?;
    }
    panic!("{number:?} does not show");
}

/// Somebody merges on the forge.
pub fn merge_by_hand(sim: &mut Sim, project: &str, number: u64, delivery: &str) -> Result<(), Down> {
    let number: Number = (project.into(), number);
    let change = sim.forge.changes.get_mut(&number).expect("it was opened");
    change.state = ChangeState::Merged;
    change.merged = Some(Merged {
        by: Some(account("Otto")),
        commit: Some(commit("landed")),
    });
    sim.hook(&number, delivery)
}

/// Somebody closes a change.
pub fn close(sim: &mut Sim, project: &str, number: u64, delivery: &str) -> Result<(), Down> {
    let number: Number = (project.into(), number);
    sim.forge.changes.get_mut(&number).expect("it was opened").state = ChangeState::Closed;
    sim.hook(&number, delivery)
}

/// A person decides what waits for them.
pub fn decide(sim: &mut Sim, name: &str, project: &str, number: u64, answer: Answer) -> Result<(), Down> {
    let request = sim.request_of(&(project.into(), number)).expect("it was opened");
    if request.decided_by(&person(name)) {
        return Ok(());
    }
    let command = sim.decision(&person(name), &request.id, answer);
    let reply = sim
        .give(by(name), command)?
        .unwrap_or_else(|e| panic!("{name}'s decision: {e:?}"));
    assert!(matches!(reply, Reply::Decided { .. }), "{reply:?}");
    Ok(())
}

fn refused_author(sim: &mut Sim) -> Result<(), Down> {
    let request = sim.request_of(&(APP.into(), 1)).expect("it was opened");
    let command = sim.decision(&person("Otto"), &request.id, Answer::Approve);
    let answer = sim.give(by("Otto"), command)?;
    assert!(
        matches!(answer, Err(Error::Refused(Refusal::SelfApproval { .. }))),
        "{answer:?}"
    );
    Ok(())
}

/// The id of what a pipeline asks.
pub fn action_id(action: &str) -> RequestId {
    RequestId::from_random(digits(action))
}

/// A pipeline asks, with an idempotency key, so that it can ask again.
pub fn ask(sim: &mut Sim, action: &str) -> Result<(), Down> {
    let key = ApiKeyId::from_random(digits("pipeline"));
    let sha = commit(action);
    let environment = action.starts_with("deploy").then_some("production");
    let subject = ActionSubject {
        kind: if environment.is_some() {
            ActionKind::Deployment
        } else {
            ActionKind::Action
        },
        action,
        environment,
        project: None,
        digest: Some(ActionDigest::GitCommit(&sha)),
        requester: &format!("key:{key}"),
        claimed_sha256: Digest::of(b""),
        job: None,
    };
    let open = OpenRequest {
        id: action_id(action),
        action: action.into(),
        environment: environment.map(str::to_owned),
        project: None,
        digest: Some(("gitCommit".into(), sha.clone())),
        claimed: None,
        ttl_seconds: Some(300),
        requester: Requester::Key {
            id: key.clone(),
            name: "pipeline".into(),
        },
        owner: Some(person("Otto")),
        trial: false,
        subject: String::from_utf8(subject.to_bytes()).expect("a subject is text"),
        idempotency: Some((Digest::of(action.as_bytes()), Digest::of(b"body"))),
        callback_url: None,
    };
    let actor = Actor::Key {
        id: key,
        name: "pipeline".into(),
    };
    let reply = sim
        .give(actor, Command::OpenRequest(Box::new(open)))?
        .expect("a key may ask");
    let Reply::Request { id, .. } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(
        id,
        action_id(action),
        "the same idempotency key is the same request"
    );
    Ok(())
}

fn action(sim: &Sim, action: &str) -> Request {
    sim.read()
        .get(action_id(action).as_str())
        .expect("requests read")
        .expect("it was asked for")
}

fn approve_action(sim: &mut Sim, name: &str) -> Result<(), Down> {
    if action(sim, name).status == Status::Pending {
        let command = sim.decision(&person("Bea"), &action_id(name), Answer::Approve);
        once(sim.give(by("Bea"), command)?);
    }
    Ok(())
}

fn consume(sim: &mut Sim, name: &str) -> Result<(), Down> {
    let request = action_id(name);
    once(sim.give(
        by("Otto"),
        Command::ConsumeRequest {
            request: request.clone(),
            idempotency: None,
        },
    )?);
    let again = sim.give(
        by("Otto"),
        Command::ConsumeRequest {
            request,
            idempotency: None,
        },
    )?;
    assert!(
        matches!(again, Err(Error::Refused(Refusal::NotUsable { .. }))),
        "used twice: {again:?}"
    );
    Ok(())
}

fn cancel(sim: &mut Sim, name: &str) -> Result<(), Down> {
    let command = Command::CancelRequest {
        request: action_id(name),
        reason: "not today".into(),
    };
    once(sim.give(by("Otto"), command)?);
    Ok(())
}

fn expire(sim: &mut Sim) -> Result<(), Down> {
    let deadline = action(sim, "deploy two")
        .expires_at
        .expect("deployments have a deadline");
    let now = deadline.max(signedapproval::clock::Clock::now(&*sim.clock));
    sim.clock.set(now);
    sim.round()?;
    assert_eq!(action(sim, "deploy two").status, Status::Expired);
    Ok(())
}

fn refused_ceremony(sim: &mut Sim) -> Result<(), Down> {
    let command = Command::RefuseCeremony {
        person: Some(person("Cem")),
        request: None,
        reason: "bad signature".into(),
    };
    sim.give(by("Cem"), command)?.expect("a refusal is recorded");
    Ok(())
}
