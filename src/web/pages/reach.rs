//! How people are reached, and who is not; and who was told of one request.

use crate::domain::attention::Look;
use crate::domain::ids::PersonId;
use crate::domain::notice::{
    Audience, Chat, Device, MailWhen, Notice, NoticeSettings, Platform, Preferences,
};
use crate::domain::people::{Person, Role};
use crate::domain::request::Request;
use crate::domain::state::{Fault, Read, Table, decode};
use crate::texts::{fixed, t};
use crate::web::pages::moment::Moment;
use crate::web::pages::shown;
use crate::web::pages::standing::People;

const NAME_MAX: usize = 80;
const REASON_MAX: usize = 300;

/// Devices, chats and settings, to tell by whom they are reached.
pub struct Reach {
    settings: NoticeSettings,
    devices: Vec<Device>,
    chats: Vec<Chat>,
    preferences: Vec<Preferences>,
}

impl Reach {
    /// Reads all of them.
    pub fn load(state: &impl Read) -> Result<Reach, Fault> {
        Ok(Reach {
            settings: NoticeSettings::load(state)?,
            devices: state.all()?,
            chats: state.all()?,
            preferences: state.all()?,
        })
    }

    /// What reaches somebody, by name.
    pub fn of(&self, person: &Person) -> Vec<String> {
        let served = |it: &&Device| {
            it.person == person.id
                && it.is_live()
                && (it.platform == Platform::Webpush || self.settings.apns.is_some())
        };
        let own = |it: &&Chat| matches!(&it.audience, Audience::Person { person: of } if *of == person.id);
        let mut names: Vec<String> = self
            .devices
            .iter()
            .filter(served)
            .map(|it| shown(&it.name, NAME_MAX))
            .chain(self.chats.iter().filter(own).map(|it| shown(&it.name, NAME_MAX)))
            .collect();
        let when = self.preferences.iter().find(|it| it.person == person.id);
        let when = when.map_or(MailWhen::default(), |it| it.mail);
        if self.settings.mail.is_some() && when != MailWhen::Never && !person.email.is_empty() {
            names.push(t!("mail").to_owned());
        }
        names
    }

    /// Approvers whom nothing reaches, in the order of their names.
    pub fn unreached(&self, people: &People) -> Vec<String> {
        people
            .sorted()
            .into_iter()
            .filter(|it| {
                it.has(Role::Approver) && it.live_passkeys().next().is_some() && self.of(it).is_empty()
            })
            .map(|it| shown(&it.name, NAME_MAX))
            .collect()
    }
}

/// Who was told of a request.
pub struct Told {
    pub name: String,
    pub seen: Option<Moment>,
    pub lines: Vec<ToldLine>,
}

/// One delivery.
pub struct ToldLine {
    pub at: Moment,
    pub kind: &'static str,
    pub channel: String,
    pub word: &'static str,
    pub good: bool,
    pub reason: Option<String>,
}

/// Who was told of a request, and by what.
pub fn told(request: &Request, people: &People, state: &impl Read) -> Result<Vec<Told>, Fault> {
    let mut all = Vec::new();
    let prefix = format!("{}\0", request.id);
    for (_, bytes) in state.with_prefix(Table::Notices, prefix.as_bytes())? {
        let notice: Notice = decode(&bytes)?;
        let (name, seen) = match PersonId::parse(&notice.to) {
            Some(id) => (people.name(&id), Look::of(&request.id, &id, state)?.seen_at),
            None => {
                let chat: Option<Chat> = state.get(&notice.to)?;
                (
                    chat.map_or_else(|| t!("A chat").to_owned(), |it| shown(&it.name, NAME_MAX)),
                    None,
                )
            }
        };
        let lines = notice.lines.iter().map(|it| ToldLine {
            at: Moment::of(it.at),
            kind: match it.kind.name() {
                "reminder" => t!("reminder"),
                "escalation" => t!("nobody else decided"),
                "digest" => t!("with others"),
                _ => "",
            },
            channel: match it.delivery.channel.as_str() {
                "mail" => t!("Mail").to_owned(),
                _ => shown(&it.delivery.name, NAME_MAX),
            },
            word: fixed(it.delivery.sent.word()),
            good: it.delivery.sent == crate::domain::notice::Sent::Delivered,
            reason: it.delivery.reason.as_deref().map(|it| shown(it, REASON_MAX)),
        });
        all.push(Told {
            name,
            seen: seen.map(Moment::of),
            lines: lines.collect(),
        });
    }
    all.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(all)
}
