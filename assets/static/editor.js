// Explains while one types, jumps to errors, keeps a draft.

const { words } = page;
const one = (name) => document.querySelector(`[data-${name}]`);
const [form, panel, place, size] = ["editor", "found", "place", "size"].map(one);
const { document: text, reason } = form.elements;
const max = +text.dataset.max;
const key = `draft ${location.pathname}`;
const first = { text: text.value, reason: reason.value };
const unsaved = "unsaved" in form.dataset;

// Whether the browser's store has it: full or switched off, it takes nothing.
let kept = true;
function keep() {
  const plain = !unsaved && text.value === first.text && reason.value === first.reason;
  try {
    if (plain) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(Object.fromEntries(new FormData(form))));
    kept = true;
  } catch {
    kept = plain;
  }
}
const kindly = (name, values) => `${words(name, values)} ${words(kept ? "kept" : "not-kept")}`;
let sending = false;
addEventListener("beforeunload", (event) => {
  if (!kept && !sending) event.preventDefault();
});

// Bytes beyond the document's limit.
function excess() {
  const bytes = text.value.length * 3 <= max ? 0 : new TextEncoder().encode(text.value).length;
  const over = Math.max(0, bytes - max);
  size.textContent = over ? kindly("excess", { bytes, max, over }) : "";
  return over;
}

function say(sentence) {
  const note = Object.assign(document.createElement("p"), { className: "error", textContent: sentence });
  panel.replaceChildren(note);
}

// The newest question only: an answer that comes late is dropped.
let asked = 0;
async function explain() {
  const now = ++asked;
  if (excess()) return say(words("too-large"));
  panel.ariaBusy = "true";
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.dataset.explain, { method: "POST", body }).catch(() => null);
  if (now !== asked) return;
  panel.ariaBusy = "false";
  if (answer?.ok) {
    // Escaped by the server.
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    panel.replaceChildren(...part.body.childNodes);
  } else if (answer?.status === 401) {
    say(kindly("signed-out"));
  } else if (answer?.status === 413) {
    say(kindly("document-max"));
  } else if (answer) {
    say(kindly("unchecked", answer));
  } else {
    say(kindly("unanswered"));
  }
}

let timer;
form.addEventListener("input", () => {
  keep();
  excess();
  clearTimeout(timer);
  timer = setTimeout(explain, 300);
});
form.addEventListener("submit", (event) => {
  keep();
  if (excess()) {
    event.preventDefault();
    text.focus();
  } else {
    sending = true;
  }
});

function go(line) {
  const lines = text.value.split("\n");
  const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  text.focus();
  text.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  text.scrollTop = (text.scrollHeight / lines.length) * Math.max(0, line - 4);
  where();
}
panel.addEventListener("click", ({ target }) => {
  const { line } = target.dataset;
  if (line) go(+line);
});

const where = () => {
  const line = text.value.slice(0, text.selectionStart).split("\n").length;
  place.textContent = words("line", { line });
};
for (const it of ["input", "keyup", "click", "focus"]) text.addEventListener(it, where);

async function digest(of) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(of));
  return Array.from(new Uint8Array(bytes), (it) => it.toString(16).padStart(2, "0")).join("");
}

// Not if its text has become a version or a proposal since.
async function offer() {
  const draft = JSON.parse(localStorage.getItem(key) ?? "null");
  if (!draft?.document) return;
  const differs = draft.document !== first.text || draft.reason !== first.reason;
  if (!differs || form.dataset.saved.split(" ").includes(await digest(draft.document))) {
    return localStorage.removeItem(key);
  }
  const note = one("draft");
  note.hidden = false;
  one("take-draft").onclick = () => {
    for (const [name, value] of Object.entries(draft)) {
      if (form.elements[name]) form.elements[name].value = value;
    }
    note.hidden = true;
    keep();
    explain();
  };
  one("drop-draft").onclick = () => {
    localStorage.removeItem(key);
    note.hidden = true;
  };
}
if (unsaved) keep();
else offer().catch(() => {});
excess();
