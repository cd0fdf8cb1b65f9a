//! What is to be told to whom: worked out request by request, from what is recorded.

use crate::domain::decide::{Roster, as_judged_now, eligibility};
use crate::domain::event::Event;
use crate::domain::ids::{GroupId, PersonId, RequestId};
use crate::domain::notice::{Audience, Chat, Due, NoticeKind, NoticeSettings};
use crate::domain::people::Role;
use crate::domain::request::{Change, Request, Status, change_row};
use crate::domain::state::{Read, Table};
use crate::domain::time::Time;
use crate::effects::Trouble;
use crate::effects::notify::{Errand, compose, notice_of};
use crate::store::Snapshot;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Waiting requests that are looked at.
const WAITING_MAX: usize = 20_000;

/// What is to be told.
#[derive(Default)]
pub(super) struct Desk {
    /// The address people know this server by.
    public_url: String,
    /// Requests of which something changed.
    touched: BTreeSet<RequestId>,
    /// Everything that waits has to be looked at anew.
    pub all: bool,
    /// When a request has to be looked at next, because time has passed.
    clock: BTreeSet<(Time, RequestId)>,
    /// What is due, by addressee; with each request its order.
    due: BTreeMap<String, BTreeMap<RequestId, (i64, Due)>>,
    /// Requests each person may decide.
    waiting: HashMap<String, HashSet<RequestId>>,
    /// Requests whose interrupted messages have been taken up since the start.
    taken_up: HashSet<RequestId>,
    /// Messages that a restart interrupted.
    pub interrupted: Vec<Errand>,
}

impl Desk {
    /// An empty one, of the server at this address.
    pub fn new(public_url: &str) -> Desk {
        Desk {
            public_url: public_url.to_owned(),
            ..Desk::default()
        }
    }

    /// What an event changes.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::NotificationSent { .. } => {}
            Event::PersonChanged { .. }
            | Event::PersonEnrolled { .. }
            | Event::PasskeyAdded { .. }
            | Event::PasskeyRevoked { .. }
            | Event::TotpEnrolled { .. }
            | Event::TotpRevoked { .. }
            | Event::TotpLocked { .. }
            | Event::GroupSet { .. }
            | Event::GroupRemoved { .. }
            | Event::PolicyActivated { .. }
            | Event::DelegationMade { .. }
            | Event::DelegationEnded { .. }
            | Event::ProjectChanged { .. }
            | Event::AccountLinked { .. }
            | Event::ChatAdded { .. }
            | Event::ChatRemoved { .. }
            | Event::ExceptionRequesterReported { .. }
            | Event::ExceptionReviewed { .. }
            | Event::NotificationsConfigured { .. } => self.all = true,
            Event::ChangeObserved {
                request: Some(request),
                ..
            } => {
                self.touched.insert(request.clone());
            }
            other => {
                if let Some(request) = other.request() {
                    self.touched.insert(request.clone());
                }
            }
        }
    }

    /// Everything that waits is to be looked at.
    pub fn touch_all(&mut self, snapshot: &Snapshot) -> Result<(), Trouble> {
        self.all = false;
        for (id, _) in snapshot.scan_raw(Table::Waiting, b"", &[0xff], WAITING_MAX, false)? {
            self.touched
                .extend(std::str::from_utf8(&id).ok().and_then(RequestId::parse));
        }
        // What no longer waits is forgotten on the way.
        for dues in self.due.values() {
            self.touched.extend(dues.keys().cloned());
        }
        Ok(())
    }

    /// Looks at what was touched, and at what time has come for.
    pub fn look(&mut self, snapshot: &Snapshot, settings: &NoticeSettings, now: Time) -> Result<(), Trouble> {
        while let Some((at, request)) = self.clock.first().cloned() {
            if at > now {
                break;
            }
            self.clock.remove(&(at, request.clone()));
            self.touched.insert(request);
        }
        if self.touched.is_empty() {
            return Ok(());
        }
        let roster = Roster::load(snapshot)?;
        let chats: Vec<Chat> = snapshot.all()?;
        for id in std::mem::take(&mut self.touched) {
            self.look_at(id, snapshot, &roster, &chats, settings, now)?;
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        id: RequestId,
        snapshot: &Snapshot,
        roster: &Roster,
        chats: &[Chat],
        settings: &NoticeSettings,
        now: Time,
    ) -> Result<(), Trouble> {
        self.forget(&id);
        let Some(request) = snapshot.get::<Request>(id.as_str())? else {
            return Ok(());
        };
        if request.status != Status::Pending || is_draft(&request, snapshot)? {
            return Ok(());
        }
        let request = as_judged_now(request, snapshot)?;
        if request.held.is_some() || request.expires_at.is_some_and(|it| it <= now) {
            return Ok(());
        }
        let requester = compose::requester_of(&request, snapshot)?;
        let order = request.expires_at.map_or(i64::MAX, |it| it.0);
        let mut asked: BTreeSet<PersonId> = BTreeSet::new();
        for person in roster.people().filter(|it| it.has(Role::Approver)) {
            if eligibility(&request, person, roster, now).open.is_empty() {
                continue;
            }
            asked.insert(person.id.clone());
            let to = person.id.to_string();
            self.waiting.entry(to.clone()).or_default().insert(id.clone());
            let kind = match notice_of(&id, &to, snapshot)? {
                None => Some(NoticeKind::Opened),
                Some(it) => {
                    let next = settings
                        .remind_after
                        .filter(|_| it.reminders < settings.reminders)
                        .map(|after| it.last_at.plus_seconds(after));
                    match next {
                        Some(at) if at <= now => Some(NoticeKind::Reminder),
                        Some(at) => {
                            self.clock.insert((at, id.clone()));
                            None
                        }
                        None => None,
                    }
                }
            };
            self.add(to, &id, order, kind, &requester);
        }
        if asked.is_empty() {
            return Ok(());
        }
        let group = |name: &str| roster.groups().iter().find(|it| it.name == name);
        if let Some(after) = settings.escalate_after {
            for (step, name) in settings.escalate_to.iter().enumerate() {
                let at = request
                    .created_at
                    .plus_seconds(after.saturating_mul(step as u64 + 1));
                if at > now {
                    self.clock.insert((at, id.clone()));
                    break;
                }
                for member in group(name).into_iter().flat_map(|it| it.members.iter()) {
                    let is_there = roster.person(member).is_some_and(|it| it.active);
                    if is_there
                        && !asked.contains(member)
                        && notice_of(&id, member.as_str(), snapshot)?.is_none()
                    {
                        self.add(
                            member.to_string(),
                            &id,
                            order,
                            Some(NoticeKind::Escalation),
                            &requester,
                        );
                    }
                }
            }
        }
        let within = |group: &GroupId| {
            let mut groups = roster.groups().iter();
            groups.any(|it| it.id == *group && it.members.iter().any(|member| asked.contains(member)))
        };
        for chat in chats {
            let concerned = match &chat.audience {
                Audience::Everyone => true,
                Audience::Group { group } => within(group),
                // Told with the person, as one of their channels.
                Audience::Person { .. } => false,
            };
            if concerned && notice_of(&id, chat.id.as_str(), snapshot)?.is_none() {
                self.add(
                    chat.id.to_string(),
                    &id,
                    order,
                    Some(NoticeKind::Opened),
                    &requester,
                );
            }
        }
        if self.taken_up.insert(id.clone()) {
            self.take_up(&request, snapshot, settings, now)?;
        }
        Ok(())
    }

    /// Messages about this request that were to be tried again when the program ended.
    fn take_up(
        &mut self,
        request: &Request,
        snapshot: &Snapshot,
        settings: &NoticeSettings,
        now: Time,
    ) -> Result<(), Trouble> {
        let prefix = format!("{}\0", request.id);
        for (_, bytes) in snapshot.with_prefix(Table::Notices, prefix.as_bytes())? {
            let notice: crate::domain::notice::Notice = crate::domain::state::decode(&bytes)?;
            for channel in notice.unsettled() {
                let due = [Due {
                    request: request.id.clone(),
                    kind: NoticeKind::Opened,
                    requester: String::new(),
                }];
                let message = compose::message(
                    &due,
                    NoticeKind::Opened,
                    1,
                    &self.public_url,
                    settings,
                    snapshot,
                    now,
                )?;
                self.interrupted.extend(message.map(|message| Errand {
                    to: notice.to.clone(),
                    requests: vec![request.id.clone()],
                    kind: NoticeKind::Opened,
                    requester: None,
                    message,
                    again: Some((channel, 1)),
                    alert: None,
                    by: None,
                }));
            }
        }
        Ok(())
    }

    fn add(&mut self, to: String, id: &RequestId, order: i64, kind: Option<NoticeKind>, requester: &str) {
        if let Some(kind) = kind {
            let due = Due {
                request: id.clone(),
                kind,
                requester: requester.to_owned(),
            };
            self.due.entry(to).or_default().insert(id.clone(), (order, due));
        }
    }

    fn forget(&mut self, id: &RequestId) {
        for dues in self.due.values_mut() {
            dues.remove(id);
        }
        self.due.retain(|_, dues| !dues.is_empty());
        for waiting in self.waiting.values_mut() {
            waiting.remove(id);
        }
    }

    /// Whom something is to be told.
    pub fn addressees(&self) -> Vec<String> {
        self.due.keys().cloned().collect()
    }

    /// What is to be told to somebody: what runs out first comes first.
    pub fn due(&self, to: &str) -> Vec<Due> {
        let mut due: Vec<&(i64, Due)> = self.due.get(to).into_iter().flat_map(BTreeMap::values).collect();
        due.sort_by_key(|(order, it)| (*order, it.request.clone()));
        due.into_iter().map(|(_, it)| it.clone()).collect()
    }

    /// How many requests somebody may decide.
    pub fn waiting(&self, to: &str) -> usize {
        self.waiting.get(to).map_or(0, HashSet::len)
    }

    /// Somebody was told of these; when they are to be told next is looked at anew.
    pub fn told(&mut self, to: &str, requests: &[RequestId]) {
        if let Some(dues) = self.due.get_mut(to) {
            for id in requests {
                dues.remove(id);
            }
        }
        self.due.retain(|_, dues| !dues.is_empty());
        self.touched.extend(requests.iter().cloned());
    }
}

/// A draft is judged, and nobody is told of it (policy rule 12).
fn is_draft(request: &Request, snapshot: &Snapshot) -> Result<bool, Trouble> {
    let Some(key) = &request.change else {
        return Ok(false);
    };
    let change: Option<Change> = snapshot.get(&change_row(key))?;
    Ok(change.is_some_and(|it| it.draft))
}
