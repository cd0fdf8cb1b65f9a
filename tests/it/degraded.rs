//! Working less than whole: sealed, a full disk, a clock that went backwards, something stored that is not what it was.
//! Each is refused, told, and nothing turns green meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use signedapproval::clock::Clock;
use signedapproval::domain::command::Command as Order;
use signedapproval::domain::event::Actor;
use signedapproval::domain::time::Time;
use signedapproval::engine::Submission;
use signedapproval::engine::continue_instance;
use signedapproval::signing::FileSigner;
use signedapproval::signing::Keys;
use signedapproval::signing::open_key_file;
use signedapproval::store::Store;

use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::Until;
use crate::support::appliance::binary;
use crate::support::appliance::free_port;
use crate::support::appliance::new_dir;
use crate::support::monitor::{Monitor, is_over, journal_tells};
use crate::support::person::Person;
use crate::support::problem::assert_problem;

pub async fn wait_for_reasons(appliance: &Appliance, wanted: &[&str]) {
    let started = Instant::now();
    loop {
        // While one listener takes over from another a connection may be cut.
        let Ok(answer) = appliance.api().try_send("GET", "/readyz", &[], None).await else {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{wanted:?}, but no answer"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let reasons = answer.json()["reasons"].clone();
        if reasons == json!(wanted) {
            assert_eq!(answer.status == 200, wanted.is_empty(), "{answer:?}");
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{wanted:?}, but {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A real disk that is really full: a tmpfs of its own, where the test may mount one.
struct Disk {
    path: std::path::PathBuf,
}

impl Disk {
    fn new(mib: u32) -> Option<Disk> {
        let path = new_dir();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(&path)
            .stderr(Stdio::null())
            .status();
        match mounted {
            Ok(status) if status.success() => Some(Disk { path }),
            _ => None,
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A mount left behind goes with the container.
        let _unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_people_ask_and_comes_back_by_itself() {
    let Some(disk) = Disk::new(120) else {
        eprintln!("SKIPPED: a file system of its own can't be mounted here");
        return;
    };
    let options = Options {
        data_dir: Some(disk.path.join("data")),
        ..Options::default()
    };
    let (monitor, options) = Monitor::of(options.env("SIGNEDAPPROVAL_STORAGE__RESERVE_MIB", "32"));
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let short = ci
        .open_request(&json!({"action": "deploy", "ttl_seconds": 6}))
        .await;
    let request = ci.open_request(&json!({"action": "deploy"})).await;
    appliance.expect_error("the disk is nearly full");
    fs::write(disk.path.join("filler"), vec![1; 85 << 20]).expect("there is room for it");
    wait_for_reasons(&appliance, &["storage_full"]).await;
    let refused = bea.decide(&request, "approve", None).await;
    assert_problem!(refused, 503, "storage-full");
    assert!(refused.header("retry-after").is_some());
    let refused = ci
        .post("/api/v1/approvals/request", &json!({"action": "x"}))
        .await;
    assert_problem!(refused, 503, "storage-full");
    // Reading works, and what keeps the gate safe is still recorded.
    ci.wait_for_status(&short, "expired", Duration::from_secs(20))
        .await;
    assert_eq!(ci.request(&request).await["status"], "pending");
    let page = ada.get("/dashboard").await.text();
    assert!(page.contains("MiB are free"), "the page says so");
    monitor.sees("storage_full", "degraded").await;
    // However much room there is by the second, it is one entry.
    journal_tells(&ada, "storage_full", 1, 0).await;
    fs::remove_file(disk.path.join("filler")).expect("removed");
    is_over(&appliance, &monitor, &ada, "storage_full").await;
    bea.approve(&request).await;

    // To the last byte: whatever it answers, a start with room again has all that was acknowledged.
    let mut filler = fs::File::create(disk.path.join("filler")).expect("made");
    use std::io::Write as _;
    while filler.write_all(&[1; 65536]).is_ok() {}
    drop(filler);
    wait_for_reasons(&appliance, &["storage_full"]).await;
    assert!(
        !disk.path.join("data/ballast").exists(),
        "the ballast was given up"
    );
    appliance.stop().await;
    fs::remove_file(disk.path.join("filler")).expect("removed");
    appliance.restart().await;
    wait_for_reasons(&appliance, &[]).await;
    assert_eq!(ci.request(&request).await["status"], "approved");
    drop(appliance);
}

struct Later(i64);

impl Clock for Later {
    fn now(&self) -> Time {
        Time(self.0)
    }
}

/// Puts an entry of tomorrow into the journal, as if the host's clock had gone back since.
pub fn write_from_tomorrow(appliance: &Appliance, public_url: &str) {
    let folder = appliance.data_dir().join("keys");
    let passphrase = fs::read_to_string(folder.join("passphrase")).expect("readable");
    let key = |name: &str| {
        let key = open_key_file(&folder.join(name), &passphrase).expect("opens");
        Arc::new(FileSigner::new(key))
    };
    let keys = Keys {
        credential: key("credential.pem"),
        log: key("log.pem"),
    };
    let store = Arc::new(Store::open(&appliance.data_dir().join("journal.redb")).expect("opens"));
    let tomorrow = jiff::Timestamp::now().as_millisecond() + 15_000;
    let mut begun =
        continue_instance(store, keys, Arc::new(Later(tomorrow)), public_url, "0").expect("goes on");
    let command = Order::RefuseCeremony {
        person: None,
        request: None,
        reason: "of tomorrow".into(),
    };
    let submission = Submission {
        actor: Actor::System,
        command,
        secrets: Vec::new(),
        cursor: None,
    };
    begun.writer.write(vec![submission]).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_behind_the_journal_decides_nothing_until_it_is_right() {
    let (monitor, options) = Monitor::of(Options::default());
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let request = ci.open_request(&json!({"action": "deploy"})).await;
    appliance.stop().await;
    write_from_tomorrow(&appliance, &appliance.public_url());
    appliance.expect_error("the host's clock is behind the journal");
    appliance.options.until = Until::Alive;
    appliance.restart().await;
    wait_for_reasons(&appliance, &["clock_unsound"]).await;
    let refused = bea.decide(&request, "approve", None).await;
    assert_problem!(refused, 503, "clock-unsound");
    assert_eq!(ci.request(&request).await["status"], "pending");
    let page = ada.get("/dashboard").await.text();
    assert!(page.contains("clock says"), "the page says so");
    monitor.sees("clock_unsound", "degraded").await;
    journal_tells(&ada, "clock_unsound", 1, 0).await;
    // Once the host's time has come to the journal's, all is well again.
    is_over(&appliance, &monitor, &ada, "clock_unsound").await;
    bea.approve(&request).await;
}

/// Changes the journal's third entry in its database, as somebody with the disk in hand might.
pub fn change_entry(appliance: &Appliance) {
    use redb::ReadableTable as _;
    const JOURNAL: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("journal");
    let db = redb::Database::open(appliance.data_dir().join("journal.redb")).expect("opens");
    let transaction = db.begin_write().expect("begins");
    {
        let mut table = transaction.open_table(JOURNAL).expect("the table");
        let leaf = table
            .get(2)
            .expect("readable")
            .expect("an entry")
            .value()
            .to_vec();
        let changed = String::from_utf8(leaf)
            .expect("text")
            .replace("credential", "credentiaI");
        table.insert(2, changed.as_bytes()).expect("inserted");
    }
    transaction.commit().expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_changed_is_found_and_nothing_is_decided() {
    let (monitor, options) = Monitor::of(Options::default());
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let request = ci.open_request(&json!({"action": "deploy"})).await;
    appliance.stop().await;
    change_entry(&appliance);
    appliance.expect_error("what is stored is not what was written");
    appliance.options.until = Until::Alive;
    appliance.restart().await;
    wait_for_reasons(&appliance, &["storage_damaged"]).await;
    let refused = bea.decide(&request, "approve", None).await;
    assert_problem!(refused, 503, "read-only");
    assert_eq!(ci.request(&request).await["status"], "pending");
    let page = ada.get("/dashboard").await.text();
    assert!(
        page.contains("journal entry 2 is not the one its tree knows"),
        "the page says so"
    );
    let (code, _, _) = appliance.cli(&["healthcheck"]).await;
    assert_eq!(code, 1);
    monitor.sees("storage_damaged", "degraded").await;
    journal_tells(&ada, "storage_damaged", 1, 0).await;
    // A restart mends nothing, so nothing is decided until all was compared anew.
    appliance.restart().await;
    let refused = bea.decide(&request, "approve", None).await;
    assert_problem!(refused, 503, "read-only");
    wait_for_reasons(&appliance, &["storage_damaged"]).await;
    journal_tells(&ada, "storage_damaged", 1, 0).await;
}

/// Neither core file nor debugger: what is in memory stays there.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_leaves_no_core_and_lets_nobody_look_in() {
    let appliance = Appliance::start(Options::default()).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", appliance.pid())).expect("readable");
    let core = limits
        .lines()
        .find(|it| it.starts_with("Max core file size"))
        .expect("a line");
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    assert_eq!(core.split_whitespace().rev().nth(2), Some("0"), "{core}");
    // The files under /proc of a process that can be looked into belong to its user; of one that can't, to root.
    if fs::metadata("/proc/self").expect("there").uid() != 0 {
        eprintln!("SKIPPED: only root can start a process as somebody else");
        return;
    }
    let dir = new_dir();
    std::os::unix::fs::chown(&dir, Some(65534), Some(65534)).expect("given away");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("its mode");
    let program = dir.join("signedapproval");
    fs::copy(binary(), &program).expect("copied");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    let port = free_port();
    let mut child = Command::new(&program)
        .env_clear()
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(dir.join("data"))
        .uid(65534)
        .gid(65534)
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let started = Instant::now();
    while !dir.join("data/setup-url").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "it serves");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let owner = fs::metadata(format!("/proc/{}/environ", child.id()))
        .expect("there")
        .uid();
    let _killed = child.kill();
    let _reaped = child.wait();
    let _removed = fs::remove_dir_all(&dir);
    assert_eq!(owner, 0, "it can be looked into");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_passphrase_is_sealed_until_somebody_enters_it() {
    let url = "https://approvals.example";
    let options = Options {
        public_url: url.into(),
        until: Until::Alive,
        ..Options::default()
    };
    // Nothing is there yet: whoever has the link from the host chooses the passphrase.
    let mut appliance = Appliance::start(options).await;
    wait_for_reasons(&appliance, &["sealed"]).await;
    let api = appliance.api();
    let link = fs::read_to_string(appliance.data_dir().join("unseal-url")).expect("the link");
    let token = link.split_once('#').expect("a token").1.to_owned();
    assert!(link.starts_with(&format!("{url}/unseal#")), "{link}");
    let good = "correct horse battery staple";
    for (body, status) in [
        (json!({"passphrase": good, "again": good}), 403),
        (json!({"passphrase": good, "again": good, "token": "x"}), 403),
        (
            json!({"passphrase": "short", "again": "short", "token": token}),
            422,
        ),
        (json!({"passphrase": good, "again": "other", "token": token}), 422),
    ] {
        let answer = api.post("/api/v1/unseal", &body).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let page = api.get("/unseal").await.text();
    assert!(page.contains("Choose the passphrase"), "{page}");
    api.post(
        "/api/v1/unseal",
        &json!({"passphrase": good, "again": good, "token": token}),
    )
    .await
    .expect(200);
    wait_for_reasons(&appliance, &[]).await;
    assert!(!appliance.data_dir().join("unseal-url").exists());
    let before = appliance
        .api()
        .get("/.well-known/signedapproval/keys.json")
        .await
        .text();

    // From now on it is asked for after each start, and nothing else is answered.
    appliance.restart().await;
    wait_for_reasons(&appliance, &["sealed"]).await;
    for path in [
        "/api/v1/me",
        "/.well-known/signedapproval/keys.json",
        "/dashboard",
        "/login",
    ] {
        assert_problem!(appliance.api().get(path).await, 503, "sealed");
    }
    let page = appliance.api().get("/unseal").await;
    assert!(page.text().contains("This server is sealed"), "{page:?}");
    let wrong = appliance
        .api()
        .post("/api/v1/unseal", &json!({"passphrase": "wrong"}))
        .await;
    assert_problem!(wrong, 403, "wrong-passphrase");
    wait_for_reasons(&appliance, &["sealed"]).await;
    appliance
        .api()
        .post("/api/v1/unseal", &json!({"passphrase": good}))
        .await
        .expect(200);
    wait_for_reasons(&appliance, &[]).await;
    let after: Value = appliance
        .api()
        .get("/.well-known/signedapproval/keys.json")
        .await
        .json();
    assert_eq!(after, serde_json::from_str::<Value>(&before).expect("JSON"));
    assert!(
        !appliance.log().contains("correct horse"),
        "it never stands in the log"
    );
    // Stopped while sealed, it stops.
    appliance.restart().await;
    wait_for_reasons(&appliance, &["sealed"]).await;
    assert_eq!(appliance.stop().await.code(), Some(0));
}
