// The command palette: Ctrl-K, on a Mac Cmd-K, finds whatever one may open. Its results come from the search page.

const dialog = document.getElementById("palette");
const words = document.getElementById("palette-words");
const list = document.getElementById("palette-found");
const count = document.getElementById("palette-count");
const isMac = navigator.platform.startsWith("Mac"); // Ctrl-K deletes a line there

const PAUSE = 60; // ms between two letters of a word

let shown = null; // the words whose results the list has
let isWanted = false; // Enter came before the results of what was typed
let request = new AbortController();
let timer;

const options = () => [...list.querySelectorAll("[role=option]")];
const chosen = () => list.querySelector("[aria-selected=true]");

function choose(option) {
  chosen()?.setAttribute("aria-selected", "false");
  option?.setAttribute("aria-selected", "true");
  option?.scrollIntoView({ block: "nearest" });
  if (option) words.setAttribute("aria-activedescendant", option.id);
  else words.removeAttribute("aria-activedescendant");
}

async function look() {
  const asked = words.value;
  request.abort();
  request = new AbortController();
  try {
    const address = `${words.form.action}?${new URLSearchParams({ q: asked })}`;
    const answer = await fetch(address, { headers: { "HX-Request": "true" }, signal: request.signal });
    if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
    list.innerHTML = await answer.text();
  } catch (error) {
    if (error.name !== "AbortError") words.form.submit(); // the page says what is wrong
    return;
  }
  shown = asked;
  const found = options();
  choose(found[0]);
  count.textContent = found.length ? `${found.length} found` : "Nothing found.";
  if (isWanted) chosen()?.click();
  isWanted = false;
}

function open() {
  if (document.querySelector("dialog[open]")) return;
  dialog.showModal();
  words.select();
  shown = null;
  look();
}

if (dialog) {
  document.addEventListener("keydown", (event) => {
    const isOurs = event.key.toLowerCase() === "k" && (isMac ? event.metaKey && !event.ctrlKey : event.ctrlKey);
    if (!isOurs || event.shiftKey || event.altKey) return;
    event.preventDefault();
    open();
  });
  document.getElementById("find").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // into a tab of its own
    event.preventDefault();
    open();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    isWanted = false;
    clearTimeout(timer);
    request.abort();
  });

  words.addEventListener("input", () => {
    isWanted = false;
    request.abort(); // what it finds was meant for other words
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE);
  });
  words.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const found = options();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      event.preventDefault();
      choose(found[(found.indexOf(chosen()) + step + found.length) % found.length]);
    }
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    isWanted = shown !== words.value;
    if (!isWanted) chosen()?.click();
  });
}
