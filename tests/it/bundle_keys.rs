//! Bundles over a change of keys, and over a restore: one period, two keys, and what an auditor has who kept the first.

use std::fs;

use serde_json::json;

use crate::bundles::Scene;
use crate::bundles::verify_py;
use crate::keys::keys;
use crate::support::appliance::Api;
use crate::support::appliance::new_dir;
use crate::support::appliance::run;

async fn keep(scene: &Scene, name: &str) {
    let path = format!("/.well-known/signedapproval/{name}");
    let answer = scene.it.appliance.api().get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    fs::write(scene.path(name), &answer.body).expect("a writable directory");
}

/// Both verifiers, with the keys that lie beside the bundle.
async fn both(scene: &Scene, name: &str, wanted: i32, said: &str) {
    let (code, out) = scene.verify(name).await;
    assert!(code == wanted && out.contains(said), "{name}: {code}: {out}");
    let (code, py) = verify_py(&scene.dir, name);
    assert_eq!(code, wanted, "{name}: {py}");
}

async fn decided(scene: &Scene, ci: &Api, action: &str) {
    let request = ci.open_request(&json!({ "action": action })).await;
    scene.it.bea.approve(&request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_over_a_rotation_holds_for_whoever_trusts_either_key() {
    let scene = Scene::new().await;
    let key = scene.it.ada.create_api_key("More", &["request"], &[]).await.key;
    let ci = scene.it.appliance.api().with_key(&key);
    let first = jiff::Timestamp::now().to_string();
    scene.export("before.zip", ["2000-01-01", &first], &[]).await;
    keys(&scene.it.appliance, &["rotate", "--use", "credential"]).await;
    decided(&scene, &ci, "after the new credential key").await;
    keys(&scene.it.appliance, &["rotate", "--use", "log"]).await;
    decided(&scene, &ci, "after the new log key").await;
    let second = jiff::Timestamp::now().to_string();

    // The keys that were taken before are still enough: introductions lead from the old credential key to the new one, and the
    // log's verifier keys are one line an epoch.
    scene.export("over.zip", ["2000-01-01", &second], &[]).await;
    both(&scene, "before.zip", 0, "Everything holds").await;
    keep(&scene, "log.vkey").await;
    let vkeys = fs::read_to_string(scene.path("log.vkey")).expect("there");
    assert_eq!(vkeys.lines().count(), 2, "{vkeys}");
    both(
        &scene,
        "over.zip",
        0,
        "2 of 2 credential keys in the history are trusted",
    )
    .await;
    let (_, out) = scene.verify("over.zip").await;
    assert!(out.contains("5 credentials"), "{out}");
    keep(&scene, "credential.pem").await;
    both(
        &scene,
        "over.zip",
        0,
        "2 of 2 credential keys in the history are trusted",
    )
    .await;
    both(&scene, "before.zip", 1, "none of the keys you trust").await;
    // The same period as before, exported now: another key signs the manifest, and nothing else is another.
    scene.export("again.zip", ["2000-01-01", &first], &[]).await;
    both(&scene, "again.zip", 0, "Everything holds").await;
    // A part that begins after the rotation.
    scene.export("after.zip", [&first, &second], &[]).await;
    both(&scene, "after.zip", 0, "2 credentials").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_made_after_a_restore_holds_and_so_does_one_from_before() {
    let mut scene = Scene::new().await;
    let now = jiff::Timestamp::now().to_string();
    scene.export("before.zip", ["2000-01-01", &now], &[]).await;
    let backup = scene.path("one.sabackup").to_str().expect("text").to_owned();
    let (code, out, err) = scene.it.appliance.cli(&["backup", "create", &backup]).await;
    assert_eq!(code, 0, "{out}{err}");
    let key = scene.it.ada.create_api_key("Lost", &["request"], &[]).await.key;
    let ci = scene.it.appliance.api().with_key(&key);
    decided(&scene, &ci, "what the backup does not know").await;
    let later = jiff::Timestamp::now().to_string();
    scene.export("lost.zip", ["2000-01-01", &later], &[]).await;

    scene.it.appliance.stop().await;
    let data = scene.it.appliance.data_dir().to_owned();
    let passphrase = fs::read_to_string(data.join("keys/passphrase")).expect("evaluation keeps it");
    let aside = new_dir();
    fs::rename(&data, aside.join("before")).expect("moved");
    let to = data.to_str().expect("text");
    let arguments = ["backup", "restore", &backup, "--data-dir", to];
    let (code, out, err) = run(scene.it.appliance.dir(), &arguments, &[]).await;
    assert_eq!(code, 0, "{out}{err}");
    let options = scene.it.appliance.options.clone();
    scene.it.appliance.options = options.env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", &passphrase);
    scene.it.appliance.restart().await;
    for person in [&scene.it.ada, &scene.it.bea] {
        person.sign_in().await;
    }
    let key = scene.it.ada.create_api_key("New", &["request"], &[]).await.key;
    let ci = scene.it.appliance.api().with_key(&key);
    decided(&scene, &ci, "after the restore").await;

    // What was handed out before still holds, also of what the appliance itself has lost.
    both(&scene, "before.zip", 0, "3 credentials").await;
    both(&scene, "lost.zip", 0, "4 credentials").await;
    // The same period again, made by the restored appliance; and one that goes over the restore, in the log's next epoch.
    scene.export("again.zip", ["2000-01-01", &now], &[]).await;
    both(&scene, "again.zip", 0, "3 credentials").await;
    keep(&scene, "log.vkey").await;
    let end = jiff::Timestamp::now().to_string();
    scene.export("over.zip", ["2000-01-01", &end], &[]).await;
    both(&scene, "over.zip", 0, "4 credentials").await;
    fs::remove_dir_all(&aside).expect("removed");
}
