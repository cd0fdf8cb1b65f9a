//! People, groups, keys, and what the journal holds.

use crate::web::openapi::schema::{Schema, id, roles, waits};
use crate::web::openapi::{Area, Operation, Who};

pub(super) const ADMINS: Who = Who::Both("Admins and keys with the scope admin");
pub(super) const AUDITORS: Who = Who::Both("Admins, auditors, and keys with the scope audit or admin");

/// What came of a change of the keys.
fn keys_changed() -> Schema {
    Schema::object(&[
        ("activated", Schema::text().or_null()),
        ("ended", Schema::text().or_null()),
        ("from_seq", Schema::count().or_null()),
        ("taken_back", Schema::count()),
        ("secrets", Schema::count()),
    ])
}

pub(super) fn people() -> Area {
    let group = || {
        Schema::object(&[
            ("id", id("grp_")),
            ("name", Schema::text()),
            ("members", Schema::list(id("per_"))),
        ])
    };
    let group_body = || {
        Schema::body(&[
            ("name", Schema::short(200)),
            ("members?", Schema::list(Schema::text())),
            ("reason?", Schema::at_most(500).about("Why, for the journal")),
        ])
    };
    let delegation = || {
        Schema::object(&[
            ("id", id("dlg_")),
            ("from", id("per_")),
            ("to", id("per_")),
            ("starts", Schema::time()),
            ("ends", Schema::time()),
            ("ended_at", Schema::time().or_null()),
            ("in_force", Schema::boolean()),
            ("reason", Schema::text()),
        ])
    };
    let invitation = || {
        Schema::object(&[
            ("invite_url", Schema::text()),
            (
                "invite_qr",
                Schema::text().about("The same as an SVG in a `data:` URL"),
            ),
            ("invite_expires_at", Schema::time()),
        ])
    };
    Area {
        name: "People",
        about: "Who there is, what they may do, and who stands in for them.",
        operations: vec![
            Operation::get("/api/v1/people", "List the people")
                .who(AUDITORS)
                .answers(200, "All of them", Schema::page(Schema::named("Person"))),
            Operation::post("/api/v1/people", "Invite a person")
                .who(ADMINS).reason()
                .body(Schema::body(&[
                    ("name", Schema::short(200)),
                    ("email", Schema::short(254)),
                    ("roles", roles()),
                ]))
                .answers(
                    201,
                    "The person, and a link that works once",
                    Schema::named("Person"),
                )
                .answers(202, "It waits for another admin", waits())
                .refuses(&[409, 422]),
            Operation::get("/api/v1/people/{id}", "Look at a person")
                .who(AUDITORS)
                .answers(200, "The person", Schema::named("Person")),
            Operation::patch("/api/v1/people/{id}", "Change a person")
                .who(ADMINS).reason()
                .body(Schema::body(&[
                    ("name?", Schema::short(200).or_null()),
                    ("roles?", roles().or_null()),
                    ("active?", Schema::boolean().or_null()),
                ]))
                .answers(200, "The person", Schema::named("Person"))
                .answers(202, "It waits for another admin", waits())
                .refuses(&[409, 422]),
            Operation::post("/api/v1/people/{id}/recovery", "Recover somebody who lost all passkeys")
                .who(ADMINS).reason()
                .about("A proposal: a second admin confirms it with a passkey. Then the old passkeys and sessions end.")
                .body(Schema::body(&[("reason", Schema::text())]))
                .answers(202, "The proposal", Schema::free())
                .refuses(&[409, 422]),
            Operation::post("/api/v1/people/{id}/invitations", "Make a new link")
                .who(ADMINS).reason()
                .answers(201, "For somebody without a passkey", invitation())
                .refuses(&[409, 422]),
            Operation::post("/api/v1/people/{id}/accounts", "Link a forge account")
                .who(ADMINS).reason()
                .body(Schema::body(&[
                    ("integration", Schema::text()),
                    (
                        "account_id",
                        Schema::short(100).about("The forge's own number of the account, as text"),
                    ),
                ]))
                .answers(201, "The person", Schema::named("Person"))
                .refuses(&[409, 422]),
            Operation::get("/api/v1/groups", "List the groups")
                .who(AUDITORS)
                .answers(200, "All of them", Schema::page(group())),
            Operation::post("/api/v1/groups", "Make a group")
                .who(ADMINS).reason()
                .body(group_body())
                .answers(201, "The group", group())
                .answers(202, "It waits for further admins", waits())
                .refuses(&[409, 422]),
            Operation::put("/api/v1/groups/{id}", "Replace a group")
                .who(ADMINS).reason()
                .body(group_body())
                .answers(200, "The group", group())
                .answers(202, "It waits for further admins", waits())
                .refuses(&[409, 422]),
            Operation::delete("/api/v1/groups/{id}", "Remove a group")
                .who(ADMINS).reason()
                .answers_nothing("It is gone")
                .answers(202, "It waits for further admins", waits())
                .refuses(&[409, 422]),
            Operation::get("/api/v1/delegations", "List who stands in for whom")
                .who(Who::People(
                    "Whoever is signed in: their own; admins and auditors: all",
                ))
                .answers(200, "Latest first", Schema::page(delegation())),
            Operation::post("/api/v1/delegations", "Let somebody stand in")
                .who(Who::People("Whoever is absent, and admins for others")).reason()
                .body(Schema::body(&[
                    ("from?", Schema::text().or_null().about("Absent: whoever calls")),
                    ("to", Schema::text()),
                    ("starts?", Schema::time().or_null().about("Absent: now")),
                    ("ends", Schema::time().about("At most 92 days later")),
                    ("reason?", Schema::at_most(500)),
                ]))
                .answers(201, "It holds", delegation())
                .answers(202, "It waits for further admins", waits())
                .refuses(&[404, 409, 422]),
            Operation::delete("/api/v1/delegations/{id}", "End it now")
                .who(Who::People("Either of the two, and admins")).reason()
                .answers_nothing("It has ended")
                .refuses(&[409, 422]),
        ],
    }
}

pub(super) fn keys() -> Area {
    let scopes = || Schema::list_of(1, 3, Schema::one_of(&["request", "audit", "admin"]));
    Area {
        name: "API keys",
        about: "A key is stored as a digest, has scopes and an end, may be bound to projects, and can never decide.",
        operations: vec![
            Operation::get("/api/v1/api-keys", "List the keys")
                .who(AUDITORS)
                .answers(
                    200,
                    "All of them, never the secrets",
                    Schema::page(Schema::object(&[
                        ("id", id("key_")),
                        ("name", Schema::text()),
                        ("scopes", scopes()),
                        ("projects", Schema::list(Schema::text())),
                        ("owner", id("per_").or_null()),
                        ("created_at", Schema::time()),
                        ("expires_at", Schema::time()),
                        ("revoked", Schema::boolean()),
                    ])),
                ),
            Operation::post("/api/v1/api-keys", "Make a key")
                .who(ADMINS)
                .reason()
                .about("Whoever makes a key owns it, and can't approve what it asks.")
                .body(Schema::body(&[
                    ("name", Schema::short(200)),
                    ("scopes", scopes()),
                    (
                        "projects?",
                        Schema::list_of(0, 100, Schema::short(255)).about("It is for these alone"),
                    ),
                    (
                        "expires_at?",
                        Schema::time()
                            .or_null()
                            .about("At most two years on; by default a year"),
                    ),
                    (
                        "owner?",
                        Schema::text()
                            .or_null()
                            .about("Refused here: another owner is named on the host"),
                    ),
                ]))
                .answers(
                    201,
                    "The key, shown once",
                    Schema::object(&[
                        ("id", id("key_")),
                        ("key", Schema::matching("^sa_")),
                        (
                            "callback_secret",
                            Schema::matching("^whsec_").about("Verifies the callbacks of its requests"),
                        ),
                        ("expires_at", Schema::time()),
                    ]),
                )
                .refuses(&[409, 422]),
            Operation::delete("/api/v1/api-keys/{id}", "Revoke a key")
                .who(ADMINS)
                .reason()
                .answers_nothing("It counts no more, from the next call on")
                .refuses(&[409, 422]),
        ],
    }
}

/// Which members a sink takes follows from its kind.
fn sink_body() -> Schema {
    let text = || Schema::text().or_null();
    let number = || Schema::count().or_null();
    let yes = || Schema::boolean().or_null();
    Schema::body(&[
        ("kind", Schema::text()),
        ("name", Schema::text()),
        ("format?", Schema::text()),
        (
            "from?",
            text().about("`beginning` or `now`; only when it is added"),
        ),
        ("url?", text()),
        ("ca_pem?", text()),
        ("read_back?", yes()),
        ("authorization?", text()),
        ("token?", text()),
        ("index?", text()),
        ("source?", text()),
        ("sourcetype?", text()),
        ("service?", text()),
        ("tags?", Schema::list(Schema::text()).or_null()),
        ("host?", text()),
        ("port?", number()),
        ("transport?", text()),
        ("client_certificate?", text()),
        ("client_key?", text()),
        ("confirm?", yes()),
        ("message_bytes_max?", number()),
        ("facility?", number()),
        ("file?", text()),
    ])
}

fn erasure_body() -> Schema {
    Schema::body(&[
        (
            "scope",
            Schema::free().about(
                "`{\"of\":\"project\",\"project\":\"prj_…\"}`, `{\"of\":\"pipelines\",\"project_name\":\"…\"}` or \
                 `{\"of\":\"request\",\"request\":\"apr_…\"}`",
            ),
        ),
        (
            "before?",
            Schema::time()
                .or_null()
                .about("Of requests that ended earlier"),
        ),
        ("reason?", Schema::at_most(500).about("Why, for the journal")),
    ])
}

pub(super) fn records() -> Area {
    Area {
        name: "Records",
        about: "What happened, and what went around or through the gate.",
        operations: vec![
            Operation::get("/api/v1/journal", "Read the journal, oldest first")
                .who(AUDITORS)
                .query("type", "Only entries of this type", Schema::text())
                .paging()
                .answers(200, "Entries", Schema::page(Schema::named("Entry"))),
            Operation::get("/api/v1/sinks", "List the log sinks")
                .who(AUDITORS)
                .answers(200, "How each stands; no secrets", Schema::page(Schema::free())),
            Operation::post("/api/v1/sinks", "Add a log sink")
                .who(ADMINS)
                .reason()
                .body(sink_body())
                .answers(
                    201,
                    "The sink; a webhook's signing secret is shown once",
                    Schema::free(),
                )
                .refuses(&[409, 422]),
            Operation::get("/api/v1/sinks/{id}", "Look at a log sink")
                .who(AUDITORS)
                .answers(200, "How it stands", Schema::free()),
            Operation::put("/api/v1/sinks/{id}", "Change a log sink")
                .who(ADMINS)
                .reason()
                .body(sink_body())
                .answers(200, "The sink", Schema::free())
                .refuses(&[409, 422]),
            Operation::delete("/api/v1/sinks/{id}", "Remove a log sink")
                .who(ADMINS)
                .reason()
                .answers_nothing("It is gone")
                .refuses(&[409, 422]),
            Operation::post("/api/v1/sinks/{id}/test", "Send a sink a test message")
                .who(ADMINS)
                .body(Schema::body(&[]))
                .answers(200, "What it answered", Schema::free())
                .refuses(&[409, 422, 429]),
            Operation::get("/api/v1/settings", "The server's settings")
                .who(AUDITORS)
                .about("Set in file and environment, and only there.")
                .answers(
                    200,
                    "Each with where it comes from; no secrets",
                    Schema::page(Schema::free()),
                ),
            Operation::post("/api/v1/keys/rotate", "Let the next key take over")
                .who(Who::People("Admins, with a passkey under the call"))
                .reason()
                .body(Schema::body(&[(
                    "use",
                    Schema::one_of(&["credential", "log", "data"]),
                )]))
                .answers(200, "What came of it", keys_changed())
                .refuses(&[409, 422, 503]),
            Operation::post("/api/v1/keys/revoke", "Revoke a key")
                .who(Who::People("Admins, with a passkey under the call"))
                .reason()
                .body(Schema::body(&[
                    ("keyid", Schema::text()),
                    ("from_seq?", Schema::count().or_null()),
                ]))
                .answers(200, "What came of it", keys_changed())
                .refuses(&[409, 422, 503]),
            Operation::get("/api/v1/conditions", "What about the server needs a person")
                .who(AUDITORS)
                .answers(200, "While it lasts", Schema::page(Schema::free())),
            Operation::post("/api/v1/audit/exports", "Make an audit bundle")
                .who(AUDITORS)
                .about("Of the period from `from` to before `to`, each an RFC 3339 time or a day.")
                .body(Schema::body(&[
                    ("from", Schema::text()),
                    ("to", Schema::text()),
                    ("project?", Schema::text().or_null()),
                    ("person?", Schema::text().or_null()),
                    ("outcome?", Schema::text().or_null()),
                ]))
                .answers(202, "It is being made", Schema::free())
                .refuses(&[404, 409, 422, 429]),
            Operation::get("/api/v1/audit/exports", "List the exports")
                .who(AUDITORS)
                .answers(200, "Newest first", Schema::page(Schema::free())),
            Operation::get("/api/v1/audit/exports/{id}", "Look at an export")
                .who(AUDITORS)
                .answers(200, "How far it is", Schema::free()),
            Operation::delete(
                "/api/v1/audit/exports/{id}",
                "Call an export off, or throw it away",
            )
            .who(AUDITORS)
            .answers_nothing("It is gone")
            .refuses(&[409, 422]),
            Operation::get("/api/v1/audit/exports/{id}/bundle", "The bundle")
                .who(AUDITORS)
                .about("404 until it is done.")
                .answers_bytes(200, "The archive", "application/zip"),
            Operation::get("/api/v1/erasures", "What was erased")
                .who(AUDITORS)
                .answers(200, "Newest first", Schema::page(Schema::free())),
            Operation::post("/api/v1/erasures/preview", "What an erasure would take away")
                .who(AUDITORS)
                .about("Counts documents whose time of retention is over. Nothing is changed.")
                .body(erasure_body())
                .answers(200, "How many, and the oldest", Schema::free())
                .refuses(&[422]),
            Operation::post("/api/v1/erasures", "Have documents erased")
                .who(Who::People("Admins; a second one confirms it with a passkey"))
                .reason()
                .about("A proposal. `before` is by default as late as the retention allows.")
                .body(erasure_body())
                .answers(202, "The proposal", waits())
                .refuses(&[403, 404, 409, 422]),
            Operation::get("/api/v1/exceptions", "What went around the gate")
                .who(AUDITORS)
                .query("state", "Only these", Schema::one_of(&["open", "reviewed"]))
                .paging()
                .answers(200, "Newest first", Schema::page(Schema::free())),
            Operation::post("/api/v1/exceptions/{id}/review", "Look one over")
                .who(Who::People("An admin or auditor who took no part in it"))
                .body(Schema::body(&[("note", Schema::short(2_000))]))
                .answers(200, "The exception with its review", Schema::free())
                .refuses(&[409, 422]),
        ],
    }
}
