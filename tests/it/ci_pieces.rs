//! The pieces of `packaging/ci`: their form against the vendors' schemas, and their shell steps run as a runner would, against
//! the appliance: approve, reject, time-out. Beside them the original product's two steps.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::flow_pipeline::WAIT_STEP;
use crate::flow_pipeline::filled;
use crate::flow_pipeline::shell;
use crate::pipeline_gate::Scene;
use crate::support::appliance::new_dir;
use crate::support::person::text;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn piece(name: &str) -> PathBuf {
    root().join("packaging/ci").join(name)
}

/// A program of the tests' virtual environment, which `tests/run` makes; none is a visible skip.
pub fn of_venv(name: &str) -> Option<PathBuf> {
    let path = root().join("target/venv/bin").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there; tests/run installs it", path.display());
    None
}

/// All documents of a YAML file as JSON.
fn documents(path: &Path) -> Option<Vec<Value>> {
    let python = of_venv("check-jsonschema").and_then(|_| of_venv("python"))?;
    let script = "import json, sys\nfrom ruamel.yaml import YAML\n\
                  print(json.dumps(list(YAML(typ='safe').load_all(open(sys.argv[1])))))";
    let output = Command::new(python)
        .arg("-c")
        .arg(script)
        .arg(path)
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}: {output:?}", path.display());
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Asserts that a file is what the vendor's schema wants.
fn check(schema: &str, path: &Path) {
    let Some(program) = of_venv("check-jsonschema") else {
        return;
    };
    let output = Command::new(program)
        .args(["--builtin-schema", schema])
        .arg(path)
        .output()
        .expect("check-jsonschema starts");
    assert!(
        output.status.success(),
        "{} is not {schema}: {output:?}",
        path.display()
    );
}

/// The component with the defaults of its inputs and these values filled in: its second document.
fn component(inputs: &[(&str, &str)]) -> Option<Value> {
    let path = piece("gitlab/templates/gate.yml");
    let [spec, _]: [Value; 2] = documents(&path)?.try_into().expect("the inputs, and the job");
    let whole = std::fs::read_to_string(&path).expect("the component");
    let (_, job) = whole.split_once("\n---\n").expect("two documents");
    let mut job = job.to_owned();
    for (name, input) in spec["spec"]["inputs"].as_object().expect("inputs") {
        let given = inputs
            .iter()
            .find(|(it, _)| it == name)
            .map(|(_, value)| (*value).to_owned());
        let default = match &input["default"] {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        };
        let value = given
            .or(default)
            .unwrap_or_else(|| panic!("{name} needs a value"));
        job = job.replace(&format!("$[[ inputs.{name} ]]"), &value);
    }
    assert!(!job.contains("$[["), "an input that is not declared: {job}");
    let dir = new_dir();
    let file = dir.join("gate.yml");
    std::fs::write(&file, job).expect("writable");
    check("vendor.gitlab-ci", &file);
    let [job]: [Value; 1] = documents(&file)?.try_into().expect("one document");
    std::fs::remove_dir_all(&dir).expect("the test's own directory");
    Some(job)
}

fn lines(script: &Value) -> String {
    let lines: Vec<&str> = script
        .as_array()
        .expect("a script")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    lines.join("\n")
}

#[test]
fn every_piece_is_what_its_vendor_expects() {
    check("vendor.gitlab-ci", &piece("gitlab/include.yml"));
    check("vendor.github-actions", &piece("github/action.yml"));
    check("vendor.github-workflows", &piece("github/example.yml"));
    check(
        "vendor.bitbucket-pipelines",
        &piece("bitbucket/bitbucket-pipelines.yml"),
    );
    component(&[("environment", "production")]);
    // There is no schema of Argo's on PyPI: at least its form is read.
    for name in ["argo/workflow.yaml", "argo/presync.yaml"] {
        if let Some(found) = documents(&piece(name)) {
            assert!(
                found[0]["apiVersion"].is_string() && found[0]["kind"].is_string(),
                "{name}"
            );
        }
    }
    // What a script takes in by an expression is code that anybody can write who names a branch.
    let action = std::fs::read_to_string(piece("github/action.yml")).expect("the action");
    let (_, script) = action.split_once("run: |").expect("a script");
    assert!(!script.contains("${{"), "{script}");
}

/// A piece: name, the shell that its runner uses, script, and the variables its vendor and its own text set.
struct Piece {
    name: &'static str,
    shell: &'static str,
    script: String,
    variables: Vec<(&'static str, String)>,
    receipt: Option<&'static str>,
}

fn pieces() -> Option<Vec<Piece>> {
    let own = |list: &[(&'static str, &str)]| {
        list.iter()
            .map(|(name, it)| (*name, (*it).to_owned()))
            .collect::<Vec<_>>()
    };
    let gitlab = || {
        own(&[
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_SHA", SHA),
            ("CI_PROJECT_PATH", "team/app"),
            ("CI_ENVIRONMENT_NAME", "production"),
            ("GATE_ACTION", "Deploy team/app to production"),
            ("GATE_TTL", "600"),
        ])
    };
    let include = &documents(&piece("gitlab/include.yml"))?[0][".signedapproval-gate"];
    let made = component(&[("environment", "production")])?;
    let action = &documents(&piece("github/action.yml"))?[0]["runs"]["steps"][0];
    let bitbucket =
        &documents(&piece("bitbucket/bitbucket-pipelines.yml"))?[0]["pipelines"]["branches"]["main"][0];
    let jenkins = std::fs::read_to_string(piece("jenkins/Jenkinsfile")).expect("the Jenkinsfile");
    let jenkins = jenkins.split("'''").nth(1).expect("a shell step").to_owned();
    let workflow = &documents(&piece("argo/workflow.yaml"))?[0]["spec"]["templates"][0]["script"];
    let presync = &documents(&piece("argo/presync.yaml"))?[0]["spec"]["template"]["spec"]["containers"][0];
    let argo = || {
        own(&[
            ("GATE_ACTION", "Sync to production"),
            ("GATE_COMMIT", SHA),
            ("GATE_ENVIRONMENT", "production"),
            ("GATE_PROJECT", "team/app"),
        ])
    };
    let shown = |it: &Value| it.as_str().expect("a script").to_owned();
    let receipt = Some("approval.receipt.json");
    Some(vec![
        Piece {
            name: "GitLab include",
            shell: "sh",
            script: lines(&include["script"]),
            variables: gitlab(),
            receipt,
        },
        Piece {
            name: "GitLab component",
            shell: "sh",
            script: lines(&made["approval"]["script"]),
            variables: gitlab(),
            receipt,
        },
        Piece {
            name: "GitHub action",
            shell: "bash",
            script: shown(&action["run"]),
            variables: own(&[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_SHA", SHA),
                ("GITHUB_REPOSITORY", "team/app"),
                ("GITHUB_OUTPUT", "output"),
                ("GATE_ACTION", "Deploy commit to production"),
                ("GATE_ENVIRONMENT", "production"),
                ("GATE_TTL", "600"),
            ]),
            receipt,
        },
        Piece {
            name: "Bitbucket",
            shell: "bash",
            script: lines(&bitbucket["step"]["script"]),
            variables: own(&[
                ("BITBUCKET_BUILD_NUMBER", "7"),
                ("BITBUCKET_COMMIT", SHA),
                ("BITBUCKET_REPO_FULL_NAME", "team/app"),
            ]),
            receipt,
        },
        Piece {
            name: "Jenkins",
            shell: "sh",
            script: jenkins,
            variables: own(&[
                ("JENKINS_URL", "https://ci.corp/"),
                ("GIT_COMMIT", SHA),
                ("GIT_URL", "https://git.corp/team/app.git"),
                ("JOB_NAME", "app"),
            ]),
            receipt,
        },
        Piece {
            name: "Argo Workflows",
            shell: "sh",
            script: shown(&workflow["source"]),
            variables: argo(),
            receipt: None,
        },
        Piece {
            name: "Argo CD",
            shell: "sh",
            script: shown(&presync["args"][0]),
            variables: argo(),
            receipt: None,
        },
    ])
}

/// Runs a piece in a directory of its own, as its runner does.
fn run(it: &Piece, scene: &Scene, dir: &Path, sha256: &str) -> std::process::Child {
    let mut variables: BTreeMap<String, String> = it
        .variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let pem = std::fs::read_to_string(&scene.pem).expect("the key");
    for (name, value) in [
        ("SIGNEDAPPROVAL_URL", scene.appliance.base()),
        ("SIGNEDAPPROVAL_API_KEY", scene.key.clone()),
        ("SIGNEDAPPROVAL_TRUSTED_KEY", pem),
        ("SIGNEDAPPROVAL_CLI_SHA256", sha256.to_owned()),
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("TMPDIR", dir.display().to_string()),
        ("no_proxy", "*".to_owned()),
    ] {
        variables.insert(name.to_owned(), value);
    }
    Command::new(it.shell)
        .args(["-e", "-c", &it.script])
        .current_dir(dir)
        .env_clear()
        .envs(variables)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", it.shell))
}

async fn ended(child: std::process::Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .expect("no panic")
        .expect("it can be waited for")
}

/// The checksum as somebody pinned it.
async fn pinned(scene: &Scene) -> String {
    let name = format!("signedapproval-linux-{}", std::env::consts::ARCH);
    let answer = scene
        .appliance
        .api()
        .get(&format!("/api/v1/cli/{name}/sha256"))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().split(' ').next().expect("a checksum").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_piece_goes_on_after_an_approval_and_stops_without_one() {
    let Some(pieces) = pieces() else { return };
    let scene = Scene::new().await;
    let sha256 = pinned(&scene).await;
    for it in &pieces {
        let dir = new_dir();
        let child = run(it, &scene, &dir, &sha256);
        let request = scene.waiting().await;
        assert_eq!(
            request["subject"]["digest"]["gitCommit"], SHA,
            "{}: {request}",
            it.name
        );
        assert_eq!(request["environment"], "production", "{}", it.name);
        assert_eq!(request["project"], "team/app", "{}", it.name);
        scene.bea.approve(&text(&request, "id")).await;
        let output = ended(child).await;
        assert!(output.status.success(), "{}: {output:?}", it.name);
        if let Some(receipt) = it.receipt {
            assert!(dir.join(receipt).exists(), "{}: no receipt", it.name);
        }
        if it.name == "GitHub action" {
            let outputs = std::fs::read_to_string(dir.join("output")).expect("the step's outputs");
            assert!(
                outputs.contains(&format!("approval-id={}\n", text(&request, "id"))),
                "{outputs}"
            );
            assert!(outputs.contains("outcome=approved\n"), "{outputs}");
        }
        std::fs::remove_dir_all(&dir).expect("the test's own directory");
    }
    // Rejected, and a program that is not the pinned one: each of them stops, and nobody is asked for the second.
    for it in &pieces {
        let dir = new_dir();
        let child = run(it, &scene, &dir, &sha256);
        let id = text(&scene.waiting().await, "id");
        scene.bea.reject(&id, "no").await;
        assert_eq!(
            ended(child).await.status.code(),
            Some(1),
            "{} after a rejection",
            it.name
        );
        let before = scene.ada.journal("request.opened").await.len();
        let output = ended(run(it, &scene, &dir, &"0".repeat(64))).await;
        assert!(
            !output.status.success(),
            "{} with another program: {output:?}",
            it.name
        );
        assert_eq!(
            scene.ada.journal("request.opened").await.len(),
            before,
            "{}",
            it.name
        );
        std::fs::remove_dir_all(&dir).expect("the test's own directory");
    }
}

/// The original product's wait step and ours, side by side, where nobody decides in time: both stop.
#[tokio::test(flavor = "multi_thread")]
async fn the_original_step_and_ours_both_stop_when_nobody_decides() {
    let Some(pieces) = pieces() else { return };
    let scene = Scene::new().await;
    let sha256 = pinned(&scene).await;
    let dir = new_dir();
    let mut ours = pieces
        .into_iter()
        .find(|it| it.name == "GitHub action")
        .expect("there is one");
    for (name, value) in &mut ours.variables {
        if *name == "GATE_TTL" {
            *value = "1".to_owned();
        }
    }
    assert_eq!(
        ended(run(&ours, &scene, &dir, &sha256)).await.status.code(),
        Some(3)
    );
    let body = serde_json::json!({"action": "Deploy", "ttl_seconds": 1, "metadata": {"commit": SHA}});
    let id = scene.ci.open_request(&body).await;
    scene
        .ci
        .wait_for_status(&id, "expired", Duration::from_secs(20))
        .await;
    // Its sixty looks ten seconds apart are the same look sixty times by then.
    let script = filled(WAIT_STEP, &scene.appliance, &scene.key, &id).replace("sleep 10", "sleep 0");
    let at = dir.clone();
    let output = tokio::task::spawn_blocking(move || shell("bash", &at, &script))
        .await
        .expect("no panic");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "Approval timed out"
    );
    std::fs::remove_dir_all(&dir).expect("the test's own directory");
}
