// What the chat does by single keys, and by the arrow up in an empty message. Each presses a button.

import { isCommand, keyOf } from "./keys.js";

const BUTTONS = {
  n: "#new-chat",
  r: ".said [data-key=r]",
  c: ".said [data-key=c]",
};

/** With the whole form in sight, above the composer. */
function beginEditing(edit) {
  edit.open = true;
  const field = edit.querySelector("textarea");
  field.focus({ preventScroll: true });
  field.setSelectionRange(field.value.length, field.value.length);
  edit.scrollIntoView({ block: "nearest" });
}

function editLastQuestion() {
  const edit = [...document.querySelectorAll(".edit")].at(-1);
  if (edit) beginEditing(edit);
}

function pressLast(selector) {
  [...document.querySelectorAll(selector)].at(-1)?.click();
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || !isCommand(event)) return;
  const key = keyOf(event);
  if (key === "/") {
    event.preventDefault();
    document.getElementById("composer")?.elements.text.focus();
  } else if (key === "h") {
    event.preventDefault();
    search();
  } else if (key === "e") {
    event.preventDefault();
    editLastQuestion();
  } else if (BUTTONS[key]) {
    event.preventDefault();
    pressLast(BUTTONS[key]);
  }
});

// Where the list of chats is folded away, the page of all of them has the search.
function search() {
  const field = document.getElementById("chat-search");
  if (field.checkVisibility()) field.focus();
  else location.assign(field.form.action);
}

document.addEventListener("keydown", (event) => {
  const field = document.getElementById("composer")?.elements.text;
  if (event.key !== "ArrowUp" || event.target !== field || field.value || event.shiftKey) return;
  event.preventDefault();
  editLastQuestion();
});
document.addEventListener("click", (event) => {
  const edit = event.target.closest(".edit > summary")?.parentElement;
  if (!edit || edit.open) return;
  event.preventDefault();
  beginEditing(edit);
});
