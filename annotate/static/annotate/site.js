// What every page does: theme, time zone, requests, copy buttons.

import "./menus.js";
import "./palette.js";
import { dress } from "./prose.js";
import "./requests.js";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
document.cookie = `timezone=${zone}; path=/; max-age=31536000; samesite=lax`;

document.getElementById("theme")?.addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
  document.dispatchEvent(new CustomEvent("themechange"));
});

// Whoever uses this browser next finds nothing of what was written here, also where the button was
// pressed before this file was there to hear it.
function dropDrafts() {
  for (const key of Object.keys(localStorage)) if (key.startsWith("draft:")) localStorage.removeItem(key);
}
document.querySelector("[data-sign-out]")?.addEventListener("submit", dropDrafts);
if (!document.body.dataset.person && new URLSearchParams(location.search).has("signed-out")) dropDrafts();

// On a phone, tabs are wider than the window: the one that is open is in sight.
for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
  tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft;
}

const view = document.getElementById("view");
const showView = () => view.setAttribute("aria-pressed", document.documentElement.dataset.view === "raw");
if (view) {
  view.hidden = !document.querySelector(".raw");
  showView();
  view.addEventListener("click", () => {
    const next = document.documentElement.dataset.view === "raw" ? "rendered" : "raw";
    document.documentElement.dataset.view = next;
    localStorage.setItem("view", next);
    showView();
  });
}

document.addEventListener("htmx:beforeSwap", (event) => {
  // A refused form comes back with its errors: show it in place.
  if ([409, 422].includes(event.detail.xhr.status)) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

dress(document);
document.addEventListener("htmx:afterSettle", (event) => {
  dress(event.detail.elt);
  if (view) view.hidden = !document.querySelector(".raw");
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = button.dataset.copy ? document.querySelector(button.dataset.copy) : button.previousElementSibling;
  // What was written, and not what Markdown makes of it.
  await navigator.clipboard.writeText(source.querySelector(".raw")?.textContent ?? source.innerText);
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1500);
});

// On a narrow screen the pages scroll sideways: begin with the one we are on.
const here = document.querySelector(".site-header nav > [aria-current]");
const rooms = here?.parentElement;
if (rooms && here.offsetLeft - rooms.offsetLeft + here.offsetWidth > rooms.clientWidth) {
  const middle = here.offsetLeft - rooms.offsetLeft + here.offsetWidth / 2;
  rooms.scrollLeft = middle - rooms.clientWidth / 2;
}
