//! What people do for themselves with their passkeys, and how they decide.

use crate::web::openapi::schema::{Schema, ceremony, id, kinds, statuses, webauthn};
use crate::web::openapi::{Area, Operation, Who};

const SIGNED_IN: Who = Who::People("Whoever is signed in");

fn linked() -> Schema {
    Schema::object(&[
        ("integration", id("int_")),
        ("account_id", Schema::text()),
        ("proof", Schema::one_of(&["proven", "asserted"])),
    ])
}

pub(super) fn own() -> Area {
    let waiting = Schema::object(&[
        ("id", id("apr_")),
        ("kind", kinds()),
        ("status", statuses()),
        ("action", Schema::text()),
        ("requested_by", Schema::text()),
        ("environment", Schema::text().or_null()),
        ("project", Schema::text().or_null()),
        ("created_at", Schema::time()),
        ("expires_at", Schema::time().or_null()),
        ("url", Schema::text()),
    ]);
    let token = || Schema::short(200).about("What stands behind `#` in the link");
    Area {
        name: "Sign-in and passkeys",
        about: "WebAuthn options and answers have the standard JSON forms, base64url without padding.",
        operations: vec![
            Operation::post("/api/v1/enrolment/options", "Start enrolling by a link")
                .about("The bearer of a set-up or invitation link. Name and e-mail are needed for the set-up link.")
                .body(Schema::body(&[
                    ("token", token()),
                    ("name?", Schema::short(200).or_null()),
                    ("email?", Schema::short(254).or_null()),
                ]))
                .answers(200, "Options of a new passkey", Schema::object(&[("publicKey", webauthn())]))
                .refuses(&[409, 422]),
            Operation::post("/api/v1/enrolment", "Enrol the first passkey")
                .body(Schema::body(&[
                    ("token", token()),
                    ("credential", webauthn()),
                    ("label?", Schema::short(100).or_null()),
                ]))
                .answers(201, "Who it is, and a session cookie", Schema::named("SignedIn"))
                .refuses(&[401, 409, 422]),
            Operation::post("/api/v1/session/options", "Start signing in")
                .body(Schema::body(&[]))
                .answers(
                    200,
                    "Options",
                    Schema::object(&[("ceremony", id("cer_")), ("publicKey", webauthn())]),
                ),
            Operation::post("/api/v1/session", "Sign in")
                .about("Whoever holds an enrolled passkey. A session reads and administers; it never decides.")
                .body(Schema::body(&[("ceremony", Schema::text()), ("credential", webauthn())]))
                .answers(200, "Who it is, and a session cookie", Schema::named("SignedIn"))
                .refuses(&[401, 409]),
            Operation::delete("/api/v1/session", "Sign out").who(SIGNED_IN).answers_nothing("Signed out"),
            Operation::get("/api/v1/me", "Who I am").who(SIGNED_IN).answers(
                200,
                "The person",
                Schema::object(&[
                    ("id", id("per_")),
                    ("name", Schema::text()),
                    ("email", Schema::text()),
                    ("roles", crate::web::openapi::schema::roles()),
                    ("passkeys", Schema::list(Schema::named("Passkey"))),
                ]),
            ),
            Operation::post("/api/v1/me/test-request", "Try the gate out")
                .who(Who::People("Approvers"))
                .about("An action that its sender alone decides, within 30 minutes. No real request allows that.")
                .body(Schema::body(&[]))
                .answers(201, "The request", Schema::named("Opened"))
                .refuses(&[422]),
            Operation::get("/api/v1/me/passkeys", "My passkeys")
                .who(SIGNED_IN)
                .answers(200, "All that count", Schema::page(Schema::named("Passkey"))),
            Operation::post("/api/v1/me/confirmations/options", "Start confirming a dangerous call")
                .who(SIGNED_IN)
                .body(Schema::body(&[
                    ("method", Schema::text()),
                    ("path", Schema::short(500).about("Of the call, with its query")),
                    ("body_sha256", Schema::text().about("Of the call’s exact body")),
                    ("reason?", Schema::at_most(500).about("What `X-Reason` of the call will say")),
                ]))
                .answers(200, "What the passkey signs", ceremony())
                .refuses(&[422]),
            Operation::post("/api/v1/me/confirmations", "Confirm a dangerous call")
                .who(Who::People("Whose ceremony it is"))
                .body(Schema::body(&[("ceremony", Schema::text()), ("credential", webauthn())]))
                .answers(
                    200,
                    "The word for that call’s `X-Confirmation`",
                    Schema::object(&[("confirmation", Schema::text())]),
                )
                .refuses(&[409]),
            Operation::post("/api/v1/me/passkeys/options", "Start adding a passkey")
                .who(SIGNED_IN)
                .body(Schema::body(&[("label?", Schema::short(100).or_null())]))
                .answers(
                    200,
                    "A passkey that is held confirms the new one",
                    Schema::object(&[("ceremony", id("cer_")), ("confirm", webauthn()), ("publicKey", webauthn())]),
                )
                .refuses(&[409, 422]),
            Operation::post("/api/v1/me/passkeys", "Add a passkey")
                .who(SIGNED_IN)
                .body(Schema::body(&[
                    ("ceremony", Schema::text()),
                    ("confirm", webauthn()),
                    ("credential", webauthn()),
                ]))
                .answers(201, "Its id", Schema::object(&[("id", Schema::text())]))
                .refuses(&[409, 422]),
            Operation::patch("/api/v1/me/passkeys/{id}", "Name a passkey")
                .who(Who::People("Whose passkey it is"))
                .body(Schema::body(&[("label", Schema::text())]))
                .answers_nothing("It has that name")
                .refuses(&[409, 422]),
            Operation::get("/api/v1/me/totp", "My one-time codes")
                .who(SIGNED_IN)
                .about("A decision by a code is `server-attested`: nothing binds it to what was decided.")
                .answers(
                    200,
                    "Whether they are set up, and what takes them",
                    Schema::object(&[
                        ("enrolled", Schema::boolean()),
                        ("grade", Schema::one_of(&["server-attested"])),
                        ("taken_by", Schema::list(Schema::text())),
                        ("added_at?", Schema::time()),
                        ("decides_from?", Schema::time()),
                        ("last_used_at?", Schema::time().or_null()),
                        ("locked_at?", Schema::time().or_null()),
                    ]),
                ),
            Operation::post("/api/v1/me/totp/options", "Start setting one-time codes up")
                .who(SIGNED_IN)
                .body(Schema::body(&[]))
                .answers(
                    200,
                    "A passkey that is held allows it",
                    Schema::object(&[("ceremony", id("cer_")), ("publicKey", webauthn())]),
                )
                .refuses(&[422]),
            Operation::post("/api/v1/me/totp", "Set one-time codes up")
                .who(SIGNED_IN)
                .about("Without `ceremony` and `credential` only within ten minutes of enrolling by a link, in that session.")
                .body(Schema::body(&[
                    ("ceremony?", Schema::text().or_null()),
                    ("credential?", Schema::any()),
                ]))
                .answers(
                    201,
                    "The secret, in this answer alone",
                    Schema::object(&[
                        ("otpauth_url", Schema::text()),
                        ("secret", Schema::text().about("Base32 in groups of four, for typing")),
                        ("qr", Schema::text().about("The URL as a QR code: an SVG in a `data:` URL")),
                        ("expires_at", Schema::time()),
                    ]),
                )
                .refuses(&[401, 403, 409]),
            Operation::post("/api/v1/me/totp/confirm", "Confirm one-time codes by a code")
                .who(SIGNED_IN)
                .body(Schema::body(&[("code", Schema::text())]))
                .answers(
                    200,
                    "They count from `decides_from` on",
                    Schema::object(&[
                        ("enrolled", Schema::boolean()),
                        ("decides_from", Schema::time().or_null()),
                    ]),
                )
                .refuses(&[401, 409]),
            Operation::delete("/api/v1/me/totp", "Remove my one-time codes")
                .who(SIGNED_IN)
                .answers_nothing("They count no more, and the secret is gone")
                .refuses(&[404]),
            Operation::get("/api/v1/me/accounts", "My accounts on forges")
                .who(SIGNED_IN)
                .answers(200, "All that are linked", Schema::page(linked())),
            Operation::post("/api/v1/me/accounts/claim", "Claim an account on a forge")
                .who(SIGNED_IN)
                .body(Schema::body(&[
                    ("integration", Schema::text()),
                    ("username", Schema::short(255)),
                ]))
                .answers(
                    201,
                    "What the account has to write, and where",
                    Schema::object(&[
                        ("code", Schema::text()),
                        (
                            "account",
                            Schema::object(&[
                                ("id", Schema::text()),
                                ("username", Schema::text()),
                                ("name", Schema::text()),
                            ]),
                        ),
                        ("where", Schema::one_of(&["status message", "profile bio"])),
                        ("expires_at", Schema::time()),
                    ]),
                )
                .refuses(&[422]),
            Operation::post("/api/v1/me/accounts", "Prove that the claimed account is mine")
                .who(SIGNED_IN)
                .about("The forge is asked with this server's own token what the account wrote.")
                .body(Schema::body(&[]))
                .answers(201, "It is linked, and proven", linked())
                .refuses(&[409, 422]),
            Operation::get("/api/v1/me/sessions", "My sessions")
                .who(SIGNED_IN)
                .about("An `id` is a digest and opens nothing.")
                .answers(200, "Those that are open", Schema::page(Schema::free())),
            Operation::delete("/api/v1/me/sessions/{id}", "End a session")
                .who(Who::People("Whose session it is"))
                .answers_nothing("It ended")
                .refuses(&[409, 422]),
            Operation::delete("/api/v1/me/passkeys/{id}", "Remove a passkey")
                .who(Who::People("Whose passkey it is"))
                .answers_nothing("It counts no more")
                .refuses(&[409, 422]),
            Operation::get("/api/v1/inbox", "What I may decide now, oldest first")
                .who(SIGNED_IN)
                .answers(200, "Those that wait", Schema::page(waiting)),
            Operation::get("/api/v1/inbox/events", "Follow my queue")
                .who(SIGNED_IN)
                .about("Server-sent events: `inbox` at once, and whenever the queue changes.")
                .answers_bytes(200, "`{\"ids\":[\"apr_…\"],\"waiting\":1}` an event", "text/event-stream"),
        ],
    }
}

pub(super) fn decisions() -> Area {
    Area {
        name: "Decisions",
        about: "One decision is one passkey ceremony over exactly what is approved, or, where a rule takes them, one one-time code. A key can never decide.",
        operations: vec![
            Operation::post("/api/v1/approvals/{id}/decision/options", "Start a decision")
                .who(Who::People("Whoever may decide the request now"))
                .body(Schema::body(&[
                    ("decision", Schema::one_of(&["approve", "reject"])),
                    ("comment?", Schema::at_most(2_000).or_null()),
                    (
                        "match_code?",
                        Schema::text()
                            .or_null()
                            .about("Two digits that the requester sees, where a rule asks for them"),
                    ),
                    (
                        "break_glass?",
                        Schema::boolean().about("Choose the emergency way of a break-glass rule"),
                    ),
                ]))
                .answers(200, "What the passkey signs", ceremony())
                .refuses(&[409, 422]),
            Operation::post("/api/v1/approvals/{id}/seen", "Say that it is on my screen")
                .who(SIGNED_IN)
                .body(Schema::body(&[]))
                .answers_nothing("It was recorded, once")
                .refuses(&[409, 422]),
            Operation::post("/api/v1/approvals/{id}/not-me", "Say that I did not expect it")
                .who(Who::People("Whoever may decide the request"))
                .about("Nothing of its requester can be approved until somebody has looked that over.")
                .body(Schema::body(&[("note?", Schema::text().or_null())]))
                .answers_nothing("Its requester is held")
                .refuses(&[409, 422]),
            Operation::post("/api/v1/approvals/{id}/decision", "Decide")
                .who(Who::People("The person whose ceremony it is"))
                .about("By a passkey: `ceremony` and `credential`. By a one-time code, where a rule takes one: `decision` and `totp`.")
                .body(Schema::body(&[
                    ("ceremony?", Schema::text().or_null()),
                    ("credential?", Schema::any()),
                    ("totp?", Schema::text().or_null()),
                    ("decision?", Schema::text().or_null()),
                    ("comment?", Schema::text().or_null()),
                    ("match_code?", Schema::text().or_null()),
                ]))
                .answers(
                    200,
                    "Durable, with its credential signed",
                    Schema::object(&[
                        ("status", statuses()),
                        ("credential", Schema::matching("^crd_[0-9a-f]{64}$")),
                    ]),
                )
                .refuses(&[409, 422]),
        ],
    }
}
