//! Connected forges and the projects that are gated on them.

use crate::web::openapi::administration::{ADMINS, AUDITORS};
use crate::web::openapi::schema::{Schema, enforcement, id, methods, waits};
use crate::web::openapi::{Area, Operation};
use serde_json::json;

/// Where the webhook is to be.
fn hook_scope() -> Schema {
    Schema::one_of(&["project", "system"])
}

fn project_body() -> Schema {
    Schema::body(&[
        (
            "project_id?",
            Schema::any()
                .about("The project's number on the forge; on Bitbucket Cloud the repository's UUID"),
        ),
        (
            "owner?",
            Schema::text().or_null().about("GitHub, with `repository`"),
        ),
        (
            "workspace?",
            Schema::text()
                .or_null()
                .about("Bitbucket Cloud, with `repository`"),
        ),
        (
            "project_key?",
            Schema::text()
                .or_null()
                .about("Bitbucket Data Center, with `repository`"),
        ),
        (
            "repository?",
            Schema::text()
                .or_null()
                .about("The repository's name, with `owner`, `workspace` or `project_key`"),
        ),
        (
            "branch_patterns",
            Schema::list_of(1, 100, Schema::short(255)).about("Gated branches; `*` crosses `/`"),
        ),
        ("required_approval_count?", Schema::integer(1, 100).or_null()),
        (
            "quorum?",
            Schema::integer(1, 100)
                .or_null()
                .about("Another name of `required_approval_count`"),
        ),
        (
            "auto_merge?",
            Schema::boolean()
                .or_null()
                .about("Merge exactly the approved commit"),
        ),
        ("policy?", Schema::text().or_null()),
        ("approvers?", Schema::list(Schema::text())),
        ("methods?", methods().or_null()),
        ("enforcement?", enforcement().or_null()),
        (
            "bind_base?",
            Schema::one_of(&["merge_base", "target_sha", "none"]),
        ),
        ("unattributed?", Schema::one_of(&["one_more", "block"])),
        ("control_files?", Schema::list(Schema::text())),
        (
            "environments?",
            Schema::list_of(0, 50, Schema::text()).about("Environments whose deployments wait"),
        ),
        ("reason?", Schema::text().about("Why, for the journal")),
    ])
    .examples(json!({ "project_id": 12345, "branch_patterns": ["main"], "required_approval_count": 1 }))
}

pub(super) fn integrations() -> Area {
    let integration = || {
        Schema::object(&[
            ("id", id("int_")),
            ("kind", Schema::text()),
            ("name", Schema::text()),
            ("base_url", Schema::text()),
            ("ca_pem", Schema::boolean()),
            ("account", Schema::free().or_null()),
            ("webhook_url", Schema::text()),
            ("created_at", Schema::time()),
        ])
    };
    let steps = || {
        Schema::object(&[
            ("complete", Schema::boolean()),
            ("steps", Schema::list(Schema::free())),
            ("gate", Schema::named("Gate")),
        ])
    };
    let trial = || Schema::free().or_null();
    Area {
        name: "Integrations",
        about: "Forges that are connected, the projects gated there, and how strong each gate really is.",
        operations: vec![
            Operation::get("/api/v1/integrations", "List the integrations")
                .who(AUDITORS)
                .answers(200, "All of them", Schema::page(integration())),
            Operation::post("/api/v1/integrations", "Connect a forge")
                .who(ADMINS)
                .reason()
                .about("The forge is asked who the token is before anything is stored.")
                .body(Schema::body(&[
                    (
                        "kind",
                        Schema::one_of(&["gitlab", "github", "bitbucket", "bitbucket_dc"]),
                    ),
                    ("name", Schema::short(200)),
                    (
                        "base_url?",
                        Schema::text().or_null().about(
                            "By default https://github.com and, for Bitbucket Cloud, https://api.bitbucket.org",
                        ),
                    ),
                    ("ca_pem?", Schema::text().or_null()),
                    (
                        "token?",
                        Schema::text().or_null().about("GitLab and both Bitbuckets"),
                    ),
                    (
                        "email?",
                        Schema::text()
                            .or_null()
                            .about("Bitbucket Cloud: whose API token it is; left out for an access token"),
                    ),
                    ("app_id?", Schema::any().about("GitHub: the App's number")),
                    (
                        "private_key?",
                        Schema::text().or_null().about("GitHub: the App's key in PEM"),
                    ),
                    (
                        "webhook_secret?",
                        Schema::text()
                            .or_null()
                            .about("Not for GitLab; without it one is made"),
                    ),
                    (
                        "client_id?",
                        Schema::text()
                            .or_null()
                            .about("Bitbucket Cloud: an OAuth consumer's key"),
                    ),
                    (
                        "client_secret?",
                        Schema::text()
                            .or_null()
                            .about("Bitbucket Cloud: an OAuth consumer's secret"),
                    ),
                    ("installation_id?", Schema::any()),
                ]))
                .answers(
                    201,
                    "The integration, and the webhook's secret, shown once",
                    integration(),
                )
                .refuses(&[409, 422]),
            Operation::post("/api/v1/integrations/github/apps", "Take over a GitHub App")
                .who(ADMINS)
                .reason()
                .about("The code and state that GitHub's page came back with; only for the admin who began.")
                .body(Schema::body(&[
                    ("code", Schema::text()),
                    ("state", Schema::text()),
                ]))
                .answers(
                    201,
                    "The integration, and where to install the App",
                    integration(),
                )
                .refuses(&[409, 422]),
            Operation::get("/api/v1/integrations/{id}", "Look at an integration")
                .who(AUDITORS)
                .answers(200, "The integration", integration()),
            Operation::delete("/api/v1/integrations/{id}", "Remove an integration")
                .who(ADMINS)
                .reason()
                .about("Its projects are gated no more.")
                .answers_nothing("It is gone")
                .refuses(&[409, 422]),
            Operation::get("/api/v1/integrations/{id}/projects", "List its projects")
                .who(AUDITORS)
                .answers(200, "All of them", Schema::page(Schema::named("Project"))),
            Operation::post("/api/v1/integrations/{id}/projects", "Gate a project")
                .who(ADMINS)
                .reason()
                .body(project_body())
                .answers(201, "The project", Schema::named("Project"))
                .answers(202, "It waits for further admins", waits())
                .refuses(&[409, 422]),
            Operation::get("/api/v1/integrations/{id}/projects/{pid}", "Look at a project")
                .who(AUDITORS)
                .answers(200, "The project", Schema::named("Project")),
            Operation::put("/api/v1/integrations/{id}/projects/{pid}", "Change a project")
                .who(ADMINS)
                .reason()
                .body(project_body())
                .answers(200, "The project", Schema::named("Project"))
                .answers(202, "It waits for further admins", waits())
                .refuses(&[409, 422]),
            Operation::delete(
                "/api/v1/integrations/{id}/projects/{pid}",
                "Gate a project no more",
            )
            .who(ADMINS)
            .reason()
            .answers_nothing("It is gated no more")
            .answers(202, "It waits for further admins", waits())
            .refuses(&[409, 422]),
            Operation::put(
                "/api/v1/integrations/{id}/projects/{pid}/retention",
                "Say how long documents are kept",
            )
            .who(ADMINS)
            .reason()
            .about("All else stays as it is.")
            .body(Schema::body(&[
                (
                    "days",
                    Schema::count().about("0 to 36500; 400 where nothing is said"),
                ),
                ("reason?", Schema::at_most(500).about("Why, for the journal")),
            ]))
            .answers(
                200,
                "The days",
                Schema::object(&[("project", id("prj_")), ("days", Schema::count())]),
            )
            .answers(202, "It waits for further admins", waits())
            .refuses(&[409, 422]),
            Operation::post(
                "/api/v1/integrations/{id}/projects/{pid}/check",
                "Look at the gate now",
            )
            .who(ADMINS)
            .answers(200, "The project", Schema::named("Project"))
            .refuses(&[409, 422]),
            Operation::get(
                "/api/v1/integrations/{id}/projects/{pid}/provisioning",
                "Plan to set the gate up",
            )
            .who(ADMINS)
            .about("Reads the forge and changes nothing.")
            .query("enforcement", "By default the project's own", enforcement())
            .query(
                "hook",
                "Where the webhook is to be; by default at the project",
                hook_scope(),
            )
            .answers(
                200,
                "The plan",
                Schema::object(&[("plan", Schema::text()), ("steps", Schema::list(Schema::free()))]),
            )
            .refuses(&[409, 422, 503]),
            Operation::post(
                "/api/v1/integrations/{id}/projects/{pid}/provisioning",
                "Carry the plan out",
            )
            .who(ADMINS)
            .reason()
            .body(Schema::body(&[
                ("enforcement", Schema::text()),
                ("hook?", hook_scope()),
                (
                    "plan",
                    Schema::text().about("Digest of the plan that was looked at"),
                ),
                ("reason", Schema::text()),
            ]))
            .answers(200, "How each step went", steps())
            .refuses(&[409, 422]),
            Operation::post(
                "/api/v1/integrations/{id}/projects/{pid}/provisioning/undo",
                "Put it back",
            )
            .who(ADMINS)
            .reason()
            .body(Schema::body(&[("reason", Schema::text())]))
            .answers(200, "How each step went", steps())
            .refuses(&[409, 422]),
            Operation::get(
                "/api/v1/integrations/{id}/projects/{pid}/trial",
                "The newest trial of the gate",
            )
            .who(AUDITORS)
            .answers(200, "It, or null", Schema::object(&[("trial", trial())])),
            Operation::post(
                "/api/v1/integrations/{id}/projects/{pid}/trial",
                "Try the gate out",
            )
            .who(ADMINS)
            .reason()
            .body(Schema::body(&[
                ("other_token?", Schema::text().or_null()),
                ("branch?", Schema::text().or_null()),
            ]))
            .answers(
                200,
                "How it went, after two to three minutes at the most",
                Schema::object(&[("trial", trial()), ("gate", Schema::named("Gate"))]),
            )
            .refuses(&[409, 422]),
        ],
    }
}
