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

// Messages to this device. A subscription can vanish without a word: each load of a page says it to the server again.

const zone = one("[data-zone]");
if (zone && !zone.value) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const apple = /iPhone|iPad/.test(navigator.userAgent) || (navigator.platform === "MacIntel" && navigator.maxTouchPoints > 1);
const installed = matchMedia("(display-mode: standalone)").matches || navigator.standalone === true;
const called = () => {
  const [, browser = "Browser"] = /(Firefox|Edg|Chrome|Safari)\//.exec(navigator.userAgent) ?? [];
  const [, system = ""] = /(iPhone|iPad|Android|Windows|Macintosh|Linux)/.exec(navigator.userAgent) ?? [];
  return `${browser.replace("Edg", "Edge")} ${system && `on ${system.replace("Macintosh", "Mac")}`}`.trim();
};
const register = async (subscription) => {
  const answer = await post("/api/v1/me/devices", { platform: "webpush", subscription: subscription.toJSON(), name: called() });
  if (answer.ok) return;
  const { detail } = await answer.json().catch(() => ({}));
  throw new Error(detail ?? "The server did not take it.");
};
async function subscription() {
  const worker = await navigator.serviceWorker?.ready;
  return worker?.pushManager?.getSubscription();
}

const panel = one("[data-push]");
const able = "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
const granted = able && Notification.permission === "granted";
if (granted && !one("[data-shell]")) {
  subscription().then((it) => it && register(it)).catch(() => {});
}
if (panel) {
  const [state, button, error] = ["[data-push-state]", "[data-push-on]", "[data-error]"].map((it) => one(it, panel));
  const say = (text, offer) => {
    state.textContent = text;
    button.hidden = !offer;
  };
  const show = async () => {
    if (apple && !installed) say("On this device messages come to the home screen app alone: see below how to add it.");
    else if (!able) say("This browser has no push. Use another one, or mail.");
    else if (Notification.permission === "denied") say("Messages from here are blocked in the browser’s own settings. Allow them there, then load this page again.");
    else if (Notification.permission === "granted" && (await subscription())) say("Messages come to this device.");
    else say("This device is not told yet.", true);
  };
  // Asked for within the tap, and subscribed at once: browsers want it so.
  button.onclick = async () => {
    error.textContent = "";
    try {
      if ((await Notification.requestPermission()) !== "granted") return show();
      const worker = await navigator.serviceWorker.ready;
      const { public_key } = await (await fetch("/api/v1/push-key")).json();
      const applicationServerKey = bytes(public_key);
      const it = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
      await register(it);
      location.reload();
    } catch (problem) {
      error.textContent = `This did not work: ${problem.message}`;
      show();
    }
  };
  show();
  one(`[data-guide=${apple ? "ios" : /Android/.test(navigator.userAgent) ? "android" : "desktop"}]`).open = !installed;
}
window.addEventListener("beforeinstallprompt", (event) => {
  const install = one("[data-install]");
  if (!install) return;
  event.preventDefault();
  install.hidden = false;
  install.onclick = () => event.prompt();
});
