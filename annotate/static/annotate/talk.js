// A talk: both answers appear while they are written; then the page shows them rendered, with the scale.

import { onWork } from "./label.js";

const REFUSED_MS = 3_000;

function follow(answer) {
  const text = answer.querySelector(".streaming");
  const source = new EventSource(answer.dataset.stream);
  // While it streams, text is text.
  source.addEventListener("whole", (event) => { text.textContent = JSON.parse(event.data); });
  source.addEventListener("more", (event) => text.append(JSON.parse(event.data)));
  const line = answer.querySelector("[role=status]");
  source.addEventListener("open", () => { line.hidden = true; });
  source.addEventListener("waiting", (event) => {
    line.textContent = JSON.parse(event.data);
    line.hidden = !line.textContent;
  });
  const finish = () => {
    source.close();
    delete answer.dataset.stream;
    if (!answer.isConnected || document.querySelector(".completion[data-stream]")) return;
    document.getElementById("look").click(); // what is typed, and the time it took, go along
  };
  source.addEventListener("done", finish);
  // The browser takes a lost stream up again by itself, but not one that was refused.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(finish, REFUSED_MS);
  });
}

onWork((form) => {
  if (!document.querySelector(".talking")) return;
  form.querySelectorAll("[data-stream]").forEach(follow);
  const said = form.elements.said;
  if (said) said.focus({ preventScroll: true });
  (form.querySelector(".say") ?? form.querySelector("#completions"))?.scrollIntoView({ block: "nearest" });
  said?.addEventListener("keydown", (event) => {
    const isSend = event.key === "Enter" && !(event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing);
    if (!isSend || !matchMedia("(pointer: fine)").matches) return;
    event.preventDefault();
    document.getElementById("submit").click();
  });
});
