//! The decision over a state in memory: short histories, and properties that hold for all of them.

mod branches;
mod codes;
mod deployments;
mod emergency;
mod gates;
mod governance;
mod hooks;
mod people;
mod provision;
mod rules;

use crate::domain::apply::{Place, apply};
use crate::domain::command::{
    CeremonyProof, Command, Confirmed, Decide, Govern, NewInvitation, NewPasskey, NewSession, OpenRequest,
    Proof, Reply,
};
use crate::domain::decide::{Plan, Step, decide};
use crate::domain::event::{Actor, Event, UsedCode};
use crate::domain::facts::{
    Account, ChangeFacts, ChangeState, Contributor, FileChange, FileList, FileMode, FileStatus, Part,
};
use crate::domain::governance::Governed;
use crate::domain::ids::{Digest, IntegrationId, InvitationId, PersonId, ProjectId, ProposalId, RequestId};
use crate::domain::people::{Person, Role};
use crate::domain::policy::{BindBase, Method, Unattributed};
use crate::domain::project::{ForgeKind, ProjectSettings};
use crate::domain::refusal::Refusal;
use crate::domain::request::{Answer, GateState, Request, Requester, Status, StatusKey};
use crate::domain::state::{Fault, Read, Row, Table, Write};
use crate::domain::time::Time;
use crate::domain::totp::GRADE;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default, Clone)]
struct World {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    seq: u64,
    now: i64,
    link_author: bool,
    /// Exceptions of unapproved changes since they were looked at: way, change, commits.
    told: Vec<(crate::domain::branch::Way, Option<u64>, BTreeSet<String>)>,
}

impl Read for World {
    fn get_raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.rows.get(&(table, key.to_vec())).cloned())
    }

    fn scan_raw(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        back: bool,
    ) -> Result<Vec<Row>, Fault> {
        let range = self.rows.range((table, from.to_vec())..(table, to.to_vec()));
        let rows = range.map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(if back {
            rows.rev().take(limit).collect()
        } else {
            rows.take(limit).collect()
        })
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.blobs.get(digest).cloned())
    }
}

impl Write for World {
    fn put_raw(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.rows.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn delete_raw(&mut self, table: Table, key: &[u8]) -> Result<(), Fault> {
        self.rows.remove(&(table, key.to_vec()));
        Ok(())
    }
}

impl World {
    fn give(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.give_as(&Actor::System, command)
    }

    /// The command as a person's own.
    fn give_by(&mut self, person: u8, command: Command) -> Result<Reply, Refusal> {
        let actor = Actor::Person {
            id: PersonId::from_random([person; 16]),
            name: format!("Person {person}"),
        };
        self.give_as(&actor, command)
    }

    fn give_as(&mut self, actor: &Actor, command: Command) -> Result<Reply, Refusal> {
        self.now += 1;
        let command = match command.lacks_reason(actor) && !matches!(command, Command::Govern(_)) {
            true => Command::Because {
                reason: "a test".into(),
                command: Box::new(command),
            },
            false => command,
        };
        let command = match actor {
            Actor::Person { id, .. } => self.confirmed(id, command),
            _ => command,
        };
        self.give_bare(actor, command)
    }

    /// The command with the person's own passkey under it, where they have one.
    fn confirmed(&self, person: &PersonId, command: Command) -> Command {
        let record: Option<Person> = self.get(person.as_str()).unwrap();
        let passkey = record.and_then(|it| it.live_passkeys().next().map(|it| it.credential_id.clone()));
        match passkey {
            Some(credential_id) => Command::Confirmed {
                confirmed: Box::new(Confirmed {
                    person: person.clone(),
                    proof: CeremonyProof {
                        credential_id,
                        nonce: [0; 32],
                        authenticator_data: Vec::new(),
                        client_data_json: Vec::new(),
                        signature: Vec::new(),
                        rp_id: String::new(),
                        origin: String::new(),
                        sign_count: 0,
                        backup_eligible: false,
                        backup_state: false,
                    },
                    evidence: self.now.to_be_bytes().repeat(4),
                }),
                command: Box::new(command),
            },
            None => command,
        }
    }

    /// The command exactly as it is.
    fn give_bare(&mut self, actor: &Actor, command: Command) -> Result<Reply, Refusal> {
        let Plan { steps, reply } = decide(command, actor, Time(self.now), self).unwrap();
        for step in steps {
            let event = match step {
                Step::Blob(bytes) => {
                    self.blobs.insert(Digest::of(&bytes), bytes);
                    continue;
                }
                Step::Hint(_) | Step::Unhint(..) | Step::Cursor(..) => continue,
                Step::Erase(digest) => {
                    self.blobs.remove(&digest);
                    continue;
                }
                Step::Event(event) => *event,
                // The engine would sign here; to the rules a credential is its digest.
                Step::Decision(it) => Event::DecisionRecorded {
                    request: it.request.id.clone(),
                    person: it.person.clone(),
                    name: it.person.to_string(),
                    decision: it.answer,
                    method: it.method,
                    subject_sha256: it.request.subject_sha256,
                    credential_sha256: Digest::of(it.person.as_str().as_bytes()),
                    credential_id: match &it.proof {
                        Proof::Passkey(it) => Some(it.credential_id.clone()),
                        Proof::Code { .. } => None,
                    },
                    sign_count: Some(0),
                    comment: it.comment,
                    break_glass: it.break_glass,
                    code: match it.proof {
                        Proof::Passkey(_) => None,
                        Proof::Code { step } => step.map(|step| UsedCode {
                            grade: GRADE.into(),
                            step,
                        }),
                    },
                },
                Step::Outcome(it) => {
                    let (request, outcome_sha256) = (it.request.clone(), Digest([7; 32]));
                    match it.status {
                        Status::Approved => {
                            for obligation in &it.obligations {
                                assert!(
                                    obligation.by.len() as u32 >= obligation.quorum,
                                    "below the quorum"
                                );
                                let mut distinct = obligation.by.clone();
                                distinct.dedup();
                                assert_eq!(distinct.len(), obligation.by.len(), "one person counted twice");
                            }
                            Event::RequestApproved {
                                request,
                                outcome_sha256,
                                expires_at: it.expires_at,
                            }
                        }
                        Status::Rejected => Event::RequestRejected {
                            request,
                            outcome_sha256,
                        },
                        Status::Expired => Event::RequestExpired {
                            request,
                            outcome_sha256,
                        },
                        Status::Superseded => Event::RequestSuperseded {
                            request,
                            outcome_sha256,
                            reason: it.reason.clone(),
                        },
                        _ => Event::RequestCancelled {
                            request,
                            outcome_sha256,
                            reason: it.reason.clone(),
                        },
                    }
                }
            };
            let place = Place {
                seq: self.seq,
                time: Time(self.now),
                leaf: Digest([1; 32]),
            };
            apply(&event, place, self).unwrap();
            if let Event::ExceptionUnapprovedChange {
                way, change, commits, ..
            } = &event
            {
                let number = change.as_ref().map(|it| it.number);
                self.told.push((*way, number, commits.iter().cloned().collect()));
            }
            self.seq += 1;
        }
        reply
    }

    fn request(&self, id: &RequestId) -> Request {
        self.get(id.as_str()).unwrap().unwrap()
    }

    fn person(&mut self, number: u8, roles: &[Role]) -> PersonId {
        let person = PersonId::from_random([number; 16]);
        let token_sha256 = Digest([number; 32]);
        let invitation = NewInvitation {
            id: InvitationId::from_random([number; 16]),
            token_sha256,
            lifetime_seconds: 60,
        };
        self.give(Command::AddPerson {
            person: person.clone(),
            name: format!("Person {number}"),
            email: format!("p{number}@corp.example"),
            roles: roles.iter().copied().collect(),
            invitation,
        })
        .unwrap();
        let session = NewSession {
            token_sha256: Digest([number ^ 0x80; 32]),
            lifetime_seconds: 60,
        };
        self.give(Command::Enrol {
            token_sha256,
            passkey: passkey(number),
            session,
        })
        .unwrap();
        person
    }

    fn project(&mut self, quorum: u32) -> ProjectId {
        let integration = IntegrationId::from_random([9; 16]);
        self.give(Command::AddIntegration {
            integration: integration.clone(),
            kind: ForgeKind::Gitlab,
            name: "GitLab".into(),
            base_url: "https://git.corp.example".into(),
            ca_pem: None,
            account: None,
        })
        .unwrap();
        let project = ProjectId::from_random([8; 16]);
        let settings = ProjectSettings {
            forge_project_id: "12".into(),
            branch_patterns: vec!["main".into(), "release/*".into()],
            quorum,
            auto_merge: false,
            enforcement: Default::default(),
            policy: None,
            approvers: Vec::new(),
            methods: None,
            bind_base: BindBase::default(),
            unattributed: Unattributed::default(),
            control_files: Vec::new(),
            environments: vec!["production".into(), "staging/*".into()],
            retention_days: crate::domain::retention::RETENTION_DAYS,
        };
        // Whoever opens merge requests in these tests is person 1.
        let person = PersonId::from_random([1; 16]);
        if self
            .get::<crate::domain::people::Person>(person.as_str())
            .unwrap()
            .is_some()
            && self.link_author
        {
            let link = Command::LinkAccount {
                person,
                integration: integration.clone(),
                account_id: "77".into(),
                proof: None,
            };
            self.give(link).unwrap();
        }
        self.give(Command::AddProject {
            project: project.clone(),
            integration,
            path: "pay/api".into(),
            web_url: String::new(),
            settings,
        })
        .unwrap();
        project
    }

    fn observe(&mut self, facts: ChangeFacts) {
        self.seq += 1;
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&self.seq.to_be_bytes());
        self.give(Command::ObserveChange {
            subject: format!("{{\"head\":\"{}\",\"target\":\"{}\"}}", facts.head, facts.target),
            files_sha256: Digest::of(facts.head.as_bytes()),
            facts: Box::new(facts),
            hint: None,
            fresh: RequestId::from_random(bits),
        })
        .unwrap();
    }

    fn current(&self, project: &ProjectId) -> Option<RequestId> {
        let key = crate::domain::request::ChangeKey {
            project: project.clone(),
            number: 1,
        };
        let row = crate::domain::request::change_row(&key);
        self.get::<crate::domain::request::Change>(&row)
            .unwrap()
            .and_then(|it| it.request)
    }

    fn decision(&mut self, id: &RequestId, person: u8, answer: Answer) -> Result<Reply, Refusal> {
        self.decision_with(id, person, answer, "", false)
    }

    fn decision_with(
        &mut self,
        id: &RequestId,
        person: u8,
        answer: Answer,
        comment: &str,
        break_glass: bool,
    ) -> Result<Reply, Refusal> {
        let request = self.request(id);
        let (subject_sha256, policy_sha256) = (request.subject_sha256, request.policy.sha256);
        self.give(Command::Decide(Box::new(Decide {
            request: id.clone(),
            person: PersonId::from_random([person; 16]),
            answer,
            method: Method::Passkey,
            comment: comment.into(),
            break_glass,
            match_code: None,
            intent: Vec::new(),
            challenge_issued_at: Time(self.now),
            subject_sha256,
            policy_sha256,
            proof: proof(person).into(),
        })))
    }
}

fn proof(person: u8) -> CeremonyProof {
    CeremonyProof {
        credential_id: format!("credential-{person}"),
        nonce: [0; 32],
        authenticator_data: Vec::new(),
        client_data_json: Vec::new(),
        signature: Vec::new(),
        rp_id: String::new(),
        origin: String::new(),
        sign_count: 0,
        backup_eligible: false,
        backup_state: false,
    }
}

/// A change to the rules, as a handler sends it.
fn govern(change: Governed, document: Option<&str>) -> Command {
    Command::Govern(Box::new(Govern {
        change,
        document: document.map(|it| it.as_bytes().to_vec()),
        expected: None,
        reason: "as agreed".into(),
        fresh: ProposalId::from_random([5; 16]),
    }))
}

fn passkey(number: u8) -> NewPasskey {
    NewPasskey {
        credential_id: format!("credential-{number}"),
        label: "Phone".into(),
        spki: String::new(),
        spki_sha256: Digest([0; 32]),
        alg: -7,
        aaguid: String::new(),
        platform: false,
        transports: Vec::new(),
        backup_eligible: false,
        backup_state: false,
        sign_count: 0,
        record: vec![number],
        attestation: vec![number],
        hold_seconds: 0,
        confirmed_by: Vec::new(),
    }
}

fn facts(project: &ProjectId, head: &str, target: &str) -> ChangeFacts {
    let account = Account {
        id: "77".into(),
        username: "dev".into(),
        name: "Dev".into(),
    };
    ChangeFacts {
        project: project.clone(),
        number: 1,
        state: ChangeState::Open,
        draft: false,
        title: "A change".into(),
        web_url: String::new(),
        author: account,
        source: "refs/heads/feature".into(),
        source_project_id: "12".into(),
        target: target.into(),
        head: head.into(),
        base: "b".repeat(40),
        target_sha: None,
        files: FileList {
            files: vec![FileChange {
                status: FileStatus::Modified,
                old_path: Some("src/a.rs".into()),
                new_path: Some("src/a.rs".into()),
                old_mode: FileMode::Known(0o100_644),
                new_mode: FileMode::Known(0o100_644),
                lines: None,
            }],
            incomplete: None,
        },
        contributors: vec![Contributor {
            part: Part::CommitAuthor,
            account: None,
            name: "Person 1".into(),
            email: Some("p1@corp.example".into()),
        }],
        contributors_incomplete: None,
        commits: 1,
        merged: None,
    }
}

const MAIN: &str = "refs/heads/main";

fn world(quorum: u32, approvers: u8) -> (World, ProjectId) {
    world_with(quorum, approvers, false)
}

fn world_with(quorum: u32, approvers: u8, link_author: bool) -> (World, ProjectId) {
    let mut world = World {
        link_author,
        ..World::default()
    };
    for number in 1..=approvers {
        world.person(number, &[Role::Approver]);
    }
    let project = world.project(quorum);
    (world, project)
}

#[test]
fn a_change_merged_with_another_head_does_not_keep_the_older_one_green() {
    let (mut world, project) = world(1, 2);
    let (first, second) = ("1".repeat(40), "2".repeat(40));
    world.observe(facts(&project, &first, MAIN));
    let id = world.current(&project).unwrap();
    world.decision(&id, 2, Answer::Approve).unwrap();
    let status = StatusKey {
        project: project.clone(),
        head: first,
        target: MAIN.into(),
    };
    world
        .give(Command::ConfirmStatus {
            status: status.clone(),
            state: GateState::Success,
            description: String::new(),
            request: Some(id),
            refused: None,
            sources: Vec::new(),
        })
        .unwrap();
    world.observe(facts(&project, &second, MAIN));
    let mut merged = facts(&project, &second, MAIN);
    merged.state = ChangeState::Merged;
    world.observe(merged);
    let wanted = crate::domain::decide::wanted_status(&status, false, &world).unwrap();
    assert_eq!(wanted.map(|it| it.state), Some(GateState::Pending));
}

#[test]
fn a_new_head_voids_what_was_approved_and_the_old_head_does_not_revive() {
    let (mut world, project) = world(1, 2);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let first = world.current(&project).unwrap();
    assert!(world.decision(&first, 2, Answer::Approve).is_ok());
    assert_eq!(world.request(&first).status, Status::Approved);
    world.observe(facts(&project, &"2".repeat(40), MAIN));
    assert!(world.request(&first).lapsed);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let third = world.current(&project).unwrap();
    assert_ne!(third, first);
    let key = StatusKey {
        project,
        head: "1".repeat(40),
        target: MAIN.into(),
    };
    let wanted = crate::domain::decide::wanted_status(&key, false, &world)
        .unwrap()
        .unwrap();
    assert_eq!((wanted.state, wanted.request), (GateState::Pending, Some(third)));
}

#[test]
fn authors_cannot_approve_their_own_change() {
    let (mut world, project) = world(1, 2);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    assert!(matches!(
        world.decision(&id, 1, Answer::Approve),
        Err(Refusal::SelfApproval { .. })
    ));
    assert!(world.decision(&id, 2, Answer::Approve).is_ok());
}

#[test]
fn a_commit_by_nobody_known_needs_one_more_approver() {
    let (mut world, project) = world(1, 4);
    let mut strange = facts(&project, &"1".repeat(40), MAIN);
    strange.contributors[0].email = Some("stranger@elsewhere.example".into());
    world.observe(strange);
    let id = world.current(&project).unwrap();
    assert_eq!(world.request(&id).obligations[0].quorum, 2);
}

#[test]
fn a_stricter_rule_binds_what_waits_and_a_looser_one_does_not() {
    let (mut world, project) = world_with(1, 4, true);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    let with_quorum = |world: &World, quorum| ProjectSettings {
        quorum,
        ..world
            .get::<crate::domain::project::Project>(project.as_str())
            .unwrap()
            .unwrap()
            .settings
    };
    let settings = with_quorum(&world, 2);
    world
        .give(govern(
            Governed::Project {
                project: project.clone(),
                settings,
            },
            None,
        ))
        .unwrap();
    let judged = crate::domain::decide::as_judged_now(world.request(&id), &world).unwrap();
    assert_eq!(judged.obligations[0].quorum, 2);
    // What was signed under the old rules names the old policy.
    assert_eq!(
        world.decision(&id, 2, Answer::Approve),
        Err(Refusal::StaleSubject)
    );
    let settings = with_quorum(&world, 1);
    world
        .give(govern(
            Governed::Project {
                project: project.clone(),
                settings,
            },
            None,
        ))
        .unwrap();
    assert!(world.decision(&id, 2, Answer::Approve).is_ok());
    assert_eq!(world.request(&id).status, Status::Approved);
}

#[test]
fn a_person_linked_after_the_opening_still_cannot_approve_their_own_change() {
    let (mut world, project) = world(1, 3);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    let integration = IntegrationId::from_random([9; 16]);
    let person = PersonId::from_random([3; 16]);
    world
        .give(Command::LinkAccount {
            person,
            integration,
            account_id: "77".into(),
            proof: None,
        })
        .unwrap();
    assert!(matches!(
        world.decision(&id, 3, Answer::Approve),
        Err(Refusal::SelfApproval { .. })
    ));
}

#[test]
fn a_change_merged_between_two_looks_is_found() {
    let (mut world, project) = world(1, 2);
    let before = world.seq;
    world.observe(ChangeFacts {
        state: ChangeState::Merged,
        ..facts(&project, &"1".repeat(40), MAIN)
    });
    assert!(world.seq > before + 2, "an exception and the change are recorded");
}

#[test]
fn retargeting_voids_and_an_ungated_target_is_none_of_our_business() {
    let (mut world, project) = world(1, 2);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let first = world.current(&project).unwrap();
    world.observe(facts(&project, &"1".repeat(40), "refs/heads/release/1"));
    assert_eq!(world.request(&first).status, Status::Superseded);
    world.observe(facts(&project, &"1".repeat(40), "refs/heads/dev"));
    assert_eq!(world.current(&project), None);
}

#[test]
fn a_merge_without_approval_is_found() {
    let (mut world, project) = world(1, 2);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    world.observe(ChangeFacts {
        state: ChangeState::Merged,
        ..facts(&project, &"1".repeat(40), MAIN)
    });
    assert_eq!(world.request(&id).status, Status::Cancelled);
}

#[test]
fn an_approved_deployment_is_used_once_and_in_time() {
    let mut world = World::default();
    world.person(2, &[Role::Approver]);
    let id = RequestId::from_random([3; 16]);
    let open = OpenRequest {
        id: id.clone(),
        action: "Deploy".into(),
        environment: Some("production".into()),
        project: None,
        digest: None,
        claimed: None,
        ttl_seconds: Some(60),
        requester: Requester::Person {
            id: PersonId::from_random([5; 16]),
            name: "CI".into(),
        },
        owner: None,
        trial: false,
        subject: "{}".into(),
        idempotency: None,
        callback_url: None,
    };
    world.give(Command::OpenRequest(Box::new(open))).unwrap();
    assert!(
        world
            .give(Command::ConsumeRequest {
                request: id.clone(),
                idempotency: None
            })
            .is_err()
    );
    world.decision(&id, 2, Answer::Approve).unwrap();
    assert!(
        world
            .give(Command::ConsumeRequest {
                request: id.clone(),
                idempotency: None
            })
            .is_ok()
    );
    assert!(matches!(
        world.give(Command::ConsumeRequest {
            request: id,
            idempotency: None
        }),
        Err(Refusal::NotUsable { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever decides in whatever order: approved needs the quorum of different people, none of them the author, and a
    /// reject by an eligible person ends it. (`World::give` checks the quorum of every outcome it sees.)
    #[test]
    fn approved_means_the_quorum_of_different_people(
        quorum in 1_u32..4,
        votes in proptest::collection::vec((1_u8..7, any::<bool>()), 0..12),
    ) {
        let (mut world, project) = world_with(quorum, 6, true);
        world.observe(facts(&project, &"1".repeat(40), MAIN));
        let id = world.current(&project).unwrap();
        let mut approved = BTreeSet::new();
        let mut rejected = false;
        for (person, approve) in votes {
            let answer = if approve { Answer::Approve } else { Answer::Reject };
            let before = world.request(&id).status;
            let told = world.decision(&id, person, answer);
            if before == Status::Pending && person != 1 && !approved.contains(&person) {
                prop_assert!(told.is_ok(), "{told:?}");
                if approve { approved.insert(person); } else { rejected = true; }
            } else {
                prop_assert!(told.is_err());
            }
        }
        let expected = if rejected {
            Status::Rejected
        } else if approved.len() as u32 >= quorum {
            Status::Approved
        } else {
            Status::Pending
        };
        prop_assert_eq!(world.request(&id).status, expected);
    }
}
