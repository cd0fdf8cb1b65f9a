// One ceremony with a passkey.
page.passkey = async (verb, options) => {
  const kind = window.PublicKeyCredential;
  if (!kind) throw Error("No passkeys here: the address must be https, or localhost.");
  const parse = kind[`parse${verb === "get" ? "Request" : "Creation"}OptionsFromJSON`]?.bind(kind);
  const older = parse ? { parse } : await import("./passkey-json.js");
  try {
    const answer = await navigator.credentials[verb]({ publicKey: older.parse(options) });
    return answer.toJSON?.() ?? older.write(answer);
  } catch (error) {
    throw Error({
      NotAllowedError: "The passkey prompt was closed or ran out of time. Nothing was changed.",
      InvalidStateError: "This device has a passkey here already. Sign in with it instead.",
      SecurityError: `Passkeys do not work at ${location.host}.`,
    }[error.name] || `The passkey did not work (${error.name}).`);
  }
};
