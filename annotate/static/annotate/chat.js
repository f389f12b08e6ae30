// The chat: answers appear while they are written, and the newest line stays in view.

import "./chat_keys.js";
import { showStop } from "./composer.js";
import { Growing } from "./growing.js";
import "./own_words.js";

const REFUSED_MS = 3_000;

const jump = document.getElementById("to-end");
const atTheEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
const toTheEnd = () => scrollTo(0, document.documentElement.scrollHeight);

// What is scrolled into view stands above the composer, however high that is.
const foot = document.querySelector(".talk-foot");
const measure = () => document.documentElement.style.setProperty("--foot", `${foot.offsetHeight + 8}px`);
new ResizeObserver(measure).observe(foot);

function follow(answer) {
  const place = answer.querySelector(".streaming");
  const line = answer.querySelector("[role=status]");
  let text = null;
  const source = new EventSource(answer.dataset.stream);
  const keepingUp = (change) => {
    const follows = atTheEnd();
    change();
    if (follows) toTheEnd();
  };
  // A stream that was lost begins anew, with all there is.
  source.addEventListener("open", () => {
    text = new Growing(place);
    line.hidden = true;
  });
  for (const event of ["whole", "more"]) {
    source.addEventListener(event, ({ data }) => text.write(JSON.parse(data)));
  }
  source.addEventListener("shown", ({ data }) => keepingUp(() => text.show(JSON.parse(data))));
  source.addEventListener("waiting", ({ data }) => {
    line.textContent = JSON.parse(data);
    line.hidden = !line.textContent;
  });
  const finish = async () => {
    source.close();
    delete answer.dataset.stream;
    showStop();
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
  showStop();
  if (answers.length) toTheEnd();
  if (part.matches(".thumbs")) part.querySelector(".why")?.scrollIntoView({ block: "nearest" });
});

const showJump = () => (jump.hidden = atTheEnd());
addEventListener("scroll", showJump, { passive: true });
new ResizeObserver(showJump).observe(document.getElementById("turns"));
jump.addEventListener("click", toTheEnd);

if (document.querySelector(".turn")) toTheEnd();
