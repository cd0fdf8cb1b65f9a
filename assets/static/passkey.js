// One ceremony with a passkey.

const kind = window.PublicKeyCredential;
const older = kind?.parseRequestOptionsFromJSON ? {} : await import("./passkey-json.js");

export async function passkey(verb, options) {
  if (!kind) throw Error("No passkeys here: the address must be https, or localhost.");
  try {
    const parse = older.parse ?? ((it) => kind[`parse${verb === "get" ? "Request" : "Creation"}OptionsFromJSON`](it));
    const answer = await navigator.credentials[verb]({ publicKey: parse(options) });
    return answer.toJSON?.() ?? older.write(answer);
  } catch (error) {
    throw Error({
      NotAllowedError: "The passkey prompt was closed or ran out of time. Nothing was changed.",
      InvalidStateError: "This device has a passkey here already. Sign in with it instead.",
      SecurityError: `Passkeys do not work at ${location.host}.`,
    }[error.name] || `The passkey did not work (${error.name}).`);
  }
}
