// What keeps the pages of people who are signed in alive, and makes them an app on a phone: live updates, the service
// worker, the badge, going offline and coming back, and that a request was seen.

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

const json = { "Content-Type": "application/json" };
const post = (path, body) => fetch(path, { method: "POST", headers: json, body: JSON.stringify(body) });

// A failure costs the offline page, nothing else.
navigator.serviceWorker?.register("/sw.js", { updateViaCache: "none" }).catch(() => {});

// The page that is kept: gone as soon as there is a network.
if (one("[data-shell]")) {
  one("[data-again]").href = location.pathname === "/offline" ? "/a/" : location.href;
  window.addEventListener("online", () => location.reload());
} else {
  // Without a network nothing here can be decided, and what stands here may be old.
  const lost = (gone) => {
    all("[data-offline]").forEach((it) => (it.hidden = !gone));
    all("[data-answer]").forEach((it) => (it.hidden = gone));
  };
  window.addEventListener("offline", () => lost(true));
  window.addEventListener("online", () => location.reload());
  if (!navigator.onLine) lost(true);
}

// How many wait, on the app's sign.
const badge = (waiting) => {
  if (navigator.setAppBadge) (waiting ? navigator.setAppBadge(waiting) : navigator.clearAppBadge()).catch(() => {});
};

// An old queue loads itself again, never in a circle.
const queue = one("[data-inbox]");
if (queue) {
  badge(Number(queue.dataset.waiting));
  const shown = queue.dataset.ids;
  new EventSource("/api/v1/inbox/events").addEventListener("inbox", ({ data }) => {
    const { ids, waiting } = JSON.parse(data);
    badge(waiting);
    const now = ids.sort().join();
    if (shown === undefined || now === shown || sessionStorage.inbox === now) return;
    sessionStorage.inbox = now;
    location.reload();
  });
}

// A request that moves says so, and then offers no decision.
async function watch(page) {
  const form = one("[data-decide]", page);
  for (let wait = 0; ; wait = 50) {
    const it = await fetch(`/api/v1/approvals/${page.dataset.request}?wait=${wait}`)
      .then((answer) => (answer.ok ? answer.json() : null))
      .catch(() => null);
    const same = it?.status === "pending" && it.decisions.length === Number(page.dataset.decisions);
    if (form?.dataset.done === "") return;
    if (it && !same && form?.ariaBusy !== "true") {
      one("[data-moved]", page).hidden = false;
      if (it.status !== "pending") all("[data-answer]", page).forEach((button) => button.remove());
      return;
    }
    await new Promise((done) => setTimeout(done, it ? 1000 : 15000));
  }
}
all("[data-watch]").forEach(watch);

// Told once the page is really looked at, so that everybody sees which request reached whom.
const request = one("[data-watch]")?.dataset.request;
if (request) {
  const seen = () => {
    if (document.visibilityState !== "visible") return;
    document.removeEventListener("visibilitychange", seen);
    post(`/api/v1/approvals/${request}/seen`, {}).catch(() => {});
  };
  document.addEventListener("visibilitychange", seen);
  seen();
}
