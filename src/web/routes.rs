//! Every route, in one list.

use crate::web::api::{
    api_keys, approvals, credentials, decisions, enrolment, health, hooks, integrations, journal, local, me,
    people, policies, session, well_known,
};
use crate::web::pages;
use crate::web::problem::{Problem, nothing_here};
use crate::web::{assets, problem};
use actix_web::guard::{Any, Get, Head};
use actix_web::web::{ServiceConfig, delete, patch, post, put, redirect, resource, route, to};
use actix_web::{ResponseError, Route};

/// What the public listener answers.
pub fn public(config: &mut ServiceConfig) {
    for (path, routes) in table() {
        let mut it = resource(path);
        for route in routes {
            it = it.route(route);
        }
        config.service(it.default_service(to(wrong_method)));
    }
    config.service(redirect("/a", "/a/"));
    config.default_service(to(nothing_here));
}

/// GET, and HEAD with the same headers: monitors and link checkers ask that way.
fn get() -> Route {
    route().guard(Any(Get()).or(Head()))
}

fn table() -> Vec<(&'static str, Vec<Route>)> {
    vec![
        ("/healthz", vec![get().to(health::get_health)]),
        ("/readyz", vec![get().to(health::get_readiness)]),
        // Pipelines
        (
            "/api/v1/approvals/request",
            vec![post().to(approvals::request_approval)],
        ),
        ("/api/v1/approvals", vec![get().to(approvals::list_approvals)]),
        ("/api/v1/approvals/{id}", vec![get().to(approvals::get_approval)]),
        (
            "/api/v1/approvals/{id}/cancel",
            vec![post().to(approvals::cancel_approval)],
        ),
        (
            "/api/v1/approvals/{id}/consume",
            vec![post().to(approvals::consume_approval)],
        ),
        // Proofs
        (
            "/api/v1/approvals/{id}/credentials",
            vec![get().to(credentials::list_credentials)],
        ),
        (
            "/api/v1/approvals/{id}/outcome",
            vec![get().to(credentials::get_outcome)],
        ),
        (
            "/api/v1/credentials/{crd}",
            vec![get().to(credentials::get_credential)],
        ),
        (
            "/api/v1/credentials/{crd}/event",
            vec![get().to(credentials::get_credential_event)],
        ),
        (
            "/api/v1/credentials/{crd}/proof",
            vec![get().to(credentials::get_credential_proof)],
        ),
        (
            "/api/v1/credentials/{crd}/bundle.sigstore.json",
            vec![get().to(credentials::get_credential_sigstore)],
        ),
        ("/api/v1/verify", vec![post().to(credentials::verify_envelope)]),
        (
            "/.well-known/signedapproval/credential.pem",
            vec![get().to(well_known::get_credential_key)],
        ),
        (
            "/.well-known/signedapproval/keys.json",
            vec![get().to(well_known::get_keys)],
        ),
        (
            "/.well-known/signedapproval/jwks.json",
            vec![get().to(well_known::get_jwks)],
        ),
        (
            "/.well-known/signedapproval/log.vkey",
            vec![get().to(well_known::get_log_key)],
        ),
        (
            "/.well-known/signedapproval/checkpoint",
            vec![get().to(well_known::get_checkpoint)],
        ),
        // People and their phones
        (
            "/api/v1/enrolment/options",
            vec![post().to(enrolment::start_enrolment)],
        ),
        ("/api/v1/enrolment", vec![post().to(enrolment::enrol)]),
        ("/api/v1/session/options", vec![post().to(session::start_session)]),
        (
            "/api/v1/session",
            vec![
                post().to(session::open_session),
                delete().to(session::close_session),
            ],
        ),
        ("/api/v1/me", vec![get().to(me::get_me)]),
        ("/api/v1/me/test-request", vec![post().to(me::send_test_request)]),
        (
            "/api/v1/me/passkeys",
            vec![get().to(me::list_passkeys), post().to(me::add_passkey)],
        ),
        ("/api/v1/me/passkeys/options", vec![post().to(me::start_passkey)]),
        ("/api/v1/me/passkeys/{id}", vec![delete().to(me::remove_passkey)]),
        ("/api/v1/inbox", vec![get().to(me::list_inbox)]),
        ("/api/v1/inbox/events", vec![get().to(me::follow_inbox)]),
        (
            "/api/v1/approvals/{id}/decision/options",
            vec![post().to(decisions::start_decision)],
        ),
        (
            "/api/v1/approvals/{id}/decision",
            vec![post().to(decisions::give_decision)],
        ),
        // Administration
        (
            "/api/v1/people",
            vec![get().to(people::list_people), post().to(people::add_person)],
        ),
        (
            "/api/v1/people/{id}",
            vec![get().to(people::get_person), patch().to(people::change_person)],
        ),
        (
            "/api/v1/people/{id}/invitations",
            vec![post().to(people::invite_again)],
        ),
        (
            "/api/v1/people/{id}/accounts",
            vec![post().to(people::link_account)],
        ),
        (
            "/api/v1/groups",
            vec![get().to(people::list_groups), post().to(people::add_group)],
        ),
        (
            "/api/v1/groups/{id}",
            vec![put().to(people::change_group), delete().to(people::remove_group)],
        ),
        (
            "/api/v1/api-keys",
            vec![
                get().to(api_keys::list_api_keys),
                post().to(api_keys::create_api_key),
            ],
        ),
        (
            "/api/v1/api-keys/{id}",
            vec![delete().to(api_keys::revoke_api_key)],
        ),
        (
            "/api/v1/integrations",
            vec![
                get().to(integrations::list_integrations),
                post().to(integrations::add_integration),
            ],
        ),
        (
            "/api/v1/integrations/{id}",
            vec![
                get().to(integrations::get_integration),
                delete().to(integrations::remove_integration),
            ],
        ),
        (
            "/api/v1/integrations/{id}/projects",
            vec![
                get().to(integrations::list_projects),
                post().to(integrations::add_project),
            ],
        ),
        (
            "/api/v1/integrations/{id}/projects/{pid}",
            vec![
                get().to(integrations::get_project),
                put().to(integrations::change_project),
                delete().to(integrations::remove_project),
            ],
        ),
        ("/api/v1/policies", vec![get().to(policies::list_policies)]),
        (
            "/api/v1/policies/validate",
            vec![post().to(policies::validate_policy)],
        ),
        (
            "/api/v1/policies/{name}",
            vec![get().to(policies::get_policy), put().to(policies::put_policy)],
        ),
        ("/api/v1/journal", vec![get().to(journal::list_journal)]),
        ("/api/v1/exceptions", vec![get().to(journal::list_exceptions)]),
        (
            "/hooks/{kind}/{integration}",
            vec![post().to(hooks::receive_hook)],
        ),
        // Pages
        ("/", vec![get().to(pages::go_home)]),
        ("/setup", vec![get().to(pages::show_setup)]),
        ("/enrol", vec![get().to(pages::show_enrolment)]),
        ("/login", vec![get().to(pages::show_login)]),
        ("/a/", vec![get().to(pages::show_queue)]),
        ("/a/history", vec![get().to(pages::show_history)]),
        ("/a/{id}", vec![get().to(pages::show_request)]),
        ("/dashboard", vec![get().to(pages::show_overview)]),
        ("/dashboard/requests", vec![get().to(pages::show_requests)]),
        (
            "/dashboard/integrations",
            vec![get().to(pages::show_integrations)],
        ),
        (
            "/dashboard/integrations/gitlab",
            vec![get().to(pages::show_gitlab)],
        ),
        ("/dashboard/people", vec![get().to(pages::show_people)]),
        ("/dashboard/api-keys", vec![get().to(pages::show_api_keys)]),
        ("/dashboard/audit", vec![get().to(pages::show_audit)]),
        ("/help", vec![get().to(pages::show_help)]),
        ("/problems/{type}", vec![get().to(pages::show_problem)]),
        ("/static/{file}", vec![get().to(assets::serve_asset)]),
        ("/manifest.webmanifest", vec![get().to(assets::serve_manifest)]),
        ("/favicon.ico", vec![get().to(assets::serve_favicon)]),
    ]
}

/// What the Unix socket answers.
pub fn on_the_host(config: &mut ServiceConfig) {
    config
        .route("/local/people", get().to(local::list_people_locally))
        .route("/local/people", post().to(local::invite_locally))
        .route("/local/api-keys", post().to(local::create_api_key_locally))
        .route("/readyz", get().to(health::get_readiness))
        .route("/local/keys", get().to(local::show_keys_locally))
        .default_service(to(nothing_here));
}

async fn wrong_method() -> actix_web::HttpResponse {
    Problem::wrong_method().error_response()
}

/// Parameters and queries that do not parse are problems too.
pub fn parsing(config: &mut ServiceConfig) {
    config
        .app_data(actix_web::web::PathConfig::default().error_handler(|_, _| Problem::not_found().into()))
        .app_data(actix_web::web::QueryConfig::default().error_handler(|e, _| {
            problem::Problem::bad_request(format!("The query can't be read: {e}.")).into()
        }));
}
