// Copying and printing.
const { words } = page;
document.addEventListener("click", async ({ target }) => {
  if (target.closest("[data-print]")) print();
  const button = target.closest("[data-copy]");
  if (!button) return;
  const { textContent } = document.getElementById(button.dataset.copy);
  button.textContent = await navigator.clipboard.writeText(textContent).then(() => words("copied"), () => words("by-hand"));
});
