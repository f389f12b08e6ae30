// Menus of the header are details: without this file they open and close by their own button alone.

const header = document.querySelector(".site-header");
const opened = () => header.querySelector("details[open]");

function close({ focus = false } = {}) {
  const menu = opened();
  if (!menu) return;
  menu.open = false;
  if (focus) menu.querySelector("summary").focus();
}

document.addEventListener("click", (event) => {
  if (!event.target.closest(".site-header details")) close();
});
header?.addEventListener("focusout", ({ relatedTarget }) => {
  if (relatedTarget && !opened()?.contains(relatedTarget)) close();
});
header?.addEventListener("keydown", (event) => {
  const menu = event.target.closest("details");
  if (!menu) return;
  if (event.key === "Escape") close({ focus: true });
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  event.preventDefault();
  menu.open = true;
  const links = [...menu.querySelectorAll("a")];
  const next = links.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
  if (next < 0) menu.querySelector("summary").focus();
  else links[Math.min(next, links.length - 1)].focus();
});
