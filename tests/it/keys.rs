//! The signing keys' life: rotation under load, revocation by journal position, the published history, and what an
//! offline verifier makes of all that.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::new_dir;
use crate::support::appliance::run;
use crate::support::gated::Gated;
use crate::support::person::Person;
use crate::support::person::text;

/// Everything an offline verifier may want: files of one credential, keys, history, introductions.
pub struct Files {
    pub dir: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        // A directory left behind does no harm.
        let _removed = fs::remove_dir_all(&self.dir);
    }
}

impl Files {
    pub fn new() -> Files {
        Files { dir: new_dir() }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.join(name), bytes).expect("a writable directory");
    }

    /// Saves a credential with its event and its proof.
    pub async fn save(&self, reader: &Person, id: &str) {
        let base = format!("/api/v1/credentials/{id}");
        for (path, name) in [
            (base.clone(), format!("{id}.dsse.json")),
            (format!("{base}/event"), format!("{id}.event.json")),
            (format!("{base}/proof"), format!("{id}.tlog-proof")),
        ] {
            let answer = reader.get(&path).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            self.write(&name, &answer.body);
        }
    }

    /// Saves the published keys and their introductions, and gives the introductions' names.
    pub async fn save_keys(&self, appliance: &Appliance, pem: &str) -> Vec<String> {
        for (path, name) in [
            ("credential.pem", pem),
            ("log.vkey", "log.vkey"),
            ("keys.json", "keys.json"),
        ] {
            let answer = well_known(appliance, path).await;
            self.write(name, &answer);
        }
        let history: Value =
            serde_json::from_slice(&well_known(appliance, "keys.json").await).expect("keys.json is JSON");
        let mut names = Vec::new();
        for key in history["keys"].as_array().expect("keys") {
            let Some(sha256) = key["introduction"].as_str() else {
                continue;
            };
            let file = well_known(appliance, &format!("introductions/{sha256}")).await;
            let name = format!("introduction-{sha256}");
            self.write(&name, &file);
            names.push(name);
        }
        names
    }

    /// `signedapproval verify` over one credential and what belongs to it.
    pub async fn verify(&self, id: &str, with_place: bool, more: &[&str]) -> (i32, String, String) {
        let mut files = vec![format!("{id}.dsse.json")];
        if with_place {
            files.push(format!("{id}.event.json"));
            files.push(format!("{id}.tlog-proof"));
        }
        let mut arguments = vec!["verify"];
        arguments.extend(files.iter().map(String::as_str));
        arguments.extend_from_slice(more);
        run(&self.dir, &arguments, &[]).await
    }
}

async fn well_known(appliance: &Appliance, name: &str) -> Vec<u8> {
    let answer = appliance
        .api()
        .get(&format!("/.well-known/signedapproval/{name}"))
        .await;
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
    answer.body
}

async fn keys_json(appliance: &Appliance) -> Vec<Value> {
    let history: Value =
        serde_json::from_slice(&well_known(appliance, "keys.json").await).expect("keys.json is JSON");
    history["keys"].as_array().expect("keys").clone()
}

/// The key of a use that signs now, from the published history.
pub async fn current(appliance: &Appliance, which: &str) -> String {
    let keys = keys_json(appliance).await;
    let mut current = keys
        .iter()
        .filter(|it| it["use"] == which && it["until_seq"].is_null());
    let key = current.next().expect("a key signs");
    assert!(current.next().is_none(), "only one does: {keys:?}");
    text(key, "keyid")
}

/// `keys …` over the Unix socket, which must succeed: the JSON it prints, one value a line.
pub async fn keys(appliance: &Appliance, arguments: &[&str]) -> Vec<Value> {
    let all = [&["keys"][..], arguments, &["--json"]].concat();
    let (code, out, err) = appliance.cli(&all).await;
    assert_eq!(code, 0, "{all:?}: {out}{err}");
    out.lines()
        .map(|it| serde_json::from_str(it).expect("JSON"))
        .collect()
}

async fn action(ci: &Api) -> String {
    ci.open_request(&json!({"action": "deploy"})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_loses_nothing_and_old_proofs_stay_valid() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let files = Files::new();

    let first = bea.approve(&action(&ci).await).await;
    files.save_keys(&appliance, "pinned.pem").await;
    fs::copy(files.dir.join("log.vkey"), files.dir.join("old.vkey")).expect("copied");
    files.save(&bea, &first).await;
    let old_proof = fs::read(files.dir.join(format!("{first}.tlog-proof"))).expect("saved");

    // Four pipelines ask all the while.
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (ci, stop) = (ci.clone(), stop.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    acknowledged.push(action(&ci).await);
                }
                acknowledged
            })
        })
        .collect();
    let mut decided = Vec::new();
    for round in 0..3 {
        let before = current(&appliance, "credential").await;
        let done = keys(&appliance, &["rotate"]).await;
        assert_eq!(done.len(), 2, "credential and log");
        assert_eq!(done[0]["ended"], before, "round {round}");
        assert_eq!(
            current(&appliance, "credential").await,
            text(&done[0], "activated")
        );
        keys(&appliance, &["rotate", "--use", "data"]).await;
        decided.push(bea.approve(&action(&ci).await).await);
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for asker in askers {
        acknowledged.extend(asker.await.expect("no asker was refused"));
    }
    assert!(acknowledged.len() >= 4, "there was load: {}", acknowledged.len());
    for id in &acknowledged {
        assert_eq!(ci.request(id).await["status"], "pending", "{id}");
    }

    // One line an epoch, the newest first; each rotation of the log key opened one.
    let introductions = files.save_keys(&appliance, "newest.pem").await;
    assert_eq!(introductions.len(), 6);
    let vkeys = fs::read_to_string(files.dir.join("log.vkey")).expect("text");
    let epochs: Vec<&str> = vkeys
        .lines()
        .map(|it| {
            it.split('+')
                .next()
                .expect("a name")
                .rsplit('/')
                .next()
                .expect("an epoch")
        })
        .collect();
    assert_eq!(epochs, ["4", "3", "2", "1"], "{vkeys}");

    // From the key pinned at the start the history leads to every later one.
    let mut trust = vec![
        "--key",
        "pinned.pem",
        "--log-key",
        "log.vkey",
        "--key-history",
        "keys.json",
    ];
    for name in &introductions {
        trust.extend(["--introduction", name]);
    }
    for id in decided.iter().chain([&first]) {
        files.save(&bea, id).await;
        let (code, out, err) = files.verify(id, true, &trust).await;
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("key period"), "{out}");
    }
    // Without the introductions the later keys are strangers; without its place a retired key shows nothing.
    let bare = &trust[..6];
    assert_eq!(files.verify(&decided[0], true, bare).await.0, 1);
    let (code, out, _) = files.verify(&first, false, &trust).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("no longer counts"), "{out}");
    // The files that were handed out before the rotations verify with the keys of that time, as they always did.
    fs::write(files.dir.join(format!("{first}.tlog-proof")), old_proof).expect("written");
    let (code, out, err) = files
        .verify(&first, true, &["--key", "pinned.pem", "--log-key", "old.vkey"])
        .await;
    assert_eq!(code, 0, "{out}{err}");
    // The appliance itself says the same, and so does its receipt.
    let body = fs::read(files.dir.join(format!("{first}.dsse.json"))).expect("saved");
    let answer = appliance
        .api()
        .send("POST", "/api/v1/verify", &[], Some(body))
        .await;
    assert_eq!(answer.expect(200)["valid"], true, "{answer:?}");

    // All of it is still so after a restart, and nothing is left of the keys that went.
    appliance.restart().await;
    assert_eq!(
        current(&appliance, "credential").await,
        fingerprint_of(&files, "newest.pem")
    );
    bea.sign_in().await;
    bea.approve(&action(&ci).await).await;
    let mut left: Vec<String> = fs::read_dir(appliance.data_dir().join("keys"))
        .expect("the keys' folder")
        .map(|it| it.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["credential.pem", "data-key", "log.pem", "passphrase"]);
    let events: Vec<Value> = ada.journal("key.activated").await;
    assert_eq!(events.len(), 8, "two at first, six by rotation");
    let data = ada.journal("data_key.rotated").await;
    assert_eq!(data.len(), 3);
}

fn fingerprint_of(files: &Files, name: &str) -> String {
    let pem = fs::read_to_string(files.dir.join(name)).expect("saved");
    let key = signedapproval::evidence::dsse::PublicKey::from_pem(&pem).expect("a key");
    key.id().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_counts_only_before_its_position_and_takes_its_approvals_along() {
    let it = Gated::start().await;
    let files = Files::new();
    let key = it.ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = it.appliance.api().with_key(&key);
    let kept = it.bea.approve(&action(&ci).await).await;
    files.save(&it.bea, &kept).await;
    files.save_keys(&it.appliance, "old.pem").await;
    let keyid = current(&it.appliance, "credential").await;

    // The thief may have had the key from here on.
    let event: Value = serde_json::from_slice(
        &it.bea
            .get(&format!("/api/v1/credentials/{kept}/event"))
            .await
            .body,
    )
    .expect("JSON");
    let from = event["seq"].as_u64().expect("a position") + 2;
    let change = it.open("feature", "main");
    let request = it.pending(&change, "main").await;
    let lost = it.bea.approve(&request).await;
    files.save(&it.bea, &lost).await;
    it.expect_status(&change.head, "main", "success");
    let waiting = action(&ci).await;

    for (arguments, why) in [
        (vec!["revoke", &keyid[..10], "--reason", "stolen"], "unknown key"),
        (vec!["revoke", &keyid, "--reason", " "], "no reason"),
        (
            vec!["revoke", &keyid, "--reason", "x", "--from-seq", "999999999"],
            "a position to come",
        ),
        (
            vec!["revoke", &keyid, "--reason", "x", "--from-seq", "1"],
            "before it signed",
        ),
    ] {
        let all = [&["keys"][..], &arguments].concat();
        let (code, out, err) = it.appliance.cli(&all).await;
        assert_eq!(code, 2, "{why}: {out}{err}");
        assert_eq!(current(&it.appliance, "credential").await, keyid, "{why}");
    }
    let from_text = from.to_string();
    let done = keys(
        &it.appliance,
        &[
            "revoke",
            &keyid,
            "--from-seq",
            &from_text,
            "--reason",
            "a copy was found",
        ],
    )
    .await;
    assert_eq!(done[0]["ended"], keyid);
    assert_eq!(done[0]["from_seq"], from);
    assert_eq!(done[0]["taken_back"], 1, "the merge request's approval: {done:?}");
    let now = current(&it.appliance, "credential").await;
    assert_ne!(now, keyid);

    // What it had opened is closed, and asked for again; what waits without its signature goes on waiting.
    it.expect_status(&change.head, "main", "pending");
    let fresh = it.pending(&change, "main").await;
    assert_ne!(fresh, request);
    let requests = it.requests(change.iid).await;
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(ci.request(&waiting).await["status"], "pending");
    let again = it.bea.approve(&fresh).await;
    it.expect_status(&change.head, "main", "success");

    // Nobody introduces the new key: what a stolen key says of another is worth nothing.
    let introductions = files.save_keys(&it.appliance, "new.pem").await;
    assert!(introductions.is_empty(), "{introductions:?}");
    files.save(&it.bea, &again).await;
    files.save(&it.bea, &kept).await;
    files.save(&it.bea, &lost).await;
    let both = [
        "--key",
        "old.pem",
        "--key",
        "new.pem",
        "--log-key",
        "log.vkey",
        "--key-history",
        "keys.json",
    ];
    for (id, code) in [(&kept, 0), (&lost, 1), (&again, 0)] {
        let (got, out, err) = files.verify(id, true, &both).await;
        assert_eq!(got, code, "{id}: {out}{err}");
    }
    assert_eq!(
        files.verify(&kept, false, &both).await.0,
        1,
        "without its place it could be the thief's"
    );
    for (id, valid) in [(&kept, true), (&lost, false), (&again, true)] {
        let body = fs::read(files.dir.join(format!("{id}.dsse.json"))).expect("saved");
        let answer = it
            .appliance
            .api()
            .send("POST", "/api/v1/verify", &[], Some(body))
            .await;
        assert_eq!(answer.expect(200)["valid"], valid, "{id}: {answer:?}");
    }
    // A second revocation of the same key may only reach further back.
    let (code, _, err) = it
        .appliance
        .cli(&["keys", "revoke", &keyid, "--reason", "again"])
        .await;
    assert_eq!(code, 2, "{err}");
}

/// A crash between the journal's word and the files: whichever file is there, the next start finds the key it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_cut_short_is_finished_by_the_next_start() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let folder = appliance.data_dir().join("keys");
    let keep = |name: &str| fs::read(folder.join(name)).expect("a key file");
    let before = keep("credential.pem");
    keys(&appliance, &["rotate", "--use", "credential"]).await;
    let after = keep("credential.pem");
    let now = current(&appliance, "credential").await;
    appliance.stop().await;

    // The journal names the new key, which still stands beside the old one.
    put(&folder.join("credential.pem"), &before);
    put(&folder.join("credential-next.pem"), &after);
    appliance.restart().await;
    assert_eq!(current(&appliance, "credential").await, now);
    assert_eq!(keep("credential.pem"), after);
    assert!(!folder.join("credential-next.pem").exists());

    // The journal never heard of the next key.
    put(&folder.join("credential-next.pem"), &before);
    appliance.restart().await;
    assert_eq!(current(&appliance, "credential").await, now);
    assert!(!folder.join("credential-next.pem").exists());
    ada.sign_in().await;

    // Neither is the journal's: refused, and nothing is changed.
    appliance.stop().await;
    put(&folder.join("credential.pem"), &before);
    let failure = appliance.try_restart().await.expect_err("refused");
    assert_eq!(failure.code, Some(1), "{}", failure.log);
    assert!(
        failure
            .log
            .contains("the credential key is not the one this journal names"),
        "{}",
        failure.log
    );
    assert_eq!(keep("credential.pem"), before);
}

fn put(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, bytes).expect("writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// Wrong modes and passphrases: a clear message, the right code, and not one byte is changed.
#[tokio::test(flavor = "multi_thread")]
async fn unsafe_or_foreign_key_files_are_refused_and_left_as_they_are() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut appliance = Appliance::start(Options::default()).await;
    appliance.stop().await;
    let folder = appliance.data_dir().join("keys");
    for name in ["credential.pem", "log.pem", "data-key", "passphrase"] {
        let path = folder.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("its mode");
        let failure = appliance.try_restart().await.expect_err("refused");
        assert_eq!(failure.code, Some(1), "{name}: {}", failure.log);
        assert!(
            failure.log.contains("its mode is 0640"),
            "{name}: {}",
            failure.log
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    }
    let good = fs::read(folder.join("passphrase")).expect("readable");
    let others: Vec<Vec<u8>> = ["credential.pem", "log.pem", "data-key"]
        .iter()
        .map(|it| fs::read(folder.join(it)).expect("readable"))
        .collect();
    put(&folder.join("passphrase"), b"wrong");
    let failure = appliance.try_restart().await.expect_err("refused");
    assert_eq!(failure.code, Some(1), "{}", failure.log);
    assert!(
        failure.log.contains("the passphrase does not open this key"),
        "{}",
        failure.log
    );
    for (name, bytes) in ["credential.pem", "log.pem", "data-key"].iter().zip(others) {
        assert_eq!(fs::read(folder.join(name)).expect("readable"), bytes, "{name}");
    }
    put(&folder.join("passphrase"), &good);
    appliance.restart().await;
    tokio::time::timeout(Duration::from_secs(5), current(&appliance, "credential"))
        .await
        .expect("it serves");
}
