// What writing and ranking share: drafts, active time, keys, the undo bar.
// The work form is swapped by htmx, so everything is bound anew to each form.

import { dropCopy, keepDrafts } from "./drafts.js";
import { isCommand, keyOf } from "./keys.js";

export { isCommand, keyOf };

const IDLE_MS = 60_000;

/** Calls `start(form)` for the work form on the page, and for each that comes after it. */
export function onWork(start) {
  const begun = new WeakSet();
  const begin = () => {
    const form = document.getElementById("work");
    if (!form || begun.has(form)) return;
    begun.add(form);
    start(form);
  };
  document.addEventListener("htmx:afterSettle", begin);
  begin();
}

// htmx gives the focus to what has the same id as before; on the next task one begins anew.
document.addEventListener("htmx:afterSettle", (event) => {
  const form = document.getElementById("work");
  if (!form || event.detail.target?.id !== "main") return;
  const start = document.getElementById("errors") ?? form.elements.text ?? document.getElementById("main");
  start.focus({ preventScroll: start.id === "main" });
});

/** Sends the work. By its button: htmx sends a form to where the last button pressed leads. */
export const submitWork = () => document.getElementById("submit").click();

/** Whether the work is on its way, and no key should add to it. */
export const isBusy = () => document.getElementById("work").classList.contains("htmx-request");

/** Takes the last submit or skip back, while that can be done. */
export function undoLast() {
  document.querySelector("#just-saved button")?.click();
}

// Drafts

onWork((form) => keepDrafts(form, new URL(form.action).pathname));

// A conversation too long for its place begins at the turn to be answered

function showLastTurn(place) {
  if (place.scrollHeight <= place.clientHeight) return;
  const last = [...place.querySelectorAll(".turn")].at(-1);
  place.scrollTop += last.getBoundingClientRect().top - place.getBoundingClientRect().top;
}

onWork(() => {
  if (!document.getElementById("prompt")) showLastTurn(document.querySelector(".asked"));
});
document.addEventListener("toggle", ({ target }) => {
  if (target.id === "prompt" && target.open) showLastTurn(target.querySelector(".drawer"));
}, { capture: true }); // it does not bubble

// What lies over the page goes away by Escape, and by a press beside it

const LAID_OVER = ".drop-up[open], .strip details[open]";

function closeAll(kept) {
  for (const each of document.querySelectorAll(LAID_OVER)) if (!each.contains(kept)) each.open = false;
}
document.addEventListener("pointerdown", (event) => closeAll(event.target));
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector(LAID_OVER);
  if (!open) return;
  closeAll(null);
  open.querySelector("summary").focus();
});

// The dock is as high as what is in it: what scrolls or lies over the page keeps clear of it

function watchDock() {
  const dock = document.querySelector(".dock");
  if (!dock) return document.documentElement.style.removeProperty("--dock");
  const watch = new ResizeObserver(() => {
    if (!dock.isConnected) return watch.disconnect();
    document.documentElement.style.setProperty("--dock", `${dock.offsetHeight}px`);
  });
  watch.observe(dock);
}
onWork(watchDock);
if (!document.getElementById("work")) watchDock();

// Active time: seconds in which the page is seen and somebody does something

export function countSeconds(form) {
  let seconds = Number(form.elements.active_seconds.value);
  let last = Date.now();
  for (const name of ["keydown", "pointerdown", "pointermove", "scroll"]) {
    document.addEventListener(name, () => { last = Date.now(); }, { passive: true, capture: true });
  }
  const clock = setInterval(() => {
    if (!form.isConnected) return clearInterval(clock);
    if (document.visibilityState !== "visible" || Date.now() - last > IDLE_MS) return;
    seconds += 1;
    form.elements.active_seconds.value = seconds;
  }, 1000);
}
onWork(countSeconds);

// Keys of every kind of work

document.addEventListener("keydown", (event) => {
  if (!document.getElementById("keys")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && document.getElementById("submit")) {
    event.preventDefault();
    submitWork();
  } else if (isCommand(event) && keyOf(event) === "g") {
    openOrClose("guideline");
  } else if (isCommand(event) && keyOf(event) === "q") {
    openOrClose("prompt");
  }
});

function openOrClose(name) {
  const details = document.getElementById(name);
  if (!details) return;
  details.open = !details.open;
  if (details.open) details.querySelector("summary").focus();
}

// Where nothing on the page can be undone, `u` takes the last submit back

document.addEventListener("keydown", (event) => {
  if (document.querySelector(".completion") && document.getElementById("work")) return; // rank.js has more to undo
  if (isCommand(event) && keyOf(event) === "u" && !event.repeat) undoLast();
});

// The toast goes when its time is over. What is saved needs no copy in the browser

function watchUndo() {
  const bar = document.getElementById("just-saved");
  if (!bar || bar.dataset.watched) return;
  bar.dataset.watched = "yes";
  dropCopy(bar.dataset.address);
  setTimeout(() => bar.remove(), Math.max(0, bar.dataset.until * 1000 - Date.now()));
}
document.addEventListener("htmx:afterSettle", watchUndo);
watchUndo();
