// What writing and ranking share: drafts, active time, keys, the undo bar.
// The work form is swapped by htmx, so everything is bound anew to each form.

import { dropCopy, keepDrafts } from "./drafts.js";

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

// A select needs the keys that open it and move in it; a letter or digit there is as good a command as elsewhere.
const isOfSelect = (event) =>
  event.target.closest("select") !== null && !event.shiftKey && (event.key.length > 1 || event.key === " ");

export const isTyping = (event) => isOfSelect(event)
  || event.target.closest("textarea, input:not([type=radio], [type=checkbox]), [contenteditable]") !== null;

/** Tells whether a key press is one of ours: not while typing, in a dialog, or with Ctrl, Alt or ⌘. */
export const isCommand = (event) => localStorage.getItem("keys") !== "off"
  && !(event.isComposing || event.keyCode === 229) // Safari ends a composition by a key press of this code
  && !(event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]"));

/** Names the key as a Latin keyboard would: by its place where a layout has another letter or sign there. */
export function keyOf({ key, code, shiftKey }) {
  if (/^[ -~]$/.test(key) && !/^Digit/.test(code)) return key;
  if (/^Digit[1-9]$/.test(code) && !shiftKey) return code.slice(-1);
  if (/^Key[A-Z]$/.test(code) && key.length === 1) return code.slice(-1).toLowerCase();
  return key;
}

// htmx gives the focus to what has the same id as before; on the next task one begins anew.
document.addEventListener("htmx:afterSettle", (event) => {
  const form = document.getElementById("work");
  if (!form || event.detail.target?.id !== "main") return;
  const start = document.getElementById("errors") ?? form.elements.text ?? document.getElementById("main");
  start.focus({ preventScroll: start.id === "main" });
});

// Drafts

onWork((form) => keepDrafts(form, new URL(form.action).pathname));

// A conversation too long for its column begins at the turn to be answered

onWork(() => {
  const asked = document.querySelector(".asked");
  if (asked.scrollHeight <= asked.clientHeight) return;
  const turns = asked.querySelectorAll(".turn");
  asked.scrollTop = turns[turns.length - 1].offsetTop - asked.offsetTop;
});

// Active time: seconds in which the page is seen and somebody does something

onWork((form) => {
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
});

// Keys of every kind of work

document.addEventListener("keydown", (event) => {
  const form = document.getElementById("work");
  if (!form) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    document.getElementById("submit").click(); // htmx sends a form to where the last button pressed leads
  } else if (event.key === "?" && !isTyping(event) && !document.querySelector("dialog[open]")) {
    document.getElementById("keys").showModal();
  } else if (isCommand(event) && keyOf(event) === "g") {
    const guideline = document.getElementById("guideline");
    if (!guideline) return;
    guideline.open = !guideline.open;
    if (guideline.open) guideline.querySelector("summary").focus();
  }
});

const keysOn = document.getElementById("keys-on");
if (keysOn) {
  keysOn.closest("label").hidden = false;
  keysOn.checked = localStorage.getItem("keys") !== "off";
  keysOn.addEventListener("change", () => localStorage.setItem("keys", keysOn.checked ? "on" : "off"));
}

// The undo button goes when its time is over, the line stays: nothing jumps. What is saved needs no copy in the browser

function watchUndo() {
  const bar = document.getElementById("just-saved");
  if (!bar || bar.dataset.watched) return;
  bar.dataset.watched = "yes";
  dropCopy(bar.dataset.address);
  setTimeout(() => bar.querySelector("button")?.remove(), Math.max(0, bar.dataset.until * 1000 - Date.now()));
}
document.addEventListener("htmx:afterSettle", watchUndo);
watchUndo();
