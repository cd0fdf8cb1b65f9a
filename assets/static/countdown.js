// What is left.
function tick() {
  for (const it of document.querySelectorAll("[data-until]")) {
    const left = Math.floor((new Date(it.dateTime) - Date.now()) / 1000);
    const m = Math.floor(left / 60);
    const long = m < 60 ? `${m} min` : `${Math.floor(m / 60)} h ${m % 60} min`;
    const short = `${m}:${String(left % 60).padStart(2, "0")}`;
    it.textContent = left < 0 ? "time is over" : `${m < 10 ? short : long} left`;
    it.classList.toggle("soon", left < 120);
  }
}
tick();
setInterval(tick, 1000);
