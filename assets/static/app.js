// What pages need beyond their HTML: passkeys, forms, clocks, live updates. Text goes in as text, never as markup.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

// What a link brought along, before anything else puts its own word there.
const token = location.hash.slice(1);

async function call(method, path, body, reason) {
  const headers = reason ? { "X-Reason": `UTF-8''${encodeURIComponent(reason)}` } : {};
  const init = body ? { headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) } : { headers };
  const answer = await fetch(path, { method, ...init }).catch(() => {
    throw new Error("The server did not answer. Try again.");
  });
  const json = await answer.json().catch(() => ({}));
  if (answer.ok) return json;
  const why = (json.errors ?? []).map((it) => it.reason);
  const text = [json.detail || json.title || `The server answered ${answer.status}.`, ...why].join(" ");
  throw wrong(json.field, text.replace(/^`[^`]*`: /, json.field ? "" : "$&"));
}

const wrong = (field, message) => Object.assign(new Error(message), { field });

// The JSON forms of WebAuthn, by hand where the browser lacks them.

const plain = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const bytes = (text) => plain(text.replace(/-/g, "+").replace(/_/g, "/"));
const swap = { "+": "-", "/": "_", "=": "" };
const text64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/[+/=]/g, (c) => swap[c]);

function readOptions(it) {
  const id = (from) => from && { ...from, id: bytes(from.id) };
  const [allowCredentials, excludeCredentials] = [it.allowCredentials, it.excludeCredentials].map((list) => list?.map(id));
  return { ...it, challenge: bytes(it.challenge), user: id(it.user), allowCredentials, excludeCredentials };
}

function writeAnswer(it) {
  if (it.toJSON) return it.toJSON();
  const response = {};
  for (const part of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (it.response[part]) response[part] = text64(it.response[part]);
  }
  if (it.response.getTransports) response.transports = it.response.getTransports();
  const { id, type, authenticatorAttachment } = it;
  const clientExtensionResults = it.getClientExtensionResults();
  return { id, rawId: id, type, authenticatorAttachment, clientExtensionResults, response };
}

async function passkey(verb, options) {
  const kind = window.PublicKeyCredential;
  if (!kind) throw new Error("No passkeys here: the address must be https, or localhost.");
  const parse = kind[verb === "create" ? "parseCreationOptionsFromJSON" : "parseRequestOptionsFromJSON"];
  try {
    const publicKey = parse ? parse.call(kind, options) : readOptions(options);
    return writeAnswer(await navigator.credentials[verb]({ publicKey }));
  } catch (error) {
    throw new Error({
      NotAllowedError: "The passkey prompt was closed or ran out of time. Nothing was changed.",
      InvalidStateError: "This device has a passkey here already. Sign in with it instead.",
      SecurityError: `Passkeys do not work at ${location.host}.`,
    }[error.name] || `The passkey did not work (${error.name}).`);
  }
}

// What gets signed must be what the page shows, and the challenge must be made from it.
async function check(options, expected) {
  const intent = plain(options.intent);
  const statement = new TextDecoder().decode(intent);
  one("[data-intent-text]").textContent = statement;
  one("[data-intent]").hidden = false;
  const digest = async (parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(parts)));
  const label = new TextEncoder().encode("signedapproval/webauthn-challenge/v1\0");
  const challenge = text64(await digest([...label, ...plain(options.nonce), ...(await digest(intent))]));
  const said = JSON.parse(statement);
  const other = Object.keys(expected).some((it) => said[it] !== expected[it]);
  if (other || challenge !== options.publicKey.challenge) {
    throw new Error("The server asks to sign something else than this page shows. Load it again.");
  }
}

// Forms.

// What is wrong with a field stands beside it, and the focus goes there; all else stands at the end of the form.
function tell(form, { message, field }) {
  const { elements } = form;
  const named = field && (elements[field === "X-Reason" ? "reason" : field] ?? elements[field.split(".")[0]]);
  const input = named instanceof RadioNodeList ? named[0] : named;
  const end = one("[data-error]", form);
  if (!input?.checkVisibility()) {
    end.textContent = message;
    return end.scrollIntoView({ block: "nearest" });
  }
  const note = Object.assign(end.cloneNode(), { id: "wrong", textContent: message });
  const many = /checkbox|radio/.test(input.type) && input.closest("fieldset");
  if (many) many.append(note);
  else (input.closest("label") ?? input).after(note);
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", `wrong ${input.getAttribute("aria-describedby") ?? ""}`);
  input.focus();
}

function forget(form) {
  one("[data-error]:not(#wrong)", form).textContent = "";
  one("#wrong")?.remove();
  for (const it of all("[aria-invalid]")) {
    it.removeAttribute("aria-invalid");
    it.setAttribute("aria-describedby", it.getAttribute("aria-describedby").replace(/^wrong /, ""));
  }
}

async function busy(form, work) {
  const lock = (on) => all("button", form).forEach((it) => (it.disabled = on));
  forget(form);
  lock(true);
  form.ariaBusy = "true";
  try {
    await work();
  } catch (problem) {
    tell(form, problem);
  }
  lock(false);
  form.ariaBusy = "false";
}

const onSubmit = (selector, work) =>
  all(selector).forEach((form) => (form.onsubmit = () => (busy(form, () => work(form)), false)));

function go(place) {
  const url = new URL(place, location.href);
  if (url.pathname !== location.pathname) return location.assign(url);
  history.replaceState(null, "", url);
  location.reload();
}

function values(form) {
  const body = {};
  for (const { name, value, checked, dataset } of form.elements) {
    const read = {
      many: () => [...(body[name] ?? []), value].slice(0, checked ? undefined : -1),
      bool: () => checked,
      yes: () => checked || undefined,
      pick: () => (checked ? value : body[name]),
      number: () => Number(value),
      list: () => value.split(/[\n,]/).map((it) => it.trim()).filter(Boolean),
      exact: () => value,
      hash: () => token,
      day: () => `${value}T23:59:59Z`,
    }[dataset.as] ?? (() => value.trim());
    if (!name || !value.trim()) continue;
    const path = name.split(".");
    const last = path.pop();
    path.reduce((at, key) => (at[key] ??= {}), body)[last] = read();
  }
  return body;
}

// Moves members of `from` into a path.
const filled = (text, from) =>
  text.replace(/\{(\w+)\}/g, (_, name) => {
    const { [name]: value } = from;
    delete from[name];
    return encodeURIComponent(value);
  });

onSubmit("[data-form]", async (form) => {
  const { to, then, show, method = "POST" } = form.dataset;
  const { reason, ...body } = values(form);
  const path = filled(to, body);
  const answer = await call(method, path, method === "DELETE" ? undefined : body, reason);
  if (answer.proposal) return go(answer.url);
  if (then) return go(filled(then, answer));
  const panel = document.getElementById(show);
  all("[data-out]", panel).forEach((it) => (it[it.src === undefined ? "textContent" : "src"] = answer[it.dataset.out]));
  form.hidden = true;
  panel.hidden = false;
  one("h3", panel).focus();
});

for (const form of all("[data-enrol]")) {
  form.hidden = !token;
  one("[data-no-token]").hidden = !form.hidden;
}
onSubmit("[data-enrol]", async (form) => {
  const { label, ...who } = values(form);
  const { publicKey } = await call("POST", "/api/v1/enrolment/options", { token, ...who });
  await call("POST", "/api/v1/enrolment", { token, label, credential: await passkey("create", publicKey) });
  location.assign(form.dataset.enrol);
});

onSubmit("[data-add-passkey]", async (form) => {
  const path = "/api/v1/me/passkeys";
  const { ceremony, confirm, publicKey } = await call("POST", `${path}/options`, values(form));
  const held = await passkey("get", confirm);
  await call("POST", path, { ceremony, confirm: held, credential: await passkey("create", publicKey) });
  go(form.dataset.addPasskey);
});

onSubmit("[data-login]", async (form) => {
  const { ceremony, publicKey } = await call("POST", "/api/v1/session/options", {});
  await call("POST", "/api/v1/session", { ceremony, credential: await passkey("get", publicKey) });
  location.assign(form.dataset.login);
});

// A link from another site comes without the strict cookie; from here it goes along.
for (const { dataset } of all("[data-login]")) {
  call("GET", "/api/v1/me").then(() => location.replace(dataset.login), () => {});
}

for (const button of all("[data-answer]")) {
  const { form, dataset: { answer: decision } } = button;
  form.onsubmit = () => false;
  button.onclick = () =>
    busy(form, async () => {
      const { to, then, expect } = form.dataset;
      const body = { ...(decision && { decision }), ...values(form) };
      if ((decision === "reject" || body.break_glass) && !body.comment) {
        throw wrong("comment", "Say why: this needs a comment.");
      }
      const codes = one("[name=match_code]", form);
      if (codes && decision === "approve" && !body.match_code) {
        throw wrong("match_code", "Pick the code that the requester sees.");
      }
      if (decision === "reject") delete body.match_code;
      if ("code" in button.dataset) {
        if (!body.totp) throw wrong("totp", "Type the six digits that your app shows.");
        await call("POST", to, body);
        form.dataset.done = "";
        return go(then);
      }
      delete body.totp;
      const options = await call("POST", `${to}/options`, body);
      await check(options, { ...JSON.parse(expect), ...(decision && { decision }) });
      const credential = await passkey("get", options.publicKey);
      await call("POST", to, { ceremony: options.ceremony, credential });
      form.dataset.done = "";
      go(then);
    });
}

document.addEventListener("click", async (event) => {
  const { target } = event;
  if (target.closest(".skip")) {
    // The address keeps its token.
    event.preventDefault();
    one("#main").focus();
  }
  if (target.closest("[data-print]")) window.print();
  const button = target.closest("[data-copy]");
  if (!button) return;
  const { textContent } = document.getElementById(button.dataset.copy);
  button.textContent = await navigator.clipboard.writeText(textContent).then(() => "Copied", () => "Copy it by hand");
});

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
all("time[data-local]").forEach((it) => (it.textContent = local.format(new Date(it.dateTime))));

function tick() {
  for (const it of all("[data-until]")) {
    const left = Math.floor((new Date(it.dateTime) - Date.now()) / 1000);
    const [m, h] = [60, 3600].map((unit) => Math.floor(left / unit));
    const long = h ? `${h} h ${m % 60} min` : `${m} min`;
    const short = `${m}:${String(left % 60).padStart(2, "0")}`;
    it.textContent = left < 0 ? "time is over" : `${m < 10 ? short : long} left`;
    it.classList.toggle("soon", left < 120);
  }
}
tick();
setInterval(tick, 1000);

export { call, onSubmit, passkey };

// What comes back from the browser's memory is old.
window.onpageshow = ({ persisted }) => persisted && location.reload();
