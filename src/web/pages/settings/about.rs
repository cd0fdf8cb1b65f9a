//! What this program is: version, checksum, licence, what it is made of, and what its journal is called.

use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::keys::verifier_key;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

#[derive(Template)]
#[template(path = "settings/about.html")]
struct AboutPage {
    frame: Frame,
    version: &'static str,
    program: String,
    sha256: String,
    licence: &'static str,
    instance: String,
    log_origin: String,
    entries: u64,
    public_url: String,
    crates: Vec<(&'static str, &'static str)>,
}

/// `name version` and licence of each crate that is compiled in, by `packaging/licences.py`.
const CRATES: &str = include_str!("../../../../packaging/licences.txt");

fn crates() -> Vec<(&'static str, &'static str)> {
    CRATES.lines().filter_map(|it| it.split_once('\t')).collect()
}

/// `GET /dashboard/settings/about`: administrators and auditors.
pub async fn show_about(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    Ok(html(&AboutPage {
        frame: Frame::new(&app, Some(&person), Place::About, t!("About")),
        version: App::version(),
        program: crate::web::api::programs::Program::name(),
        sha256: app.program.sha256().await?.to_owned(),
        licence: env!("CARGO_PKG_LICENSE"),
        instance: state.identity()?.instance,
        log_origin: verifier_key(&state)?.name().to_owned(),
        entries: state.size()?,
        public_url: app.public_url().to_owned(),
        crates: crates(),
    }))
}

#[cfg(test)]
mod tests {
    use super::crates;

    #[test]
    fn the_list_of_crates_is_that_of_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        assert!(crates().len() > 200, "{}", crates().len());
        for (it, licence) in crates() {
            let (name, version) = it.split_once(' ').expect("a name and a version");
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(
                lock.contains(&entry),
                "{it} is not what is compiled in: see packaging/licences.py"
            );
            assert!(!licence.is_empty(), "{it}");
        }
        for dependency in ["actix-web ", "redb ", "rustls ", "webauthn-rs ", "ed25519-dalek "] {
            assert!(
                crates().iter().any(|(it, _)| it.starts_with(dependency)),
                "{dependency}"
            );
        }
    }
}
