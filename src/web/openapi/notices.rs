//! How people are told: their devices and wishes, and what is arranged for all.

use crate::web::openapi::administration::{ADMINS, AUDITORS};
use crate::web::openapi::schema::{Schema, id};
use crate::web::openapi::{Area, Operation, Who};

const SIGNED_IN: Who = Who::People("Whoever is signed in");

pub(super) fn notices() -> Area {
    let wishes = || {
        Schema::object(&[
            ("mail", Schema::one_of(&["always", "fallback", "never"])),
            ("quiet", Schema::free().or_null()),
        ])
    };
    Area {
        name: "Messages and devices",
        about: "A message says that something waits. Deciding it takes the page and a passkey, always.",
        operations: vec![
            Operation::get("/api/v1/push-key", "The key for web push")
                .who(SIGNED_IN)
                .about("What `pushManager.subscribe` takes as `applicationServerKey`.")
                .answers(200, "The key", Schema::object(&[("public_key", Schema::text())]))
                .refuses(&[404]),
            Operation::get("/api/v1/me/devices", "My devices")
                .who(SIGNED_IN)
                .about("An address is never shown.")
                .answers(200, "All that are told", Schema::page(Schema::free())),
            Operation::post("/api/v1/me/devices", "Add a device")
                .who(SIGNED_IN)
                .about("A browser's subscription is live at once; a native client confirms with its device's key.")
                .body(Schema::body(&[
                    ("platform", Schema::text()),
                    ("subscription?", Schema::free().or_null()),
                    ("token?", Schema::text().or_null()),
                    ("name?", Schema::text().or_null()),
                    ("replaces?", Schema::text().or_null()),
                    ("device_public_key?", Schema::text().or_null()),
                ]))
                .answers(200, "A browser that is told", Schema::object(&[("id", id("dev_")), ("state", Schema::text())]))
                .answers(
                    201,
                    "A native client, and what its key signs",
                    Schema::object(&[
                        ("id", id("dev_")),
                        ("state", Schema::text()),
                        ("ceremony", id("cer_")),
                        ("challenge", Schema::text()),
                    ]),
                )
                .refuses(&[409, 422]),
            Operation::post("/api/v1/me/devices/{id}/confirm", "Confirm a native client")
                .who(Who::People("Whose device it is"))
                .body(Schema::body(&[("ceremony", Schema::text()), ("signature", Schema::text())]))
                .answers(200, "It is told from now on", Schema::object(&[("id", id("dev_")), ("state", Schema::text())]))
                .refuses(&[409, 422]),
            Operation::delete("/api/v1/me/devices/{id}", "Remove a device")
                .who(Who::People("Whose device it is"))
                .answers_nothing("It is told no more")
                .refuses(&[409, 422]),
            Operation::post("/api/v1/me/devices/test", "Send myself a test message")
                .who(SIGNED_IN)
                .body(Schema::body(&[]))
                .answers(202, "It goes out by every channel", Schema::object(&[]))
                .refuses(&[409, 422, 429]),
            Operation::get("/api/v1/me/notifications", "My wishes about messages")
                .who(SIGNED_IN)
                .answers(200, "They", wishes()),
            Operation::put("/api/v1/me/notifications", "Change my wishes about messages")
                .who(SIGNED_IN)
                .about("In quiet hours messages wait; the queue shows everything.")
                .body(Schema::body(&[
                    ("mail?", Schema::one_of(&["always", "fallback", "never"]).or_null()),
                    ("quiet?", Schema::free().or_null()),
                ]))
                .answers(200, "What holds now", wishes())
                .refuses(&[409, 422]),
            Operation::get("/api/v1/approvals/{id}/notices", "Who was told of a request")
                .who(Who::Both("People who see the request"))
                .answers(200, "Each person, and by which channel", Schema::page(Schema::free())),
            Operation::get("/api/v1/settings/notifications", "What is arranged about messages")
                .who(ADMINS)
                .about("Secrets are never in it.")
                .answers(200, "The arrangement", Schema::free()),
            Operation::put("/api/v1/settings/notifications", "Arrange messages")
                .who(ADMINS).reason()
                .about("A member that is not sent is as by default; a secret that is not sent stays.")
                .body(Schema::free())
                .answers(200, "What holds now", Schema::free())
                .refuses(&[409, 422]),
            Operation::get("/api/v1/chats", "Chats that are told")
                .who(ADMINS)
                .answers(200, "All of them", Schema::page(Schema::free())),
            Operation::post("/api/v1/chats", "Add a chat")
                .who(ADMINS).reason()
                .about("By its incoming webhook; the URL is sealed and never shown again.")
                .body(Schema::body(&[
                    ("name", Schema::text()),
                    ("kind", Schema::one_of(&["slack", "teams", "mattermost", "ntfy"])),
                    ("url", Schema::text()),
                    ("audience?", Schema::text().or_null()),
                ]))
                .answers(201, "The chat", Schema::free())
                .refuses(&[409, 422]),
            Operation::delete("/api/v1/chats/{id}", "Remove a chat")
                .who(ADMINS).reason()
                .answers_nothing("It is told no more")
                .refuses(&[409, 422]),
        ],
    }
}

/// Looking periods over, checking bundles, and backups.
pub(super) fn upkeep() -> Area {
    Area {
        name: "Reviews and backups",
        about: "What auditors sign off, and what the appliance keeps of itself.",
        operations: vec![
            Operation::get("/api/v1/audit/reviews", "Periods that were looked over")
                .who(AUDITORS)
                .answers(200, "Newest first", Schema::page(Schema::free())),
            Operation::post("/api/v1/audit/reviews", "Record that a period was looked over")
                .who(Who::Both("People with the role admin or auditor"))
                .body(Schema::body(&[
                    ("from", Schema::text()),
                    ("to", Schema::text()),
                    ("note", Schema::text()),
                ]))
                .answers(201, "The review", Schema::free())
                .refuses(&[409, 422]),
            Operation::post("/api/v1/verify/bundle", "Check a bundle")
                .who(Who::Both("Whoever is signed in, and keys"))
                .about("The archive as the body, at most 512 MiB. What does not hold is a 200 with `valid` false.")
                .bytes("application/zip")
                .answers(200, "Every check", Schema::free())
                .refuses(&[422, 429]),
            Operation::get("/api/v1/backups", "Backups")
                .who(ADMINS)
                .answers(200, "The newest first", Schema::page(Schema::free())),
            Operation::post("/api/v1/backups", "Make a backup now")
                .who(ADMINS)
                .body(Schema::body(&[]))
                .answers(201, "It, read back", Schema::free())
                .refuses(&[409, 422]),
        ],
    }
}
