//! Log sinks, for admins: where the journal is copied to. Secrets go in and never come out again; what a receiver answers is
//! never shown, since a sink's address may be pointed at anything.

use crate::domain::command::{Command, SinkReport, WantedSink};
use crate::domain::ids::SinkId;
use crate::domain::sink::{Destination, Sink, SinkFormat, SyslogTransport, sink_follower};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::identity::random_id;
use crate::outbound::Secret;
use crate::outbound::standard_webhook::SigningSecret;
use crate::sink::{Record, Sent, SinkSecrets, checked_file_name, secrets_name};
use crate::store::Snapshot;
use crate::web::api::{Empty, bounded};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest PEM texts, in characters: a leaf of the journal holds them.
const PEM_MAX: usize = 16_000;
/// Longest secret, in characters.
const SECRET_MAX: usize = 8_000;
/// What every syslog receiver takes (RFC 5425, section 4.3.1: SHOULD), and the range one may choose from.
const MESSAGE_BYTES: u32 = 8_192;
const MESSAGE_BYTES_MIN: u32 = 2_048;
const MESSAGE_BYTES_MAX: u32 = 1_048_576;
/// "log audit" (RFC 5424, table 1).
const FACILITY: u8 = 13;
/// Most tags of a Datadog sink.
const TAGS_MAX: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SinkBody {
    kind: String,
    name: String,
    #[serde(default)]
    format: SinkFormat,
    /// `beginning` or `now`; only when it is added.
    from: Option<String>,
    url: Option<String>,
    ca_pem: Option<String>,
    read_back: Option<bool>,
    authorization: Option<String>,
    token: Option<String>,
    index: Option<String>,
    source: Option<String>,
    sourcetype: Option<String>,
    service: Option<String>,
    tags: Option<Vec<String>>,
    host: Option<String>,
    port: Option<u32>,
    transport: Option<String>,
    client_certificate: Option<String>,
    client_key: Option<String>,
    confirm: Option<bool>,
    message_bytes_max: Option<u32>,
    facility: Option<u32>,
    file: Option<String>,
}

impl SinkBody {
    /// Members that stand in the body and belong to other kinds are mistakes, not decoration.
    fn check_members(&self) -> Result<(), Problem> {
        let web = ["webhook", "splunk_hec", "datadog"];
        let encrypted = ["webhook", "splunk_hec", "datadog", "syslog"];
        let members: [(&str, bool, &[&str]); 18] = [
            ("url", self.url.is_some(), &web),
            ("ca_pem", self.ca_pem.is_some(), &encrypted),
            ("read_back", self.read_back.is_some(), &["webhook"]),
            ("authorization", self.authorization.is_some(), &["webhook"]),
            ("token", self.token.is_some(), &["splunk_hec", "datadog"]),
            ("index", self.index.is_some(), &["splunk_hec"]),
            ("source", self.source.is_some(), &["splunk_hec"]),
            ("sourcetype", self.sourcetype.is_some(), &["splunk_hec"]),
            ("service", self.service.is_some(), &["datadog"]),
            ("tags", self.tags.is_some(), &["datadog"]),
            ("host", self.host.is_some(), &["syslog"]),
            ("port", self.port.is_some(), &["syslog"]),
            ("transport", self.transport.is_some(), &["syslog"]),
            (
                "client_certificate",
                self.client_certificate.is_some(),
                &["syslog"],
            ),
            ("client_key", self.client_key.is_some(), &["syslog"]),
            ("confirm", self.confirm.is_some(), &["syslog"]),
            ("message_bytes_max", self.message_bytes_max.is_some(), &["syslog"]),
            ("facility", self.facility.is_some(), &["syslog"]),
        ];
        for (member, given, kinds) in members {
            if given && !kinds.contains(&self.kind.as_str()) {
                return Err(Problem::bad_field(
                    member,
                    format!("not for a sink of kind {}", self.kind),
                ));
            }
        }
        if self.file.is_some() && self.kind != "file" {
            return Err(Problem::bad_field(
                "file",
                format!("not for a sink of kind {}", self.kind),
            ));
        }
        Ok(())
    }

    fn text(
        &self,
        field: &str,
        value: Option<&String>,
        default: Option<&str>,
        max: usize,
    ) -> Result<String, Problem> {
        let text = match (value, default) {
            (Some(text), _) => text.trim().to_owned(),
            (None, Some(default)) => default.to_owned(),
            (None, None) => return Err(Problem::bad_field(field, "missing")),
        };
        bounded(field, &text, max)?;
        if text.chars().any(char::is_control) {
            return Err(Problem::bad_field(field, "no control characters"));
        }
        Ok(text)
    }

    fn url(&self) -> Result<String, Problem> {
        let url = self.text("url", self.url.as_ref(), None, 500)?;
        Ok(url.trim_end_matches('/').to_owned())
    }

    fn pem(field: &str, text: Option<&String>) -> Result<Option<String>, Problem> {
        match text.map(|it| it.trim()).filter(|it| !it.is_empty()) {
            None => Ok(None),
            Some(pem) => {
                bounded(field, pem, PEM_MAX)?;
                Ok(Some(format!("{pem}\n")))
            }
        }
    }

    /// Where it goes. `before` is what it was, for what is not asked for again.
    fn destination(&self, before: Option<&Destination>) -> Result<Destination, Problem> {
        self.check_members()?;
        let ca_pem = Self::pem("ca_pem", self.ca_pem.as_ref())?;
        Ok(match self.kind.as_str() {
            "webhook" => Destination::Webhook {
                url: self.text("url", self.url.as_ref(), None, 500)?,
                ca_pem,
                read_back: self.read_back.unwrap_or(false),
            },
            "splunk_hec" => Destination::SplunkHec {
                url: self.url()?,
                ca_pem,
                index: match self.index.as_ref().filter(|it| !it.trim().is_empty()) {
                    Some(it) => Some(self.text("index", Some(it), None, 200)?),
                    None => None,
                },
                source: self.text("source", self.source.as_ref(), Some("signedapproval"), 200)?,
                sourcetype: self.text("sourcetype", self.sourcetype.as_ref(), Some("_json"), 200)?,
                channel: match before {
                    Some(Destination::SplunkHec { channel, .. }) => channel.clone(),
                    _ => uuid::Uuid::new_v4().to_string(),
                },
            },
            "datadog" => Destination::Datadog {
                url: self.url()?,
                ca_pem,
                service: self.text("service", self.service.as_ref(), Some("signedapproval"), 100)?,
                tags: self.tags()?,
            },
            "syslog" => self.syslog(ca_pem)?,
            "file" => {
                let name = self.file.as_deref().unwrap_or_default();
                let name = checked_file_name(name).ok_or_else(|| {
                    Problem::bad_field(
                        "file",
                        "a name of small letters, digits, -, _ and dots, without a path; .jsonl is put behind it",
                    )
                })?;
                Destination::File {
                    name: name.to_owned(),
                }
            }
            _ => {
                let kinds = "one of webhook, splunk_hec, datadog, syslog, file";
                return Err(Problem::bad_field("kind", kinds));
            }
        })
    }

    fn tags(&self) -> Result<Vec<String>, Problem> {
        let tags = self.tags.clone().unwrap_or_default();
        let fits = |it: &String| {
            !it.is_empty()
                && it.chars().count() <= 200
                && !it.contains(',')
                && !it.chars().any(char::is_control)
        };
        if tags.len() > TAGS_MAX || !tags.iter().all(fits) {
            let reason = format!("at most {TAGS_MAX} texts such as \"env:prod\", without commas");
            return Err(Problem::bad_field("tags", reason));
        }
        Ok(tags)
    }

    fn syslog(&self, ca_pem: Option<String>) -> Result<Destination, Problem> {
        let host = self.text("host", self.host.as_ref(), None, 253)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
        if !host.bytes().all(named) {
            return Err(Problem::bad_field(
                "host",
                "a host name or address, without a port",
            ));
        }
        let transport = match self.transport.as_deref() {
            None | Some("tls") => SyslogTransport::Tls,
            Some("tcp") => SyslogTransport::Tcp,
            Some(_) => return Err(Problem::bad_field("transport", "\"tls\" or \"tcp\"")),
        };
        let default_port = if transport == SyslogTransport::Tls {
            6514
        } else {
            601
        };
        let port = self.port.unwrap_or(default_port);
        let port = u16::try_from(port).ok().filter(|it| *it > 0);
        let client_certificate = Self::pem("client_certificate", self.client_certificate.as_ref())?;
        if transport == SyslogTransport::Tcp {
            let tls_only = [
                ("ca_pem", ca_pem.is_some()),
                ("client_certificate", client_certificate.is_some()),
                ("client_key", self.client_key.is_some()),
            ];
            if let Some((member, _)) = tls_only.into_iter().find(|(_, given)| *given) {
                return Err(Problem::bad_field(member, "only with \"transport\": \"tls\""));
            }
        }
        let message_bytes_max = self.message_bytes_max.unwrap_or(MESSAGE_BYTES);
        if !(MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&message_bytes_max) {
            let reason = format!("{MESSAGE_BYTES_MIN} to {MESSAGE_BYTES_MAX}");
            return Err(Problem::bad_field("message_bytes_max", reason));
        }
        let facility = self.facility.unwrap_or(FACILITY.into());
        let facility = u8::try_from(facility).ok().filter(|it| *it <= 23);
        Ok(Destination::Syslog {
            host,
            port: port.ok_or_else(|| Problem::bad_field("port", "1 to 65535"))?,
            transport,
            ca_pem,
            client_certificate,
            confirm: self.confirm.unwrap_or(true),
            message_bytes_max,
            facility: facility.ok_or_else(|| Problem::bad_field("facility", "0 to 23"))?,
        })
    }

    /// The secrets in the body.
    fn secrets(&self) -> Result<Vec<(&'static str, Secret)>, Problem> {
        let mut found = Vec::new();
        let given = [
            ("token", &self.token),
            ("authorization", &self.authorization),
            ("client_key", &self.client_key),
        ];
        for (name, value) in given {
            let Some(value) = value.as_ref().filter(|it| !it.trim().is_empty()) else {
                continue;
            };
            bounded(name, value, SECRET_MAX)?;
            if name != "client_key" && !value.trim().bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(Problem::bad_field(name, "visible ASCII characters only"));
            }
            found.push((name, Secret::new(value.trim())));
        }
        Ok(found)
    }
}

/// How far a sink is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Entries it lacks.
    pub entries: u64,
    /// Age of the oldest of them, in seconds.
    pub seconds: u64,
}

impl Lag {
    /// How far `sink` is behind now.
    pub fn of(app: &App, sink: &Sink, snapshot: &Snapshot, now: Time) -> Result<Lag, Problem> {
        let next = match app.sinks.board.health(&sink.id) {
            Some(health) => health.next,
            None => snapshot.cursor(&sink_follower(&sink.id))?.max(sink.from),
        };
        let entries = snapshot.size()?.saturating_sub(next);
        let oldest = match snapshot.leaf(next)? {
            Some(leaf) if entries > 0 => {
                let entry: Value = serde_json::from_slice(&leaf).map_err(Problem::internal)?;
                entry["time"].as_str().and_then(Time::parse)
            }
            _ => None,
        };
        let seconds = oldest.map_or(0, |it| it.seconds_until(now));
        Ok(Lag { entries, seconds })
    }
}

fn shown(app: &App, it: &Sink, snapshot: &Snapshot) -> Result<Value, Problem> {
    let lag = Lag::of(app, it, snapshot, app.now())?;
    let health = app.sinks.board.health(&it.id).unwrap_or_default();
    let mut value = serde_json::to_value(&it.destination).map_err(Problem::internal)?;
    for pem in ["ca_pem", "client_certificate"] {
        if let Some(it) = value.get_mut(pem) {
            *it = json!(!it.is_null());
        }
    }
    if let Some(name) = value.as_object_mut().and_then(|it| it.remove("name")) {
        value["file"] = name;
    }
    let state = match (&health.failing, it.stuck) {
        (_, Some(_)) => "stuck",
        (Some(_), None) => "failing",
        (None, None) if lag.entries > 0 => "delivering",
        (None, None) => "up_to_date",
    };
    let more = json!({
        "id": it.id,
        "name": it.name,
        "format": it.format,
        "from": it.from,
        "created_at": it.created_at,
        "state": state,
        "next": health.next.max(it.from),
        "lag": { "entries": lag.entries, "seconds": lag.seconds },
        "stored_at": health.stored_at,
        "failing_since": health.failing.as_ref().map(|it| it.0),
        "failures": health.failures,
        "reason": health.failing.as_ref().map(|it| &it.1),
        "withheld": it.withheld,
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    Ok(value)
}

/// `GET /api/v1/sinks`: admins and auditors.
pub async fn list_sinks(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let snapshot = app.snapshot()?;
    let mut live: Vec<Sink> = snapshot.all()?;
    live.retain(|it| it.removed.is_none());
    live.sort_by_key(|it| it.created_at);
    let items: Vec<Value> = live
        .iter()
        .map(|it| shown(&app, it, &snapshot))
        .collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/sinks/{id}`: admins and auditors.
pub async fn get_sink(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let snapshot = app.snapshot()?;
    Ok(HttpResponse::Ok().json(shown(&app, &find(&snapshot, &id)?, &snapshot)?))
}

fn find(snapshot: &Snapshot, id: &str) -> Result<Sink, Problem> {
    let id = SinkId::parse(id).ok_or_else(Problem::not_found)?;
    let found: Option<Sink> = snapshot.get(id.as_str())?;
    found
        .filter(|it| it.removed.is_none())
        .ok_or_else(Problem::not_found)
}

/// `POST /api/v1/sinks`: admins. A webhook's signing secret is made here and shown once.
pub async fn add_sink(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<SinkBody>(&request, payload).await?;
    bounded("name", &body.name, 200)?;
    let destination = body.destination(None)?;
    let from = match body.from.as_deref() {
        None | Some("beginning") => 0,
        Some("now") => app.snapshot()?.size()?,
        Some(_) => return Err(Problem::bad_field("from", "\"beginning\" or \"now\"")),
    };
    let mut secrets = SinkSecrets::default();
    for (name, secret) in body.secrets()? {
        secrets.set(name, secret);
    }
    let signing = match &destination {
        Destination::Webhook { .. } => Some(new_signing_secret()?),
        _ => None,
    };
    if let Some(signing) = &signing {
        secrets.set("signing", signing.clone());
    }
    try_settings(&app, &destination, &secrets)?;
    let sink = SinkId::from_random(random_id());
    let command = Command::AddSink {
        sink: sink.clone(),
        wanted: Box::new(WantedSink {
            name: body.name,
            destination,
            format: body.format,
        }),
        from,
    };
    let sealed = seal(&app, &sink, &secrets);
    app.submit_with_secrets(caller.actor(), reason.of(command), vec![sealed])
        .await?;
    let snapshot = app.snapshot()?;
    let mut made = shown(&app, &find(&snapshot, sink.as_str())?, &snapshot)?;
    if let Some(signing) = signing {
        made["signing_secret"] = json!(signing.expose());
    }
    Ok(HttpResponse::Created().json(made))
}

/// `PUT /api/v1/sinks/{id}`: admins. Secrets that are left out stay, as long as the place is the same: another place must not
/// be handed the secret of this one.
pub async fn change_sink(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let snapshot = app.snapshot()?;
    let before = find(&snapshot, &id)?;
    let (body, _) = read_json::<SinkBody>(&request, payload).await?;
    bounded("name", &body.name, 200)?;
    if body.from.is_some() {
        return Err(Problem::bad_field("from", "only when a sink is added"));
    }
    if body.kind != before.destination.kind() {
        return Err(Problem::invalid(
            "kind",
            "a sink keeps its kind; add another one instead",
        ));
    }
    let destination = body.destination(Some(&before.destination))?;
    let name = secrets_name(&before.id);
    let sealed = snapshot.secret(&name)?;
    let kept = sealed
        .and_then(|it| (app.sinks.unseal)(&name, &it))
        .and_then(|it| SinkSecrets::read(&it))
        .unwrap_or_default();
    let same_place = destination.place() == before.destination.place();
    let mut secrets = if same_place { kept } else { SinkSecrets::default() };
    for (name, secret) in body.secrets()? {
        secrets.set(name, secret);
    }
    let mut signing = None;
    if matches!(destination, Destination::Webhook { .. }) && secrets.get("signing").is_none() {
        let fresh = new_signing_secret()?;
        secrets.set("signing", fresh.clone());
        signing = Some(fresh);
    }
    if !same_place && secrets.get("token").is_none() && body.kind != "webhook" {
        let needed = matches!(
            destination,
            Destination::SplunkHec { .. } | Destination::Datadog { .. }
        );
        if needed {
            return Err(Problem::invalid(
                "token",
                "give it again: another address does not get the token of the old one",
            ));
        }
    }
    try_settings(&app, &destination, &secrets)?;
    let command = Command::ChangeSink {
        sink: before.id.clone(),
        wanted: Box::new(WantedSink {
            name: body.name,
            destination,
            format: body.format,
        }),
    };
    let sealed = seal(&app, &before.id, &secrets);
    app.submit_with_secrets(caller.actor(), reason.of(command), vec![sealed])
        .await?;
    let snapshot = app.snapshot()?;
    let mut made = shown(&app, &find(&snapshot, before.id.as_str())?, &snapshot)?;
    if let Some(signing) = signing {
        made["signing_secret"] = json!(signing.expose());
    }
    Ok(HttpResponse::Ok().json(made))
}

/// `DELETE /api/v1/sinks/{id}`: admins. It still gets the word of its removal, if it takes it.
pub async fn remove_sink(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let sink = find(&app.snapshot()?, &id)?.id;
    app.submit(caller.actor(), reason.of(Command::RemoveSink { sink }))
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /api/v1/sinks/{id}/test`: admins. Sends one message that is no entry, and tells whether it was taken.
pub async fn test_sink(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    read_json::<Empty>(&request, payload).await?;
    let (sink, sealed, size) = {
        let snapshot = app.snapshot()?;
        let sink = find(&snapshot, &id)?;
        let sealed = snapshot.secret(&secrets_name(&sink.id))?;
        (sink, sealed, snapshot.size()?)
    };
    let now = app.now();
    let record = Record::test(size, now, sink.format, &app.sinks.about);
    let sent = match app.sinks.of(&sink, sealed.as_deref()) {
        Ok(connection) => {
            let id = format!("{}_test_{}", sink.id, hex::encode(random_id()));
            connection.send(&[record], &id, now.0.div_euclid(1000)).await
        }
        Err(error) => Sent::Blocked {
            reason: error.to_string(),
        },
    };
    let refused = match sent {
        Sent::Stored => None,
        Sent::Later { reason, .. } | Sent::TooMuch { reason } | Sent::Blocked { reason } => Some(reason),
    };
    let command = Command::ReportSink {
        sink: sink.id,
        report: SinkReport::Tested {
            refused: refused.clone(),
        },
    };
    app.submit(caller.actor(), command).await?;
    Ok(HttpResponse::Ok().json(json!({
        "stored": refused.is_none(),
        "told": match &refused {
            None => "It was taken.".to_owned(),
            Some(reason) => format!("It was not taken: {reason}."),
        },
        "reason": refused,
    })))
}

fn new_signing_secret() -> Result<Secret, Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(Problem::internal)?;
    Ok(SigningSecret::from_random(&bytes).text())
}

/// What can be said without a call: URLs, certificates, what the settings allow.
fn try_settings(app: &App, destination: &Destination, secrets: &SinkSecrets) -> Result<(), Problem> {
    app.sinks
        .connect(destination, secrets)
        .map(|_| ())
        .map_err(|error| {
            let field = match destination {
                Destination::Syslog { .. } => "ca_pem",
                Destination::File { .. } => "file",
                _ if secrets.get("token").is_none()
                    && !matches!(destination, Destination::Webhook { .. }) =>
                {
                    "token"
                }
                _ => "url",
            };
            Problem::invalid(field, error.to_string())
        })
}

fn seal(app: &App, sink: &SinkId, secrets: &SinkSecrets) -> (String, Vec<u8>) {
    let name = secrets_name(sink);
    let sealed = (app.seal)(&name, &secrets.to_bytes());
    (name, sealed)
}
