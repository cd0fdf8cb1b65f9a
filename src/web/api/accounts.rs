//! A person's own accounts on the forges, linked by proof: a code that the account writes where only it can, read back by this
//! server's own token. An e-mail address proves nothing here.

use crate::domain::command::Command;
use crate::domain::ids::IntegrationId;
use crate::domain::people::{LinkedAccount, Person};
use crate::domain::project::Integration;
use crate::domain::state::Read;
use crate::outbound::Error;
use crate::web::api::integrations::connected;
use crate::web::api::{Empty, bounded};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

fn account_json(it: &LinkedAccount) -> Value {
    json!({
        "integration": it.integration,
        "account_id": it.account_id,
        "proof": if it.proven { "proven" } else { "asserted" },
    })
}

/// `GET /api/v1/me/accounts`: whoever is signed in.
pub async fn list_accounts(who: SignedIn) -> Result<HttpResponse, Problem> {
    let items: Vec<Value> = who.0.accounts.iter().map(account_json).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimBody {
    integration: String,
    username: String,
}

/// `POST /api/v1/me/accounts/claim`: whoever is signed in. Answers what the account has to write, and where.
pub async fn claim_account(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<ClaimBody>(&request, payload).await?;
    bounded("username", &body.username, 255)?;
    let integration = live(&app, &body.integration)?;
    let Some(place) = integration.kind.proof_place() else {
        let reason = format!(
            "Accounts on {} can’t be proved here; an admin links them.",
            integration.kind.title()
        );
        return Err(Problem::invalid("integration", reason));
    };
    let found = connected(&app, &integration)?.account_named(&body.username).await;
    let account = found.map_err(|error| unreadable(&error))?.ok_or_else(|| {
        Problem::invalid(
            "username",
            format!(
                "{} knows no such user name, or does not show it to this server.",
                integration.kind.title()
            ),
        )
    })?;
    let claim = app
        .claims
        .begin(who.0.id.clone(), integration.id.clone(), account, app.now());
    Ok(HttpResponse::Created().json(json!({
        "code": claim.code,
        "account": { "id": claim.account.id, "username": claim.account.username, "name": claim.account.name },
        "where": place,
        "expires_at": claim.expires_at,
    })))
}

/// `POST /api/v1/me/accounts`: whoever claimed one. The forge is asked what the account wrote.
pub async fn prove_account(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    read_json::<Empty>(&request, payload).await?;
    let person = who.0.id.clone();
    let claim = app
        .claims
        .look(&person, app.now())
        .ok_or_else(Problem::ceremony_spent)?;
    let integration = live(&app, claim.integration.as_str())?;
    let place = integration.kind.proof_place().unwrap_or("profile");
    let said = connected(&app, &integration)?
        .said_of_itself(&claim.account)
        .await
        .map_err(|error| unreadable(&error))?;
    if !said.contains(&claim.code) {
        return Err(Problem::invalid(
            "code",
            format!(
                "The {place} of @{} on {} does not hold the code. Save it there, then check again.",
                crate::domain::text::visible(&claim.account.username),
                integration.kind.title()
            ),
        ));
    }
    let command = Command::LinkAccount {
        person: person.clone(),
        integration: claim.integration.clone(),
        account_id: claim.account.id.clone(),
        proof: Some(format!(
            "the {place} of @{} held the code that the person was shown",
            claim.account.username
        )),
    };
    app.submit(who.actor(), command).await?;
    app.claims.end(&person, &claim.code);
    let record: Option<Person> = app.snapshot()?.get(person.as_str())?;
    let linked = record.and_then(|it| {
        let mut accounts = it.accounts.into_iter();
        accounts.find(|it| it.integration == claim.integration && it.account_id == claim.account.id)
    });
    let linked = linked.ok_or_else(|| Problem::internal("a linked account is missing"))?;
    Ok(HttpResponse::Created().json(account_json(&linked)))
}

fn live(app: &App, id: &str) -> Result<Integration, Problem> {
    let id = IntegrationId::parse(id)
        .ok_or_else(|| Problem::invalid("integration", "There is no such integration."))?;
    let found: Option<Integration> = app.snapshot()?.get(id.as_str())?;
    found
        .filter(|it| !it.removed)
        .ok_or_else(|| Problem::invalid("integration", "There is no such integration."))
}

/// The forge's own words stay in the log: whoever asks is no admin.
fn unreadable(error: &Error) -> Problem {
    tracing::warn!(%error, "an account could not be read");
    Problem::forge_answer("The forge did not tell about this account. Try again, or ask an admin.")
}
