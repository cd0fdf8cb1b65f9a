//! Devices, chats, settings and preferences of messages, and what was sent.

use crate::domain::command::{NewDevice, NewNotice};
use crate::domain::decide::people::checked_name;
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::{Actor, Event};
use crate::domain::ids::{ChatId, DeviceId, Digest, PersonId};
use crate::domain::notice::{
    Audience, Chat, Device, DeviceState, MailTls, MailWhen, NoticeSettings, Preferences, QuietHours, Sent,
    TestBy,
};
use crate::domain::people::{Group, Person};
use crate::domain::refusal::Refusal;
use crate::domain::state::{Read, Table};
use crate::domain::time::Time;

/// Live devices of one person. Past it the oldest goes.
const DEVICES_MAX: usize = 20;
/// A device that says by itself that it holds is recorded again after this many seconds.
const CONFIRMED_AGAIN_SECONDS: u64 = 86_400;
/// Chats there may be.
const CHATS_MAX: usize = 100;
/// Longest wait for a reminder or the next group, in seconds.
const WAIT_SECONDS_MAX: u64 = 30 * 86_400;
/// The most that the caps can be set to.
const CAP_MAX: u32 = 100_000;

pub(super) fn add_device(new: NewDevice, actor: &Actor, now: Time, state: &impl Read) -> Decided {
    let person = somebody(actor, state)?;
    let name = checked_name(&new.name)?;
    let mut steps = Vec::new();
    if let Some(known) = by_address(&new.address_sha256, state)?.filter(Device::is_live) {
        if known.person == person.id && known.device_key == new.device_key {
            return Ok(confirmed(&known, now));
        }
        steps.push(ended(&known, "The same device belongs to somebody else now."));
    }
    if let Some(replaced) = &new.replaces
        && let Some(known) = by_address(replaced, state)?.filter(|it| it.is_live() && it.person == person.id)
    {
        steps.push(ended(&known, "Its browser took another address."));
    }
    let mut own: Vec<Device> = state.all::<Device>()?;
    own.retain(|it| it.person == person.id && it.is_live());
    own.sort_by_key(|it| it.confirmed_at);
    if own.len() >= DEVICES_MAX {
        steps.extend(
            own.first()
                .map(|it| ended(it, "There were too many devices; this was the oldest.")),
        );
    }
    steps.push(Step::event(Event::DeviceAdded {
        device: new.id,
        person: person.id,
        platform: new.platform,
        name,
        host: new.host,
        address_sha256: new.address_sha256,
        live: new.device_key.is_none(),
        device_key: new.device_key,
    }));
    Ok(Plan::done(steps))
}

/// It has signed its challenge, or says again that it holds.
pub(super) fn confirm_device(device: DeviceId, actor: &Actor, now: Time, state: &impl Read) -> Decided {
    let person = somebody(actor, state)?;
    let device: Device = state.get(device.as_str())?.ok_or(Refusal::Unknown)?;
    if device.person != person.id || matches!(device.state, DeviceState::Dead { .. }) {
        return Err(Refusal::Unknown.into());
    }
    Ok(confirmed(&device, now))
}

fn confirmed(device: &Device, now: Time) -> Plan {
    if device.is_live() && device.confirmed_at.seconds_until(now) < CONFIRMED_AGAIN_SECONDS {
        return Plan {
            steps: Vec::new(),
            reply: Ok(crate::domain::command::Reply::Done),
        };
    }
    Plan::done(vec![Step::event(Event::DeviceConfirmed {
        device: device.id.clone(),
        person: device.person.clone(),
    })])
}

pub(super) fn end_device(device: DeviceId, reason: String, actor: &Actor, state: &impl Read) -> Decided {
    let record: Device = state.get(device.as_str())?.ok_or(Refusal::Unknown)?;
    let own = matches!(actor, Actor::Person { id, .. } if *id == record.person);
    if !own && !matches!(actor, Actor::System) {
        return Err(Refusal::Unknown.into());
    }
    match record.state {
        DeviceState::Dead { .. } => Ok(Plan::nothing()),
        DeviceState::Live | DeviceState::Pending => Ok(Plan::done(vec![ended(&record, &reason)])),
    }
}

fn ended(device: &Device, reason: &str) -> Step {
    Step::event(Event::DeviceEnded {
        device: device.id.clone(),
        person: device.person.clone(),
        reason: reason.to_owned(),
    })
}

fn by_address(address: &Digest, state: &impl Read) -> Result<Option<Device>, Stop> {
    let Some(id) = state.get_raw(Table::DeviceAddresses, &address.0)? else {
        return Ok(None);
    };
    let id = std::str::from_utf8(&id).ok().and_then(DeviceId::parse);
    match id {
        Some(id) => Ok(state.get(id.as_str())?),
        None => Ok(None),
    }
}

pub(super) fn add_chat(chat: Chat, state: &impl Read) -> Decided {
    let name = checked_name(&chat.name)?;
    match &chat.audience {
        Audience::Everyone => {}
        Audience::Group { group } => {
            state
                .get::<Group>(group.as_str())?
                .ok_or_else(|| Refusal::invalid("audience", "There is no such group."))?;
        }
        Audience::Person { person } => {
            state
                .get::<Person>(person.as_str())?
                .ok_or_else(|| Refusal::invalid("audience", "There is no such person."))?;
        }
    }
    if state.all::<Chat>()?.len() >= CHATS_MAX {
        let why = format!("There are {CHATS_MAX} chats already; remove one first.");
        return Err(Refusal::NotAllowed { why }.into());
    }
    Ok(Plan::done(vec![Step::event(Event::ChatAdded {
        chat: chat.id,
        name,
        kind: chat.kind,
        host: chat.host,
        audience: chat.audience,
    })]))
}

pub(super) fn remove_chat(chat: ChatId, state: &impl Read) -> Decided {
    let record: Chat = state.get(chat.as_str())?.ok_or(Refusal::Unknown)?;
    Ok(Plan::done(vec![Step::event(Event::ChatRemoved {
        chat: record.id,
    })]))
}

pub(super) fn configure(settings: NoticeSettings, state: &impl Read) -> Decided {
    check_settings(&settings, state)?;
    Ok(Plan::done(vec![Step::event(Event::NotificationsConfigured {
        settings: Box::new(settings),
    })]))
}

fn check_settings(it: &NoticeSettings, state: &impl Read) -> Result<(), Stop> {
    let bad = |field: &str, reason: &str| Err(Stop::from(Refusal::invalid(field, reason)));
    if it.push_hosts.len() > 50
        || it.push_hosts.iter().any(|it| {
            let name = it.strip_prefix("*.").unwrap_or(it);
            name.is_empty()
                || name.len() > 253
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        })
    {
        return bad(
            "push_hosts",
            "Host names in lower case, `*.` in front for all below one; at most 50.",
        );
    }
    if let Some(contact) = &it.contact {
        // Apple refuses what others let through: a real address, never of this machine.
        let host = match (contact.strip_prefix("mailto:"), contact.strip_prefix("https://")) {
            (Some(mail), _) => mail.rsplit_once('@').map(|(_, host)| host),
            (None, Some(rest)) => rest.split('/').next(),
            (None, None) => None,
        };
        let host = host.map(|it| it.split(':').next().unwrap_or(it));
        let real =
            host.is_some_and(|it| it.contains('.') && !it.ends_with(".localhost") && !it.ends_with('.'));
        if !real || contact.len() > 300 || contact.contains(char::is_whitespace) {
            return bad(
                "contact",
                "`mailto:` and an address, or an https URL, of a real domain.",
            );
        }
    }
    for (field, value) in [
        ("remind_after", it.remind_after),
        ("escalate_after", it.escalate_after),
    ] {
        if value.is_some_and(|it| !(1..=WAIT_SECONDS_MAX).contains(&it)) {
            return bad(field, "1 to 2,592,000 seconds, or null for never.");
        }
    }
    if it.reminders > 10 {
        return bad("reminders", "0 to 10.");
    }
    let groups = state.all::<Group>()?;
    for name in &it.escalate_to {
        if !groups.iter().any(|group| group.name == *name) {
            return bad(
                "escalate_to",
                &format!("There is no group named {}.", crate::domain::text::visible(name)),
            );
        }
    }
    if it.escalate_to.len() > 10 {
        return bad("escalate_to", "At most 10 groups.");
    }
    for (field, value) in [
        ("per_ten_minutes", it.per_ten_minutes),
        ("per_hour", it.per_hour),
        ("per_requester", it.per_requester),
    ] {
        if !(1..=CAP_MAX).contains(&value) {
            return bad(field, "1 to 100,000.");
        }
    }
    if let Some(mail) = &it.mail {
        let is_host =
            !mail.host.is_empty() && mail.host.len() <= 253 && !mail.host.contains(char::is_whitespace);
        if !is_host || mail.port == 0 {
            return bad("mail", "`host` and `port` of the mail server.");
        }
        if !mail.from.contains('@') || mail.from.len() > 320 || mail.from.contains(['\r', '\n']) {
            return bad(
                "mail.from",
                "An address, or a name with an address in angle brackets.",
            );
        }
        if mail.tls == MailTls::None && mail.username.is_some() {
            return bad("mail.tls", "A password is never sent without TLS.");
        }
    }
    if let Some(apns) = &it.apns {
        let is_id = |it: &str| it.len() == 10 && it.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_id(&apns.team_id) || !is_id(&apns.key_id) {
            return bad("apns", "`team_id` and `key_id` have ten letters and digits each.");
        }
        if apns.topic.is_empty() || apns.topic.len() > 255 {
            return bad("apns.topic", "The client's bundle id.");
        }
    }
    Ok(())
}

pub(super) fn prefer(mail: MailWhen, quiet: Option<QuietHours>, actor: &Actor, state: &impl Read) -> Decided {
    let person = somebody(actor, state)?;
    if let Some(it) = &quiet {
        if it.from >= 1_440 || it.until >= 1_440 || it.from == it.until {
            return Err(Refusal::invalid("quiet", "Two different times of the day.").into());
        }
        if jiff::tz::TimeZone::get(&it.zone).is_err() {
            return Err(Refusal::invalid("quiet", "No such time zone.").into());
        }
    }
    let before = Preferences::load(&person.id, state)?;
    if before.mail == mail && before.quiet == quiet {
        return Ok(Plan::done(Vec::new()));
    }
    Ok(Plan::done(vec![Step::event(Event::NotificationsPreferred {
        person: person.id,
        mail,
        quiet,
    })]))
}

pub(super) fn ask_test(by: Option<TestBy>, actor: &Actor, state: &impl Read) -> Decided {
    let person = somebody(actor, state)?;
    Ok(Plan::done(vec![Step::event(Event::NotificationAsked {
        person: person.id,
        by,
    })]))
}

pub(super) fn record(it: NewNotice, state: &impl Read) -> Decided {
    let mut steps = Vec::new();
    for delivery in it.deliveries.iter().filter(|it| it.sent == Sent::Gone) {
        let id = delivery.channel.strip_prefix("device/").and_then(DeviceId::parse);
        let device: Option<Device> = match id {
            Some(id) => state.get(id.as_str())?,
            None => None,
        };
        let reason = delivery
            .reason
            .as_deref()
            .unwrap_or("Its push service knows it no more.");
        steps.extend(device.filter(Device::is_live).map(|it| ended(&it, reason)));
    }
    steps.push(Step::event(Event::NotificationSent {
        to: it.to,
        requests: it.requests,
        kind: it.kind,
        requester: it.requester,
        again: it.again,
        deliveries: it.deliveries,
    }));
    Ok(Plan::done(steps))
}

pub(super) fn somebody(actor: &Actor, state: &impl Read) -> Result<Person, Stop> {
    let id: &PersonId = match actor {
        Actor::Person { id, .. } => id,
        _ => return Err(Refusal::Unknown.into()),
    };
    Ok(state
        .get::<Person>(id.as_str())?
        .filter(|it| it.active)
        .ok_or(Refusal::Unknown)?)
}
