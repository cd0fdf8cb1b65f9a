// What the server answered to a form stands in a panel in its place.
for (const form of document.querySelectorAll("[data-show]")) {
  form.addEventListener("answer", ({ detail }) => {
    const panel = document.getElementById(form.dataset.show);
    for (const it of panel.querySelectorAll("[data-out]")) it["src" in it ? "src" : "textContent"] = detail[it.dataset.out];
    form.hidden = true;
    panel.hidden = false;
    panel.querySelector("h3").focus();
  });
}
