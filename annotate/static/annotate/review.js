// Reviewing by keys: each decision is a button that names its key, and leads first to what it lacks.

import { dropCopy, keepDrafts } from "./drafts.js";
import { countSeconds, isCommand, keyOf } from "./label.js";

const review = document.querySelector(".review");
const comment = document.getElementById("id_comment");
const cause = document.getElementById("id_cause");
const missing = document.getElementById("lacking");

/** What has to be said before: a comment to send back, a cause for the rest but accepting. */
function lacking(button) {
  const [act] = button.value.split(":");
  if (act === "send_back") return comment.value.trim() ? null : comment;
  return ["own", "pick", "exclude"].includes(act) && !cause.value ? cause : null;
}

countSeconds(review);

// What is typed is kept in this browser until the site has taken the decision: then another page follows.

const address = new URL(review.action).pathname;
const sent = sessionStorage.getItem("review-sent");
sessionStorage.removeItem("review-sent");
if (sent && sent !== address) dropCopy(sent);
keepDrafts(review, address);
review.addEventListener("submit", ({ submitter }) => {
  if (submitter?.name === "verdict") sessionStorage.setItem("review-sent", address);
});

// A version that is given back is shown.
const text = document.getElementById("id_text");
review.addEventListener("input", () => {
  if (text && text.value !== text.defaultValue) text.closest("details").open = true;
});

let wanted = null;

function decide(button) {
  const field = lacking(button);
  wanted = field ? button : null;
  missing.textContent = field ? (field === cause ? "Choose a cause, then press Enter." : "Say what to change, then press Ctrl Enter.") : "";
  if (field) field.focus();
  else button.click();
}

// Where something was lacking, Enter goes on with what was wanted; in a text of several lines with Ctrl or ⌘.
for (const field of [comment, cause]) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !wanted || (field === comment && !event.ctrlKey && !event.metaKey)) return;
    event.preventDefault();
    decide(wanted);
  });
}

/** Of several answers, a digit scores the first that has no score yet. */
function scoreOf(key) {
  const all = [...review.querySelectorAll(".scores")];
  const next = all.find((each) => !each.querySelector(":checked")) ?? all.at(-1);
  return next?.querySelector(`input[value="${key}"]`);
}

document.addEventListener("keydown", (event) => {
  // In a list of choices letters choose.
  if (event.repeat || !isCommand(event) || event.target.closest("select")) return;
  const key = keyOf(event);
  const score = /^[1-7]$/.test(key) && scoreOf(key);
  const button = review.querySelector(`[data-key="${key}"]`);
  if (score) score.checked = true;
  else if (button) decide(button);
  else if (key === "c") comment.focus();
  else return;
  event.preventDefault();
});

document.getElementById("errors")?.focus({ preventScroll: true });
