// The service worker. It keeps style, scripts and one page that says there is no connection; it never keeps a page about
// a request, so that no decision is ever offered from memory. SHELL, the list of what it keeps, and WORDS, its texts in the
// language of whoever asked for it, stand above these lines.

const NAME = `shell-${SHELL.join()}`;

self.addEventListener("install", (event) => {
  // From the server, never from the browser's own cache: an old page must not outlive a release.
  const fresh = SHELL.map((it) => new Request(it, { cache: "reload", credentials: "omit" }));
  event.waitUntil(caches.open(NAME).then((it) => it.addAll(fresh)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((all) => Promise.all(all.filter((it) => it !== NAME).map((it) => caches.delete(it))));
  event.waitUntil(old.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  if (request.mode === "navigate") {
    const offline = () => caches.match("/offline").then((it) => it ?? Response.error());
    event.respondWith(fetch(request).catch(offline));
  } else if (url.pathname.startsWith("/static/")) {
    // Named by their content: what is kept under the name is the file itself.
    event.respondWith(caches.match(request).then((it) => it ?? fetch(request)));
  }
});

// The same form as a declarative message, which newer Apple devices show without asking us.
self.addEventListener("push", (event) => {
  let told = {};
  try {
    told = event.data?.json() ?? {};
  } catch {
    // Shown all the same: browsers take the right away from whoever receives without showing.
  }
  const { title = WORDS.waits, body = "", navigate = "/a/", tag, lang } = told.notification ?? {};
  const options = {
    body,
    lang,
    tag,
    renotify: Boolean(tag),
    icon: "/static/icon-192.png",
    data: { navigate },
    actions: [{ action: "open", title: WORDS.open }],
  };
  const badge = Number(told.app_badge) > 0 ? navigator.setAppBadge?.(Number(told.app_badge)) : undefined;
  event.waitUntil(Promise.all([self.registration.showNotification(title, options), badge]));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const place = new URL(event.notification.data?.navigate ?? "/a/", location.origin);
  if (place.origin !== location.origin) return;
  event.waitUntil(
    self.clients.matchAll({ type: "window", includeUncontrolled: true }).then((open) => {
      const same = open.find((it) => new URL(it.url).pathname === place.pathname);
      return same ? same.focus() : self.clients.openWindow(place.href);
    }),
  );
});

// The browser took another address for our messages: tell the server of it.
self.addEventListener("pushsubscriptionchange", (event) => {
  const key = event.oldSubscription?.options.applicationServerKey;
  const anew = async () => {
    const it =
      event.newSubscription ??
      (key && (await self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key })));
    if (!it) return;
    const replaces = event.oldSubscription?.endpoint;
    const body = JSON.stringify({ platform: "webpush", subscription: it.toJSON(), replaces });
    await fetch("/api/v1/me/devices", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  };
  event.waitUntil(anew());
});
