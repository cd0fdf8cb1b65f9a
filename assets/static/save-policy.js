// A policy whose plain form was refused for want of a passkey.
const { words } = page;
for (const button of document.querySelectorAll("[data-save-policy]")) {
  const { elements } = document.querySelector(".editor");
  const wrong = button.parentElement.querySelector("[data-error]");
  button.onclick = async () => {
    button.disabled = true;
    const headers = { "Content-Type": "application/json", "X-Reason": `UTF-8''${encodeURIComponent(elements.reason.value.trim())}` };
    if (elements.base.value) headers["If-Match"] = `"${elements.base.value}"`;
    const { savePolicy, then } = button.dataset;
    const answer = await window.fetch(savePolicy, { method: "PUT", headers, body: elements.document.value });
    const json = await answer.json().catch(() => ({}));
    if (answer.ok) return location.assign(json.url ?? then);
    wrong.textContent = json.detail ?? words("silent");
    button.disabled = false;
  };
}
