// The editor: counts words, shows a preview, notes how much was pasted.

import { isCommand, keyOf, onWork } from "./label.js";

onWork((form) => {
  const text = form.elements.text;
  if (!text) return;
  const preview = document.getElementById("preview");
  const toEditor = document.getElementById("to-editor");
  const toPreview = document.getElementById("to-preview");
  const count = document.getElementById("count");
  let pasted = 0;

  const tell = () => {
    const words = text.value.split(/\s+/).filter(Boolean).length;
    const tokens = Math.ceil(text.value.length / 4);
    count.textContent = `${words} ${words === 1 ? "word" : "words"} · ~${tokens} tokens`;
    form.elements.pasted_share.value = text.value ? Math.min(1, pasted / text.value.length).toFixed(3) : 0;
  };
  text.addEventListener("paste", (event) => { pasted += event.clipboardData.getData("text").length; });
  form.addEventListener("input", tell);
  tell();

  // The editor grows with its text: where CSS cannot do it, so does this.
  if (!CSS.supports("field-sizing", "content")) {
    const grow = () => {
      text.style.height = "auto";
      text.style.height = `${text.scrollHeight + 2}px`;
    };
    form.addEventListener("input", grow);
    grow();
  }

  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-insert]");
    if (!button) return;
    button.closest("details").open = false;
    if (text.hidden) show(false);
    text.focus();
    // As if typed, so that the browser's own undo takes it back.
    document.execCommand("insertText", false, button.closest("section").querySelector("pre").textContent);
  });

  const show = (isPreview) => {
    preview.hidden = !isPreview;
    text.hidden = isPreview;
    toEditor.setAttribute("aria-pressed", String(!isPreview));
    toPreview.setAttribute("aria-pressed", String(isPreview));
    (isPreview ? preview : text).focus();
  };
  toEditor.hidden = false;
  toPreview.setAttribute("aria-pressed", "false");
  toEditor.addEventListener("click", () => show(false));
  toPreview.addEventListener("click", () => show(true));
  // What is hidden cannot get the focus, and the browser would say nothing.
  text.addEventListener("invalid", () => show(false));
});

document.addEventListener("keydown", (event) => {
  if (keyOf(event) !== "p" || !isCommand(event)) return;
  const preview = document.getElementById("preview");
  if (!preview) return;
  event.preventDefault();
  document.getElementById(preview.hidden ? "to-preview" : "to-editor").click();
});
