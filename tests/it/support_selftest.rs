//! The support tried on itself: a check that can't fail would make every other test worthless. The software passkey
//! is held against webauthn-rs, which refuses what it must; what webauthn-rs lets through is listed here by name, and
//! is the product's own to refuse.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use url::Url;
use webauthn_rs::prelude::Passkey as StoredPasskey;
use webauthn_rs::prelude::Uuid;
use webauthn_rs::prelude::Webauthn;
use webauthn_rs::prelude::WebauthnBuilder;
use webauthn_rs::prelude::WebauthnError;

use crate::support::appliance::Answer;
use crate::support::appliance::unexpected_errors;
use crate::support::authenticator::Authenticator;
use crate::support::authenticator::Declined;
use crate::support::authenticator::Lie;
use crate::support::authenticator::Totp;
use crate::support::problem::assert_problem;

const ORIGIN: &str = "https://sa.example:8443";

fn server() -> Webauthn {
    let origin = Url::parse(ORIGIN).unwrap();
    WebauthnBuilder::new("sa.example", &origin)
        .unwrap()
        .build()
        .unwrap()
}

fn register(
    server: &Webauthn,
    authenticator: &mut Authenticator,
    lies: &[Lie],
) -> Result<StoredPasskey, WebauthnError> {
    let (options, state) = server
        .start_passkey_registration(Uuid::new_v4(), "ann@example.test", "Ann", None)
        .unwrap();
    let options = serde_json::to_value(options).unwrap();
    let answer = authenticator.create_lying(&options["publicKey"], lies).unwrap();
    server.finish_passkey_registration(&serde_json::from_value(answer).unwrap(), &state)
}

fn sign_in(
    server: &Webauthn,
    authenticator: &mut Authenticator,
    stored: &mut StoredPasskey,
    lies: &[Lie],
) -> Result<(), WebauthnError> {
    let (options, state) = server
        .start_passkey_authentication(std::slice::from_ref(stored))
        .unwrap();
    let options = serde_json::to_value(options).unwrap();
    let answer = authenticator.get_lying(&options["publicKey"], lies).unwrap();
    let result = server.finish_passkey_authentication(&serde_json::from_value(answer).unwrap(), &state)?;
    assert!(result.user_verified());
    stored.update_credential(&result);
    Ok(())
}

#[test]
fn honest_answers_are_accepted() {
    let server = server();
    for mut authenticator in [Authenticator::device_bound(ORIGIN), Authenticator::synced(ORIGIN)] {
        let mut stored = register(&server, &mut authenticator, &[]).unwrap();
        assert_eq!(stored.cred_id().as_ref(), authenticator.passkey().id);
        for _ in 0..3 {
            sign_in(&server, &mut authenticator, &mut stored, &[]).unwrap();
        }
        assert_eq!(
            authenticator.passkey().counter,
            if authenticator.synced { 0 } else { 4 }
        );
    }
}

#[test]
fn a_lie_in_an_assertion_is_refused() {
    let server = server();
    let mut ann = Authenticator::device_bound(ORIGIN);
    let mut bob = Authenticator::device_bound(ORIGIN);
    let mut stored = register(&server, &mut ann, &[]).unwrap();
    register(&server, &mut bob, &[]).unwrap();
    for _ in 0..3 {
        sign_in(&server, &mut ann, &mut stored, &[]).unwrap();
    }
    let refused: Vec<(&str, Lie)> = vec![
        ("origin without port", Lie::Origin("https://sa.example".into())),
        (
            "origin with another scheme",
            Lie::Origin("http://sa.example:8443".into()),
        ),
        (
            "origin of a sub-domain",
            Lie::Origin("https://x.sa.example:8443".into()),
        ),
        ("RP id", Lie::RpId("other.example".into())),
        ("UV", Lie::NotVerified),
        ("UP", Lie::NotPresent),
        ("type", Lie::Type("webauthn.create".into())),
        ("challenge", Lie::Challenge(vec![7; 32])),
        ("counter", Lie::Counter(2)),
        ("signature", Lie::FlippedSignature),
        ("client data", Lie::AlteredClientData),
        ("authenticator data", Lie::AlteredAuthenticatorData),
        ("backup bits", Lie::BackedUpButNotEligible),
        (
            "another person's passkey",
            Lie::PasskeyOf(Box::new(bob.passkey().clone())),
        ),
        ("credential id", Lie::CredentialId(bob.passkey().id.clone())),
    ];
    for (what, lie) in refused {
        assert!(
            sign_in(&server, &mut ann, &mut stored, &[lie]).is_err(),
            "{what} was accepted"
        );
        sign_in(&server, &mut ann, &mut stored, &[]).unwrap_or_else(|e| panic!("honest after {what}: {e}"));
    }
    let let_through: Vec<(&str, Lie)> = vec![
        ("crossOrigin", Lie::CrossOrigin),
        ("topOrigin", Lie::TopOrigin("https://evil.example".into())),
        (
            "topOrigin alone",
            Lie::TopOriginAlone("https://evil.example".into()),
        ),
        ("user handle", Lie::UserHandle(bob.passkey().user_handle.clone())),
    ];
    for (what, lie) in let_through {
        assert!(
            sign_in(&server, &mut ann, &mut stored, &[lie]).is_ok(),
            "{what} is refused now: move it up"
        );
    }
}

#[test]
fn a_lie_in_a_registration_is_refused() {
    let server = server();
    let refused: Vec<(&str, Lie)> = vec![
        ("origin", Lie::Origin("https://sa.example".into())),
        ("RP id", Lie::RpId("other.example".into())),
        ("UV", Lie::NotVerified),
        ("UP", Lie::NotPresent),
        ("crossOrigin", Lie::CrossOrigin),
        ("type", Lie::Type("webauthn.get".into())),
        ("challenge", Lie::Challenge(vec![7; 32])),
        ("public key", Lie::BrokenPublicKey),
    ];
    for (what, lie) in refused {
        let mut authenticator = Authenticator::device_bound(ORIGIN);
        assert!(
            register(&server, &mut authenticator, &[lie]).is_err(),
            "{what} was accepted"
        );
    }
}

#[test]
fn the_authenticator_declines_what_a_browser_declines() {
    let mut authenticator = Authenticator::device_bound(ORIGIN);
    let mut request = json!({"challenge": "AAAA", "rpId": "sa.example", "allowCredentials": []});
    assert_eq!(authenticator.get(&request), Err(Declined::NoCredential));
    let creation = |rp_id: &str, alg: i64, excluded: Value| {
        json!({
            "rp": {"id": rp_id, "name": "SA"}, "user": {"id": "AAAA", "name": "ann", "displayName": "Ann"},
            "challenge": "AAAA", "pubKeyCredParams": [{"type": "public-key", "alg": alg}],
            "excludeCredentials": excluded,
        })
    };
    let foreign = authenticator.create(&creation("example.org", -7, json!([])));
    assert_eq!(foreign, Err(Declined::ForeignRpId("example.org".into())));
    let not_a_parent = authenticator.create(&creation("a.example", -7, json!([])));
    assert_eq!(not_a_parent, Err(Declined::ForeignRpId("a.example".into())));
    assert_eq!(
        authenticator.create(&creation("sa.example", -257, json!([]))),
        Err(Declined::NoAlgorithm)
    );
    let created = authenticator
        .create(&creation("sa.example", -7, json!([])))
        .unwrap();
    assert_eq!(
        authenticator.get(&request),
        Err(Declined::NoCredential),
        "nobody asked for a discoverable one"
    );
    request["allowCredentials"] = json!([{"type": "public-key", "id": created["id"]}]);
    assert!(authenticator.get(&request).is_ok());
    let again = creation(
        "sa.example",
        -7,
        json!([{"type": "public-key", "id": created["id"]}]),
    );
    assert_eq!(authenticator.create(&again), Err(Declined::Excluded));
    authenticator.user_verified = false;
    let mut wants_uv = request.clone();
    wants_uv["userVerification"] = json!("required");
    assert_eq!(authenticator.get(&wants_uv), Err(Declined::CannotVerify));
    assert!(authenticator.get(&request).is_ok());
}

#[test]
fn client_data_has_the_form_that_browsers_give_it() {
    use base64::Engine as _;
    let mut authenticator = Authenticator::device_bound("http://localhost:8080");
    let creation = json!({
        "rp": {"name": "SA"}, "user": {"id": "AAAA", "name": "ann", "displayName": "Ann"},
        "challenge": "AAAA", "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
        "authenticatorSelection": {"residentKey": "required"},
    });
    authenticator.create(&creation).unwrap();
    let answer = authenticator.get(&json!({"challenge": "_-8"})).unwrap();
    let decode = |member: &str| {
        let text = answer["response"][member].as_str().unwrap();
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text)
            .unwrap()
    };
    let expected =
        r#"{"type":"webauthn.get","challenge":"_-8","origin":"http://localhost:8080","crossOrigin":false}"#;
    assert_eq!(String::from_utf8(decode("clientDataJSON")).unwrap(), expected);
    let data = decode("authenticatorData");
    assert_eq!(data.len(), 37);
    assert_eq!(data[..32], sha2::Sha256::digest("localhost")[..]);
    assert_eq!(data[32..], [0x05, 0, 0, 0, 2]);
}

#[test]
fn totp_codes_are_those_of_rfc_6238() {
    let mut totp = Totp::from_secret(b"12345678901234567890");
    totp.digits = 8;
    for (time, code) in [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_234_567_890, "89005924"),
        (20_000_000_000, "65353130"),
    ] {
        assert_eq!(totp.code_at(time), code);
    }
    let scanned = Totp::from_otpauth_url(
        "otpauth://totp/SA:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=SA&algorithm=SHA1&digits=6&period=30",
    );
    assert_eq!(scanned.code_at(59), "287082");
    assert_ne!(scanned.wrong_code(), scanned.code());
}

#[test]
fn an_error_in_the_log_is_seen_in_any_format() {
    let log = "2026-11-22T10:00:00Z  INFO serve: an ERROR in words only\n\
               \u{1b}[2m2026-11-22T10:00:01Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m store: one\n\
               {\"timestamp\":\"2026-11-22T10:00:02Z\",\"level\":\"ERROR\",\"fields\":{\"message\":\"two\"}}\n\
               {\"timestamp\":\"2026-11-22T10:00:02Z\",\"level\":\"INFO\",\"fields\":{\"message\":\"ERROR\"}}\n\
               thread 'writer' panicked at src/engine/mod.rs:1:1:\n";
    assert_eq!(unexpected_errors(log, &[]).len(), 3);
    let expected = ["store: one".to_owned(), "\"two\"".to_owned()];
    assert_eq!(
        unexpected_errors(log, &expected),
        ["thread 'writer' panicked at src/engine/mod.rs:1:1:"]
    );
}

#[test]
fn a_refusal_that_is_no_problem_document_is_noticed() {
    let good = json!({
        "type": "/problems/self-approval", "title": "t", "status": 403, "detail": "d", "instance": "/x",
    });
    let answer = |status: u16, content_type: &str, body: &Value| {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        Answer {
            status,
            headers,
            body: body.to_string().into_bytes(),
        }
    };
    let accepts =
        |it: &Answer| catch_unwind(AssertUnwindSafe(|| assert_problem!(it, 403, "self-approval"))).is_ok();
    assert!(accepts(&answer(403, "application/problem+json", &good)));
    assert!(!accepts(&answer(403, "application/json", &good)));
    assert!(!accepts(&answer(401, "application/problem+json", &good)));
    for (member, bad) in [
        ("type", json!("/problems/stale-commit")),
        ("type", json!("about:blank")),
        ("title", Value::Null),
        ("status", json!(401)),
        ("status", json!("403")),
        ("detail", json!(" ")),
        ("instance", json!(7)),
    ] {
        let mut body = good.clone();
        body[member] = bad;
        assert!(
            !accepts(&answer(403, "application/problem+json", &body)),
            "{member} {body}"
        );
    }
}
