// Single keys: which presses are commands, the list of them that `?` opens, and turning them off.

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

const openList = () => document.getElementById("keys")?.showModal();

document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !isTyping(event) && !document.querySelector("dialog[open]")) openList();
});
document.querySelector("[data-show-keys]")?.addEventListener("click", openList);

const keysOn = document.getElementById("keys-on");
if (keysOn) {
  keysOn.closest("label").hidden = false;
  keysOn.checked = localStorage.getItem("keys") !== "off";
  keysOn.addEventListener("change", () => localStorage.setItem("keys", keysOn.checked ? "on" : "off"));
}
