// The chat: answers appear while they are written, and the newest line stays in view.

const REFUSED_MS = 3_000;

const composer = () => document.getElementById("composer");
const atTheEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
const toTheEnd = () => scrollTo(0, document.documentElement.scrollHeight);

function follow(answer) {
  const text = answer.querySelector(".streaming");
  const source = new EventSource(answer.dataset.stream);
  const keepingUp = (change) => {
    const follows = atTheEnd();
    change();
    if (follows) toTheEnd();
  };
  // While it streams, text is text. The page asks for the rendered answer once it is whole.
  source.addEventListener("whole", (event) => keepingUp(() => (text.textContent = JSON.parse(event.data))));
  source.addEventListener("more", (event) => keepingUp(() => text.append(JSON.parse(event.data))));
  const finish = async () => {
    source.close();
    delete answer.dataset.stream;
    const turn = answer.closest(".turn");
    // Of two drafts, the page waits for the other one.
    if (turn === null || turn.querySelector("[data-stream]")) return;
    const follows = atTheEnd();
    await htmx.ajax("GET", answer.dataset.turn, { target: turn, swap: "outerHTML" });
    if (follows) toTheEnd();
  };
  source.addEventListener("done", finish);
  // The browser takes a lost stream up again by itself, but not one that was refused.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(finish, REFUSED_MS);
  });
}

htmx.onLoad((part) => {
  const answers = [...part.querySelectorAll("[data-stream]")];
  if (part.matches("[data-stream]")) answers.push(part);
  answers.forEach(follow);
  if (answers.length) toTheEnd();
  part.querySelector(".why[open]")?.scrollIntoView({ block: "nearest" });
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.elt === composer() && event.detail.successful) {
    document.querySelector(".greeting")?.remove();
    composer().reset();
    composer().elements.text.focus();
  }
});

document.addEventListener("keydown", (event) => {
  const isSend = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (isSend && event.target.form === composer() && event.target.name === "text" && matchMedia("(pointer: fine)").matches) {
    event.preventDefault();
    composer().requestSubmit();
  }
});

if (document.querySelector(".turn")) toTheEnd();
