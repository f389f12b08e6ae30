// Ranking by keys, buttons and dragging. The form's own fields are the state; this only moves them.

import { isCommand, keyOf, onWork } from "./label.js";

const cards = () => [...document.querySelectorAll(".completion")];
const selectOf = (card) => card.querySelector(".tier select");
const tierOf = (card) => Number(selectOf(card).value);
const ratingOf = (card) => Number(card.querySelector(".rating input:checked")?.value ?? 0);
const letterOf = (card) => card.dataset.letter;
const focused = () => document.activeElement.closest?.(".completion") ?? null;
const isPair = () => document.querySelector(".completions.pair") !== null;

function announce(card) {
  const tier = tierOf(card);
  const peers = cards().filter((other) => other !== card && tierOf(other) === tier).map(letterOf);
  const tie = peers.length ? `, tied with ${peers.join(" and ")}` : "";
  say(tier ? `${letterOf(card)} is now tier ${tier}${tie}` : `${letterOf(card)} is unranked`);
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function changed(field) {
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

// What is chosen in the form, and what was before each change of it, however that was made: `u` goes back

const choices = () => [...document.querySelectorAll("#work :is(select, [type=radio], [type=checkbox])")];
const isSelect = (field) => field.tagName === "SELECT";
const allChosen = () => choices().map((field) => (isSelect(field) ? field.value : field.checked));

let chosen = [];
let earlier = [];

function remember() {
  const now = allChosen();
  if (now.every((value, index) => value === chosen[index])) return;
  earlier.push(chosen);
  chosen = now;
}

function undo() {
  const before = earlier.pop();
  if (!before) return;
  const moved = cards().filter((card) => !isPair() && before[choices().indexOf(selectOf(card))] !== selectOf(card).value);
  choices().forEach((field, index) => { field[isSelect(field) ? "value" : "checked"] = before[index]; });
  chosen = before;
  changed(document.getElementById("work"));
  if (moved.length) announce(moved[0]);
  else say("Undone");
}

/** Puts cards into tiers in one step. */
function place(moves) {
  if (!moves.length) return;
  for (const [card, tier] of moves) selectOf(card).value = tier || "";
  changed(selectOf(moves[0][0]));
  announce(moves[0][0]);
}

function move(card, step) {
  const last = cards().length;
  const tier = tierOf(card);
  if (!tier) place([[card, step < 0 ? 1 : last]]);
  else place([[card, Math.min(last, Math.max(1, tier + step))]]);
}

function tieWithAbove(card) {
  const above = cards()[cards().indexOf(card) - 1];
  if (above && tierOf(above)) place([[card, tierOf(above)]]);
  else if (above) say(`${letterOf(above)} is unranked`);
}

function markUnusable(card) {
  const lowest = card.querySelector('.rating input[value="1"]');
  if (lowest) lowest.checked = true;
  place([[card, cards().length]]);
}

function orderByRatings() {
  const rated = cards().filter(ratingOf);
  const ratings = [...new Set(rated.map(ratingOf))].sort((a, b) => b - a);
  place(rated.map((card) => [card, ratings.indexOf(ratingOf(card)) + 1]));
}

function step(by) {
  const all = cards();
  const index = focused() ? all.indexOf(focused()) + by : by > 0 ? 0 : all.length - 1;
  const next = all[Math.min(all.length - 1, Math.max(0, index))];
  for (const card of all) card.classList.toggle("current", card === next);
  next.focus({ preventScroll: true });
  bringIntoView(next);
}

/** Scrolls to where the card begins, unless all of it is seen. */
function bringIntoView(card) {
  const { top, bottom } = card.getBoundingClientRect();
  const dock = document.querySelector(".dock").getBoundingClientRect();
  const covered = parseFloat(getComputedStyle(card).scrollMarginTop);
  if (top < covered || bottom > Math.min(dock.top, innerHeight)) card.scrollIntoView({ block: "start" });
}

function zoom() {
  const board = document.getElementById("completions");
  board.classList.toggle("zoomed");
  if (!focused()) step(1);
  bringIntoView(focused());
}

const isTie = () => document.querySelector('.pair-choice [value="tie"]:checked') !== null;

function choose(name, value) {
  if (name === "strength" && isTie()) return say("Equally good: neither is better");
  const option = document.querySelector(`.pair-choice input[name="${name}"][value="${value}"]`);
  option.checked = true;
  changed(option);
  say(option.parentElement.textContent.trim());
}

const KEYS_OF_MANY = {
  x: () => focused() && markUnusable(focused()),
  "=": () => focused() && tieWithAbove(focused()),
};
const KEYS_OF_TWO = {
  ArrowLeft: () => choose("choice", "a"),
  ArrowRight: () => choose("choice", "b"),
  ArrowDown: () => choose("choice", "tie"),
  b: () => document.getElementById("work").requestSubmit(document.getElementById("all-bad")),
};

function command(event) {
  const key = keyOf(event);
  if (key === "j") return () => step(1);
  if (key === "k") return () => step(-1);
  if (key === "z") return zoom;
  if (key === "u") return undo;
  const number = /^[1-9]$/.test(key) ? Number(key) : 0;
  if (isPair()) {
    if (number && number <= 4) return () => choose("strength", number);
    return KEYS_OF_TWO[key];
  }
  if (number && number <= cards().length && focused()) return () => place([[focused(), number]]);
  if (event.shiftKey && key === "ArrowUp") return () => focused() && move(focused(), -1);
  if (event.shiftKey && key === "ArrowDown") return () => focused() && move(focused(), 1);
  return KEYS_OF_MANY[key];
}

document.addEventListener("keydown", (event) => {
  if (!cards().length || !isCommand(event)) return;
  const act = command(event);
  if (!act) return;
  event.preventDefault();
  act();
});

document.addEventListener("click", (event) => {
  const card = event.target.closest?.(".completion");
  const button = event.target.closest?.("button");
  if (button?.id === "by-ratings") orderByRatings();
  if (!card) return;
  for (const other of cards()) other.classList.toggle("current", other === card);
  if (button?.dataset.move) move(card, Number(button.dataset.move));
  else if (button && "tie" in button.dataset) tieWithAbove(card);
});

// The board: a row a tier and one for what waits, in each the letters that are there

const tokenOf = (letter) => document.querySelector(`#board .token[data-token="${letter}"]`);

function makeBoard(board) {
  const count = cards().length;
  for (let tier = 0; tier <= count; tier += 1) {
    const row = document.createElement("div");
    row.className = tier ? "shelf" : "shelf waiting";
    row.dataset.tier = tier;
    row.dataset.name = tier || "Unranked";
    board.append(row);
  }
  board.append(board.firstElementChild);
  for (const card of cards()) board.lastElementChild.append(card.querySelector(".token").cloneNode(true));
  board.hidden = false;
}

function drawBoard() {
  for (const card of cards()) {
    const shelf = document.querySelector(`#board .shelf[data-tier="${tierOf(card)}"]`);
    shelf.append(tokenOf(letterOf(card)));
  }
  const waiting = document.querySelector("#board .waiting");
  waiting.classList.toggle("empty", !waiting.childElementCount);
}

function loadSortable(address) {
  if (window.Sortable) return Promise.resolve();
  return new Promise((loaded) => {
    const script = document.createElement("script");
    script.src = address;
    script.addEventListener("load", loaded);
    document.head.append(script);
  });
}

const pointOf = (event) => event.changedTouches?.[0] ?? event.touches?.[0] ?? event;

function shelfAt(event) {
  const { clientX, clientY } = pointOf(event);
  return document.elementsFromPoint(clientX, clientY).find((each) => each.matches(".shelf")) ?? null;
}

// Only letters are dragged, from a card or on the board: a finger anywhere else scrolls the page.
// They never leave their list; where the pointer lets go decides, so that all of a shelf is a target
async function makeDraggable(form, board) {
  await loadSortable(board.dataset.sortable);
  if (!form.isConnected) return;
  const shelves = [...board.children];
  const over = (event) => {
    const shelf = shelfAt(event);
    for (const each of shelves) each.classList.toggle("over", each === shelf);
  };
  const options = {
    draggable: ".token",
    sort: false,
    forceFallback: true,
    fallbackOnBody: true,
    onStart: () => {
      board.classList.add("receiving");
      for (const name of ["pointermove", "touchmove"]) document.addEventListener(name, over, { passive: true });
    },
    onEnd: (event) => {
      board.classList.remove("receiving");
      for (const name of ["pointermove", "touchmove"]) document.removeEventListener(name, over);
      for (const each of shelves) each.classList.remove("over");
      const shelf = shelfAt(event.originalEvent);
      const card = cards().find((each) => letterOf(each) === event.item.dataset.token);
      if (shelf) place([[card, Number(shelf.dataset.tier)]]);
    },
  };
  for (const list of [...shelves, ...form.querySelectorAll(".grip")]) window.Sortable.create(list, options);
}

function warnOfContradiction() {
  const all = cards();
  const pairs = all.flatMap((better) => all.map((worse) => [better, worse]));
  const odd = pairs.find(([better, worse]) =>
    tierOf(better) && tierOf(worse) && tierOf(better) < tierOf(worse)
    && ratingOf(better) && ratingOf(worse) && ratingOf(better) < ratingOf(worse));
  const warning = document.getElementById("contradiction");
  warning.hidden = !odd;
  if (!odd) return;
  const [better, worse] = odd;
  warning.textContent = `You ranked ${letterOf(better)} above ${letterOf(worse)}, but rated it ${ratingOf(better)} against ${ratingOf(worse)}. Submit anyway?`;
}

onWork((form) => {
  chosen = allChosen();
  earlier = [];
  for (const name of ["change", "input"]) form.addEventListener(name, remember);
  const board = document.getElementById("board");
  if (!board) return;
  for (const moves of form.querySelectorAll(".moves")) moves.hidden = false;
  const byRatings = document.getElementById("by-ratings");
  if (byRatings) byRatings.hidden = false;
  makeBoard(board);
  makeDraggable(form, board);
  const draw = () => { drawBoard(); warnOfContradiction(); };
  form.addEventListener("change", draw);
  form.addEventListener("input", draw);
  draw();
});
