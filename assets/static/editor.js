// The policy editor: explains while one types, jumps to the line of an error, and keeps a draft in this browser.

const form = document.querySelector("[data-editor]");
const { document: text, base } = form.elements;
const panel = document.querySelector("[data-found]");
const place = document.querySelector("[data-place]");
const key = `draft ${location.pathname}`;
const first = text.value;

// The newest question only: an answer that comes late is dropped.
let asked = 0;
async function explain() {
  const now = ++asked;
  panel.ariaBusy = "true";
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.dataset.explain, { method: "POST", body }).catch(() => null);
  if (now !== asked) return;
  panel.ariaBusy = "false";
  if (answer?.ok) {
    // The server's own page part, with everything from outside escaped there.
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    panel.replaceChildren(...part.body.childNodes);
  } else {
    const note = document.createElement("p");
    note.className = "error";
    const gone = answer?.status === 401;
    note.textContent = gone
      ? "You are signed out. Your draft is kept in this browser: sign in in another tab, then go on."
      : "The server did not answer. Your draft is kept in this browser.";
    panel.replaceChildren(note);
  }
}

let timer;
form.addEventListener("input", () => {
  if (text.value === first) localStorage.removeItem(key);
  else localStorage.setItem(key, JSON.stringify({ base: base.value, text: text.value }));
  clearTimeout(timer);
  timer = setTimeout(explain, 300);
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
  place.textContent = `Line ${line}`;
};
for (const it of ["input", "keyup", "click", "focus"]) text.addEventListener(it, where);

const draft = JSON.parse(localStorage.getItem(key) ?? "null");
const note = document.querySelector("[data-draft]");
if (draft && draft.text !== text.value) {
  note.hidden = false;
  note.querySelector("[data-take-draft]").onclick = () => {
    text.value = draft.text;
    base.value = draft.base;
    note.hidden = true;
    explain();
  };
  note.querySelector("[data-drop-draft]").onclick = () => {
    localStorage.removeItem(key);
    note.hidden = true;
  };
} else {
  localStorage.removeItem(key);
}
