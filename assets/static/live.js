// Keeps the marked parts of a page as they are on the server, while somebody looks at it. Nothing moves while the focus or a
// selection is in the page's content, the pointer on something that could be clicked there, a finger on the screen, or right
// after any of them did something: what is newer waits.

const { all, local, one, words } = page;
const note = one("[data-updated]");
const EVERY = 30_000;
let fresh = null;
let at = "";
let asking = false;
const STILL = 1500;
let moved = -STILL;
let fingers = 0;

for (const type of ["pointermove", "pointerdown", "keydown", "wheel", "scroll", "touchstart", "touchend", "touchcancel"]) {
  addEventListener(type, ({ touches }) => {
    moved = performance.now();
    fingers = touches?.length ?? fingers;
  }, { capture: true, passive: true });
}

const busy = () =>
  fingers || performance.now() - moved < STILL || !getSelection().isCollapsed || document.activeElement?.closest("main *")
  || one(":is(main, footer) :is(a, button, summary, input, select):hover");

const say = (text) => {
  note.hidden = false;
  note.textContent = text;
};

function show() {
  if (!fresh) return;
  if (busy()) return say(words("newer", { at }));
  for (const part of all("[data-live]")) {
    const other = fresh.getElementById(part.id);
    // What was folded open stays so, and a countdown goes on.
    const open = all("details", part).map((it) => it.open);
    all("details", other).forEach((it, n) => (it.open = open[n] ?? it.open));
    for (const it of all("[data-until]", other)) {
      const same = one(`[data-until][datetime="${it.dateTime}"]`, part);
      if (same) it.replaceWith(same.cloneNode(true));
    }
    if (!part.isEqualNode(other)) part.replaceChildren(...other.childNodes);
  }
  fresh = null;
  say(words("updated", { at }));
}

async function ask() {
  if (asking || document.hidden) return;
  asking = true;
  const answer = await fetch(location.href).catch(() => null);
  const page = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  asking = false;
  at = new Date().toLocaleTimeString([], { timeStyle: "short" });
  if (!page) return say(words("not-updated", { at }));
  // Another page in its place: signed out, or not for this person any more.
  if (all("[data-live]").some(({ id }) => !page.getElementById(id))) return say(words("no-more"));
  local(page);
  fresh = page;
  show();
}

setInterval(ask, EVERY);
document.addEventListener("visibilitychange", ask);
setInterval(show, 500);
