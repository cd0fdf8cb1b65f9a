//! Backups: made under load, read back, restored into an empty directory; files of every released version.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use signedapproval::store::SCHEMA;

use crate::keys::Files;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::new_dir;
use crate::support::appliance::run;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::problem::assert_problem;

async fn backup(appliance: &Appliance, arguments: &[&str]) -> (i32, String, String) {
    let all = [&["backup"][..], arguments].concat();
    run(appliance.dir(), &all, &[]).await
}

pub async fn create(appliance: &Appliance, name: &str) -> (PathBuf, Value) {
    let path = appliance.dir().join(name);
    let to = path.to_str().expect("UTF-8").to_owned();
    let (code, out, err) = appliance.cli(&["backup", "create", &to, "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    (path, serde_json::from_str(&out).expect("JSON"))
}

/// Puts a backup in the place of an appliance's data, with the passphrase of then.
pub async fn restore(appliance: &mut Appliance, file: &Path, more: &[&str]) -> Value {
    let data = appliance.data_dir().to_owned();
    let passphrase = fs::read_to_string(data.join("keys/passphrase")).expect("evaluation keeps it");
    fs::rename(&data, appliance.dir().join("before")).expect("moved");
    let (file, to) = (
        file.to_str().expect("UTF-8"),
        data.to_str().expect("UTF-8").to_owned(),
    );
    let arguments = [&["restore", file, "--data-dir", &to, "--json"][..], more].concat();
    let (code, out, err) = backup(appliance, &arguments).await;
    assert_eq!(code, 0, "{out}{err}");
    appliance.options = appliance
        .options
        .clone()
        .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", &passphrase);
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_brings_back_all_that_was_acknowledged_before_it() {
    // A quick machine asks for more than one key may in a minute.
    let options = Options::default().config("limits.changes_per_minute = \"0\"\n");
    let mut it = Gated::start_in(options, Hook::Token, json!({})).await;
    let files = Files::new();
    let key = it.ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = it.appliance.api().with_key(&key);
    let change = it.open("feature", "main");
    let approved = it.pending(&change, "main").await;
    let credential = it.bea.approve(&approved).await;
    it.expect_status(&change.head, "main", "success");
    files.save(&it.bea, &credential).await;
    let unused = ci.open_request(&json!({"action": "deploy"})).await;
    it.bea.approve(&unused).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asker = {
        let (ci, stop) = (ci.clone(), stop.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let id = ci.open_request(&json!({"action": "x"})).await;
                acknowledged.push((Instant::now(), id));
            }
            acknowledged
        })
    };
    // Something is under way before and after.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    let (file, made) = create(&it.appliance, "today.sabackup").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = asker.await.expect("nothing was refused");
    let before: Vec<&String> = acknowledged
        .iter()
        .filter(|(at, _)| *at < begun)
        .map(|(_, id)| id)
        .collect();
    assert!(
        before.len() > 2 && before.len() < acknowledged.len(),
        "load before and after"
    );
    assert_eq!(
        fs::metadata(&file).expect("there").permissions().mode() & 0o777,
        0o600
    );
    let entries = made["entries"].as_u64().expect("a number");
    assert!(
        made["secrets"].as_u64() >= Some(1) && made["covered"] == entries,
        "{made}"
    );

    // After the backup: a green that the restored appliance knows nothing of.
    let later = it.open("later", "main");
    let request = it.pending(&later, "main").await;
    it.bea.approve(&request).await;
    it.expect_status(&later.head, "main", "success");
    let newest = it
        .appliance
        .api()
        .get("/.well-known/signedapproval/checkpoint")
        .await
        .body;
    let seen = files.dir.join("checkpoint");
    fs::write(&seen, &newest).expect("written");
    let size: u64 = String::from_utf8_lossy(&newest)
        .lines()
        .nth(1)
        .expect("size")
        .parse()
        .expect("a number");
    it.appliance.stop().await;

    let told = restore(
        &mut it.appliance,
        &file,
        &["--checkpoint", seen.to_str().expect("UTF-8")],
    )
    .await;
    assert_eq!(told["entries"], entries);
    assert_eq!(told["lost_entries"], size - entries, "{told}");
    assert_eq!(told["unused_approvals"], 2, "{told}");
    it.appliance.restart().await;

    // Everything acknowledged before it is there; what waited is cancelled, what was unused is taken back.
    for id in &before {
        assert_eq!(ci.request(id).await["status"], "cancelled", "{id}");
    }
    let consumed = ci
        .post(&format!("/api/v1/approvals/{unused}/consume"), &json!({}))
        .await;
    assert_problem!(consumed, 409, "not-usable");
    assert_eq!(it.ada.get("/api/v1/me").await.status, 401, "sessions are over");
    for person in [&it.ada, &it.bea] {
        person.sign_in().await;
    }
    // The forge's greens are taken back, also the one that came after the backup; both are asked for again.
    it.expect_status(&change.head, "main", "pending");
    it.expect_status(&later.head, "main", "pending");
    let fresh = it.pending(&change, "main").await;
    assert_ne!(fresh, approved);
    it.bea.approve(&fresh).await;
    it.expect_status(&change.head, "main", "success");

    // The tree goes on in a new epoch, whose number nobody has seen, and what was proven before stays proven.
    let vkeys = it
        .appliance
        .api()
        .get("/.well-known/signedapproval/log.vkey")
        .await
        .text();
    assert_eq!(vkeys.lines().count(), 2, "{vkeys}");
    assert!(vkeys.lines().next().expect("a line").contains("/2+"), "{vkeys}");
    files.save_keys(&it.appliance, "credential.pem").await;
    let keys = ["--key", "credential.pem", "--log-key", "log.vkey"];
    assert_eq!(files.verify(&credential, true, &keys).await.0, 0);
    files.save(&it.bea, &credential).await;
    assert_eq!(files.verify(&credential, true, &keys).await.0, 0);
    let events = it.ada.journal("backup.restored").await;
    assert_eq!(events.len(), 1);
    let (_, again) = create(&it.appliance, "again.sabackup").await;
    assert!(again["entries"].as_u64() > Some(entries));
    // A second start is an ordinary one.
    it.appliance.restart().await;
    let vkeys = it
        .appliance
        .api()
        .get("/.well-known/signedapproval/log.vkey")
        .await
        .text();
    assert_eq!(vkeys.lines().count(), 2, "{vkeys}");
}

/// Cut off or changed anywhere: refused with its reason, and nothing is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let appliance = Appliance::start(Options::default()).await;
    let _ada = Person::set_up(&appliance, "Ada").await;
    let (file, _) = create(&appliance, "good.sabackup").await;
    let good = fs::read(&file).expect("there");
    let bad = appliance.dir().join("bad.sabackup");
    let (bad_name, to) = (
        bad.to_str().expect("UTF-8").to_owned(),
        appliance
            .dir()
            .join("restored")
            .to_str()
            .expect("UTF-8")
            .to_owned(),
    );
    let mut cases: Vec<(String, Vec<u8>, &str)> = Vec::new();
    for at in [
        0,
        1,
        40,
        good.len() / 3,
        good.len() / 2,
        good.len() - 33,
        good.len() - 1,
    ] {
        cases.push((format!("cut off at {at}"), good[..at].to_vec(), "cut off"));
    }
    let head = good.iter().position(|it| *it == b'\n').expect("a head");
    for at in [
        10,
        head + 20,
        good.len() / 3,
        good.len() / 2,
        2 * good.len() / 3,
        good.len() - 1,
    ] {
        let mut changed = good.clone();
        changed[at] ^= 0x20;
        cases.push((format!("changed at {at}"), changed, ""));
    }
    cases.push(("more behind it".into(), [&good[..], b"x"].concat(), "damaged"));
    let text =
        String::from_utf8_lossy(&good[..head]).replace(&format!("\"schema\":{SCHEMA}"), "\"schema\":99");
    cases.push((
        "newer".into(),
        [text.as_bytes(), &good[head..]].concat(),
        "newer version",
    ));
    for (what, bytes, words) in cases {
        fs::write(&bad, bytes).expect("written");
        let (code, out, err) = backup(&appliance, &["verify", &bad_name]).await;
        assert_eq!(code, 1, "{what}: {out}{err}");
        assert!(err.contains(words), "{what}: {err}");
        let (code, _, err) = backup(&appliance, &["restore", &bad_name, "--data-dir", &to]).await;
        assert_eq!(code, 1, "{what}: {err}");
        assert!(!Path::new(&to).exists(), "{what}");
    }
    // Not into a directory that holds something, and not over a file.
    fs::create_dir(&to).expect("made");
    fs::write(Path::new(&to).join("mine"), b"mine").expect("written");
    let good_name = file.to_str().expect("UTF-8");
    let (code, _, err) = backup(&appliance, &["restore", good_name, "--data-dir", &to]).await;
    assert_eq!(code, 2, "{err}");
    assert_eq!(fs::read_dir(&to).expect("there").count(), 1);
    let (code, _, err) = appliance.cli(&["backup", "create", good_name]).await;
    assert_eq!(code, 2, "{err}");
    assert_eq!(fs::read(&file).expect("there"), good);
    // Another log's key does not believe it.
    let other = "localhost:1/log/00000000/1+6e7d5a25+AfRL5sDLzkQ9qCwqlCEIqhlGmcNO6RvNPVGbeGkOkGRk";
    let (code, ..) = backup(&appliance, &["verify", good_name, "--log-key", other]).await;
    assert_ne!(code, 0);
    let vkey = appliance
        .api()
        .get("/.well-known/signedapproval/log.vkey")
        .await
        .text();
    let (code, _, err) = backup(&appliance, &["verify", good_name, "--log-key", vkey.trim()]).await;
    assert_eq!(code, 0, "{err}");
    let gone = appliance.dir().join("gone");
    let (code, ..) = backup(&appliance, &["verify", gone.to_str().expect("UTF-8")]).await;
    assert_eq!(code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_by_a_schedule_and_the_oldest_go() {
    let options = Options::default()
        .env("SIGNEDAPPROVAL_BACKUP__DIRECTORY", "{dir}/backups")
        .env("SIGNEDAPPROVAL_BACKUP__EVERY", "1h")
        .env("SIGNEDAPPROVAL_BACKUP__KEEP", "2");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let folder = appliance.dir().join("backups");
    // The first is overdue at the start.
    let started = Instant::now();
    while items(&ada.get("/api/v1/backups").await).is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "no backup: {}",
            appliance.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fs::write(folder.join("mine.sabackup"), b"mine").expect("written");
    let mut names = Vec::new();
    for _ in 0..3 {
        let made = ada.post("/api/v1/backups", &json!({})).await.expect(201);
        names.push(made["file"].as_str().expect("a name").to_owned());
    }
    let listed: Vec<Value> = items(&ada.get("/api/v1/backups").await);
    let listed: Vec<&str> = listed.iter().filter_map(|it| it["file"].as_str()).collect();
    assert_eq!(listed, [&names[2], &names[1]], "the newest two, and no other");
    assert_eq!(
        fs::read(folder.join("mine.sabackup")).expect("left alone"),
        b"mine"
    );
    let newest = folder.join(&names[2]);
    let (code, out, err) = backup(&appliance, &["verify", newest.to_str().expect("UTF-8")]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(!ada.journal("backup.written").await.is_empty());
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    assert_eq!(bea.post("/api/v1/backups", &json!({})).await.status, 403);

    // No place for it: told, shown, and nothing else stops.
    fs::remove_dir_all(&folder).expect("removed");
    fs::write(&folder, b"a file").expect("written");
    appliance.expect_error("the backup could not be made");
    appliance.expect_error("a call failed inside");
    let refused = ada.post("/api/v1/backups", &json!({})).await;
    assert_problem!(refused, 503, "no-backup");
    assert_eq!(appliance.api().get("/readyz").await.status, 200);
    fs::remove_file(&folder).expect("removed");
    ada.post("/api/v1/backups", &json!({})).await.expect(201);
    appliance.stop().await;
}

/// Every file in `tests/golden` was written by a released version, and opens.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_released_version_open_and_a_backup_is_made_before_the_change() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut seen = 0;
    for entry in fs::read_dir(&golden).expect("the folder") {
        let from = entry.expect("readable").path();
        let dir = new_dir();
        let data = dir.join("data");
        copy(&from, &data);
        let public_url = fs::read_to_string(from.join("public-url")).expect("where it was served");
        fs::remove_file(data.join("public-url")).expect("removed");
        let options = Options {
            public_url: public_url.trim().to_owned(),
            data_dir: Some(data.clone()),
            ..Options::default()
        };
        let mut appliance = Appliance::start(options).await;
        let keys = appliance
            .api()
            .get("/.well-known/signedapproval/keys.json")
            .await
            .json();
        assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "{keys}");
        let vkeys = appliance
            .api()
            .get("/.well-known/signedapproval/log.vkey")
            .await
            .text();
        assert_eq!(vkeys.lines().count(), 1, "{vkeys}");
        let made: Vec<PathBuf> = fs::read_dir(&data)
            .expect("there")
            .map(|it| it.expect("readable").path())
            .filter(|it| it.extension().is_some_and(|it| it == "sabackup"))
            .collect();
        assert_eq!(made.len(), 1, "{made:?}");
        let (code, out, err) = backup(
            &appliance,
            &["verify", made[0].to_str().expect("UTF-8"), "--json"],
        )
        .await;
        assert_eq!(code, 0, "{out}{err}");
        let before: Value = serde_json::from_str(&out).expect("JSON");
        // Its sealed secrets open, and all of it goes on.
        let arguments = ["keys", "rotate", "--use", "data", "--json"];
        let to = data.to_str().expect("UTF-8");
        let (code, out, err) = run(&dir, &[&arguments[..], &["--data-dir", to]].concat(), &[]).await;
        assert_eq!(code, 0, "{out}{err}");
        let done: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
        // The backup was made before the start that follows, which seals a key for web push.
        assert!(before["secrets"].as_u64() > Some(0), "{before}");
        assert!(
            done["secrets"].as_u64() >= before["secrets"].as_u64(),
            "{done} {before}"
        );
        let people = run(&dir, &["admin", "people", "--json", "--data-dir", to], &[]).await;
        assert!(people.1.contains("Bea"), "{people:?}");
        appliance.restart().await;
        let left = fs::read_dir(&data).expect("there").count();
        assert!(left < 8, "a second start changes nothing more");
        drop(appliance);
        seen += 1;
        let _removed = fs::remove_dir_all(&dir);
    }
    assert!(seen > 0);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("its mode");
    for entry in fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("its mode");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_schema_is_refused_and_left_as_it_is() {
    let mut appliance = Appliance::start(Options::default()).await;
    appliance.stop().await;
    use redb::ReadableDatabase as _;
    use redb::ReadableTableMetadata as _;
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    const JOURNAL: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("journal");
    let path = appliance.data_dir().join("journal.redb");
    let look = || {
        let db = redb::Database::open(&path).expect("opens");
        let transaction = db.begin_read().expect("begins");
        let meta = transaction.open_table(META).expect("the table");
        let schema = meta
            .get("schema")
            .expect("readable")
            .expect("there")
            .value()
            .to_vec();
        (
            schema,
            transaction
                .open_table(JOURNAL)
                .expect("the table")
                .len()
                .expect("a length"),
        )
    };
    {
        let db = redb::Database::open(&path).expect("opens");
        let transaction = db.begin_write().expect("begins");
        transaction
            .open_table(META)
            .expect("the table")
            .insert("schema", &99u32.to_be_bytes()[..])
            .expect("inserted");
        transaction.commit().expect("committed");
    }
    let before = look();
    let failure = appliance.try_restart().await.expect_err("refused");
    assert_eq!(failure.code, Some(1), "{}", failure.log);
    assert!(
        failure.log.contains("newer version (schema 99"),
        "{}",
        failure.log
    );
    assert_eq!(look(), before, "nothing is recorded, nothing brought up to date");
}
