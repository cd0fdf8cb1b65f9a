// Passkeys that are made, and signing in with one.

const { all, call, go, onSubmit, one, passkey, token, values } = page;

for (const form of all("[data-enrol]")) {
  form.hidden = !token;
  one("[data-no-token]").hidden = !form.hidden;
}
onSubmit("[data-enrol]", async (form) => {
  const { label, ...who } = values(form);
  const { publicKey } = await call("POST", "/api/v1/enrolment/options", { token, ...who });
  await call("POST", "/api/v1/enrolment", { token, label, credential: await passkey("create", publicKey) });
  location.assign(form.dataset.enrol);
});

onSubmit("[data-add-passkey]", async (form) => {
  const path = "/api/v1/me/passkeys";
  const { ceremony, confirm, publicKey } = await call("POST", `${path}/options`, values(form));
  const held = await passkey("get", confirm);
  await call("POST", path, { ceremony, confirm: held, credential: await passkey("create", publicKey) });
  go(form.dataset.addPasskey);
});

onSubmit("[data-login]", async (form) => {
  const { ceremony, publicKey } = await call("POST", "/api/v1/session/options", {});
  await call("POST", "/api/v1/session", { ceremony, credential: await passkey("get", publicKey) });
  location.assign(form.dataset.login);
});

// A link from another site comes without the strict cookie; from here it goes along.
for (const { dataset } of all("[data-login]")) {
  call("GET", "/api/v1/me").then(() => location.replace(dataset.login), () => {});
}
