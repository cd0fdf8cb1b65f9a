//! Telling people that something waits: their devices, what the appliance may send where, what was sent to whom, and how
//! much at once.

use crate::domain::ids::{ChatId, DeviceId, Digest, GroupId, PersonId, RequestId};
use crate::domain::state::{Fault, Read, Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Deliveries that are kept for one request and addressee, the newest.
pub const LINES_MAX: usize = 30;
/// Requests that one digest tells of; more wait for the next, so that its record stays within one journal entry.
const DIGEST_MAX: usize = 500;
/// The window of the shorter cap, in seconds.
pub const SHORT_WINDOW_SECONDS: u64 = 600;
/// The window of the longer cap, in seconds. Nothing older is looked at.
pub const LONG_WINDOW_SECONDS: u64 = 3_600;

/// By which push service a device is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// A browser's push subscription (RFC 8030).
    Webpush,
    /// A native client's token at Apple.
    Apns,
}

/// Whether a device is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DeviceState {
    /// It has not signed its challenge yet.
    Pending,
    Live,
    /// Removed, or its push service knows it no more.
    Dead {
        reason: String,
    },
}

/// One device of a person that is told when something waits. Its address is a secret and lies sealed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    pub person: PersonId,
    pub platform: Platform,
    /// The person's own name for it.
    pub name: String,
    /// Host of the push service.
    pub host: String,
    /// Digest of the address, so that one is known twice.
    pub address_sha256: Digest,
    /// The device's own key, SubjectPublicKeyInfo in base64, where it has one.
    pub device_key: Option<String>,
    #[serde(flatten)]
    pub state: DeviceState,
    pub added_at: Time,
    /// When it last said by itself that its address holds.
    pub confirmed_at: Time,
}

impl Device {
    /// Whether it is reached.
    pub fn is_live(&self) -> bool {
        self.state == DeviceState::Live
    }
}

impl Record for Device {
    const TABLE: Table = Table::Devices;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// Name of a device's sealed address.
pub fn device_secret(device: &DeviceId) -> String {
    format!("device/{device}")
}

/// What a chat's incoming webhook takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatKind {
    Slack,
    Teams,
    Mattermost,
    Ntfy,
}

impl ChatKind {
    /// Reads the word.
    pub fn parse(text: &str) -> Option<ChatKind> {
        [
            ChatKind::Slack,
            ChatKind::Teams,
            ChatKind::Mattermost,
            ChatKind::Ntfy,
        ]
        .into_iter()
        .find(|it| it.name() == text)
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            ChatKind::Slack => "slack",
            ChatKind::Teams => "teams",
            ChatKind::Mattermost => "mattermost",
            ChatKind::Ntfy => "ntfy",
        }
    }
}

/// Whose requests a chat is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Audience {
    Everyone,
    Group { group: GroupId },
    Person { person: PersonId },
}

/// A chat that is told by an incoming webhook. Its URL is a secret and lies sealed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    pub id: ChatId,
    pub name: String,
    pub kind: ChatKind,
    pub host: String,
    pub audience: Audience,
    pub added_at: Time,
}

impl Record for Chat {
    const TABLE: Table = Table::Chats;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// Name of a chat's sealed URL.
pub fn chat_secret(chat: &ChatId) -> String {
    format!("chat/{chat}")
}

/// Name of the sealed password of the mail server.
pub const MAIL_SECRET: &str = "mail/password";
/// Name of the sealed key of Apple's token authentication.
pub const APNS_SECRET: &str = "apns/key";
/// Name of the sealed key that signs for the push services (RFC 8292).
pub const VAPID_SECRET: &str = "push/vapid";

/// How much a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wording {
    /// Title, target and how many files.
    #[default]
    Full,
    /// That something waits.
    Minimal,
}

/// How the mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// TLS from the first byte (port 465).
    Implicit,
    /// STARTTLS, and no mail without it (port 587).
    Starttls,
    /// None: only where `outbound.allow_http` names the host.
    None,
}

/// The mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub tls: MailTls,
    #[serde(default)]
    pub username: Option<String>,
    pub from: String,
}

/// Token authentication at Apple's push service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apns {
    pub team_id: String,
    pub key_id: String,
    /// The client's bundle id.
    pub topic: String,
    /// `https://api.push.apple.com`, or the sandbox's.
    #[serde(default = "apple")]
    pub base_url: String,
}

fn apple() -> String {
    "https://api.push.apple.com".to_owned()
}

/// What admins arrange about messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoticeSettings {
    pub text: Wording,
    /// Whom a push service may write to about us: `mailto:` or `https:`. `None`: the public URL.
    pub contact: Option<String>,
    /// Hosts a subscription may lie at; `*.` before a name stands for what is below it.
    pub push_hosts: Vec<String>,
    /// Further certificates that push services, mail servers and chats may show.
    pub ca_pem: Option<String>,
    /// Seconds until somebody who has not decided is told again; `None`: never.
    pub remind_after: Option<u64>,
    /// How often at the most.
    pub reminders: u32,
    /// Seconds until the next group is told; `None`: never.
    pub escalate_after: Option<u64>,
    /// Names of groups, the one to be told first in front.
    pub escalate_to: Vec<String>,
    /// Messages to one person in ten minutes, digests included.
    pub per_ten_minutes: u32,
    /// Messages to one person in an hour, digests included.
    pub per_hour: u32,
    /// Messages to one person about one requester in ten minutes; the rest goes into the digest.
    pub per_requester: u32,
    pub mail: Option<Mail>,
    pub apns: Option<Apns>,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        let hosts = [
            "*.push.apple.com",
            "fcm.googleapis.com",
            "updates.push.services.mozilla.com",
            "*.notify.windows.com",
        ];
        NoticeSettings {
            text: Wording::Full,
            contact: None,
            push_hosts: hosts.map(str::to_owned).into(),
            ca_pem: None,
            remind_after: Some(900),
            reminders: 2,
            escalate_after: None,
            escalate_to: Vec::new(),
            per_ten_minutes: 5,
            per_hour: 20,
            per_requester: 3,
            mail: None,
            apns: None,
        }
    }
}

/// The one row of the settings.
const SETTINGS_ROW: &str = "notifications";

impl Record for NoticeSettings {
    const TABLE: Table = Table::NoticeSettings;
    fn key(&self) -> String {
        SETTINGS_ROW.to_owned()
    }
}

impl NoticeSettings {
    /// As arranged, or the defaults.
    ///
    /// # Errors
    /// When the recorded state can't be read.
    pub fn load(state: &impl Read) -> Result<NoticeSettings, Fault> {
        Ok(state.get(SETTINGS_ROW)?.unwrap_or_default())
    }

    /// Whether a push service's host may be called.
    pub fn allows_push_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.push_hosts.iter().any(|it| match it.strip_prefix("*.") {
            Some(parent) => host
                .strip_suffix(parent)
                .is_some_and(|it| it.len() > 1 && it.ends_with('.')),
            None => *it == host,
        })
    }
}

/// When a mail is sent besides a message to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailWhen {
    Always,
    /// Only when no device took the message.
    #[default]
    Fallback,
    Never,
}

/// Hours in which a person's devices stay silent. The queue shows everything all the same, and mail goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// Minutes after midnight, 0 to 1,439.
    pub from: u16,
    pub until: u16,
    /// Name in the time zone database: `Europe/Berlin`.
    pub zone: String,
}

impl QuietHours {
    /// When they end, if `now` is within them. An unknown zone is UTC.
    pub fn until(&self, now: Time) -> Option<Time> {
        let zone = jiff::tz::TimeZone::get(&self.zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let at = jiff::Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone);
        let minute = u16::try_from(i32::from(at.hour()) * 60 + i32::from(at.minute())).ok()?;
        let (from, until) = (self.from, self.until);
        let within = if from <= until {
            (from..until).contains(&minute)
        } else {
            minute >= from || minute < until
        };
        if !within {
            return None;
        }
        let left = (u64::from(until) + 1_440 - u64::from(minute)) % 1_440;
        let seconds = left * 60 - u64::try_from(at.second()).ok()?.min(left * 60);
        Some(now.plus_seconds(seconds.max(1)))
    }
}

/// What a person arranges about messages to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferences {
    pub person: PersonId,
    pub mail: MailWhen,
    pub quiet: Option<QuietHours>,
}

impl Preferences {
    /// As arranged, or the defaults.
    ///
    /// # Errors
    /// When the recorded state can't be read.
    pub fn load(person: &PersonId, state: &impl Read) -> Result<Preferences, Fault> {
        Ok(state.get(person.as_str())?.unwrap_or_else(|| Preferences {
            person: person.clone(),
            mail: MailWhen::default(),
            quiet: None,
        }))
    }
}

impl Record for Preferences {
    const TABLE: Table = Table::NoticePreferences;
    fn key(&self) -> String {
        self.person.to_string()
    }
}

/// Why somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// It waits for them.
    Opened,
    /// It still does.
    Reminder,
    /// Nobody has decided it for a long time.
    Escalation,
    /// Several things at once.
    Digest,
    /// Something happened that an admin, or the owner of a passkey, has to know.
    Alert,
    /// They asked for it, to see whether it arrives.
    Test,
}

impl NoticeKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            NoticeKind::Opened => "opened",
            NoticeKind::Reminder => "reminder",
            NoticeKind::Escalation => "escalation",
            NoticeKind::Digest => "digest",
            NoticeKind::Alert => "alert",
            NoticeKind::Test => "test",
        }
    }
}

/// How one delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// The other side has it.
    Delivered,
    /// Not yet; it is tried again.
    Later,
    /// It will not be taken.
    Refused,
    /// The device is known no more, and is no channel from here on.
    Gone,
}

impl Sent {
    /// The word for it on pages.
    pub fn word(self) -> &'static str {
        match self {
            Sent::Delivered => "sent",
            Sent::Later => "not yet taken",
            Sent::Refused => "refused",
            Sent::Gone => "no longer known there",
        }
    }
}

/// The one way by which a test message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestBy {
    /// To the person's devices.
    Push,
    Mail,
}

/// One delivery by one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// `device/<id>`, `mail` or `chat/<id>`.
    pub channel: String,
    /// What people call it.
    pub name: String,
    pub sent: Sent,
    /// Why not, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A delivery with its time, for pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: Time,
    pub kind: NoticeKind,
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// What one addressee was told about one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub request: RequestId,
    /// A person's id, or a chat's.
    pub to: String,
    pub first_at: Time,
    pub last_at: Time,
    pub reminders: u32,
    /// They were told because nobody else decided.
    pub escalated: bool,
    pub lines: Vec<Line>,
}

impl Notice {
    /// Key of the row: all of one request stand together.
    pub fn row(request: &RequestId, to: &str) -> String {
        format!("{request}\0{to}")
    }

    /// Channels whose newest delivery is to be tried again.
    pub fn unsettled(&self) -> Vec<String> {
        let mut newest: BTreeMap<&str, Sent> = BTreeMap::new();
        for it in &self.lines {
            newest.insert(&it.delivery.channel, it.delivery.sent);
        }
        let later = newest.into_iter().filter(|(_, sent)| *sent == Sent::Later);
        later.map(|(channel, _)| channel.to_owned()).collect()
    }
}

impl Record for Notice {
    const TABLE: Table = Table::Notices;
    fn key(&self) -> String {
        Notice::row(&self.request, &self.to)
    }
}

/// One message that counts towards the caps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub at: Time,
    pub kind: NoticeKind,
    /// Who asked, of a message about one request.
    pub requester: Option<String>,
}

/// Key of a message in the table that the caps go by. `seq` is its journal position.
pub fn counted_row(to: &str, seq: u64) -> String {
    format!("{to}\0{seq:020}")
}

/// Something that one addressee is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub request: RequestId,
    pub kind: NoticeKind,
    pub requester: String,
}

/// What to do about what is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A message of its own.
    One(Due),
    /// All of these in one message.
    Digest(Vec<Due>),
}

/// What one addressee is sent now of what is due, in its order; what is left waits. Never more than the caps allow in any ten
/// minutes and any hour: the last message of each is kept for a digest, so that nothing is ever silently left out.
pub fn plan(due: &[Due], past: &[Counted], settings: &NoticeSettings, now: Time) -> Vec<Action> {
    let since = |seconds: u64| move |it: &&Counted| it.at.seconds_until(now) < seconds;
    let recent: Vec<&Counted> = past.iter().filter(since(SHORT_WINDOW_SECONDS)).collect();
    let mut short = u32::try_from(recent.len()).unwrap_or(u32::MAX);
    let mut long = u32::try_from(past.iter().filter(since(LONG_WINDOW_SECONDS)).count()).unwrap_or(u32::MAX);
    let digested = recent.iter().any(|it| it.kind == NoticeKind::Digest);
    let mut of: BTreeMap<&str, u32> = BTreeMap::new();
    for it in recent.iter().filter_map(|it| it.requester.as_deref()) {
        *of.entry(it).or_default() += 1;
    }
    let (mut actions, mut rest) = (Vec::new(), Vec::new());
    for it in due {
        let asked = of.entry(&it.requester).or_default();
        let room =
            short.saturating_add(1) < settings.per_ten_minutes && long.saturating_add(1) < settings.per_hour;
        if room && *asked < settings.per_requester {
            *asked += 1;
            short += 1;
            long += 1;
            actions.push(Action::One(it.clone()));
        } else {
            rest.push(it.clone());
        }
    }
    let room = short < settings.per_ten_minutes && long < settings.per_hour;
    rest.truncate(DIGEST_MAX);
    if !rest.is_empty() && room && !digested {
        actions.push(Action::Digest(rest));
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(n: u64, requester: &str) -> Due {
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&n.to_be_bytes());
        Due {
            request: RequestId::from_random(bits),
            kind: NoticeKind::Opened,
            requester: requester.to_owned(),
        }
    }

    /// Plays arrivals (seconds, requester) through the plan, looking every ten seconds for two more hours; answers when
    /// messages went out and which requests they named.
    fn play(arrivals: &[(u64, u8)], settings: &NoticeSettings) -> (Vec<Time>, Vec<RequestId>) {
        let (mut past, mut waiting, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let last = arrivals.iter().map(|it| it.0).max().unwrap_or(0);
        let mut n = 0;
        for second in (0..last + 7_200).step_by(10) {
            let now = Time(0).plus_seconds(second);
            for it in arrivals.iter().filter(|it| (second..second + 10).contains(&it.0)) {
                n += 1;
                waiting.push(due(n, &format!("key/{}", it.1)));
            }
            for action in plan(&waiting, &past, settings, now) {
                let (kind, requester, of) = match action {
                    Action::One(it) => (it.kind, Some(it.requester.clone()), vec![it]),
                    Action::Digest(all) => (NoticeKind::Digest, None, all),
                };
                past.push(Counted {
                    at: now,
                    kind,
                    requester,
                });
                waiting.retain(|it| !of.contains(it));
                told.extend(of.into_iter().map(|it| it.request));
            }
        }
        (past.into_iter().map(|it| it.at).collect(), told)
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_caps_and_everything_is_told(
            arrivals in proptest::collection::vec((0_u64..3_600, 0_u8..4), 0..120),
            per_ten_minutes in 1_u32..8,
            extra in 0_u32..20,
            per_requester in 1_u32..5,
        ) {
            let settings = NoticeSettings {
                per_ten_minutes,
                per_hour: per_ten_minutes + extra,
                per_requester,
                ..NoticeSettings::default()
            };
            let (sent, told) = play(&arrivals, &settings);
            for at in &sent {
                let within = |seconds: u64| {
                    sent.iter().filter(|it| **it <= *at && it.seconds_until(*at) < seconds).count()
                };
                prop_assert!(within(SHORT_WINDOW_SECONDS) <= settings.per_ten_minutes as usize);
                prop_assert!(within(LONG_WINDOW_SECONDS) <= settings.per_hour as usize);
            }
            prop_assert_eq!(told.len(), arrivals.len());
        }
    }

    #[test]
    fn c17_fifty_requests_in_ten_minutes_are_at_most_five_messages() {
        let arrivals: Vec<(u64, u8)> = (0..50).map(|it| (it * 12, 0)).collect();
        let (sent, told) = play(&arrivals, &NoticeSettings::default());
        let first_window = sent.iter().filter(|it| **it < Time(600_000)).count();
        assert!(first_window <= 5, "{sent:?}");
        assert!(sent.iter().filter(|it| **it < Time(3_600_000)).count() <= 20);
        assert_eq!(told.len(), 50);
    }

    #[test]
    fn one_requester_can_t_use_up_everything() {
        let settings = NoticeSettings::default();
        let flood: Vec<Due> = (0..4).map(|it| due(it, "key/a")).collect();
        let actions = plan(&flood, &[], &settings, Time(0));
        assert_eq!(
            actions.iter().filter(|it| matches!(it, Action::One(_))).count(),
            3
        );
        assert!(matches!(actions.last(), Some(Action::Digest(rest)) if rest.len() == 1));
    }

    #[test]
    fn quiet_hours_end_when_they_say() {
        let night = QuietHours {
            from: 22 * 60,
            until: 7 * 60,
            zone: "Europe/Berlin".into(),
        };
        let at = |text: &str| Time::parse(text).expect("a time");
        // 23:30 in Berlin in winter is 22:30 UTC.
        assert_eq!(
            night.until(at("2026-01-15T22:30:00Z")),
            Some(at("2026-01-16T06:00:00Z"))
        );
        assert_eq!(night.until(at("2026-01-15T12:00:00Z")), None);
        // In summer the same hours lie an hour earlier in UTC.
        assert_eq!(
            night.until(at("2026-07-15T04:59:30Z")),
            Some(at("2026-07-15T05:00:00Z"))
        );
        assert_eq!(night.until(at("2026-07-15T05:00:00Z")), None);
        let day = QuietHours {
            from: 60,
            until: 120,
            zone: "UTC".into(),
        };
        assert_eq!(
            day.until(at("2026-07-15T01:00:00Z")),
            Some(at("2026-07-15T02:00:00Z"))
        );
        assert_eq!(day.until(at("2026-07-15T02:00:00Z")), None);
    }

    #[test]
    fn push_hosts_are_whole_names() {
        let it = NoticeSettings::default();
        for (host, good) in [
            ("web.push.apple.com", true),
            ("fcm.googleapis.com", true),
            ("push.apple.com", false),
            ("evil-push.apple.com.example", false),
            ("xpush.apple.com", false),
            ("fcm.googleapis.com.example", false),
            ("localhost", false),
        ] {
            assert_eq!(it.allows_push_host(host), good, "{host}");
        }
    }
}
