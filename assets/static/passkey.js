// One ceremony with a passkey.
page.passkey = async (verb, options) => {
  const kind = window.PublicKeyCredential;
  if (!kind) throw Error(page.words("insecure"));
  const parse = kind[`parse${verb === "get" ? "Request" : "Creation"}OptionsFromJSON`]?.bind(kind);
  const older = parse ? { parse } : await import("./passkey-json.js");
  try {
    const answer = await navigator.credentials[verb]({ publicKey: older.parse(options) });
    return answer.toJSON?.() ?? older.write(answer);
  } catch (error) {
    const { host } = location;
    const { name } = error;
    const said = { NotAllowedError: "closed", InvalidStateError: "already", SecurityError: "nowhere" }[name];
    throw Error(page.words(said ?? "failed", { host, name }));
  }
};
