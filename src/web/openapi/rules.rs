//! Policies, and how they are changed.

use crate::web::openapi::administration::{ADMINS, AUDITORS};
use crate::web::openapi::schema::{Schema, ceremony, sha256, waits, webauthn};
use crate::web::openapi::{Area, Operation, Who};

pub(super) fn policies() -> Area {
    let version = || {
        Schema::object(&[
            ("name", Schema::text()),
            ("version", Schema::count()),
            ("sha256", sha256()),
            ("previous_sha256", sha256().or_null()),
            ("reason", Schema::text()),
            ("by", Schema::list(Schema::text())),
            ("proposal", Schema::text().or_null()),
            ("activated_at", Schema::time()),
        ])
    };
    let document = || Schema::free().about("A policy document; `/schema/policy.json` is its schema");
    Area {
        name: "Policies",
        about: "Who must approve what. A policy named `default` governs projects that name none, deployments and actions.",
        operations: vec![
            Operation::get("/api/v1/policies", "List the policies in force")
                .who(AUDITORS)
                .answers(200, "All of them", Schema::page(version())),
            Operation::get("/api/v1/policies/{name}", "A policy's document")
                .who(AUDITORS)
                .answers(200, "Its exact bytes", document()),
            Operation::put("/api/v1/policies/{name}", "Put a document in force")
                .who(ADMINS)
                .reason()
                .header(
                    "If-Match",
                    "Digest of the document it takes the place of, in quotes",
                    Schema::text(),
                )
                .raw_body(document())
                .answers(200, "The new version", version())
                .answers(202, "It waits for further admins", waits())
                .refuses(&[409, 422]),
            Operation::get("/api/v1/policies/{name}/versions", "Every version there was")
                .who(AUDITORS)
                .answers(200, "Newest first", Schema::page(version())),
            Operation::get(
                "/api/v1/policies/{name}/versions/{version}",
                "The document of a version",
            )
            .who(AUDITORS)
            .answers(200, "Its exact bytes", document()),
            Operation::get(
                "/api/v1/policies/{name}/diff",
                "What changed between two versions",
            )
            .who(AUDITORS)
            .needed_query("from", "A version's number", Schema::text())
            .needed_query("to", "Another's", Schema::text())
            .answers_bytes(200, "A unified diff", "text/plain"),
            Operation::post(
                "/api/v1/policies/{name}/what-would-change",
                "Try a document on past requests",
            )
            .who(AUDITORS)
            .about("Nothing of it is stored.")
            .raw_body(document())
            .answers(
                200,
                "The requests that it would judge otherwise",
                Schema::object(&[
                    ("looked_at", Schema::count()),
                    ("older_left_out", Schema::boolean()),
                    ("differences", Schema::count()),
                    ("items", Schema::list(Schema::free())),
                ]),
            )
            .refuses(&[422]),
            Operation::post("/api/v1/policies/validate", "Check a document")
                .who(AUDITORS)
                .raw_body(document())
                .answers(
                    200,
                    "It is valid; warnings, with lines",
                    Schema::object(&[
                        ("valid", Schema::boolean()),
                        ("warnings", Schema::list(Schema::free())),
                    ]),
                )
                .refuses(&[422]),
            Operation::post("/api/v1/policies/simulate", "Ask what a policy makes of a change")
                .who(AUDITORS)
                .body(Schema::body(&[
                    ("policy?", document().or_null()),
                    (
                        "name?",
                        Schema::text()
                            .or_null()
                            .about("A policy in force, instead of a document"),
                    ),
                    ("change", Schema::free()),
                ]))
                .answers(
                    200,
                    "The same answer as at the gate",
                    Schema::object(&[
                        (
                            "outcome",
                            Schema::one_of(&["not_gated", "skip", "require", "block"]),
                        ),
                        ("obligations", Schema::list(Schema::free())),
                    ]),
                )
                .refuses(&[404, 422]),
        ],
    }
}

pub(super) fn governance() -> Area {
    Area {
        name: "Changes by several admins",
        about: "Where a policy asks for it, a change to the rules waits until further admins have confirmed it, each with a passkey.",
        operations: vec![
            Operation::get("/api/v1/proposals", "List the proposals")
                .who(AUDITORS)
                .answers(200, "Newest first", Schema::page(Schema::named("Proposal"))),
            Operation::get("/api/v1/proposals/{id}", "Look at a proposal")
                .who(AUDITORS)
                .answers(200, "The proposal", Schema::named("Proposal")),
            Operation::delete("/api/v1/proposals/{id}", "Withdraw a proposal")
                .who(ADMINS)
                .reason()
                .answers_nothing("It is withdrawn")
                .refuses(&[409, 422]),
            Operation::post(
                "/api/v1/proposals/{id}/confirmation/options",
                "Start a confirmation",
            )
            .who(Who::People("Another admin than the proposer"))
            .body(Schema::body(&[]))
            .answers(200, "What the passkey signs", ceremony())
            .refuses(&[409, 422]),
            Operation::post("/api/v1/proposals/{id}/confirmation", "Confirm a proposal")
                .who(Who::People("The admin whose ceremony it is"))
                .body(Schema::body(&[
                    ("ceremony", Schema::text()),
                    ("credential", webauthn()),
                ]))
                .answers(200, "The proposal", Schema::named("Proposal"))
                .refuses(&[409, 422]),
        ],
    }
}
