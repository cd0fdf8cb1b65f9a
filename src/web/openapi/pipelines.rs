//! What pipelines call, and the proofs.

use crate::web::openapi::schema::{Schema, id, kinds, sha256, statuses};
use crate::web::openapi::{Area, Operation, Who};
use serde_json::json;

const SEES: Who = Who::Both("Whoever may see the request");
const CHANGES: Who = Who::Both("The key or person that asked, and admins");

pub(super) fn requests() -> Area {
    let digest = Schema::object(&[
        (
            "gitCommit?",
            Schema::matching("^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$"),
        ),
        ("sha256?", Schema::matching("^[0-9a-fA-F]{64}$")),
    ])
    .about("Exactly one of both: what is approved");
    let body = Schema::body(&[
        ("action", Schema::short(2_000).about("Shown to the approver, who signs it")),
        (
            "ttl_seconds?",
            Schema::integer(1, 86_400).or_null().about("How long it may wait; a policy may shorten it. By default 600"),
        ),
        ("environment?", Schema::short(255).or_null().about("Makes it a deployment, which rules may match")),
        ("project?", Schema::short(255).or_null().about("A key of one project need not name it")),
        (
            "subject?",
            Schema::body(&[("name?", Schema::short(255).or_null()), ("digest", digest)]).or_null(),
        ),
        (
            "metadata?",
            Schema::free()
                .or_null()
                .about("Shown as claimed by the requester; `commit`, a full id, becomes the digest where `subject` is absent"),
        ),
        (
            "callback_url?",
            Schema::text().or_null().about("Called once it has its outcome, signed as Standard Webhooks"),
        ),
    ])
    .examples(json!({
        "action": "Deploy pay/api to production", "ttl_seconds": 600, "environment": "production",
        "metadata": { "commit": "0123456789abcdef0123456789abcdef01234567", "actor": "alex" },
    }));
    Area {
        name: "Requests",
        about: "A pipeline asks, people decide, the pipeline waits and uses the approval once.",
        operations: vec![
            Operation::post("/api/v1/approvals/request", "Open a request")
                .who(Who::Keys("Keys with the scope request or admin"))
                .about("The answer is compact and has no word of the caller's in it, since shells split and expand it.")
                .header(
                    "Idempotency-Key",
                    "The same key with the same body gives the same request; with another body it is refused",
                    Schema::short(255),
                )
                .body(body)
                .answers(201, "The request. `skipped` where the rules ask for nobody", Schema::named("Opened"))
                .refuses(&[404, 409, 422]),
            Operation::get("/api/v1/approvals", "List requests, newest first")
                .who(Who::Both("Whoever may see requests: those the caller may see"))
                .about("All filters given have to hold. What one answer may cost is limited: a page can have fewer items than \
                        asked for, even none, and a `next` to go on with.")
                .query(
                    "q",
                    "Words, all of which have to lead to it, each by its beginning: of the title, branches, project, environment, \
                     requester, the id or a commit; `!142` and `group/app!142` are the number of a change",
                    Schema::text(),
                )
                .query("status", "Only these", statuses())
                .query("kind", "Only these", kinds())
                .query("project", "Only those of this project, by its path or name", Schema::text())
                .query("environment", "Only those with this environment", Schema::text())
                .query("requester", "Only those that this one asked for: a person’s or key’s id, or words of the name", Schema::text())
                .query("decided_by", "Only those that this person has decided", Schema::text())
                .query("policy", "Only those judged by this policy", Schema::text())
                .query("rule", "Only those to which this rule of a policy applies", Schema::text())
                .query("since", "Only those opened on this day (UTC) or at this time, or later", Schema::text())
                .query("until", "Only those opened by the end of this day (UTC), or before this time", Schema::text())
                .paging()
                .answers(200, "A page", Schema::page(Schema::named("Request"))),
            Operation::get("/api/v1/approvals/{id}", "Look at a request, or wait for it")
                .who(SEES)
                .query(
                    "wait",
                    "Answer when the status or a decision changes, or after so many seconds, 60 at the most",
                    Schema::count(),
                )
                .answers(200, "The request", Schema::named("Request")),
            Operation::get("/api/v1/approvals/{id}/trace", "Why it is judged as it is")
                .who(SEES)
                .answers(200, "Path, rules, obligation, and which decision counted", Schema::free()),
            Operation::post("/api/v1/approvals/{id}/cancel", "Cancel a request")
                .who(CHANGES)
                .answers(200, "The request", Schema::named("Request"))
                .refuses(&[409]),
            Operation::post("/api/v1/approvals/{id}/consume", "Use an approval, once")
                .who(CHANGES)
                .about("A deployment's approval is good for one deployment.")
                .header(
                    "Idempotency-Key",
                    "Makes a repetition of the same use safe",
                    Schema::short(255),
                )
                .answers(200, "The request", Schema::named("Request"))
                .refuses(&[400, 409]),
            Operation::post("/api/v1/approvals/{id}/ask-again", "Ask for a waiting deployment again")
                .who(Who::Both("Approvers and admins"))
                .answers(202, "It will be asked for again", Schema::object(&[("status", Schema::text())]))
                .refuses(&[409]),
        ],
    }
}

pub(super) fn proofs() -> Area {
    Area {
        name: "Proofs",
        about: "The exact bytes that were signed or hashed. Whoever holds them needs nothing of this server to check them.",
        operations: vec![
            Operation::get(
                "/api/v1/approvals/{id}/credentials",
                "The credentials of a request",
            )
            .who(SEES)
            .answers(
                200,
                "One for each decision",
                Schema::list(Schema::object(&[
                    ("id", Schema::matching("^crd_[0-9a-f]{64}$")),
                    ("decision", Schema::one_of(&["approve", "reject"])),
                    (
                        "approver",
                        Schema::object(&[("id", id("per_")), ("name", Schema::text())]),
                    ),
                    ("method", Schema::one_of(&["passkey", "biometric", "totp"])),
                    ("grade", Schema::one_of(&["approver-signed", "server-attested"])),
                    ("decided_at", Schema::time()),
                ])),
            ),
            Operation::get("/api/v1/approvals/{id}/outcome", "The outcome statement")
                .who(SEES)
                .about("404 while the request waits.")
                .answers_bytes(200, "A DSSE file", "application/vnd.dsse.envelope.v1+json"),
            Operation::get("/api/v1/credentials/{crd}", "A credential")
                .who(SEES)
                .answers_bytes(
                    200,
                    "A DSSE file; its SHA-256 is in its id",
                    "application/vnd.dsse.envelope.v1+json",
                ),
            Operation::get(
                "/api/v1/credentials/{crd}/event",
                "The journal entry of a decision",
            )
            .who(SEES)
            .answers(200, "The leaf's exact bytes", Schema::named("Entry")),
            Operation::get(
                "/api/v1/credentials/{crd}/proof",
                "The proof that the log holds the entry",
            )
            .who(SEES)
            .answers_bytes(200, "A C2SP tlog-proof with the newest checkpoint", "text/plain"),
            Operation::get(
                "/api/v1/credentials/{crd}/bundle.sigstore.json",
                "The credential as a Sigstore bundle",
            )
            .who(SEES)
            .answers_bytes(
                200,
                "A bundle, v0.3",
                "application/vnd.dev.sigstore.bundle.v0.3+json",
            ),
            Operation::post("/api/v1/verify", "Verify a DSSE file")
                .about("It trusts this server's own credential key only. What does not verify is a 200 too.")
                .raw_body(Schema::any())
                .answers(
                    200,
                    "Every check with its result",
                    Schema::object(&[
                        ("valid", Schema::boolean()),
                        (
                            "checks",
                            Schema::list(Schema::object(&[
                                ("name", Schema::text()),
                                ("ok", Schema::boolean()),
                                ("detail", Schema::text()),
                            ])),
                        ),
                        ("not_shown", Schema::list(Schema::text())),
                        ("verdict", Schema::text().or_null()),
                    ]),
                ),
            Operation::get("/api/v1/openapi.json", "This description").answers(
                200,
                "OpenAPI 3.1",
                Schema::free(),
            ),
            Operation::get("/api/v1/cli", "The programs that this server hands out")
                .about(
                    "For runners: the same static program that serves here, with `gate` and `verify` in it.",
                )
                .answers(
                    200,
                    "Where they are, and their checksums",
                    Schema::page(Schema::object(&[
                        ("name", Schema::text()),
                        ("version", Schema::text()),
                        ("os", Schema::text()),
                        ("architecture", Schema::text()),
                        ("size", Schema::count()),
                        ("sha256", sha256()),
                        ("url", Schema::text()),
                    ])),
                ),
            Operation::get("/api/v1/cli/{name}", "One of these programs").answers_bytes(
                200,
                "The program",
                "application/octet-stream",
            ),
            Operation::get("/api/v1/cli/{name}/sha256", "Its checksum").answers_bytes(
                200,
                "One line, as `sha256sum -c` reads it",
                "text/plain",
            ),
        ],
    }
}
