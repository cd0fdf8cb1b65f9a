// Setting one-time codes up: a passkey allows it, then the secret is shown, once.

const { call, onSubmit, passkey } = window.page;

onSubmit("[data-set-up]", async (form) => {
  const path = "/api/v1/me/totp";
  const { ceremony, publicKey } = await call("POST", `${path}/options`, {});
  const made = await call("POST", path, { ceremony, credential: await passkey("get", publicKey) });
  const panel = document.querySelector("[data-secret]");
  const one = (selector) => panel.querySelector(selector);
  one("[data-qr]").src = made.qr;
  one("[data-url]").href = made.otpauth_url;
  one("[data-text]").textContent = made.secret;
  form.hidden = true;
  panel.hidden = false;
  one("h3").focus();
});
