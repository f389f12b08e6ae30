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

// Whoever uses this browser next finds nothing of what was written here, also where the button was
// pressed before this file was there to hear it.
function dropDrafts() {
  for (const key of Object.keys(localStorage)) if (key.startsWith("draft:")) localStorage.removeItem(key);
}
document.querySelector("[data-sign-out]")?.addEventListener("submit", dropDrafts);
if (!document.body.dataset.person && new URLSearchParams(location.search).has("signed-out")) dropDrafts();

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

// Formulas are set as MathML, which needs neither styles nor fonts; what KaTeX cannot read stays.
const DELIMITERS = /^(?:\\\(|\\\[|\$\$?)([^]*?)(?:\\\)|\\\]|\$\$?)$/;
async function setFormulas(part) {
  const formulas = part.querySelectorAll(".math:not([data-set])");
  if (!formulas.length) return;
  await import("./vendor/katex.min.js");
  for (const formula of formulas) {
    const source = formula.textContent;
    const displayMode = source.startsWith("$$") || source.startsWith("\\[");
    formula.dataset.set = "";
    try {
      self.katex.render(DELIMITERS.exec(source)[1], formula, { displayMode, output: "mathml", strict: false });
    } catch {
      formula.textContent = source;
    }
  }
}
setFormulas(document);

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
  for (const code of part.querySelectorAll(".prose pre:not(.code pre, .raw)")) {
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
document.addEventListener("htmx:afterSettle", (event) => {
  offerCode(event.detail.elt);
  setFormulas(event.detail.elt);
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

// On a narrow screen the rooms scroll sideways: begin with the one we are in.
const here = document.querySelector(".site-header nav [aria-current]");
const rooms = here?.parentElement;
if (rooms && here.offsetLeft - rooms.offsetLeft + here.offsetWidth > rooms.clientWidth) {
  const middle = here.offsetLeft - rooms.offsetLeft + here.offsetWidth / 2;
  rooms.scrollLeft = middle - rooms.clientWidth / 2;
}
