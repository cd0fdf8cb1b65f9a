//! A journal of any length, made as fast as the store writes: for campaigns and benches.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use signedapproval::clock::SystemClock;
use signedapproval::domain::command::Command;
use signedapproval::domain::event::Actor;
use signedapproval::domain::event::Event;
use signedapproval::domain::ids::IntegrationId;
use signedapproval::engine::Submission;
use signedapproval::engine::continue_instance;
use signedapproval::signing::FileSigner;
use signedapproval::signing::Keys;
use signedapproval::signing::open_key_file;
use signedapproval::store::Store;

/// Events of one command.
const AT_ONCE: usize = 5_000;

/// Adds entries to the journal of an appliance that is not running (in evaluation, which keeps its passphrase) until it has
/// `entries`. They are told as webhooks of 500 projects.
pub fn fill(data: &Path, public_url: &str, entries: usize) {
    let passphrase = fs::read_to_string(data.join("keys/passphrase")).expect("evaluation keeps it");
    let key = |name: &str| {
        let path = data.join(format!("keys/{name}.pem"));
        Arc::new(FileSigner::new(
            open_key_file(&path, passphrase.trim_end()).expect("a key"),
        ))
    };
    let keys = Keys {
        credential: key("credential"),
        log: key("log"),
    };
    let store = Arc::new(Store::open(&data.join("journal.redb")).expect("a store"));
    let begun =
        continue_instance(store, keys, Arc::new(SystemClock), public_url, "test").expect("it goes on");
    let mut writer = begun.writer;
    let mut made = usize::try_from(writer.size().expect("a size")).expect("it fits");
    while made < entries {
        let events = (0..AT_ONCE.min(entries - made)).map(|n| Event::HookReceived {
            integration: IntegrationId::from_random([7; 16]),
            delivery: format!("0000-{:08}", made + n),
            event: "merge_request".to_owned(),
            change: None,
            forge_project_id: format!("{}", n % 500),
        });
        let submission = Submission {
            actor: Actor::System,
            command: Command::Record {
                events: events.collect(),
            },
            secrets: Vec::new(),
            cursor: None,
        };
        let (results, size) = writer.write(vec![submission]).expect("written");
        results.into_iter().for_each(|it| drop(it.expect("recorded")));
        made = usize::try_from(size).expect("it fits");
    }
}
