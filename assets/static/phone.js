// Messages to this device, and a queue that stays fresh. A subscription can vanish without a word: each load of a page says it
// to the server again.

const { call, one, words } = page;

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
const register = (subscription) =>
  call("POST", "/api/v1/me/devices", { platform: "webpush", subscription: subscription.toJSON(), name: called() });
async function subscription() {
  const worker = await navigator.serviceWorker?.ready;
  return worker?.pushManager?.getSubscription();
}

const panel = one("[data-push]");
const able = "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
if (able && Notification.permission === "granted") {
  subscription().then((it) => it && register(it)).catch(() => {});
}
if (panel) {
  const [state, button, error] = ["[data-push-state]", "[data-push-on]", "[data-error]"].map((it) => one(it, panel));
  const say = (name, offer) => {
    state.textContent = words(name);
    button.hidden = !offer;
  };
  const show = async () => {
    if (apple && !installed) say("home-screen");
    else if (!able) say("no-push");
    else if (Notification.permission === "denied") say("blocked");
    else if (Notification.permission === "granted" && (await subscription())) say("told");
    else say("untold", true);
  };
  // Asked for within the tap, and subscribed at once: browsers want it so.
  button.onclick = async () => {
    error.textContent = "";
    try {
      if ((await Notification.requestPermission()) !== "granted") return show();
      const worker = await navigator.serviceWorker.ready;
      const { public_key } = await call("GET", "/api/v1/push-key");
      const applicationServerKey = bytes(public_key);
      const it = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
      await register(it);
      location.reload();
    } catch (problem) {
      error.textContent = words("no-subscription", problem);
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
