// What every page needs. Text goes in as text, never as markup.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

const token = location.hash.slice(1);

// What is said to people stands on the scripts' own elements, in the language of the page.
const words = (name, values) =>
  one(`script[data-say-${name}]`)
    .getAttribute(`data-say-${name}`)
    .replace(/\{(\w+)\}/g, (_, it) => values[it]);

const wrong = (field, message) => Object.assign(Error(message), { field });

async function call(method, path, body, reason) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (reason) headers["X-Reason"] = `UTF-8''${encodeURIComponent(reason)}`;
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) }).catch(() => {
    throw Error(words("silent"));
  });
  const json = await answer.json().catch(() => ({}));
  if (answer.ok) return json;
  const { field, detail = json.title, errors = [] } = json;
  const text = [detail || words("answered", answer), ...errors.map((it) => it.reason)].join(" ");
  throw wrong(field, text.replace(/^`[^`]*`: /, field ? "" : "$&"));
}

// Beside the field that is wrong, where the focus goes, or at the end of the form.
function tell(form, { message, field }) {
  const { elements } = form;
  const named = field && (elements[field === "X-Reason" ? "reason" : field] ?? elements[field.split(".")[0]]);
  const input = named?.type ? named : named?.[0];
  const end = one("[data-error]", form);
  if (!input?.checkVisibility()) {
    end.textContent = message;
    return end.scrollIntoView({ block: "nearest" });
  }
  const note = Object.assign(end.cloneNode(), { id: "wrong", textContent: message });
  const many = /checkbox|radio/.test(input.type) && input.closest("fieldset");
  if (many) many.append(note);
  else (input.closest("label") ?? input).after(note);
  input.ariaInvalid = true;
  input.setAttribute("aria-describedby", `wrong ${input.getAttribute("aria-describedby") ?? ""}`);
  input.focus();
}

async function busy(form, work) {
  const lock = (on) => all("button", form).forEach((it) => (it.disabled = on), (form.ariaBusy = on));
  one("[data-error]:not(#wrong)", form).textContent = "";
  one("#wrong")?.remove();
  for (const it of all("[aria-invalid]")) {
    it.ariaInvalid = null;
    it.setAttribute("aria-describedby", it.getAttribute("aria-describedby").replace("wrong ", ""));
  }
  lock(true);
  await work().catch((problem) => tell(form, problem));
  lock(false);
}

const onSubmit = (selector, work) =>
  all(selector).forEach((form) => (form.onsubmit = () => (busy(form, () => work(form)), false)));

function go(place) {
  const url = new URL(place, location);
  if (url.pathname !== location.pathname) return location.assign(url);
  history.replaceState(null, "", url);
  location.reload();
}

function values(form) {
  const body = {};
  for (const { name, value, checked, dataset } of form.elements) {
    const text = value?.trim();
    if (!name || !text) continue;
    const path = name.split(".");
    const last = path.pop();
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
    }[dataset.as];
    path.reduce((at, key) => (at[key] ??= {}), body)[last] = read ? read() : text;
  }
  return body;
}

// Moves members into a path.
const filled = (text, from) =>
  text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = from[name];
    delete from[name];
    return encodeURIComponent(value);
  });

onSubmit("[data-form]", async (form) => {
  const { to, then, method = "POST" } = form.dataset;
  const { reason, ...body } = values(form);
  const path = filled(to, body);
  const answer = await call(method, path, method === "DELETE" ? undefined : body, reason);
  if (answer.proposal) return go(answer.url);
  if (then) return go(filled(then, answer));
  form.dispatchEvent(new CustomEvent("answer", { detail: answer }));
});

// The address keeps its token.
one(".skip").onclick = () => (one("#main").focus(), false);

const local = (root) =>
  all("[data-local]", root).forEach((it) => (it.textContent = new Date(it.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })));
local();

// For the scripts that follow.
window.page = { all, busy, call, go, local, one, onSubmit, token, values, words, wrong };

// From the browser's memory comes what is old.
window.onpageshow = ({ persisted }) => persisted && location.reload();

// Signed in, or the page that the worker keeps. Without a network nothing can be decided.
const again = one("[data-again]");
if (again || one(".who")) {
  navigator.serviceWorker?.register("/sw.js").catch(() => {});
  const lost = () => all("[data-offline], [data-answer]").forEach((it) => (it.hidden = "answer" in it.dataset));
  addEventListener("offline", lost);
  addEventListener("online", () => location.reload());
  if (again && location.pathname !== "/offline") again.href = location.href;
  if (!navigator.onLine) lost();
}
