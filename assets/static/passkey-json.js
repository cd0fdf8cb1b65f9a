// The JSON forms of WebAuthn by hand, for browsers that lack them.

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const swap = { "+": "-", "/": "_", "=": "" };
const text64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/[+/=]/g, (c) => swap[c]);

export function parse(it) {
  const id = (from) => from && { ...from, id: bytes(from.id) };
  const [allowCredentials, excludeCredentials] = [it.allowCredentials, it.excludeCredentials].map((list) => list?.map(id));
  return { ...it, challenge: bytes(it.challenge), user: id(it.user), allowCredentials, excludeCredentials };
}

export function write(it) {
  const response = {};
  for (const part of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (it.response[part]) response[part] = text64(it.response[part]);
  }
  if (it.response.getTransports) response.transports = it.response.getTransports();
  const { id, type, authenticatorAttachment } = it;
  const clientExtensionResults = it.getClientExtensionResults();
  return { id, rawId: id, type, authenticatorAttachment, clientExtensionResults, response };
}
