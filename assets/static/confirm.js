// Dangerous changes: the server refuses them to a session alone. Then a passkey is put under exactly that call, and it is sent
// once more. Whoever calls notices nothing of it.

const { passkey, words } = page;

const send = window.fetch;
const hash = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const hex = (bytes) => [...bytes].map((it) => it.toString(16).padStart(2, "0")).join("");
const plain = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const text64 = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (c) => ({ "+": "-", "/": "_", "=": "" })[c]);

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await send(path, { method: "POST", headers, body: JSON.stringify(body) });
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.detail || json.title);
  return json;
}

// The word for one call, once the passkey has signed exactly that call.
async function confirmed(url, { method, headers, body = "" }) {
  const { pathname, search } = new URL(url, location.href);
  const reason = decodeURIComponent((headers?.["X-Reason"] ?? "").replace(/^UTF-8''/, ""));
  const call = { method, path: pathname + search, body_sha256: hex(await hash(new TextEncoder().encode(body))), reason };
  const base = "/api/v1/me/confirmations";
  const { ceremony, intent, nonce, publicKey } = await post(`${base}/options`, call);
  const statement = plain(intent);
  const said = JSON.parse(new TextDecoder().decode(statement));
  const label = new TextEncoder().encode("signedapproval/webauthn-challenge/v1\0");
  const challenge = text64(await hash(new Uint8Array([...label, ...plain(nonce), ...(await hash(statement))])));
  if (challenge !== publicKey.challenge || Object.keys(call).some((it) => call[it] !== said[it])) {
    throw Error(words("other-call"));
  }
  return (await post(base, { ceremony, credential: await passkey("get", publicKey) })).confirmation;
}

window.fetch = async (url, init) => {
  const answer = await send(url, init);
  if (answer.status !== 403 || !init?.method) return answer;
  const { type, detail } = await answer.clone().json().catch(() => ({}));
  if (type !== "/problems/passkey-needed") return answer;
  const note = Object.assign(document.createElement("p"), { className: "notice confirming", textContent: detail });
  note.setAttribute("role", "status");
  document.querySelector("#main").append(note);
  try {
    return await send(url, { ...init, headers: { ...init.headers, "X-Confirmation": await confirmed(url, init) } });
  } catch ({ message }) {
    return new Response(JSON.stringify({ detail: message }), { status: 403 });
  } finally {
    note.remove();
  }
};
