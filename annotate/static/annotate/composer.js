// Where the guest writes. What is typed stays in this browser until it is sent, and while an answer
// is being written one stops it where one would send.

const composer = () => document.getElementById("composer");
const field = () => composer()?.elements.text;
const running = () => [...document.querySelectorAll("[data-stream]")];
const draftKey = () => `draft:${document.body.dataset.person}:${composer().getAttribute("action")}`;
const hasKeyboard = matchMedia("(pointer: fine)").matches;
let sent = "";

/** As high as its text. Browsers that know `field-sizing` do it themselves. */
function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  field().style.height = "auto";
  field().style.height = `${field().scrollHeight}px`;
}

function keep() {
  if (field().value) localStorage.setItem(draftKey(), field().value);
  else localStorage.removeItem(draftKey());
  grow();
}

function begin() {
  field().value ||= localStorage.getItem(draftKey()) ?? "";
  grow();
  if (hasKeyboard && document.activeElement === document.body) field().focus({ preventScroll: true });
}

/** What is sent leaves the field at once: whoever writes on begins the next message. */
function empty() {
  sent = field().value;
  field().value = "";
  keep();
  field().focus();
}

/** What did not arrive comes back, before what was written since. */
function putBack(since) {
  field().value = [sent, since].filter(Boolean).join("\n");
  keep();
}

/** Shows Stop in place of Send for as long as something is being written. */
export function showStop() {
  if (!composer()) return;
  const isRunning = running().length > 0;
  composer().querySelector(".send").hidden = isRunning;
  composer().querySelector(".stop-all").hidden = !isRunning;
}

function stopAll() {
  for (const answer of running()) answer.querySelector(".stop")?.click();
}

document.addEventListener("input", (event) => {
  if (event.target === field()) keep();
});

document.addEventListener("click", (event) => {
  if (event.target.closest(".stop-all")) stopAll();
});

// What the message follows is what stands above it, also where turns came or went since.
document.addEventListener("htmx:configRequest", ({ detail }) => {
  const last = [...document.querySelectorAll(".turn")].at(-1);
  if (detail.elt === composer() && last) detail.parameters.set("follows", last.id.replace("turn-", ""));
});

document.addEventListener("htmx:beforeRequest", ({ detail }) => {
  if (detail.elt === composer()) empty();
});

document.addEventListener("htmx:afterRequest", ({ detail: { requestConfig, xhr } }) => {
  const form = requestConfig.elt; // a refused one has left its place to another
  if (form.id !== "composer") return;
  // It is not called successful where it leads to the new chat.
  if (xhr.status === 200) document.querySelector(".greeting")?.remove();
  else putBack(form.elements.text.value);
});

// A refused message comes back with its reason, in a composer of its own.
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.elt === composer()) grow();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open], :popover-open")) {
    if (running().length) stopAll();
    else if (event.target === field()) field().blur();
  }
  const isSend = event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
  if (!isSend || event.target !== field() || !hasKeyboard) return;
  event.preventDefault();
  if (!running().length) composer().requestSubmit();
});

if (composer()) begin();
