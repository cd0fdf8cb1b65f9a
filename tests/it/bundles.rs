//! Audit bundles: what an auditor takes away and verifies without the appliance, by our verifier and by `verify.py`.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boon::Compiler;
use boon::Schemas;
use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;
use signedapproval::domain::ids::Digest;
use signedapproval::evidence::bundle::manifest::File;
use signedapproval::evidence::bundle::manifest::Manifest;
use signedapproval::evidence::bundle::verify::BundleReport;
use signedapproval::evidence::bundle::verify::bundle;
use signedapproval::evidence::bundle::zip::Directory;
use signedapproval::evidence::bundle::zip::Writer;
use signedapproval::evidence::dsse::Envelope;
use signedapproval::evidence::dsse::PAYLOAD_TYPE;
use signedapproval::evidence::dsse::PublicKey;
use signedapproval::evidence::dsse::key_id;
use signedapproval::evidence::dsse::pae;
use signedapproval::evidence::dsse::spki_of_ed25519;
use signedapproval::evidence::verify::Trust;
use signedapproval::tlog::Tile;
use signedapproval::tlog::VerifierKey;
use signedapproval::tlog::leaf_hash;

use crate::support::appliance::new_dir;
use crate::support::appliance::run;
use crate::support::gated::Gated;
use crate::support::gated::SOON;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// A period before and behind everything.
pub const EVER: [&str; 2] = ["2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"];

/// An appliance with a history: approved, rejected and waiting requests, and a deployment.
pub struct Scene {
    pub it: Gated,
    pub dir: PathBuf,
    pub approved: String,
    pub rejected: String,
    pub action: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A directory left behind does no harm.
        let _removed = fs::remove_dir_all(&self.dir);
    }
}

impl Scene {
    pub async fn new() -> Scene {
        let it = Gated::start().await;
        let change = it.open("feature", "main");
        let approved = it.pending(&change, "main").await;
        it.bea.approve(&approved).await;
        let other = it.open_with(
            "=cmd",
            "main",
            "=HYPERLINK(\"http://evil\",\"x\")",
            &Gated::commit_of_carl("b.rs"),
        );
        let rejected = it.pending(&other, "main").await;
        it.bea.reject(&rejected, "+not, \"like\" this").await;
        let key = it.ada.create_api_key("CI", &["request"], &[]).await.key;
        let ci = it.appliance.api().with_key(&key);
        let action = ci
            .open_request(&json!({
                "action": "Deploy \u{e9}\u{1f600} to production", "environment": "production",
                "metadata": {"commit": change.head},
            }))
            .await;
        it.bea.approve(&action).await;
        let waiting = it.open("later", "main");
        it.pending(&waiting, "main").await;
        it.expect_status(&change.head, "main", "success");
        let dir = new_dir();
        let scene = Scene {
            it,
            dir,
            approved,
            rejected,
            action,
        };
        for name in ["credential.pem", "log.vkey"] {
            let answer = scene
                .it
                .appliance
                .api()
                .get(&format!("/.well-known/signedapproval/{name}"))
                .await;
            fs::write(scene.dir.join(name), &answer.body).expect("a writable directory");
        }
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `audit export` into this directory.
    pub async fn export(&self, name: &str, period: [&str; 2], more: &[&str]) -> Vec<u8> {
        let out = self.path(name);
        let out = out.to_str().expect("text");
        let arguments = [
            &[
                "audit", "export", "--from", period[0], "--to", period[1], "--out", out,
            ][..],
            more,
        ]
        .concat();
        let (code, said, err) = self.it.appliance.cli(&arguments).await;
        assert_eq!(code, 0, "{said}{err}");
        fs::read(out).expect("the bundle")
    }

    pub async fn verify(&self, name: &str) -> (i32, String) {
        verify(&self.dir, name).await
    }
}

/// `audit verify` with the keys in the same directory.
pub async fn verify(dir: &Path, name: &str) -> (i32, String) {
    let arguments = [
        "audit",
        "verify",
        name,
        "--key",
        "credential.pem",
        "--log-key",
        "log.vkey",
    ];
    let (code, out, err) = run(dir, &arguments, &[]).await;
    (code, out + &err)
}

/// `verify.py` as it stands in the sources.
pub fn verify_py(dir: &Path, name: &str) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/bundle/verify.py");
    let done = Command::new("python3")
        .current_dir(dir)
        .arg(script)
        .args([name, "--key", "credential.pem", "--log-key", "log.vkey"])
        .output()
        .expect("python3 is installed");
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code().unwrap_or(-1), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_verifies_with_no_appliance_left() {
    let mut it = Scene::new().await;
    it.export("all.zip", EVER, &[]).await;
    it.it.appliance.kill9();
    let (code, out) = it.verify("all.zip").await;
    assert_eq!(code, 0, "{out}");
    let (code, out) = verify_py(&it.dir, "all.zip");
    assert_eq!(code, 0, "{out}");
}

/// A bundle's files, by name.
pub type Files = Vec<(String, Vec<u8>)>;
/// What is done to a bundle.
type Bend<'b> = &'b dyn Fn(&mut Files);

/// The files of a bundle, in their order.
pub fn unpack(bytes: &[u8]) -> Files {
    let mut source = Cursor::new(bytes);
    let directory = Directory::read(&mut source).expect("a bundle");
    (0..directory.entries.len())
        .map(|at| {
            let content = directory
                .contents(&mut source, at, u64::MAX)
                .expect("its contents");
            (directory.entries[at].name.to_string(), content)
        })
        .collect()
}

/// The archive of these files.
pub fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.add(name, content).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}

fn file<'f>(files: &'f mut [(String, Vec<u8>)], name: &str) -> &'f mut Vec<u8> {
    let found = files.iter_mut().find(|it| it.0 == name);
    &mut found.unwrap_or_else(|| panic!("{name}")).1
}

/// `SHA256SUMS` anew, as whoever changes a file would.
fn sum_up(files: &mut [(String, Vec<u8>)]) {
    let lines: String = files
        .iter()
        .filter(|it| it.0 != "SHA256SUMS" && it.0 != "manifest.dsse.json")
        .map(|(name, content)| format!("{}  {name}\n", hex::encode(Sha256::digest(content))))
        .collect();
    *file(files, "SHA256SUMS") = lines.into_bytes();
}

/// The manifest anew, signed with another key, for the files as they are now.
fn sign(files: &mut [(String, Vec<u8>)], key: &SigningKey) {
    let envelope = Envelope::parse(file(files, "manifest.dsse.json")).expect("a manifest");
    let mut manifest = Manifest::parse(&envelope.payload).expect("a manifest");
    manifest.files = files
        .iter()
        .filter(|it| it.0 != "manifest.dsse.json")
        .map(|(name, content)| File {
            name: name.clone(),
            sha256: Digest::of(content),
        })
        .collect();
    let statement = manifest.statement_bytes();
    let keyid = key_id(&spki_of_ed25519(&key.verifying_key().to_bytes()));
    let signature = key.sign(&pae(PAYLOAD_TYPE, &statement)).to_bytes();
    *file(files, "manifest.dsse.json") = Envelope::build(PAYLOAD_TYPE, &statement, &keyid, &signature);
}

/// `SHA256SUMS` and manifest anew, by whoever has the appliance's key.
pub fn resign(files: &mut [(String, Vec<u8>)], key: &SigningKey) {
    sum_up(files);
    sign(files, key);
}

/// A bundle's own keys, taken from elsewhere.
struct Keys {
    credential: Vec<PublicKey>,
    log: Vec<VerifierKey>,
}

impl Keys {
    fn of(dir: &Path) -> Keys {
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a key");
        Keys {
            credential: vec![PublicKey::from_pem(&read("credential.pem")).expect("a key")],
            log: vec![VerifierKey::parse(read("log.vkey").trim()).expect("a key")],
        }
    }

    fn verify(&self, bytes: &[u8]) -> BundleReport {
        let trust = Trust {
            keys: &self.credential,
            log_keys: &self.log,
        };
        bundle(&mut Cursor::new(bytes), &trust).expect("it can be read")
    }

    /// The check that fails first.
    fn found(&self, files: &[(String, Vec<u8>)]) -> (&'static str, String) {
        let report = self.verify(&pack(files));
        assert!(!report.valid && report.verdict.is_none(), "{report:?}");
        let check = report.checks.into_iter().find(|it| !it.ok).expect("a failure");
        (check.name, check.detail)
    }
}

/// What stands in a report beside failures.
fn figures(report: &BundleReport) -> (u64, u64, u64) {
    assert!(report.valid, "{report:#?}");
    (report.events, report.credentials, report.outcomes)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_exports_of_a_period_are_the_same_bytes_and_filters_hide_nothing_unnoticed() {
    let it = Scene::new().await;
    let to = jiff::Timestamp::now().to_string();
    let period = ["2000-01-01", to.as_str()];
    let first = it.export("1.zip", period, &[]).await;
    // What happens afterwards is behind the period, the exports themselves included.
    let more = it.it.open("more", "main");
    it.it.pending(&more, "main").await;
    // Neither do other names and settings by now change how the period reads.
    let held = it.it.bea.get("/api/v1/me/passkeys").await;
    let place = format!("/api/v1/me/passkeys/{}", text(&items(&held)[0], "id"));
    let named = it.it.bea.patch(&place, &json!({"label": "On my key ring"})).await;
    assert!((200..300).contains(&named.status), "{named:?}");
    let place = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.it.integration.id, it.it.project
    );
    let settings = json!({"branch_patterns": ["main"], "required_approval_count": 1});
    it.it.ada.put(&place, &settings).await.expect(200);
    let again = it.export("2.zip", period, &[]).await;
    assert!(first == again, "two exports differ");
    let keys = Keys::of(&it.dir);
    assert_eq!(figures(&keys.verify(&first)).1, 3);
    let whole = keys.verify(&first);
    for (filter, credentials, outcomes) in [
        (vec!["--project", "group/app"], 2, 2),
        (vec!["--project", &it.it.project], 2, 2),
        (vec!["--outcome", "approved"], 2, 2),
        (vec!["--outcome", "rejected"], 1, 1),
        (vec!["--outcome", "skipped"], 0, 0),
        (vec!["--person", &it.it.bea.id()], 3, 3),
        (vec!["--person", &it.it.carl.id()], 0, 0),
        (vec!["--project", "group/app", "--outcome", "approved"], 1, 1),
        (vec!["--project", "group/another"], 0, 0),
    ] {
        let name = format!("{}.zip", filter.concat().replace(['/', '-'], "_"));
        let bytes = it.export(&name, period, &filter).await;
        let report = keys.verify(&bytes);
        let (events, found, ended) = figures(&report);
        assert_eq!((found, ended), (credentials, outcomes), "{filter:?}");
        assert!(events < whole.events && events >= 4, "{filter:?}: {events}");
        assert!(
            report.not_shown.iter().any(|it| it.contains("filter")),
            "{report:#?}"
        );
        let (code, out) = verify_py(&it.dir, &name);
        assert_eq!(code, 0, "{filter:?}: {out}");
    }
    // A period in the middle: what lies before is proved to be continued.
    let journal = it.it.ada.journal("decision.recorded").await;
    let (from, until) = (text(&journal[1], "time"), text(&journal[2], "time"));
    let middle = it.export("middle.zip", [&from, &until], &[]).await;
    let report = keys.verify(&middle);
    assert_eq!(figures(&report).1, 1, "{report:#?}");
    assert!(
        report.not_shown.iter().any(|it| it.contains("begins after them")),
        "{report:#?}"
    );
    let (code, out) = verify_py(&it.dir, "middle.zip");
    assert_eq!(code, 0, "{out}");
    // The journal knows who took what.
    let made = it.it.ada.journal("export.made").await;
    let digest = hex::encode(Sha256::digest(&first));
    assert!(
        made.iter()
            .filter(|it| it["data"]["bundle_sha256"] == digest)
            .count()
            == 2,
        "{made:#?}"
    );
}

/// How many one-byte changes are tried: a few hundred, or as many as the environment says.
fn changes() -> usize {
    std::env::var("SIGNEDAPPROVAL_BUNDLE_CHANGES")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(150)
}

/// Numbers without a pattern, the same every time.
fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn not_one_byte_of_a_bundle_can_be_changed() {
    let it = Scene::new().await;
    let bytes = it.export("all.zip", EVER, &[]).await;
    let keys = Keys::of(&it.dir);
    assert!(keys.verify(&bytes).valid);
    let files = unpack(&bytes);
    assert!(pack(&files) == bytes, "it is in its one form");
    let mut numbers = random(0x5eed);
    let mut number = |below: usize| (numbers.next().expect("endless") % below as u64) as usize;
    let (mut plain, mut mended) = (Vec::new(), Vec::new());
    for _ in 0..changes() {
        // One byte of the archive as it is.
        let (at, by) = (number(bytes.len()), 1 + number(255) as u8);
        let mut bent = bytes.clone();
        bent[at] ^= by;
        assert!(
            !keys.verify(&bent).valid,
            "byte {at} changed by {by:#x} is not found"
        );
        plain.push(format!("{at} {by}"));
        // One byte of a file, by somebody who then makes archive and SHA256SUMS fit again.
        let place = number(files.len());
        if files[place].1.is_empty() {
            continue;
        }
        let (at, by) = (number(files[place].1.len()), 1 + number(255) as u8);
        let mut other = files.clone();
        other[place].1[at] ^= by;
        if other[place].0 != "SHA256SUMS" {
            sum_up(&mut other);
        }
        let (name, detail) = keys.found(&other);
        assert!(!name.is_empty() && !detail.is_empty());
        mended.push(format!("{} {at} {by}", other[place].0));
    }
    // The same changes for verify.py, in one process.
    let driver = r#"
import importlib.util, sys, hashlib
spec = importlib.util.spec_from_file_location("verify", sys.argv[1])
v = importlib.util.module_from_spec(spec); spec.loader.exec_module(v)
data = open("all.zip", "rb").read()
keys, log = [v.read_key("credential.pem")], v.read_vkeys("log.vkey")
def holds(make):
    try:
        return v.verify(make(), keys, log)[0]
    except v.Wrong:
        return False
class Files:
    def __init__(self, files): self.files = files
    def names(self): return sorted(self.files)
    def read(self, name): return self.files.get(name)
assert holds(lambda: v.Zip(data)), "the bundle itself"
whole = v.Zip(data)
files = {name: whole.read(name) for name in whole.names()}
missed = tried = 0
for line in open("changes", encoding="utf-8"):
    parts = line.split()
    at, by = int(parts[-2]), int(parts[-1])
    if len(parts) == 2:
        bent = bytearray(data); bent[at] ^= by
        good = holds(lambda: v.Zip(bytes(bent)))
    else:
        other = dict(files); bent = bytearray(other[parts[0]]); bent[at] ^= by; other[parts[0]] = bytes(bent)
        if parts[0] != "SHA256SUMS":
            other["SHA256SUMS"] = "".join("%s  %s\n" % (hashlib.sha256(other[n]).hexdigest(), n) for n in sorted(other) if n not in ("SHA256SUMS", "manifest.dsse.json")).encode()
        good = holds(lambda: Files(other))
    tried += 1
    if good:
        missed += 1; print("missed:", line)
print(tried, "tried,", missed, "missed")
sys.exit(1 if missed else 0)
"#;
    let lines = [plain, mended].concat();
    fs::write(it.path("changes"), lines.join("\n")).expect("a writable directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/bundle/verify.py");
    let done = Command::new("python3")
        .current_dir(&it.dir)
        .args(["-B", "-c", driver])
        .arg(script)
        .output()
        .expect("python3 is installed");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    println!("{} changes, all found; verify.py: {said}", lines.len());
    assert!(
        said.contains(&format!("{} tried, 0 missed", lines.len())),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_a_bundle_is_named() {
    let it = Scene::new().await;
    let bytes = it.export("all.zip", EVER, &[]).await;
    let keys = Keys::of(&it.dir);
    let files = unpack(&bytes);
    let outcome = format!("outcomes/{}.dsse.json", it.approved);
    let named = |change: Bend<'_>| {
        let mut other = files.clone();
        change(&mut other);
        keys.found(&other)
    };
    // Without the sums made anew: the digests tell which file.
    let (check, detail) = named(&|it| it.retain(|it| it.0 != outcome));
    assert!(
        check == "digests" && detail.contains(&it.approved) && detail.contains("missing"),
        "{detail}"
    );
    let (check, detail) = named(&|it| {
        let at = it.partition_point(|it| it.0.as_str() < "schema/zzz.json");
        it.insert(at, ("schema/zzz.json".into(), b"{}".to_vec()));
    });
    assert!(
        check == "digests" && detail.contains("schema/zzz.json is not listed"),
        "{detail}"
    );
    let (check, detail) = named(&|it| file(it, "approvals.csv").push(b'\n'));
    assert!(check == "digests" && detail.contains("approvals.csv"), "{detail}");
    // With them: the manifest's signature does.
    let (check, detail) = named(&|it| {
        file(it, "approvals.csv").push(b'\n');
        sum_up(it);
    });
    assert!(check == "manifest" && detail.contains("SHA256SUMS"), "{detail}");
    // Signed anew by somebody else.
    let thief = SigningKey::from_bytes(&[7; 32]);
    let (check, detail) = named(&|it| {
        file(it, "approvals.csv").push(b'\n');
        sum_up(it);
        sign(it, &thief);
    });
    assert!(check == "manifest" && detail.contains("not trusted"), "{detail}");

    // From here on the thief's key is trusted, to see what is behind the manifest: somebody who holds the credential key
    // still can't change the log or a person's decision.
    let public = PublicKey::from_raw(&thief.verifying_key().to_bytes()).expect("a key");
    let both = Keys {
        credential: vec![keys.credential[0].clone(), public.clone()],
        log: keys.log.clone(),
    };
    let history = String::from_utf8(
        files
            .iter()
            .find(|it| it.0 == "keys/history.json")
            .expect("it")
            .1
            .clone(),
    )
    .expect("text");
    let entry = format!(
        r#"{{"keyid":"{}","use":"credential","spki":"{}","from_seq":0,"until_seq":null,"from":"2026-01-01T00:00:00Z","until":null,"introduction":null}}"#,
        public.id(),
        STANDARD.encode(public.spki()),
    );
    let mut second = files.clone();
    *file(&mut second, "keys/history.json") = history.replace("]}", &format!(",{entry}]}}")).into_bytes();
    let pem_name = format!("keys/credential-{}.pem", &public.id()[..16]);
    let at = second.partition_point(|it| it.0 < pem_name);
    second.insert(at, (pem_name, public.pem().into_bytes()));
    let deep = |change: Bend<'_>| {
        let mut other = second.clone();
        change(&mut other);
        sum_up(&mut other);
        sign(&mut other, &thief);
        other
    };
    assert!(
        both.verify(&pack(&deep(&|_| {}))).valid,
        "the frame itself holds: {:#?}",
        both.verify(&pack(&deep(&|_| {})))
    );
    let lines = |it: &mut Files, change: &dyn Fn(&mut Vec<String>)| {
        let text = String::from_utf8(file(it, "events.jsonl").clone()).expect("text");
        let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut all);
        *file(it, "events.jsonl") = all
            .iter()
            .map(|it| it.clone() + "\n")
            .collect::<String>()
            .into_bytes();
    };
    let cases: [(&str, &str, Bend<'_>); 12] = [
        ("events", "stands where", &|it| lines(it, &|all| all.swap(10, 11))),
        ("events", "one was changed, left out", &|it| {
            lines(it, &|all| drop(all.pop()))
        }),
        ("events", "stands where", &|it| {
            lines(it, &|all| drop(all.remove(5)))
        }),
        ("events", "one was changed", &|it| {
            lines(it, &|all| {
                let at = all
                    .iter()
                    .position(|it| it.contains("decision.recorded"))
                    .expect("a decision");
                all[at] = all[at].replace("\"approve\"", "\"reject\"");
            });
        }),
        ("events", "left out", &|it| {
            lines(it, &|all| {
                let hash = leaf_hash(all[20].as_bytes()).hex();
                all[20] = format!("{{\"seq\":20,\"leaf_hash\":\"{hash}\"}}");
            });
        }),
        ("log", "log/checkpoint-to", &|it| {
            file(it, "log/checkpoint-to").clear()
        }),
        ("log", "not only appended", &|it| {
            *file(it, "log/consistency.txt") = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".to_vec()
        }),
        ("credentials", "is missing", &|it| {
            let name = it
                .iter()
                .map(|it| it.0.clone())
                .find(|it| it.ends_with(".tlog-proof"))
                .expect("a proof");
            it.retain(|it| it.0 != name);
        }),
        ("credentials", "names it", &|it| {
            let mut more: Files = Vec::new();
            for (name, content) in it.iter().filter(|it| it.0.starts_with("credentials/")).take(4) {
                let (_, ending) = name.split_once('.').expect("an ending");
                more.push((
                    format!("credentials/crd_{}.{ending}", "f".repeat(64)),
                    content.clone(),
                ));
            }
            it.extend(more);
            it.sort();
        }),
        ("outcomes", "not the one that the journal names", &|it| {
            let other = it
                .iter()
                .rfind(|it| it.0.starts_with("outcomes/"))
                .expect("one")
                .1
                .clone();
            let first = it
                .iter_mut()
                .find(|it| it.0.starts_with("outcomes/"))
                .expect("one");
            first.1 = other;
        }),
        ("keys", "which was retired", &|it| {
            let text = String::from_utf8(file(it, "keys/history.json").clone()).expect("text");
            let at = text.rfind("\"until_seq\":null").expect("the thief's key");
            let changed = text[..at].to_owned() + "\"until_seq\":7" + &text[at + 16..];
            *file(it, "keys/history.json") = changed.into_bytes();
        }),
        ("credentials", "did not count", &|it| {
            let text = String::from_utf8(file(it, "keys/history.json").clone()).expect("text");
            *file(it, "keys/history.json") = text
                .replacen("\"until_seq\":null", "\"until_seq\":7", 1)
                .into_bytes();
        }),
    ];
    for (wanted, words, change) in cases {
        let other = deep(change);
        let (check, detail) = both.found(&other);
        assert_eq!(check, wanted, "{detail}");
        assert!(detail.contains(words), "{wanted}: {detail}");
        // verify.py finds it too, given both keys.
        fs::write(it.path("bent.zip"), pack(&other)).expect("a writable directory");
        fs::write(it.path("thief.pem"), public.pem()).expect("a writable directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/bundle/verify.py");
        let done = Command::new("python3")
            .current_dir(&it.dir)
            .arg(script)
            .args([
                "bent.zip",
                "--key",
                "credential.pem",
                "--key",
                "thief.pem",
                "--log-key",
                "log.vkey",
            ])
            .output()
            .expect("python3");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(
            done.status.code(),
            Some(1),
            "{wanted} {words}: {said}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(
            said.contains("FAIL") && !said.contains("FAIL  form"),
            "{wanted} {words}: {said}"
        );
    }
    // From another instance: other keys, the same program.
    let other = Scene::new().await;
    fs::copy(it.path("all.zip"), other.path("all.zip")).expect("a copy");
    let (code, out) = other.verify("all.zip").await;
    assert!(code == 1 && out.contains("another instance"), "{code} {out}");
    let (code, out) = verify_py(&other.dir, "all.zip");
    assert!(code == 1 && out.contains("another instance"), "{code} {out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_paths_out_of_the_archive_are_refused_unread() {
    let it = Scene::new().await;
    it.export("all.zip", EVER, &[]).await;
    let made = Command::new("python3")
        .current_dir(&it.dir)
        .args([
            "-c",
            r#"
import zipfile, struct
def make(name, files, how=zipfile.ZIP_STORED):
    with zipfile.ZipFile(name, "w", how) as out:
        for path, data in files: out.writestr(path, data)
make("bomb.zip", [("events.jsonl", b"\0" * 50_000_000)], zipfile.ZIP_DEFLATED)
make("path.zip", [("../../evil", b"x")])
make("absolute.zip", [("/etc/passwd", b"x")])
make("twice.zip", [("README.txt", b"x"), ("README.txt", b"y")])
make("backslash.zip", [("..\\evil", b"x")])
make("plain.zip", [("README.txt", b"x")])
# An end that announces four billion files, and one that points past itself.
open("many.zip", "wb").write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 813, 45, 0, 0, 2**40, 2**40, 2**40, 0) + struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1) + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32-1, 2**32-1, 0))
open("past.zip", "wb").write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, 46, 2**31, 0))
open("empty.zip", "wb").write(b"")
data = open("all.zip", "rb").read()
open("cut.zip", "wb").write(data[:-1]); open("half.zip", "wb").write(data[:len(data)//2])
open("more.zip", "wb").write(data + b"\0"); open("comment.zip", "wb").write(data[:-2] + b"\1\0x")
"#,
        ])
        .status()
        .expect("python3");
    assert!(made.success());
    for (name, words) in [
        ("bomb.zip", "compressed"),
        ("path.zip", ""),
        ("absolute.zip", ""),
        ("twice.zip", ""),
        ("backslash.zip", ""),
        ("plain.zip", ""),
        ("many.zip", "more than"),
        ("past.zip", ""),
        ("empty.zip", "too short"),
        ("cut.zip", ""),
        ("half.zip", ""),
        ("more.zip", ""),
        ("comment.zip", ""),
    ] {
        let (code, out) = it.verify(name).await;
        assert!(
            code == 1 && out.contains("FAIL  archive") && out.contains(words),
            "{name}: {code} {out}"
        );
        let (code, out) = verify_py(&it.dir, name);
        assert!(code == 1 && out.contains("FAIL  archive"), "{name}: {code} {out}");
    }
    let (code, _) = it.verify("missing.zip").await;
    assert_eq!(code, 3);
    let (code, _, _) = run(
        &it.dir,
        &["audit", "verify", "all.zip", "--key", "credential.pem"],
        &[],
    )
    .await;
    assert_eq!(code, 2);
    let (code, out, _) = run(
        &it.dir,
        &[
            "verify",
            "all.zip",
            "--key",
            "credential.pem",
            "--log-key",
            "log.vkey",
            "--json",
        ],
        &[],
    )
    .await;
    assert_eq!(code, 0, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spreadsheet_opens_right_and_every_document_has_its_form() {
    let it = Scene::new().await;
    let bytes = it.export("all.zip", EVER, &[]).await;
    let files = unpack(&bytes);
    let get = |name: &str| {
        &files
            .iter()
            .find(|it| it.0 == name)
            .unwrap_or_else(|| panic!("{name}"))
            .1
    };
    fs::write(it.path("approvals.csv"), get("approvals.csv")).expect("a writable directory");
    let read = Command::new("python3")
        .current_dir(&it.dir)
        .args([
            "-c",
            "import csv, json; print(json.dumps(list(csv.DictReader(open('approvals.csv', encoding='utf-8-sig', newline=''), strict=True))))",
        ])
        .output()
        .expect("python3");
    let rows: Vec<Value> = serde_json::from_slice(&read.stdout).expect("rows");
    assert_eq!(rows.len(), 3, "{rows:#?}");
    let row = |request: &str| rows.iter().find(|it| it["request"] == request).expect("a row");
    let approved = row(&it.approved);
    assert_eq!(approved["approver"], "Bea");
    assert_eq!(approved["outcome"], "approved");
    assert_eq!(approved["meaning"], "approval");
    assert_eq!(approved["project"], "group/app");
    let sentence = text(approved, "sentence");
    assert!(
        sentence.contains(" was approved by Bea via ") && sentence.ends_with("…, signature verified"),
        "{sentence}"
    );
    let rejected = row(&it.rejected);
    assert_eq!(rejected["title"], "'=HYPERLINK(\"http://evil\",\"x\")");
    assert_eq!(rejected["comment"], "'+not, \"like\" this");
    assert_eq!(row(&it.action)["change"], "Deploy \u{e9}\u{1f600} to production");
    for line in String::from_utf8_lossy(get("approvals.csv")).split("\r\n") {
        for cell in line.trim_start_matches('\u{feff}').split(',') {
            let begin = cell.trim_start_matches('"').chars().next();
            assert!(!begin.is_some_and(|it| "=+-@".contains(it)), "{cell}");
        }
    }

    // Every document against the schema that lies beside it.
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    let mut index = std::collections::BTreeMap::new();
    for name in ["approval", "event", "history", "intent", "manifest", "outcome"] {
        let url = format!("https://signedapproval.net/schema/bundle/{name}.json");
        let schema: Value = serde_json::from_slice(get(&format!("schema/{name}.json"))).expect("JSON");
        compiler.add_resource(&url, schema).expect("a schema");
        index.insert(name, compiler.compile(&url, &mut schemas).expect("a schema"));
    }
    let check = |name: &str, bytes: &[u8]| {
        let value: Value = serde_json::from_slice(bytes).expect("JSON");
        if let Err(error) = schemas.validate(&value, index[name]) {
            panic!("{name}: {error}\n{value:#}");
        }
        value
    };
    let payload = |bytes: &[u8]| Envelope::parse(bytes).expect("an envelope").payload;
    check("history", get("keys/history.json"));
    check("manifest", &payload(get("manifest.dsse.json")));
    for line in get("events.jsonl")
        .split(|it| *it == b'\n')
        .filter(|it| !it.is_empty())
    {
        check("event", line);
    }
    for (name, content) in &files {
        if name.starts_with("outcomes/") {
            check("outcome", &payload(content));
        }
        if name.starts_with("credentials/") && name.ends_with(".dsse.json") {
            let approval = check("approval", &payload(content));
            let intent = STANDARD.decode(approval["predicate"]["intent"]["content"].as_str().expect("text"));
            check("intent", &intent.expect("base64"));
        }
    }
    // Unpacked, the folder verifies itself with what lies in it, and says what that is worth.
    let unpacked = it.path("unpacked");
    for (name, content) in &files {
        let path = unpacked.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable directory");
        fs::write(path, content).expect("a writable directory");
    }
    let sums = Command::new("sha256sum")
        .current_dir(&unpacked)
        .args(["-c", "--quiet", "SHA256SUMS"])
        .status();
    assert!(sums.expect("sha256sum").success());
    let done = Command::new("python3")
        .current_dir(&unpacked)
        .args(["-B", "verify.py"])
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("WHOSE THE KEYS ARE"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_by_api_are_for_auditors_and_can_be_called_off() {
    let it = Scene::new().await;
    let body = json!({"from": "2026-01-01", "to": "2100-01-01"});
    let refused = it.it.bea.post("/api/v1/audit/exports", &body).await;
    assert_problem!(refused, 403, "forbidden");
    for (bad, slug) in [
        (json!({"from": "yesterday", "to": "2100-01-01"}), "bad-request"),
        (json!({"from": "2026-01-01", "to": "2026-01-01"}), "invalid"),
        (json!({"from": "2000-01-01", "to": "2001-01-01"}), "invalid"),
        (
            json!({"from": "2026-01-01", "to": "2100-01-01", "outcome": "pending"}),
            "bad-request",
        ),
        (
            json!({"from": "2026-01-01", "to": "2100-01-01", "person": "Bea"}),
            "bad-request",
        ),
        (
            json!({"from": "2026-01-01", "to": "2100-01-01", "all": true}),
            "bad-request",
        ),
    ] {
        let answer = it.it.ada.post("/api/v1/audit/exports", &bad).await;
        assert_problem!(answer, if slug == "invalid" { 422 } else { 400 }, slug);
    }
    let begun = it.it.auditor.post("/api/v1/audit/exports", &body).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let place = begun.header("location").expect("a place").to_owned();
    let started = std::time::Instant::now();
    let state = loop {
        let state = it.it.auditor.get(&place).await.expect(200);
        if state["status"] != "running" {
            break state;
        }
        assert!(started.elapsed() < SOON, "{state}");
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    };
    assert_eq!(state["status"], "done", "{state}");
    let answer = it.it.auditor.get(&text(&state, "url")).await;
    assert_eq!(hex::encode(Sha256::digest(&answer.body)), text(&state, "sha256"));
    assert!(Keys::of(&it.dir).verify(&answer.body).valid);
    assert_eq!(
        it.it.ada.get("/api/v1/audit/exports").await.expect(200)["items"][0]["id"],
        state["id"]
    );
    assert_eq!(it.it.ada.delete(&place).await.status, 204);
    assert_eq!(it.it.ada.get(&text(&state, "url")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_served_and_exported_as_tiles() {
    let it = Scene::new().await;
    assert_eq!(it.it.bea.get("/log/checkpoint").await.status, 403);
    let out = it.path("log");
    let (code, said, err) = it
        .it
        .appliance
        .cli(&["audit", "tiles", "--out", out.to_str().expect("text")])
        .await;
    assert_eq!(code, 0, "{said}{err}");
    let note = fs::read_to_string(out.join("checkpoint")).expect("a checkpoint");
    let size: u64 = note
        .lines()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .expect("a size");
    let mut tiles = 0;
    for tile in Tile::of_tree(size) {
        let saved = fs::read(out.join(tile.to_string())).expect("a tile");
        let served = it.it.auditor.get(&format!("/log/{tile}")).await;
        assert_eq!(served.status, 200, "{tile}");
        assert!(served.body == saved, "{tile}");
        tiles += 1;
    }
    assert!(tiles >= 2);
    for bad in [
        "/log/tile/0/999",
        "/log/tile/9/000",
        "/log/tile/0/00",
        "/log/tile/entries/000.p/0",
        "/log/tile/x",
        "/log/tile/0/000",
    ] {
        assert_eq!(it.it.auditor.get(bad).await.status, 404, "{bad}");
    }
    // Other people's tools; the virtual environment is made by tests/run.
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin");
    if !python.join("aics-tlog").exists() || !python.join("proofbundle").exists() {
        eprintln!(
            "SKIPPED the_log_is_served_and_exported_as_tiles: tests/run installs proofbundle and aics-tlog"
        );
        return;
    }
    let tool = |name: &str, arguments: &[&str]| {
        let done = Command::new(python.join(name))
            .current_dir(&it.dir)
            .args(arguments)
            .output()
            .expect("it starts");
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), said)
    };
    let (good, said) = tool(
        "aics-tlog",
        &["verify-checkpoint", "--tiles", "log", "--vkey-file", "log.vkey"],
    );
    assert!(good, "{said}");
    println!("aics-tlog verify-checkpoint: {said}");
    let last = (size - 1).to_string();
    let (good, said) = tool(
        "aics-tlog",
        &[
            "verify-inclusion",
            "--tiles",
            "log",
            "--vkey-file",
            "log.vkey",
            "--index",
            &last,
        ],
    );
    assert!(good, "{said}");
    println!("aics-tlog verify-inclusion: {said}");
    let bytes = it.export("all.zip", EVER, &[]).await;
    let files = unpack(&bytes);
    let proof = files
        .iter()
        .find(|it| it.0.ends_with(".tlog-proof"))
        .expect("a proof");
    let event = files
        .iter()
        .find(|it| it.0 == proof.0.replace(".tlog-proof", ".event.json"))
        .expect("its event");
    fs::write(it.path("p"), &proof.1).expect("a writable directory");
    fs::write(it.path("e"), &event.1).expect("a writable directory");
    let vkey = fs::read_to_string(it.path("log.vkey")).expect("a key");
    let (good, said) = tool(
        "proofbundle",
        &[
            "verify-proof",
            "p",
            "--payload-file",
            "e",
            "--log-vkey",
            vkey.trim(),
        ],
    );
    assert!(good, "{said}");
    println!("proofbundle verify-proof: {said}");
    fs::write(it.path("e"), b"{}").expect("a writable directory");
    let (good, said) = tool(
        "proofbundle",
        &[
            "verify-proof",
            "p",
            "--payload-file",
            "e",
            "--log-vkey",
            vkey.trim(),
        ],
    );
    assert!(!good, "{said}");
    // A tile with one bit flipped is found.
    let bad = out.join(
        Tile::of_tree(size)
            .find(|it| it.to_string().starts_with("tile/0/"))
            .expect("a tile")
            .to_string(),
    );
    let mut content = fs::read(&bad).expect("a tile");
    content[3] ^= 1;
    fs::write(&bad, content).expect("a writable directory");
    let (good, said) = tool(
        "aics-tlog",
        &[
            "verify-inclusion",
            "--tiles",
            "log",
            "--vkey-file",
            "log.vkey",
            "--index",
            &last,
        ],
    );
    assert!(!good, "{said}");
}
