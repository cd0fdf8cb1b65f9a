// Exports and reports that are under way, and files that are dropped to be verified.

const { words } = page;
const problem = async (answer) => (await answer.json().catch(() => ({}))).detail || words("answered", answer);

for (const row of document.querySelectorAll("[data-export]")) {
  const ask = async () => {
    const answer = await fetch(`/api/v1/audit/exports/${row.dataset.export}`);
    const state = answer.ok ? await answer.json() : { status: "failed" };
    if (state.status !== "running") return location.reload();
    const percent = Math.floor((state.done * 100) / Math.max(state.total, 1));
    row.querySelector("progress").value = percent;
    row.querySelector("[data-percent]").textContent = `${percent} %`;
    setTimeout(ask, 500);
  };
  setTimeout(ask, 200);
}

// A report that is under way.
const making = document.querySelector("[data-making]");
const look = async () => {
  const answer = await fetch(location.href).catch(() => null);
  const fresh = answer?.ok && new DOMParser().parseFromString(await answer.text(), "text/html");
  const now = fresh && fresh.querySelector("[data-making]");
  if (fresh && !now) return location.reload();
  if (now) making.querySelector("progress").parentElement.replaceWith(now.querySelector("progress").parentElement);
  setTimeout(look, 1000);
};
if (making) setTimeout(look, 500);

const drop = document.querySelector("[data-drop]");
if (drop) {
  const input = drop.querySelector("input");
  const error = drop.querySelector("[data-error]");
  const panel = document.querySelector("[data-verdict]");
  const item = (list, text, look) => {
    const it = document.createElement("li");
    it.textContent = text;
    if (look) it.className = look;
    list.append(it);
  };
  const show = (name, report) => {
    const head = panel.querySelector("h2");
    head.textContent = words(report.valid ? "holds" : "invalid", { name });
    panel.dataset.valid = String(report.valid);
    panel.querySelector("[data-sentence]").textContent = report.verdict || "";
    const checks = panel.querySelector("[data-checks]");
    const limits = panel.querySelector("[data-limits]");
    checks.replaceChildren();
    limits.replaceChildren();
    for (const it of report.checks) item(checks, `${it.ok ? "✓" : "✗"} ${it.name}: ${it.detail}`, it.ok ? "good" : "bad");
    for (const it of report.not_shown || []) item(limits, it);
    panel.hidden = false;
    head.focus();
  };
  const verify = async (file) => {
    error.textContent = "";
    panel.hidden = true;
    const bundle = file.name.endsWith(".zip");
    if (bundle && !("bundles" in drop.dataset)) {
      error.textContent = words("bundle");
      return;
    }
    drop.setAttribute("aria-busy", "true");
    try {
      const path = bundle ? "/api/v1/verify/bundle" : "/api/v1/verify";
      const answer = await fetch(path, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
      if (answer.ok) show(file.name, await answer.json());
      else error.textContent = await problem(answer);
    } catch {
      error.textContent = words("silent");
    } finally {
      drop.removeAttribute("aria-busy");
    }
  };
  input.onchange = () => input.files[0] && verify(input.files[0]);
  drop.onsubmit = (event) => event.preventDefault();
  drop.ondragover = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) verify(event.dataTransfer.files[0]);
  };
}
