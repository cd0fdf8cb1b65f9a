// A decision, and a request that moves meanwhile.

const { all, busy, call, go, one, passkey, values, words, wrong } = page;

// What is signed is what the page shows, and the challenge is made from it.
async function check({ intent, nonce, publicKey }, expected) {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const digest = async (it) => new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(it)));
  const statement = new TextDecoder().decode(bytes(intent));
  one("[data-intent-text]").textContent = statement;
  one("[data-intent]").hidden = false;
  const label = new TextEncoder().encode("signedapproval/webauthn-challenge/v1\0");
  const challenge = await digest([...label, ...bytes(nonce), ...(await digest(bytes(intent)))]);
  const asked = bytes(publicKey.challenge.replace(/-/g, "+").replace(/_/g, "/"));
  const said = JSON.parse(statement);
  if (`${challenge}` !== `${asked}` || Object.keys(expected).some((it) => said[it] !== expected[it])) {
    throw Error(words("other-subject"));
  }
}

async function answer(form, decision, byCode) {
  const { to, then, expect } = form.dataset;
  const wanted = decision && { decision };
  const body = { ...wanted, ...values(form) };
  if ((decision === "reject" || body.break_glass) && !body.comment) throw wrong("comment", words("comment"));
  if (byCode) await call("POST", to, body);
  else {
    delete body.totp;
    const options = await call("POST", `${to}/options`, body);
    await check(options, { ...JSON.parse(expect), ...wanted });
    const { ceremony, publicKey } = options;
    await call("POST", to, { ceremony, credential: await passkey("get", publicKey) });
  }
  form.done = true;
  go(then);
}

for (const button of all("[data-answer]")) {
  const { form, dataset } = button;
  form.onsubmit = () => false;
  button.onclick = () => busy(form, () => answer(form, dataset.answer, "code" in dataset));
}

// A request that moves says so, and then offers no decision.
async function watch(article) {
  const form = one("[data-decide]", article);
  for (let wait = 0; ; wait = 50) {
    const it = await call("GET", `/api/v1/approvals/${article.dataset.request}?wait=${wait}`).catch(() => null);
    const same = it?.status === "pending" && it.decisions.length === +article.dataset.decisions;
    if (form?.done) return;
    if (it && !same && form?.ariaBusy !== "true") {
      one("[data-moved]", article).hidden = false;
      if (it.status !== "pending") all("[data-answer]", article).forEach((button) => button.remove());
      return;
    }
    await new Promise((done) => setTimeout(done, it ? 1e3 : 15e3));
  }
}

// Told once it is looked at.
for (const article of all("[data-watch]")) {
  watch(article);
  const seen = () => {
    if (document.visibilityState !== "visible") return;
    document.onvisibilitychange = null;
    call("POST", `/api/v1/approvals/${article.dataset.request}/seen`, {}).catch(() => {});
  };
  document.onvisibilitychange = seen;
  seen();
}
