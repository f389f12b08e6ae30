// What the chat does by single keys, and by the arrow up in an empty message. Each presses a button.

import { isCommand, keyOf } from "./keys.js";

const BUTTONS = {
  n: "#new-chat",
  r: ".said [data-key=r]",
  c: ".said [data-key=c]",
};

function pressLast(selector) {
  [...document.querySelectorAll(selector)].at(-1)?.click();
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || !isCommand(event)) return;
  const key = keyOf(event);
  if (key === "/") {
    event.preventDefault();
    document.getElementById("composer")?.elements.text.focus();
  } else if (BUTTONS[key]) {
    event.preventDefault();
    pressLast(BUTTONS[key]);
  }
});
