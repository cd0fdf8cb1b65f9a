//! What each event changes. The only writer of projections; running the whole journal through it rebuilds them all.

mod erasures;
mod sinks;

use crate::domain::attention::Look;
use crate::domain::branch::{Tip, Watched};
use crate::domain::condition::Condition;
use crate::domain::deployment::{Deployment, DeploymentAnswer, DeploymentFacts, DeploymentState};
use crate::domain::event::{EnrolledPasskey, Event};
use crate::domain::facts::Account;
use crate::domain::follow_up::{CalledBack, CheckedCommit};
use crate::domain::gate::Gate;
use crate::domain::governance::{Confirmation, Delegation, Exception, Proposal, ProposalState, Review};
use crate::domain::ids::{ApiKeyId, Digest, IntegrationId, PersonId, ProjectId, RequestId};
use crate::domain::keys;
use crate::domain::notice::{Chat, Device, DeviceState, Preferences};
use crate::domain::people::{ApiKey, Group, Invitation, LinkedAccount, Passkey, Person, Role, Session};
use crate::domain::project::{
    Enforcement, Integration, PolicyRecord, Project, Stranger, forge_project_row, gated_project,
};
use crate::domain::provision::{LastRun, MadeChange, Provisioning, StepReport, StepResult, Trial};
use crate::domain::request::{
    Change, ChangeKey, ConfirmedLock, ConfirmedStatus, Decision, MergeRecord, Opening, Request, Requester,
    Status, change_row,
};
use crate::domain::retention::Erased;
use crate::domain::review::JournalReview;
use crate::domain::search;
use crate::domain::set_up::SetUpAnswer;
use crate::domain::state::{Fault, Read, Table, Write, decode, encode};
use crate::domain::time::Time;
use crate::domain::view::View;
use std::collections::BTreeSet;

mod notices;
mod totp;

/// Where an event stands in the journal.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub seq: u64,
    pub time: Time,
    /// Digest of the leaf's exact bytes.
    pub leaf: Digest,
}

/// Row of the newest change to rules or to who is who: requests opened before it are judged anew.
pub const RULES: &[u8] = b"rules";
/// Rows of the checkpoints that the journal was gone on from without: the digest of each follows.
pub const GIVEN_UP: &[u8] = b"given-up/";

/// Row of the public key that signs for push services.
pub const PUSH_KEY: &[u8] = b"push_key";

pub use erasures::note_erased;

/// Makes one event true.
pub fn apply(event: &Event, at: Place, state: &mut impl Write) -> Result<(), Fault> {
    if matches!(
        event,
        Event::PolicyActivated { .. }
            | Event::ProjectChanged { .. }
            | Event::ProjectRemoved { .. }
            | Event::PersonCreated { .. }
            | Event::PersonChanged { .. }
            | Event::AccountLinked { .. }
    ) {
        state.put_raw(Table::Counters, RULES, &at.seq.to_be_bytes())?;
    }
    match event {
        Event::EpochOpened { .. }
        | Event::KeyActivated { .. }
        | Event::KeyRetired { .. }
        | Event::KeyCompromised { .. } => keys::apply(event, at, state),
        Event::PassphraseChanged {}
        | Event::DataKeyRotated { .. }
        | Event::BackupWritten { .. }
        | Event::BackupRestored { .. }
        | Event::InstanceCreated { .. }
        | Event::ExportRequested { .. }
        | Event::ExportMade { .. }
        | Event::DecisionAnnounced { .. }
        | Event::SinkTested { .. }
        | Event::StatusLost { .. }
        | Event::LockLost { .. } => Ok(()),
        Event::CeremonyRefused { person, code, .. } => {
            totp::refused(person.as_ref(), code.as_ref(), at, state)
        }
        Event::SetUpAnswered {
            step,
            word,
            of,
            person,
            name,
        } => {
            let record = SetUpAnswer {
                step: *step,
                word: *word,
                of: of.clone(),
                person: person.clone(),
                name: name.clone(),
                at: at.time,
            };
            state.put_raw(Table::Counters, &SetUpAnswer::row(*step), &encode(&record))
        }
        Event::JournalReviewed {
            from,
            to,
            through,
            person,
            name,
            note,
        } => {
            let row = [crate::domain::review::PREFIX, &at.seq.to_be_bytes()].concat();
            let record = JournalReview {
                from: *from,
                to: *to,
                through: *through,
                person: person.clone(),
                name: name.clone(),
                note: note.clone(),
                at: at.time,
            };
            state.put_raw(Table::Counters, &row, &encode(&record))
        }
        Event::ExceptionProtectionDrift { .. } => except(event, Default::default(), at, state),
        Event::ExceptionUnapprovedChange {
            project,
            by,
            change,
            commit,
            ..
        } => {
            if let (Some(change), Some(commit)) = (change, commit) {
                let row = bypass_row(change, commit);
                state.put_raw(Table::Bypasses, row.as_bytes(), &at.seq.to_be_bytes())?;
            }
            let took_part = people_of(project, by.as_ref(), state)?;
            except(event, took_part, at, state)
        }
        Event::ExceptionStatusForged { status, by, .. } => {
            let took_part = people_of(&status.project, by.as_ref(), state)?;
            except(event, took_part, at, state)
        }
        Event::ExceptionUnapprovedDeployment { deployment, by, .. } => {
            let took_part = people_of(&deployment.project, by.as_ref(), state)?;
            except(event, took_part, at, state)
        }
        Event::BranchObserved {
            project,
            branch,
            before,
            commit,
            ..
        } => match commit.as_ref().or(before.as_ref()) {
            Some(last) => {
                let known: Option<Tip> = state.get(&Tip::row(project, branch))?;
                state.put(&Tip {
                    project: project.clone(),
                    branch: branch.clone(),
                    commit: last.clone(),
                    gone: commit.is_none(),
                    since: known.map_or(at.time, |it| it.since),
                    observed_at: at.time,
                })
            }
            None => Ok(()),
        },
        Event::ExceptionRollbackAccepted { found, by, .. } => {
            for it in found {
                let digest = Digest::of(it.checkpoint.as_bytes());
                state.put_raw(Table::Counters, &[GIVEN_UP, &digest.0[..]].concat(), &[])?;
            }
            let took_part = by.iter().filter_map(|it| it.person.clone()).collect();
            except(event, took_part, at, state)
        }
        Event::SinkAdded { .. }
        | Event::SinkChanged { .. }
        | Event::SinkRemoved { .. }
        | Event::SinkRecovered { .. }
        | Event::ExceptionSinkStuck { .. }
        | Event::ExceptionSinkEntryWithheld { .. } => {
            if event.type_name().starts_with("exception.") {
                except(event, BTreeSet::new(), at, state)?;
            }
            sinks::apply(event, at, state)
        }
        Event::BranchesWatched { project, patterns } => state.put(&Watched {
            project: project.clone(),
            patterns: patterns.clone(),
        }),
        Event::ExceptionBreakGlass {
            request, approvers, ..
        } => {
            let gate: Request = must(state, request.as_str())?;
            let took_part = gate.involved.into_keys().chain(approvers.iter().cloned());
            except(event, took_part.collect(), at, state)
        }
        Event::DeviceAdded {
            device,
            person,
            platform,
            name,
            host,
            address_sha256,
            device_key,
            live,
        } => {
            state.put_raw(
                Table::DeviceAddresses,
                &address_sha256.0,
                device.as_str().as_bytes(),
            )?;
            state.put(&Device {
                id: device.clone(),
                person: person.clone(),
                platform: *platform,
                name: name.clone(),
                host: host.clone(),
                address_sha256: *address_sha256,
                device_key: device_key.clone(),
                state: match live {
                    true => DeviceState::Live,
                    false => DeviceState::Pending,
                },
                added_at: at.time,
                confirmed_at: at.time,
            })
        }
        Event::DeviceConfirmed { device, .. } => {
            let mut record: Device = must(state, device.as_str())?;
            record.state = DeviceState::Live;
            record.confirmed_at = at.time;
            state.put(&record)
        }
        Event::DeviceEnded { device, reason, .. } => {
            let mut record: Device = must(state, device.as_str())?;
            record.state = DeviceState::Dead {
                reason: reason.clone(),
            };
            let owner = state.get_raw(Table::DeviceAddresses, &record.address_sha256.0)?;
            if owner.as_deref() == Some(device.as_str().as_bytes()) {
                state.delete_raw(Table::DeviceAddresses, &record.address_sha256.0)?;
            }
            state.put(&record)
        }
        Event::ChatAdded {
            chat,
            name,
            kind,
            host,
            audience,
        } => state.put(&Chat {
            id: chat.clone(),
            name: name.clone(),
            kind: *kind,
            host: host.clone(),
            audience: audience.clone(),
            added_at: at.time,
        }),
        Event::ChatRemoved { chat } => state.delete_raw(Table::Chats, chat.as_str().as_bytes()),
        Event::NotificationsConfigured { settings } => state.put(&**settings),
        Event::NotificationsPreferred { person, mail, quiet } => state.put(&Preferences {
            person: person.clone(),
            mail: *mail,
            quiet: quiet.clone(),
        }),
        Event::ViewSaved {
            view,
            name,
            query,
            owner,
        } => state.put(&View {
            id: view.clone(),
            name: name.clone(),
            query: query.clone(),
            owner: owner.clone(),
            saved_at: at.time,
        }),
        Event::ViewRemoved { view } => state.delete_raw(Table::Views, view.as_str().as_bytes()),
        Event::NotificationAsked { .. } => Ok(()),
        Event::PushKeyMade { public_key } => state.put_raw(Table::Counters, PUSH_KEY, public_key.as_bytes()),
        Event::NotificationSent {
            to,
            requests,
            kind,
            requester,
            again,
            deliveries,
        } => notices::sent(
            to,
            requests,
            *kind,
            requester.as_deref(),
            *again,
            deliveries,
            at,
            state,
        ),
        Event::RequestSeen { request, person } => {
            let mut look = Look::of(request, person, state)?;
            look.seen_at.get_or_insert(at.time);
            state.put(&look)
        }
        Event::RequestCodeMissed { request, person } => {
            let mut look = Look::of(request, person, state)?;
            look.missed_code = true;
            state.put(&look)
        }
        Event::ExceptionRequesterReported {
            request, requester, ..
        } => {
            let gate: Request = must(state, request.as_str())?;
            state.put_raw(Table::Reported, requester.as_bytes(), &at.seq.to_be_bytes())?;
            // Whoever asked does not lift it; whoever reported it may find out that it was a mistake.
            except(event, gate.involved.into_keys().collect(), at, state)
        }
        Event::ExceptionReviewed {
            exception,
            person,
            name,
            note,
        } => {
            for (row, seq) in state.with_prefix(Table::Reported, b"")? {
                if seq == exception.to_be_bytes() {
                    state.delete_raw(Table::Reported, &row)?;
                }
            }
            let mut record: Exception = must(state, &Exception::row(*exception))?;
            record.review = Some(Review {
                by: person.clone(),
                name: name.clone(),
                note: note.clone(),
                at: at.time,
            });
            state.put(&record)
        }

        Event::PersonCreated {
            person,
            name,
            email,
            roles,
        } => state.put(&Person {
            id: person.clone(),
            name: name.clone(),
            email: email.clone(),
            roles: roles.clone(),
            active: true,
            passkeys: Vec::new(),
            accounts: Vec::new(),
            created_at: at.time,
            approves_since: None,
            totp: None,
        }),
        Event::PersonChanged {
            person,
            name,
            roles,
            active,
        } => edit_person(state, person, |it| {
            let could = it.has(Role::Approver);
            let admin = it.roles.contains(&Role::Admin) || roles.contains(&Role::Admin);
            it.name.clone_from(name);
            it.roles.clone_from(roles);
            it.active = *active;
            if admin && !could && it.has(Role::Approver) {
                it.approves_since = Some(at.time);
            }
        }),
        Event::InvitationCreated {
            invitation,
            person,
            token_sha256,
            expires_at,
        } => state.put(&Invitation {
            id: invitation.clone(),
            person: person.clone(),
            token_sha256: *token_sha256,
            expires_at: *expires_at,
            used: false,
        }),
        Event::PersonEnrolled { invitation, passkey } => {
            if let Some(token) = invitation
                && let Some(mut used) = state.get::<Invitation>(&token.to_string())?
            {
                used.used = true;
                state.put(&used)?;
            }
            add_passkey(state, passkey, at)
        }
        Event::PasskeyAdded { passkey } => add_passkey(state, passkey, at),
        Event::PasskeyRevoked {
            person,
            credential_id,
            ..
        } => edit_person(state, person, |it| {
            for passkey in it
                .passkeys
                .iter_mut()
                .filter(|it| it.credential_id == *credential_id)
            {
                passkey.revoked_at = Some(at.time);
            }
        }),
        Event::TotpEnrolled { .. } | Event::TotpRevoked { .. } | Event::TotpLocked { .. } => {
            totp::apply(event, at, state)
        }
        Event::PasskeyNamed {
            person,
            credential_id,
            label,
        } => edit_person(state, person, |it| {
            for passkey in it
                .passkeys
                .iter_mut()
                .filter(|it| it.credential_id == *credential_id)
            {
                passkey.label.clone_from(label);
            }
        }),
        Event::SessionOpened {
            person,
            session_sha256,
            expires_at,
            credential_id,
            sign_count,
        } => {
            state.put(&Session {
                token_sha256: *session_sha256,
                person: person.clone(),
                opened_at: at.time,
                expires_at: *expires_at,
            })?;
            raise_counter(state, person, credential_id, *sign_count, at.time)
        }
        Event::SessionClosed { session_sha256, .. } => {
            state.delete_raw(Table::Sessions, session_sha256.to_string().as_bytes())
        }
        Event::AccountLinked {
            person,
            integration,
            account_id,
            proven,
            ..
        } => edit_person(state, person, |it| {
            it.accounts
                .retain(|a| a.integration != *integration || a.account_id != *account_id);
            it.accounts.push(LinkedAccount {
                integration: integration.clone(),
                account_id: account_id.clone(),
                proven: *proven,
            });
        }),
        Event::GroupSet { group, name, members } => {
            let before: Option<Group> = state.get(group.as_str())?;
            let was = |it: &PersonId| before.as_ref().is_some_and(|group| group.members.contains(it));
            let mut since = before.as_ref().map(|it| it.since.clone()).unwrap_or_default();
            since.retain(|it, _| members.contains(it));
            for member in members.iter().filter(|it| !was(it)) {
                let record: Option<Person> = state.get(member.as_str())?;
                if record.is_some_and(|it| it.has(Role::Admin)) {
                    since.insert(member.clone(), at.time);
                }
            }
            state.put(&Group {
                id: group.clone(),
                name: name.clone(),
                members: members.clone(),
                since,
            })
        }
        Event::GroupRemoved { group } => state.delete_raw(Table::Groups, group.as_str().as_bytes()),

        Event::ApiKeyCreated {
            key,
            name,
            secret_sha256,
            scopes,
            projects,
            owner,
            expires_at,
        } => state.put(&ApiKey {
            id: key.clone(),
            name: name.clone(),
            secret_sha256: *secret_sha256,
            scopes: scopes.clone(),
            projects: projects.clone(),
            owner: owner.clone(),
            created_at: at.time,
            expires_at: *expires_at,
            revoked: false,
        }),
        Event::ApiKeyRevoked { secret_sha256, .. } => {
            let mut key: ApiKey = must(state, &secret_sha256.to_string())?;
            key.revoked = true;
            state.put(&key)
        }

        Event::IntegrationAdded {
            integration,
            kind,
            name,
            base_url,
            ca_pem,
            account,
        } => state.put(&Integration {
            id: integration.clone(),
            kind: *kind,
            name: name.clone(),
            base_url: base_url.clone(),
            ca_pem: ca_pem.clone(),
            account: account.clone(),
            created_at: at.time,
            removed: false,
        }),
        Event::IntegrationRemoved { integration } => {
            let mut record: Integration = must(state, integration.as_str())?;
            record.removed = true;
            state.put(&record)
        }
        Event::ProjectAdded {
            project,
            integration,
            path,
            web_url,
            settings,
        } => {
            let row = forge_project_row(integration, &settings.forge_project_id);
            state.put_raw(Table::ForgeProjects, row.as_bytes(), project.as_str().as_bytes())?;
            state.delete_raw(Table::Strangers, row.as_bytes())?;
            take_over_branches(project, integration, &settings.forge_project_id, state)?;
            state.put(&Project {
                id: project.clone(),
                integration: integration.clone(),
                path: path.clone(),
                web_url: web_url.clone(),
                settings: settings.clone(),
                created_at: at.time,
                removed: false,
                environments_since: Some(at.time),
                removed_at: None,
            })
        }
        Event::ProjectChanged { project, settings } => {
            let mut record: Project = must(state, project.as_str())?;
            if record.settings.environments != settings.environments {
                record.environments_since = Some(at.time);
            }
            record.settings = settings.clone();
            // Other branches, another way to merge: what was found before is about something else.
            state.delete_raw(Table::Gates, project.as_str().as_bytes())?;
            state.put(&record)
        }
        Event::GateChecked {
            project,
            strength,
            findings,
        } => state.put(&Gate {
            project: project.clone(),
            strength: *strength,
            findings: findings.clone(),
            checked_at: at.time,
        }),
        Event::GateProvisioningStarted {
            project,
            enforcement,
            by,
            changes,
            ..
        } => {
            let mut record = provisioning(state, project)?;
            record.running = Some(at.time);
            record.made.extend(changes.iter().map(|it| MadeChange {
                id: it.id.clone(),
                what: it.what.clone(),
                alteration: it.alteration.clone(),
                certain: false,
                enforcement: *enforcement,
                by: by.clone(),
                at: at.time,
            }));
            state.put(&record)
        }
        Event::GateProvisioned {
            project,
            enforcement,
            reason,
            by,
            steps,
        } => {
            let mut record = provisioning(state, project)?;
            // What was about to be made is by now made, or not.
            let begun = record.running.take();
            record.made.retain(|it| it.certain || Some(it.at) != begun);
            record.made.extend(steps.iter().filter_map(|it| {
                Some(MadeChange {
                    id: it.id.clone(),
                    what: it.what.clone(),
                    alteration: it.alteration.clone()?,
                    certain: it.result == StepResult::Done,
                    enforcement: *enforcement,
                    by: by.clone(),
                    at: at.time,
                })
            }));
            record.last = Some(last_run(*enforcement, false, by, reason, steps, at));
            state.put(&record)
        }
        Event::GateRestored {
            project,
            reason,
            by,
            steps,
        } => {
            let mut record = provisioning(state, project)?;
            let over = |it: &MadeChange| {
                steps.iter().any(|step| {
                    let over = !matches!(step.result, StepResult::Failed | StepResult::NotTried);
                    over && step.id == it.id && step.alteration.as_ref() == Some(&it.alteration)
                })
            };
            record.made.retain(|it| !over(it));
            let enforcement = must::<Project>(state, project.as_str())?.settings.enforcement;
            record.last = Some(last_run(enforcement, true, by, reason, steps, at));
            state.put(&record)
        }
        Event::GateTrialStarted { project, branch, by } => {
            let before: Option<Trial> = state.get(project.as_str())?;
            // What another trial has proved counts until this one has ended.
            let (holes, basis) = before.map(|it| (it.holes, it.basis)).unwrap_or_default();
            state.put(&Trial {
                project: project.clone(),
                branch: branch.clone(),
                started_at: at.time,
                by: by.clone(),
                ended_at: None,
                to_clear: true,
                attempts: Vec::new(),
                holes,
                basis,
            })
        }
        Event::GateTried {
            project,
            attempts,
            findings,
            settings,
            cleared,
            ..
        } => {
            let mut record: Trial = must(state, project.as_str())?;
            record.ended_at = Some(at.time);
            record.to_clear = !cleared;
            record.attempts.clone_from(attempts);
            record.holes.clone_from(findings);
            record.basis.clone_from(settings);
            state.put(&record)
        }
        Event::GateTrialCleared { project, .. } => {
            let mut record: Trial = must(state, project.as_str())?;
            record.to_clear = false;
            record.ended_at.get_or_insert(at.time);
            state.put(&record)
        }
        Event::ProjectRemoved { project } => {
            let mut record: Project = must(state, project.as_str())?;
            record.removed = true;
            record.removed_at = Some(at.time);
            let row = forge_project_row(&record.integration, &record.settings.forge_project_id);
            state.delete_raw(Table::ForgeProjects, row.as_bytes())?;
            state.put(&record)
        }
        Event::PolicyActivated {
            name,
            version,
            sha256,
            previous_sha256,
            reason,
            by,
            proposal,
        } => {
            let record = PolicyRecord {
                name: name.clone(),
                version: *version,
                document: *sha256,
                previous: *previous_sha256,
                reason: reason.clone(),
                by: by.clone(),
                proposal: proposal.clone(),
                activated_at: at.time,
            };
            state.put_raw(Table::PolicyVersions, &record.version_row(), &encode(&record))?;
            state.put(&record)
        }
        Event::ProposalMade {
            proposal,
            change,
            base,
            reason,
            quorum,
            person,
            name,
            may_confirm,
        } => state.put(&Proposal {
            may_confirm: may_confirm.clone(),
            id: proposal.clone(),
            change: change.clone(),
            base: *base,
            reason: reason.clone(),
            quorum: *quorum,
            proposer: person.clone(),
            proposer_name: name.clone(),
            state: ProposalState::Open,
            confirmations: Vec::new(),
            created_at: at.time,
            closed_at: None,
            seq: at.seq,
        }),
        Event::ProposalConfirmed {
            proposal,
            person,
            name,
            credential_id,
            sign_count,
            evidence_sha256,
        } => {
            let mut record: Proposal = must(state, proposal.as_str())?;
            record.confirmations.push(Confirmation {
                person: person.clone(),
                name: name.clone(),
                evidence: *evidence_sha256,
                at: at.time,
            });
            state.put(&record)?;
            raise_counter(state, person, credential_id, *sign_count, at.time)
        }
        Event::CeremonyConfirmed {
            person,
            credential_id,
            sign_count,
            ..
        } => raise_counter(state, person, credential_id, *sign_count, at.time),
        Event::ProposalClosed {
            proposal,
            state: became,
            ..
        } => {
            let mut record: Proposal = must(state, proposal.as_str())?;
            record.state = *became;
            record.closed_at = Some(at.time);
            state.put(&record)
        }
        Event::DelegationMade {
            delegation,
            from,
            to,
            starts,
            ends,
            reason,
            by,
        } => state.put(&Delegation {
            id: delegation.clone(),
            from: from.clone(),
            to: to.clone(),
            starts: *starts,
            ends: *ends,
            reason: reason.clone(),
            by: by.clone(),
            ended_at: None,
        }),
        Event::DelegationEnded { delegation } => {
            let mut record: Delegation = must(state, delegation.as_str())?;
            record.ended_at = Some(at.time);
            state.put(&record)
        }

        Event::HookReceived {
            integration,
            delivery,
            change,
            forge_project_id,
            ..
        } => {
            let delivery = format!("{integration}\0{delivery}");
            remember_delivery(delivery.as_bytes(), at, state)?;
            let project = forge_project_row(integration, forge_project_id);
            state.put_raw(Table::LastHooks, project.as_bytes(), &at.time.0.to_be_bytes())?;
            if let Some(key) = change {
                return put_hint(state, key, at.seq);
            }
            match gated_project(integration, forge_project_id, state)? {
                Some(_) => Ok(()),
                None => state.put(&Stranger {
                    integration: integration.clone(),
                    forge_project_id: forge_project_id.clone(),
                    at: at.time,
                }),
            }
        }
        Event::ChangeObserved { .. } => observe(event, at, state),

        Event::ErasureOrdered { .. } | Event::BlobErased { .. } | Event::ErasureEnded { .. } => {
            erasures::apply(event, at, state)
        }
        Event::RequestOpened {
            request,
            opening_sha256,
            subject_sha256,
            expires_at,
            idempotency,
            ..
        } => {
            // After its erasure, made anew from the journal, what stands in its place.
            let found = match state.blob(opening_sha256)? {
                Some(blob) => Some((*opening_sha256, blob)),
                None => Erased::stub_of(opening_sha256, state)?,
            };
            let (opening_sha256, blob) =
                found.ok_or_else(|| Fault(format!("the opening of {request} is missing")))?;
            let opening: Opening = decode(&blob)?;
            open(
                request,
                opening,
                opening_sha256,
                *subject_sha256,
                *expires_at,
                at,
                state,
            )?;
            if let Some((key, body)) = idempotency {
                let row = encode(&(body, request));
                state.put_raw(Table::Idempotency, &key.0, &row)?;
            }
            Ok(())
        }
        Event::DecisionRecorded {
            request,
            person,
            name,
            decision,
            method,
            credential_sha256,
            credential_id,
            sign_count,
            comment,
            break_glass,
            code,
            ..
        } => {
            let before: Request = must(state, request.as_str())?;
            let mut record = before.clone();
            record.decisions.push(Decision {
                person: person.clone(),
                name: name.clone(),
                answer: *decision,
                method: *method,
                decided_at: at.time,
                comment: comment.clone(),
                credential: *credential_sha256,
                break_glass: *break_glass,
                passkey: credential_id.clone(),
                seq: at.seq,
            });
            record.changed_seq = at.seq;
            search::note_changed(&before, &record, state)?;
            state.put(&record)?;
            state.put_raw(
                Table::Credentials,
                &credential_sha256.0,
                &encode(&(request, at.seq)),
            )?;
            if let Some(code) = code {
                totp::used(person, code, at, state)?;
            }
            match (credential_id, sign_count) {
                (Some(id), Some(count)) => raise_counter(state, person, id, *count, at.time),
                _ => Ok(()),
            }
        }
        Event::RequestApproved {
            request,
            outcome_sha256,
            expires_at,
        } => {
            end(state, request, Status::Approved, *outcome_sha256, None, at)?;
            let mut record: Request = must(state, request.as_str())?;
            record.expires_at = *expires_at;
            // An approved change that is never merged loses its approval when its time is up; so does a deployment on a forge
            // that is never started.
            if let (Some(deadline), Some(_)) = (record.expires_at, record.gated_project()) {
                state.put_raw(Table::Deadlines, &deadline_row(deadline, request), &[])?;
            }
            state.put(&record)
        }
        Event::RequestRejected {
            request,
            outcome_sha256,
        } => end(state, request, Status::Rejected, *outcome_sha256, None, at),
        Event::RequestExpired {
            request,
            outcome_sha256,
        } => end(
            state,
            request,
            Status::Expired,
            *outcome_sha256,
            Some("Its time ran out."),
            at,
        ),
        Event::RequestCancelled {
            request,
            outcome_sha256,
            reason,
        } => end(
            state,
            request,
            Status::Cancelled,
            *outcome_sha256,
            Some(reason),
            at,
        ),
        Event::RequestSuperseded {
            request,
            outcome_sha256,
            reason,
        } => end(
            state,
            request,
            Status::Superseded,
            *outcome_sha256,
            Some(reason),
            at,
        ),
        Event::RequestSkipped {
            request,
            outcome_sha256,
            rules,
        } => {
            let reason = format!("Skipped by rule {}", rules.join(", "));
            end(
                state,
                request,
                Status::Skipped,
                *outcome_sha256,
                Some(&reason),
                at,
            )
        }
        Event::RequestShortened {
            request,
            ttl_seconds,
            expires_at,
            ..
        } => {
            let mut record: Request = must(state, request.as_str())?;
            if let Some(deadline) = record.expires_at {
                state.delete_raw(Table::Deadlines, &deadline_row(deadline, request))?;
            }
            state.put_raw(Table::Deadlines, &deadline_row(*expires_at, request), &[])?;
            record.ttl_seconds = Some(*ttl_seconds);
            record.expires_at = Some(*expires_at);
            record.changed_seq = at.seq;
            state.put(&record)
        }
        Event::RequestLapsed { request, reason } => {
            let mut record: Request = must(state, request.as_str())?;
            if let Some(deadline) = record.expires_at {
                state.delete_raw(Table::Deadlines, &deadline_row(deadline, request))?;
            }
            record.lapsed = true;
            record.ended_because = Some(reason.clone());
            record.changed_seq = at.seq;
            state.put(&record)
        }
        Event::RequestConsumed { request, idempotency } => {
            let mut record: Request = must(state, request.as_str())?;
            if let Some(deadline) = record.expires_at {
                state.delete_raw(Table::Deadlines, &deadline_row(deadline, request))?;
            }
            record.consumed_at = Some(at.time);
            record.consumed_by = *idempotency;
            record.changed_seq = at.seq;
            state.put(&record)
        }

        Event::CallbackAnswered {
            request,
            delivered,
            reason,
        } => {
            let mut record: Request = must(state, request.as_str())?;
            state.delete_raw(Table::OpenCallbacks, request.as_str().as_bytes())?;
            record.called_back = Some(CalledBack {
                delivered: *delivered,
                reason: reason.clone(),
                at: at.time,
            });
            state.put(&record)
        }
        Event::CommitChecked {
            request,
            project,
            facts,
        } => {
            let mut record: Request = must(state, request.as_str())?;
            state.delete_raw(Table::OpenCommits, request.as_str().as_bytes())?;
            record.commit = project.clone().map(|project| CheckedCommit {
                project,
                facts: facts.clone(),
                at: at.time,
            });
            state.put(&record)
        }

        Event::StatusConfirmed {
            status,
            state: gate,
            description,
            request,
            refused,
            sources,
        } => state.put(&ConfirmedStatus {
            key: status.clone(),
            state: *gate,
            description: description.clone(),
            request: request.clone(),
            refused: refused.clone(),
            confirmed_at: at.time,
            not_in_force: None,
            sources: sources.clone(),
        }),
        Event::ConditionBegan {
            condition,
            severity,
            detail,
        } => {
            let before: Option<Condition> = state.get(condition)?;
            state.put(&Condition {
                name: condition.clone(),
                severity: *severity,
                detail: detail.clone(),
                since: before.map_or(at.time, |it| it.since),
            })
        }
        Event::ConditionEnded { condition } => state.delete_raw(Table::Conditions, condition.as_bytes()),
        Event::StatusReadBack { status, not_in_force } => {
            let mut record: ConfirmedStatus = must(state, &status.row())?;
            record.not_in_force.clone_from(not_in_force);
            state.put(&record)
        }
        Event::LockConfirmed {
            change,
            head,
            state: told,
            request,
            refused,
        } => state.put(&ConfirmedLock {
            change: change.clone(),
            head: head.clone(),
            state: *told,
            request: request.clone(),
            refused: refused.clone(),
            confirmed_at: at.time,
        }),
        Event::MergeAnswered {
            request,
            merged,
            commit,
            refused,
        } => state.put(&MergeRecord {
            request: request.clone(),
            commit: commit.clone(),
            merged: *merged,
            refused: refused.clone(),
            at: at.time,
        }),

        Event::DeploymentObserved {
            facts,
            state: became,
            request,
        } => observe_deployment(facts, *became, request.as_ref(), at, state),
        Event::DeploymentAnswered {
            deployment, answer, ..
        } => {
            let mut record: Deployment = must(state, &deployment.row())?;
            match answer {
                DeploymentAnswer::Starting => {
                    record.state = DeploymentState::Starting;
                    record.refused = None;
                }
                DeploymentAnswer::Started { by } => {
                    record.state = DeploymentState::Started;
                    record.started_by = by.clone();
                    record.refused = None;
                }
                DeploymentAnswer::Refused { reason } => record.refused = Some(reason.clone()),
                DeploymentAnswer::OutOfTime { reason } => {
                    record.state = DeploymentState::Waiting;
                    record.refused = Some(reason.clone());
                }
                DeploymentAnswer::RejectionTold => {
                    record.rejection_told = true;
                    record.refused = None;
                }
            }
            put_deployment(record, state)
        }
        Event::DeploymentAskedAgain { deployment, .. } => {
            let mut record: Deployment = must(state, &deployment.row())?;
            record.request = None;
            record.refused = None;
            put_deployment(record, state)
        }
    }
}

fn observe_deployment(
    facts: &DeploymentFacts,
    became: DeploymentState,
    request: Option<&RequestId>,
    at: Place,
    state: &mut impl Write,
) -> Result<(), Fault> {
    let before: Option<Deployment> = state.get(&facts.key.row())?;
    let same_request = before.as_ref().is_some_and(|it| it.request.as_ref() == request);
    let kept = before.filter(|_| same_request);
    let started = became == DeploymentState::Started;
    put_deployment(
        Deployment {
            key: facts.key.clone(),
            facts: facts.clone(),
            state: became,
            request: request.cloned(),
            refused: kept
                .as_ref()
                .filter(|_| became.is_open())
                .and_then(|it| it.refused.clone()),
            rejection_told: kept.is_some_and(|it| it.rejection_told),
            started_by: facts.job_account.clone().filter(|_| started),
            observed_at: at.time,
        },
        state,
    )
}

fn put_deployment(record: Deployment, state: &mut impl Write) -> Result<(), Fault> {
    let row = record.key.row();
    match record.state.is_open() {
        true => state.put_raw(Table::OpenDeployments, row.as_bytes(), &[])?,
        false => state.delete_raw(Table::OpenDeployments, row.as_bytes())?,
    }
    state.put(&record)
}

/// Key of a row in the deadline table: earliest first.
pub fn deadline_row(deadline: Time, request: &RequestId) -> Vec<u8> {
    let mut row = u64::try_from(deadline.0).unwrap_or(0).to_be_bytes().to_vec();
    row.extend_from_slice(request.as_str().as_bytes());
    row
}

/// Key of a row in the table of open changes by status: all changes of one status share the prefix.
pub fn head_prefix(project: &str, head: &str, target: &str) -> String {
    format!("{project}\0{head}\0{target}\0")
}

fn except(
    event: &Event,
    took_part: BTreeSet<PersonId>,
    at: Place,
    state: &mut impl Write,
) -> Result<(), Fault> {
    state.put(&Exception {
        seq: at.seq,
        at: at.time,
        kind: event.type_name(),
        took_part,
        review: None,
    })
}

/// Key of a merged change that an exception has told of, and the commit it landed as.
pub fn bypass_row(change: &ChangeKey, commit: &str) -> String {
    format!("{}\0{commit}", change_row(change))
}

/// Where the branches of a repository stood when it was gated before: what came in since then is judged, too.
fn take_over_branches(
    project: &ProjectId,
    integration: &IntegrationId,
    forge_project_id: &str,
    state: &mut impl Write,
) -> Result<(), Fault> {
    let Some(forge) = state.get::<Integration>(integration.as_str())? else {
        return Ok(());
    };
    let mut before: Option<Project> = None;
    for old in state.all::<Project>()? {
        let same = old.removed && old.settings.forge_project_id == forge_project_id;
        if !same || before.as_ref().is_some_and(|it| it.created_at > old.created_at) {
            continue;
        }
        let its: Option<Integration> = state.get(old.integration.as_str())?;
        if its.is_some_and(|it| it.kind == forge.kind && it.base_url == forge.base_url) {
            before = Some(old);
        }
    }
    let Some(before) = before else {
        return Ok(());
    };
    for (_, row) in state.with_prefix(Table::Tips, Tip::prefix(&before.id).as_bytes())? {
        let tip: Tip = decode(&row)?;
        state.put(&Tip {
            project: project.clone(),
            ..tip
        })?;
    }
    match state.get::<Watched>(before.id.as_str())? {
        Some(watched) => state.put(&Watched {
            project: project.clone(),
            ..watched
        }),
        None => Ok(()),
    }
}

/// The people an account of a project's forge is linked to.
fn people_of(
    project: &ProjectId,
    account: Option<&Account>,
    state: &impl Read,
) -> Result<BTreeSet<PersonId>, Fault> {
    let (Some(account), Some(project)) = (account, state.get::<Project>(project.as_str())?) else {
        return Ok(BTreeSet::new());
    };
    let linked = |it: &Person| {
        it.accounts
            .iter()
            .any(|a| a.integration == project.integration && a.account_id == account.id)
    };
    let people = state.all::<Person>()?;
    Ok(people.into_iter().filter(linked).map(|it| it.id).collect())
}

/// A forge repeats a delivery for 7 days at the most (GitLab, by hand); a day more, and it is forgotten.
const DELIVERY_KEPT_MS: i64 = 8 * 24 * 3_600 * 1_000;
/// Old deliveries forgotten for each new one: more than come in, so that they run out.
const FORGOTTEN_AT_ONCE: usize = 2;

fn remember_delivery(delivery: &[u8], at: Place, state: &mut impl Write) -> Result<(), Fault> {
    let time = |ms: i64| u64::try_from(ms).unwrap_or(0).to_be_bytes();
    let oldest = time(at.time.0.saturating_sub(DELIVERY_KEPT_MS));
    for (row, old) in state.scan_raw(Table::DeliveryTimes, b"", &oldest, FORGOTTEN_AT_ONCE, false)? {
        state.delete_raw(Table::Deliveries, &old)?;
        state.delete_raw(Table::DeliveryTimes, &row)?;
    }
    let row = [time(at.time.0), at.seq.to_be_bytes()].concat();
    state.put_raw(Table::DeliveryTimes, &row, delivery)?;
    state.put_raw(Table::Deliveries, delivery, &at.time.0.to_be_bytes())
}

fn put_hint(state: &mut impl Write, key: &ChangeKey, seq: u64) -> Result<(), Fault> {
    state.put_raw(Table::Hints, change_row(key).as_bytes(), &seq.to_be_bytes())
}

fn must<R: crate::domain::state::Record>(state: &impl Read, key: &str) -> Result<R, Fault> {
    state
        .get(key)?
        .ok_or_else(|| Fault(format!("the journal speaks of {key}, which is not recorded")))
}

fn provisioning(state: &impl Read, project: &ProjectId) -> Result<Provisioning, Fault> {
    let found = state.get(project.as_str())?;
    Ok(found.unwrap_or_else(|| Provisioning::none(project.clone())))
}

fn last_run(
    enforcement: Enforcement,
    undo: bool,
    by: &str,
    reason: &str,
    steps: &[StepReport],
    at: Place,
) -> LastRun {
    LastRun {
        enforcement,
        undo,
        by: by.to_owned(),
        reason: reason.to_owned(),
        at: at.time,
        steps: steps.to_vec(),
    }
}

fn edit_person(
    state: &mut impl Write,
    person: &PersonId,
    edit: impl FnOnce(&mut Person),
) -> Result<(), Fault> {
    let mut record: Person = must(state, person.as_str())?;
    edit(&mut record);
    state.put(&record)
}

fn raise_counter(
    state: &mut impl Write,
    person: &PersonId,
    credential_id: &str,
    count: u32,
    at: Time,
) -> Result<(), Fault> {
    edit_person(state, person, |it| {
        for passkey in it
            .passkeys
            .iter_mut()
            .filter(|it| it.credential_id == credential_id)
        {
            passkey.sign_count = passkey.sign_count.max(count);
            passkey.last_used_at = Some(at);
        }
    })
}

fn add_passkey(state: &mut impl Write, it: &EnrolledPasskey, at: Place) -> Result<(), Fault> {
    state.put_raw(
        Table::PasskeyOwners,
        it.credential_id.as_bytes(),
        it.person.as_str().as_bytes(),
    )?;
    edit_person(state, &it.person, |person| {
        person.passkeys.push(Passkey {
            credential_id: it.credential_id.clone(),
            label: it.label.clone(),
            spki: it.spki.clone(),
            alg: it.alg,
            aaguid: it.aaguid.clone(),
            platform: it.platform,
            transports: it.transports.clone(),
            backup_eligible: it.backup_eligible,
            backup_state: it.backup_state,
            sign_count: it.sign_count,
            record: it.record_sha256,
            attestation: it.attestation_sha256,
            enrolled_seq: at.seq,
            enrolled_leaf: at.leaf,
            added_at: at.time,
            decides_from: it.decides_from,
            revoked_at: None,
            last_used_at: None,
        });
    })
}

fn open(
    id: &RequestId,
    opening: Opening,
    digest: Digest,
    subject_sha256: Digest,
    expires_at: Option<Time>,
    at: Place,
    state: &mut impl Write,
) -> Result<(), Fault> {
    let (head, target) = match &opening.facts {
        Some(facts) => (Some(facts.head.clone()), Some(facts.target.clone())),
        None => (None, None),
    };
    if let Some(deadline) = expires_at {
        state.put_raw(Table::Deadlines, &deadline_row(deadline, id), &[])?;
    }
    state.put_raw(Table::RequestOrder, &at.seq.to_be_bytes(), id.as_str().as_bytes())?;
    if let Some(change) = &opening.change {
        let row = change_request_row(change, at.seq);
        state.put_raw(Table::ChangeRequests, row.as_bytes(), id.as_str().as_bytes())?;
    }
    state.put_raw(Table::Waiting, id.as_str().as_bytes(), &[])?;
    count_waiting(state, &opening.requester, 1)?;
    if opening.commit_of.is_some() {
        state.put_raw(Table::OpenCommits, id.as_str().as_bytes(), &[])?;
    }
    let source = opening.source();
    let about_commit = match (&opening.deployment, opening.digest) {
        (Some(it), _) => Some(it.sha.clone()),
        (None, Some((kind, hex))) if kind == "gitCommit" => Some(hex),
        (None, _) => None,
    };
    let mut record = Request {
        id: id.clone(),
        kind: opening.kind,
        status: Status::Pending,
        title: opening.title,
        requester: opening.requester,
        subject_sha256,
        policy: opening.policy,
        obligations: opening.obligations,
        break_glass: opening.break_glass,
        involved: opening.involved,
        ttl_seconds: opening.ttl_seconds,
        blocked: opening.blocked,
        held: None,
        change: opening.change,
        deployment: opening.deployment.map(|it| it.key),
        head,
        target,
        environment: opening.environment,
        project_name: opening.project_name,
        source,
        about_commit,
        opening: digest,
        created_at: at.time,
        expires_at,
        decided_at: None,
        ended_because: None,
        decisions: Vec::new(),
        outcome: None,
        consumed_at: None,
        consumed_by: None,
        calls_back: opening.callback_url.is_some(),
        called_back: None,
        commit: None,
        lapsed: false,
        erased_at: None,
        ordinal: 0,
        seq: at.seq,
        changed_seq: at.seq,
    };
    search::note_opened(&mut record, state)?;
    state.put(&record)
}

/// Key of a request in the list of its change's requests, oldest first.
pub fn change_request_row(change: &ChangeKey, seq: u64) -> String {
    format!("{}\0{seq:020}", change_row(change))
}

/// How many requests of a key wait: row in the counters.
pub fn waiting_row(key: &ApiKeyId) -> Vec<u8> {
    format!("waiting/{key}").into_bytes()
}

fn count_waiting(state: &mut impl Write, requester: &Requester, by: i64) -> Result<(), Fault> {
    let Requester::Key { id, .. } = requester else {
        return Ok(());
    };
    let row = waiting_row(id);
    let before: i64 = match state.get_raw(Table::Counters, &row)? {
        Some(bytes) => decode(&bytes)?,
        None => 0,
    };
    state.put_raw(Table::Counters, &row, &encode(&(before + by)))
}

fn end(
    state: &mut impl Write,
    id: &RequestId,
    status: Status,
    outcome: Digest,
    reason: Option<&str>,
    at: Place,
) -> Result<(), Fault> {
    let before: Request = must(state, id.as_str())?;
    let mut record = before.clone();
    if let Some(deadline) = record.expires_at {
        state.delete_raw(Table::Deadlines, &deadline_row(deadline, id))?;
    }
    state.delete_raw(Table::Waiting, id.as_str().as_bytes())?;
    count_waiting(state, &record.requester, -1)?;
    record.status = status;
    record.outcome = Some(outcome);
    record.decided_at = Some(at.time);
    record.ended_because = reason.map(str::to_owned);
    record.changed_seq = at.seq;
    search::note_changed(&before, &record, state)?;
    if record.calls_back {
        state.put_raw(Table::OpenCallbacks, id.as_str().as_bytes(), &[])?;
    }
    state.put(&record)
}

fn observe(event: &Event, at: Place, state: &mut impl Write) -> Result<(), Fault> {
    let Event::ChangeObserved {
        change,
        open,
        merged,
        draft,
        title,
        web_url,
        author,
        head,
        base,
        target_sha,
        source,
        target,
        source_project_id,
        files_sha256,
        request,
        left: _,
    } = event
    else {
        return Ok(());
    };
    if let Some(before) = state.get::<Change>(&change_row(change))? {
        state.delete_raw(
            Table::Heads,
            head_row(change, &before.head, &before.target).as_bytes(),
        )?;
    }
    if *merged
        && let Some(id) = request
        && let Some(gate) = state.get::<Request>(id.as_str())?
        && let Some(deadline) = gate.expires_at
    {
        state.delete_raw(Table::Deadlines, &deadline_row(deadline, id))?;
    }
    if *open && request.is_some() {
        state.put_raw(Table::Heads, head_row(change, head, target).as_bytes(), &[])?;
    }
    state.put(&Change {
        key: change.clone(),
        open: *open,
        merged: *merged,
        draft: *draft,
        title: title.clone(),
        web_url: web_url.clone(),
        author: author.clone(),
        head: head.clone(),
        base: base.clone(),
        target_sha: target_sha.clone(),
        source: source.clone(),
        target: target.clone(),
        source_project_id: source_project_id.clone(),
        files_sha256: *files_sha256,
        request: request.clone(),
        observed_at: at.time,
    })
}

fn head_row(change: &ChangeKey, head: &str, target: &str) -> String {
    format!(
        "{}{:020}",
        head_prefix(change.project.as_str(), head, target),
        change.number
    )
}
