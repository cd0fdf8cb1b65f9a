// Verifies every signature of this report in the reader's own browser, offline, and that each card says what was signed.
// What it trusts are the keys in this file: compare their fingerprints with ones you have from somewhere else.
(async () => {
  "use strict";
  const subtle = globalThis.crypto && crypto.subtle;
  const utf8 = new TextEncoder();
  const text = (bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  const sha256 = async (bytes) => new Uint8Array(await subtle.digest("SHA-256", bytes));
  const concat = (...parts) => {
    const out = new Uint8Array(parts.reduce((n, it) => n + it.length, 0));
    parts.reduce((at, it) => (out.set(it, at), at + it.length), 0);
    return out;
  };
  const b64url = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  const must = (truth, reason) => { if (!truth) throw new Error(reason); };
  // The same as the appliance: hidden characters are shown, never obeyed.
  const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;
  const visible = (it) => it.replace(hidden, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  const toTheSecond = (time) => time.replace(/\.\d+Z$/, "Z");

  const body = document.body;
  const status = document.getElementById("verification");
  const failures = [];
  let signatures = 0;
  const end = (valid, words) => {
    status.className = valid ? "good" : "bad";
    status.querySelector("strong").textContent = words;
    body.dataset.signatures = String(signatures);
    body.dataset.verification = valid ? "valid" : "invalid";
  };
  const data = (id) => document.getElementById(id).textContent;

  // ECDSA signatures come as DER; WebCrypto takes the two numbers side by side.
  const rawOf = (der) => {
    must(der[0] === 0x30 && der[1] === der.length - 2, "the passkey's signature is not DER");
    const number = (at) => {
      must(der[at] === 0x02, "the passkey's signature is not DER");
      const body = der.subarray(at + 2, at + 2 + der[at + 1]);
      const short = body[0] === 0 ? body.subarray(1) : body;
      must(short.length <= 32, "a number of the passkey's signature is too long");
      return [concat(new Uint8Array(32 - short.length), short), at + 2 + body.length];
    };
    const [r, next] = number(2);
    const [s, last] = number(next);
    must(last === der.length, "something stands behind the passkey's signature");
    return concat(r, s);
  };
  const importKey = (spki, algorithm) => subtle.importKey("spki", spki, algorithm, false, ["verify"]);
  const ed25519 = { name: "Ed25519" };

  const keys = new Map();
  const opened = async (element) => {
    const raw = element.textContent;
    const envelope = JSON.parse(raw);
    const payload = bytesOf(envelope.payload);
    const type = envelope.payloadType;
    must(type === "application/vnd.in-toto+json" && envelope.signatures.length === 1, "not an envelope with one signature");
    const { keyid, sig } = envelope.signatures[0];
    must(raw === `{"payload":"${btoa(String.fromCharCode(...payload))}","payloadType":"${type}","signatures":[{"keyid":"${keyid}","sig":"${btoa(String.fromCharCode(...bytesOf(sig)))}"}]}`, "the envelope is not in its one form");
    must(keys.has(keyid), `signed by key ${keyid}, which is not in this report`);
    const pae = concat(utf8.encode(`DSSEv1 ${type.length} ${type} ${payload.length} `), payload);
    must(await subtle.verify(ed25519, keys.get(keyid), bytesOf(sig), pae), "the appliance's signature does not verify");
    signatures += 1;
    return { keyid, digest: hex(await sha256(utf8.encode(raw))), statement: JSON.parse(text(payload)) };
  };

  const passkey = async (p, intent) => {
    const w = p.evidence.webauthn;
    const [auth, client] = [bytesOf(w.authenticatorData), bytesOf(w.clientDataJSON)];
    const challenge = await sha256(concat(utf8.encode("signedapproval/webauthn-challenge/v1\0"), bytesOf(w.nonce), await sha256(intent)));
    const told = JSON.parse(text(client));
    must(told.type === "webauthn.get" && told.challenge === b64url(challenge), "the passkey signed another challenge");
    must(told.origin === w.origin && !told.crossOrigin && !("topOrigin" in told), "the passkey signed on another page");
    must(hex(auth.subarray(0, 32)) === hex(await sha256(utf8.encode(w.rpId))) && (auth[32] & 5) === 5, "the passkey did not verify its user here");
    const signed = concat(auth, await sha256(client));
    const spki = bytesOf(w.publicKeySpki);
    const signature = bytesOf(w.signature);
    let good = false;
    if (w.alg === -7) good = await subtle.verify({ name: "ECDSA", hash: "SHA-256" }, await importKey(spki, { name: "ECDSA", namedCurve: "P-256" }), rawOf(signature), signed);
    if (w.alg === -8) good = await subtle.verify(ed25519, await importKey(spki, ed25519), signature, signed);
    if (w.alg === -257) {
      const rsa = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
      good = await subtle.verify(rsa, await importKey(spki, rsa), signature, signed);
    }
    must(good, "the person's passkey signature does not verify");
    signatures += 1;
  };

  // What a card shows must be what was signed.
  const shows = (card, field, value) => {
    for (const it of card.querySelectorAll(`[data-f="${field}"]`)) {
      must(it.textContent === visible(value), `the card shows another ${it.dataset.n || field} than was signed`);
    }
  };

  const decision = async (element) => {
    const { keyid, digest, statement } = await opened(element.querySelector("script"));
    must(element.dataset.credential === `crd_${digest}`, "the credential's id is not its digest");
    const p = statement.predicate;
    must(statement.predicateType === "https://signedapproval.net/attestation/approval/v1", "not an approval credential");
    const intentBytes = bytesOf(p.intent.content);
    must(hex(await sha256(intentBytes)) === p.intent.sha256, "the intent is not the one that was named");
    const intentText = text(intentBytes);
    const intent = JSON.parse(intentText);
    const subject = intentText.slice(intentText.indexOf('"subject":') + 10, intentText.lastIndexOf(',"subject_sha256":'));
    must(hex(await sha256(utf8.encode(subject))) === intent.subject_sha256, "the subject is not the one that was named");
    for (const [here, there] of [[p.decision, intent.decision], [p.meaning, intent.meaning], [p.comment, intent.comment], [p.request, intent.request],
      [p.approver.id, intent.person], [p.approver.name, intent.person_name], [p.policy.sha256, intent.policy_sha256],
      [p.times.challengeIssuedAt, intent.issued_at], [p.gate.kind, intent.subject.kind]]) {
      must(here === there, "statement and intent do not agree");
    }
    if (p.evidence.webauthn) await passkey(p, intentBytes);
    else must(p.method.type === "totp" && p.method.grade === "server-attested", "no evidence of the method");
    const what = intent.subject.kind === "change" ? intent.subject.change : intent.subject.action;
    const at = toTheSecond(p.times.decidedAt);
    const verb = p.decision === "approve" ? "approved" : "rejected";
    shows(element, "sentence", `${visible(what)} was ${verb} by ${visible(p.approver.name)} via ${p.method.type === "totp" ? "totp (server-attested)" : p.method.type} at ${at}, signed with Ed25519 key ${keyid.slice(0, 6)}…, signature verified`);
    shows(element, "approver", p.approver.name);
    shows(element, "meaning", p.meaning);
    shows(element, "at", at);
    shows(element, "comment", p.comment);
    shows(element, "grade", p.method.grade);
    return { request: p.request, subject };
  };

  const card = async (element) => {
    let subject = null;
    for (const it of element.querySelectorAll("[data-credential]")) {
      const told = await decision(it);
      must(told.request === element.id, "a decision belongs to another request");
      must(subject === null || subject === told.subject, "decisions of this request are about different things");
      subject = told.subject;
    }
    const outcome = element.querySelector("script[data-outcome]");
    if (outcome) {
      const { statement } = await opened(outcome);
      const p = statement.predicate;
      must(statement.predicateType === "https://signedapproval.net/attestation/outcome/v1" && p.request === element.id, "not this request's outcome");
      const bytes = bytesOf(p.subject.content);
      must(hex(await sha256(bytes)) === p.subject.sha256, "the outcome's subject is not the one that was named");
      must(subject === null || subject === text(bytes), "outcome and decisions are about different things");
      subject = text(bytes);
      shows(element, "outcome", p.outcome);
      shows(element, "ended", toTheSecond(p.decidedAt));
      const here = new Set(Array.from(element.querySelectorAll("[data-credential]"), (it) => it.dataset.credential));
      for (const it of p.obligations.flatMap((o) => o.credentials)) must(here.has(it), "a credential that the outcome names is not on the card");
    }
    const s = JSON.parse(subject);
    shows(element, "what", s.kind === "change" ? s.change : s.action);
    shows(element, "project", s.project || "");
    shows(element, "target", (s.target || "").replace(/^refs\/heads\//, ""));
    shows(element, "digest", s.kind === "change" ? s.head : (s.digest && (s.digest.gitCommit || s.digest.sha256)) || hex(await sha256(utf8.encode(subject))));
  };

  try {
    must(subtle, "this page was opened in a way that gives it no cryptography; open the file itself, or over https");
    for (const key of JSON.parse(data("history")).keys) {
      const spki = bytesOf(key.spki);
      must(hex(await sha256(spki)) === key.keyid, "a key's id is not its digest");
      try {
        keys.set(key.keyid, await importKey(spki, ed25519));
      } catch (_) {
        throw new Error("this browser does not know Ed25519; use Chrome 137, Firefox 130, Safari 17 or newer, or run verify.py");
      }
    }
    const [note, signed] = data("checkpoint").split("\n\n");
    const [origin] = note.split("\n");
    let sealed = false;
    for (const line of data("log-keys").split("\n").filter(Boolean)) {
      const [name, id, ...material] = line.split("+");
      const raw = bytesOf(material.join("+")).subarray(1);
      const key = await subtle.importKey("raw", raw, ed25519, false, ["verify"]);
      const blob = bytesOf(signed.trim().split(" ")[2]);
      sealed ||= name === origin && hex(blob.subarray(0, 4)) === id && await subtle.verify(ed25519, key, blob.subarray(4), utf8.encode(`${note}\n`));
    }
    must(sealed, "the log's checkpoint does not verify");
    signatures += 1;
    const cards = document.querySelectorAll("article.card");
    let done = 0;
    for (const it of cards) {
      try {
        await card(it);
        it.classList.add("good");
      } catch (error) {
        failures.push(it.id);
        it.classList.add("bad");
        const note = document.createElement("p");
        note.className = "alarm";
        note.textContent = `NOT VERIFIED: ${error.message}`;
        it.prepend(note);
      }
      done += 1;
      if (done % 50 === 0) {
        status.querySelector("strong").textContent = `Checking signatures: ${done} of ${cards.length} requests…`;
        await new Promise((go) => setTimeout(go));
      }
    }
    if (failures.length) end(false, `${failures.length} of ${cards.length} requests do NOT verify. Do not rely on this file.`);
    else end(true, `All ${signatures} signatures in this report verify.`);
  } catch (error) {
    end(false, `NOT VERIFIED: ${error.message}`);
  }
})();
