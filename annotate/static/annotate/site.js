// What every page does: theme, time zone, requests, copy buttons.

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

document.addEventListener("htmx:beforeSwap", (event) => {
  // A refused form comes back with its errors: show it in place.
  if ([409, 422].includes(event.detail.xhr.status)) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

// Each block of code gets a button of its own.
function offerCode(part) {
  const sprite = document.querySelector("#theme use").getAttribute("href").split("#")[0];
  for (const code of part.querySelectorAll(".prose pre:not(.code pre)")) {
    const box = document.createElement("div");
    box.className = "code";
    code.replaceWith(box);
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "button quiet small icon-only", title: "Copy the code" });
    button.setAttribute("aria-label", "Copy the code");
    button.dataset.copy = "";
    button.innerHTML = `<svg class="icon" aria-hidden="true"><use href="${sprite}#copy"/></svg>`;
    box.append(code, button);
  }
}
offerCode(document);
document.addEventListener("htmx:afterSettle", (event) => offerCode(event.detail.elt));

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = button.dataset.copy ? document.querySelector(button.dataset.copy) : button.previousElementSibling;
  await navigator.clipboard.writeText(source.innerText);
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1500);
});

// On a narrow screen the rooms scroll sideways: begin with the one we are in.
const here = document.querySelector(".site-header nav [aria-current]");
if (here) {
  const rooms = here.parentElement;
  const middle = here.offsetLeft - rooms.offsetLeft + here.offsetWidth / 2;
  rooms.scrollLeft = middle - rooms.clientWidth / 2;
}
