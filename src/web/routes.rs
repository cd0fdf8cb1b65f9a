//! Every route, in one list.

use crate::web::api::{
    accounts, api_keys, approvals, attention, audit, backups, confirmations, credentials, decisions,
    delegations, description, devices, enrolment, exceptions, github_apps, governance, health, hooks,
    integrations, journal, keys, local, log, me, notifications, people, policies, policy_versions, programs,
    provisioning, retention, server, session, sinks, totp, trials, well_known,
};
use crate::web::metrics;
use crate::web::pages;
use crate::web::problem::{Problem, nothing_here};
use crate::web::{assets, problem, support};
use actix_web::guard::{Any, Get, Head};
use actix_web::web::{ServiceConfig, redirect, resource, route, to};
use actix_web::{FromRequest, Handler, Responder, ResponseError, Route, web};

/// What the public listener answers.
pub fn public(config: &mut ServiceConfig) {
    for (path, methods) in table() {
        let allow = methods
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ");
        let mut it = resource(path);
        for (_, route) in methods {
            it = it.route(route);
        }
        config.service(it.default_service(to(move || {
            let refusal = Problem::wrong_method(&allow).error_response();
            async move { refusal }
        })));
    }
    config.service(redirect("/a", "/a/"));
    // What these showed is among the settings by now.
    config.service(redirect("/dashboard/server", "/dashboard/settings/general"));
    config.service(redirect("/dashboard/backups", "/dashboard/settings/backup"));
    config.default_service(to(nothing_here));
}

/// What the listener for monitors answers.
pub fn for_monitors(config: &mut ServiceConfig) {
    config
        .route("/metrics", web::get().to(metrics::get_metrics))
        .route("/healthz", web::get().to(health::get_health))
        .route("/readyz", web::get().to(health::get_readiness))
        .default_service(to(nothing_here));
}

/// The same while the appliance waits for somebody.
pub fn for_monitors_while_waiting(config: &mut ServiceConfig) {
    config
        .route("/metrics", web::get().to(metrics::get_waiting_metrics))
        .route("/healthz", web::get().to(health::get_health))
        .route("/readyz", web::get().to(metrics::get_waiting_readiness))
        .default_service(to(nothing_here));
}

/// A method's name for `Allow`, and its route.
type Method = (&'static str, Route);

/// GET, and HEAD with the same headers: monitors and link checkers ask that way.
fn get<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("GET, HEAD", route().guard(Any(Get()).or(Head())).to(handler))
}

fn post<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("POST", web::post().to(handler))
}

fn put<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("PUT", web::put().to(handler))
}

fn patch<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("PATCH", web::patch().to(handler))
}

fn delete<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("DELETE", web::delete().to(handler))
}

/// Every path with the names of its methods, for the test of the API's description.
#[cfg(test)]
pub fn listed() -> Vec<(&'static str, Vec<&'static str>)> {
    table()
        .into_iter()
        .map(|(path, methods)| (path, methods.iter().map(|(name, _)| *name).collect()))
        .collect()
}

fn table() -> Vec<(&'static str, Vec<Method>)> {
    vec![
        ("/healthz", vec![get(health::get_health)]),
        ("/readyz", vec![get(health::get_readiness)]),
        // Pipelines
        (
            "/api/v1/approvals/request",
            vec![post(approvals::request_approval)],
        ),
        ("/api/v1/approvals", vec![get(approvals::list_approvals)]),
        ("/api/v1/approvals/{id}", vec![get(approvals::get_approval)]),
        ("/api/v1/approvals/{id}/trace", vec![get(approvals::get_trace)]),
        (
            "/api/v1/approvals/{id}/cancel",
            vec![post(approvals::cancel_approval)],
        ),
        (
            "/api/v1/approvals/{id}/consume",
            vec![post(approvals::consume_approval)],
        ),
        (
            "/api/v1/approvals/{id}/ask-again",
            vec![post(approvals::ask_again)],
        ),
        ("/api/v1/approvals/{id}/seen", vec![post(attention::see_request)]),
        (
            "/api/v1/approvals/{id}/not-me",
            vec![post(attention::report_request)],
        ),
        // The server itself
        ("/api/v1/settings", vec![get(server::list_settings)]),
        ("/api/v1/conditions", vec![get(server::list_conditions)]),
        ("/api/v1/openapi.json", vec![get(description::get_openapi)]),
        ("/api/v1/cli", vec![get(programs::list_programs)]),
        ("/api/v1/cli/{name}", vec![get(programs::get_program)]),
        ("/api/v1/cli/{name}/sha256", vec![get(programs::get_checksum)]),
        // Proofs
        (
            "/api/v1/approvals/{id}/credentials",
            vec![get(credentials::list_credentials)],
        ),
        (
            "/api/v1/approvals/{id}/outcome",
            vec![get(credentials::get_outcome)],
        ),
        (
            "/api/v1/credentials/{crd}",
            vec![get(credentials::get_credential)],
        ),
        (
            "/api/v1/credentials/{crd}/event",
            vec![get(credentials::get_credential_event)],
        ),
        (
            "/api/v1/credentials/{crd}/proof",
            vec![get(credentials::get_credential_proof)],
        ),
        (
            "/api/v1/credentials/{crd}/bundle.sigstore.json",
            vec![get(credentials::get_credential_sigstore)],
        ),
        ("/api/v1/verify", vec![post(credentials::verify_envelope)]),
        (
            "/.well-known/signedapproval/credential.pem",
            vec![get(well_known::get_credential_key)],
        ),
        (
            "/.well-known/signedapproval/keys.json",
            vec![get(well_known::get_keys)],
        ),
        (
            "/.well-known/signedapproval/jwks.json",
            vec![get(well_known::get_jwks)],
        ),
        (
            "/.well-known/signedapproval/log.vkey",
            vec![get(well_known::get_log_key)],
        ),
        (
            "/.well-known/signedapproval/introductions/{sha256}",
            vec![get(well_known::get_introduction)],
        ),
        (
            "/.well-known/signedapproval/checkpoint",
            vec![get(well_known::get_checkpoint)],
        ),
        // People and their phones
        (
            "/api/v1/enrolment/options",
            vec![post(enrolment::start_enrolment)],
        ),
        ("/api/v1/enrolment", vec![post(enrolment::enrol)]),
        ("/api/v1/session/options", vec![post(session::start_session)]),
        (
            "/api/v1/session",
            vec![post(session::open_session), delete(session::close_session)],
        ),
        ("/api/v1/me", vec![get(me::get_me)]),
        ("/api/v1/me/test-request", vec![post(me::send_test_request)]),
        (
            "/api/v1/me/passkeys",
            vec![get(me::list_passkeys), post(me::add_passkey)],
        ),
        ("/api/v1/me/passkeys/options", vec![post(me::start_passkey)]),
        (
            "/api/v1/me/passkeys/{id}",
            vec![patch(me::name_passkey), delete(me::remove_passkey)],
        ),
        (
            "/api/v1/me/totp",
            vec![
                get(totp::get_totp),
                post(totp::set_up_totp),
                delete(totp::remove_totp),
            ],
        ),
        ("/api/v1/me/totp/options", vec![post(totp::start_totp)]),
        ("/api/v1/me/totp/confirm", vec![post(totp::confirm_totp)]),
        (
            "/api/v1/me/accounts",
            vec![get(accounts::list_accounts), post(accounts::prove_account)],
        ),
        ("/api/v1/me/accounts/claim", vec![post(accounts::claim_account)]),
        (
            "/api/v1/me/confirmations/options",
            vec![post(confirmations::start_confirming)],
        ),
        (
            "/api/v1/me/confirmations",
            vec![post(confirmations::confirm_call)],
        ),
        ("/api/v1/keys/rotate", vec![post(keys::rotate_key)]),
        ("/api/v1/keys/revoke", vec![post(keys::revoke_key)]),
        ("/api/v1/me/sessions", vec![get(me::list_sessions)]),
        ("/api/v1/me/sessions/{id}", vec![delete(me::end_session)]),
        (
            "/api/v1/me/devices",
            vec![get(devices::list_devices), post(devices::add_device)],
        ),
        ("/api/v1/me/devices/test", vec![post(devices::test_devices)]),
        ("/api/v1/me/devices/{id}", vec![delete(devices::remove_device)]),
        (
            "/api/v1/me/devices/{id}/confirm",
            vec![post(devices::confirm_device)],
        ),
        (
            "/api/v1/me/notifications",
            vec![get(devices::get_preferences), put(devices::put_preferences)],
        ),
        ("/api/v1/push-key", vec![get(devices::get_push_key)]),
        (
            "/api/v1/approvals/{id}/notices",
            vec![get(notifications::list_notices)],
        ),
        (
            "/api/v1/settings/notifications",
            vec![
                get(notifications::get_notification_settings),
                put(notifications::put_notification_settings),
            ],
        ),
        (
            "/api/v1/chats",
            vec![get(notifications::list_chats), post(notifications::add_chat)],
        ),
        ("/api/v1/chats/{id}", vec![delete(notifications::remove_chat)]),
        ("/api/v1/inbox", vec![get(me::list_inbox)]),
        ("/api/v1/inbox/events", vec![get(me::follow_inbox)]),
        (
            "/api/v1/approvals/{id}/decision/options",
            vec![post(decisions::start_decision)],
        ),
        (
            "/api/v1/approvals/{id}/decision",
            vec![post(decisions::give_decision)],
        ),
        // Administration
        (
            "/api/v1/people",
            vec![get(people::list_people), post(people::add_person)],
        ),
        (
            "/api/v1/people/{id}",
            vec![get(people::get_person), patch(people::change_person)],
        ),
        (
            "/api/v1/people/{id}/invitations",
            vec![post(people::invite_again)],
        ),
        ("/api/v1/people/{id}/recovery", vec![post(people::recover_person)]),
        ("/api/v1/people/{id}/accounts", vec![post(people::link_account)]),
        (
            "/api/v1/groups",
            vec![get(people::list_groups), post(people::add_group)],
        ),
        (
            "/api/v1/groups/{id}",
            vec![put(people::change_group), delete(people::remove_group)],
        ),
        (
            "/api/v1/api-keys",
            vec![get(api_keys::list_api_keys), post(api_keys::create_api_key)],
        ),
        ("/api/v1/api-keys/{id}", vec![delete(api_keys::revoke_api_key)]),
        (
            "/api/v1/integrations",
            vec![
                get(integrations::list_integrations),
                post(integrations::add_integration),
            ],
        ),
        (
            "/api/v1/integrations/github/apps",
            vec![post(github_apps::finish_app)],
        ),
        (
            "/api/v1/integrations/{id}",
            vec![
                get(integrations::get_integration),
                delete(integrations::remove_integration),
            ],
        ),
        (
            "/api/v1/integrations/{id}/projects",
            vec![get(integrations::list_projects), post(integrations::add_project)],
        ),
        (
            "/api/v1/integrations/{id}/projects/{pid}",
            vec![
                get(integrations::get_project),
                put(integrations::change_project),
                delete(integrations::remove_project),
            ],
        ),
        (
            "/api/v1/integrations/{id}/projects/{pid}/retention",
            vec![put(retention::put_retention)],
        ),
        (
            "/api/v1/integrations/{id}/projects/{pid}/check",
            vec![post(integrations::check_gate)],
        ),
        (
            "/api/v1/integrations/{id}/projects/{pid}/provisioning",
            vec![get(provisioning::get_plan), post(provisioning::set_up)],
        ),
        (
            "/api/v1/integrations/{id}/projects/{pid}/provisioning/undo",
            vec![post(provisioning::undo)],
        ),
        (
            "/api/v1/integrations/{id}/projects/{pid}/trial",
            vec![get(trials::get_trial), post(trials::try_gate)],
        ),
        ("/api/v1/policies", vec![get(policies::list_policies)]),
        ("/api/v1/policies/validate", vec![post(policies::validate_policy)]),
        ("/api/v1/policies/simulate", vec![post(policies::simulate_policy)]),
        (
            "/api/v1/policies/{name}",
            vec![get(policies::get_policy), put(policies::put_policy)],
        ),
        ("/api/v1/journal", vec![get(journal::list_journal)]),
        (
            "/api/v1/policies/{name}/versions",
            vec![get(policy_versions::list_versions)],
        ),
        (
            "/api/v1/policies/{name}/versions/{version}",
            vec![get(policy_versions::get_version)],
        ),
        (
            "/api/v1/policies/{name}/diff",
            vec![get(policy_versions::diff_versions)],
        ),
        (
            "/api/v1/policies/{name}/what-would-change",
            vec![post(policy_versions::what_would_change)],
        ),
        ("/api/v1/proposals", vec![get(governance::list_proposals)]),
        (
            "/api/v1/proposals/{id}",
            vec![
                get(governance::get_proposal),
                delete(governance::withdraw_proposal),
            ],
        ),
        (
            "/api/v1/proposals/{id}/confirmation/options",
            vec![post(governance::start_confirmation)],
        ),
        (
            "/api/v1/proposals/{id}/confirmation",
            vec![post(governance::confirm_proposal)],
        ),
        (
            "/api/v1/delegations",
            vec![
                get(delegations::list_delegations),
                post(delegations::add_delegation),
            ],
        ),
        (
            "/api/v1/delegations/{id}",
            vec![delete(delegations::end_delegation)],
        ),
        (
            "/api/v1/audit/exports",
            vec![get(audit::list_exports), post(audit::start_export)],
        ),
        (
            "/api/v1/audit/exports/{id}",
            vec![get(audit::get_export), delete(audit::remove_export)],
        ),
        ("/api/v1/audit/exports/{id}/bundle", vec![get(audit::get_bundle)]),
        (
            "/api/v1/audit/reviews",
            vec![get(audit::list_reviews), post(audit::review_journal)],
        ),
        ("/api/v1/verify/bundle", vec![post(audit::verify_bundle)]),
        // The log as tiles
        ("/log/checkpoint", vec![get(log::get_log_checkpoint)]),
        ("/log/tile/{path:.*}", vec![get(log::get_log_tile)]),
        (
            "/api/v1/erasures",
            vec![get(retention::list_erasures), post(retention::order_erasure)],
        ),
        ("/api/v1/erasures/preview", vec![post(retention::preview_erasure)]),
        ("/api/v1/exceptions", vec![get(exceptions::list_exceptions)]),
        (
            "/api/v1/exceptions/{id}/review",
            vec![post(exceptions::review_exception)],
        ),
        (
            "/api/v1/sinks",
            vec![get(sinks::list_sinks), post(sinks::add_sink)],
        ),
        (
            "/api/v1/sinks/{id}",
            vec![
                get(sinks::get_sink),
                put(sinks::change_sink),
                delete(sinks::remove_sink),
            ],
        ),
        ("/api/v1/sinks/{id}/test", vec![post(sinks::test_sink)]),
        (
            "/api/v1/backups",
            vec![get(backups::list_backups), post(backups::make_backup)],
        ),
        ("/hooks/{kind}/{integration}", vec![post(hooks::receive_hook)]),
        // Pages
        ("/", vec![get(pages::go_home)]),
        // Where somebody comes from who has just unsealed it.
        ("/unseal", vec![get(pages::go_home)]),
        ("/setup", vec![get(pages::show_setup)]),
        ("/enrol", vec![get(pages::show_enrolment)]),
        ("/login", vec![get(pages::show_login)]),
        (
            "/language",
            vec![get(pages::show_languages), post(pages::choose_language)],
        ),
        ("/a/", vec![get(pages::show_queue)]),
        ("/a/history", vec![get(pages::show_history)]),
        ("/a/away", vec![get(pages::show_away)]),
        ("/a/phone", vec![get(pages::show_phone)]),
        ("/a/passkeys", vec![get(pages::show_passkeys)]),
        ("/a/accounts", vec![get(pages::show_accounts)]),
        ("/a/codes", vec![get(pages::show_codes)]),
        ("/a/{id}", vec![get(pages::show_request)]),
        ("/dashboard", vec![get(pages::show_overview)]),
        ("/dashboard/requests", vec![get(pages::show_requests)]),
        ("/dashboard/requests/views", vec![post(pages::change_views)]),
        ("/dashboard/policies", vec![get(pages::show_policies)]),
        ("/dashboard/policies/{name}", vec![get(pages::show_policy)]),
        (
            "/dashboard/policies/{name}/edit",
            vec![get(pages::show_editor), post(pages::edit_policy)],
        ),
        ("/dashboard/new-policy", vec![get(pages::new_policy)]),
        ("/dashboard/explain-policy", vec![post(pages::explain_draft)]),
        ("/dashboard/exceptions", vec![get(pages::show_exceptions)]),
        ("/dashboard/proposals", vec![get(pages::show_proposals)]),
        ("/dashboard/proposals/{id}", vec![get(pages::show_proposal)]),
        ("/dashboard/integrations", vec![get(pages::show_integrations)]),
        ("/dashboard/integrations/gitlab", vec![get(pages::show_gitlab)]),
        ("/dashboard/integrations/github", vec![get(pages::show_github)]),
        (
            "/dashboard/integrations/bitbucket",
            vec![get(pages::show_bitbucket)],
        ),
        (
            "/dashboard/integrations/github/app",
            vec![post(pages::make_github_app)],
        ),
        (
            "/dashboard/integrations/github/made",
            vec![get(pages::show_github_made)],
        ),
        (
            "/dashboard/integrations/gitlab/{pid}/gate",
            vec![get(pages::show_gate)],
        ),
        ("/dashboard/people", vec![get(pages::show_people)]),
        ("/dashboard/groups", vec![get(pages::show_groups)]),
        ("/dashboard/api-keys", vec![get(pages::show_api_keys)]),
        ("/dashboard/audit", vec![get(pages::show_audit)]),
        ("/dashboard/settings/retention", vec![get(pages::show_retention)]),
        ("/dashboard/settings/log-sinks", vec![get(pages::show_sinks)]),
        (
            "/dashboard/settings/notifications",
            vec![get(pages::show_notifications)],
        ),
        (
            "/dashboard/settings/diagnostics",
            vec![get(pages::show_diagnostics), post(pages::check_now)],
        ),
        (
            "/dashboard/settings/diagnostics/bundle",
            vec![get(support::get_support_bundle)],
        ),
        ("/dashboard/audit/report", vec![get(pages::show_period_report)]),
        ("/verify", vec![get(pages::show_verify)]),
        ("/dashboard/settings", vec![get(pages::show_settings)]),
        ("/dashboard/settings/general", vec![get(pages::show_general)]),
        ("/dashboard/settings/tls", vec![get(pages::show_tls)]),
        (
            "/dashboard/settings/signing-keys",
            vec![get(pages::show_signing_keys)],
        ),
        ("/dashboard/settings/backup", vec![get(pages::show_backup)]),
        ("/dashboard/settings/security", vec![get(pages::show_security)]),
        ("/dashboard/settings/about", vec![get(pages::show_about)]),
        ("/dashboard/set-up", vec![get(pages::go_on_setting_up)]),
        (
            "/dashboard/set-up/{step}",
            vec![get(pages::show_step), post(pages::answer_step)],
        ),
        ("/help", vec![get(pages::show_help)]),
        ("/help/api", vec![get(pages::show_reference)]),
        ("/problems/{type}", vec![get(pages::show_problem)]),
        ("/schema/policy.json", vec![get(assets::serve_policy_schema)]),
        ("/static/{file}", vec![get(assets::serve_asset)]),
        ("/manifest.webmanifest", vec![get(assets::serve_manifest)]),
        ("/favicon.ico", vec![get(assets::serve_favicon)]),
        ("/sw.js", vec![get(assets::serve_worker)]),
        ("/offline", vec![get(pages::show_offline)]),
    ]
}

/// What the Unix socket answers.
pub fn on_the_host(config: &mut ServiceConfig) {
    config
        .route("/local/people", web::get().to(local::list_people_locally))
        .route("/local/people", web::post().to(local::invite_locally))
        .route("/local/recoveries", web::post().to(local::recover_locally))
        .route("/local/api-keys", web::post().to(local::create_api_key_locally))
        .route("/readyz", web::get().to(health::get_readiness))
        .route("/local/keys", web::get().to(local::show_keys_locally))
        .route("/local/backup", web::get().to(backups::stream_backup))
        .route("/local/backups", web::post().to(backups::record_backup))
        .route("/local/keys/rotate", web::post().to(local::rotate_key_locally))
        .route(
            "/local/keys/passphrase",
            web::post().to(local::change_passphrase_locally),
        )
        .route("/local/keys/revoke", web::post().to(local::revoke_key_locally))
        .route(
            "/local/audit/exports",
            web::post().to(audit::start_export_locally),
        )
        .route(
            "/local/audit/exports/{id}",
            web::get().to(audit::get_export_locally),
        )
        .route(
            "/local/audit/exports/{id}/bundle",
            web::get().to(audit::get_bundle_locally),
        )
        .route(
            "/local/log/checkpoint",
            web::get().to(log::get_log_checkpoint_locally),
        )
        .route(
            "/local/log/tile/{path:.*}",
            web::get().to(log::get_log_tile_locally),
        )
        .default_service(to(nothing_here));
}

/// Parameters and queries that do not parse are problems too.
pub fn parsing(config: &mut ServiceConfig) {
    config
        .app_data(actix_web::web::PathConfig::default().error_handler(|_, _| Problem::not_found().into()))
        .app_data(actix_web::web::QueryConfig::default().error_handler(|e, _| {
            problem::Problem::bad_request(format!("The query can't be read: {e}.")).into()
        }));
}
