// What is left.
const { words } = page;
function tick() {
  for (const it of document.querySelectorAll("[data-until]")) {
    const left = Math.floor((new Date(it.dateTime) - Date.now()) / 1000);
    const m = Math.floor(left / 60);
    const long = words(m < 60 ? "minutes" : "hours", { n: m, hours: Math.floor(m / 60), minutes: m % 60 });
    const short = `${m}:${String(left % 60).padStart(2, "0")}`;
    it.textContent = left < 0 ? words("over") : words("left", { time: m < 10 ? short : long });
    it.classList.toggle("soon", left < 120);
  }
}
tick();
setInterval(tick, 1000);
