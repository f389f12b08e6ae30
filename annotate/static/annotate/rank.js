// Ranking by keys, buttons, tapping and dragging. The form's own fields are the state; this only moves them.

import { isBusy, isCommand, keyOf, onWork, submitWork, undoLast } from "./label.js";
import { markDifferences } from "./words.js";

const board = () => document.getElementById("completions");
const cards = () => [...document.querySelectorAll(".completion")];
const selectOf = (card) => card.querySelector(".tier select");
const tierOf = (card) => Number(selectOf(card).value);
const ratingOf = (card) => Number(card.querySelector(".rating input:checked")?.value ?? 0);
const letterOf = (card) => card.dataset.letter;
const cardOf = (letter) => document.querySelector(`.completion[data-letter="${letter}"]`);
const focused = () => document.activeElement.closest?.(".completion") ?? null;
const current = () => focused() ?? document.querySelector(".completion.current") ?? cards()[0];
const isPair = () => document.querySelector(".completions.pair") !== null;
const areRated = () => document.querySelector(".completions.rated") !== null;

function announce(card) {
  const tier = tierOf(card);
  const peers = tiedWith(card).map(letterOf);
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

const choices = () => document.querySelectorAll("#work :is(select[name], [type=radio], [type=checkbox])");
const keyOfValue = (field) => (field.tagName === "SELECT" ? "value" : "checked");
const allChosen = () => new Map([...choices()].map((field) => [field, field[keyOfValue(field)]]));

let chosen = new Map();
let earlier = [];
let isUntouched = true;

function remember({ target }) {
  const now = allChosen();
  if ([...now].every(([field, value]) => value === chosen.get(field))) return;
  earlier.push({ before: chosen, card: target.closest(".completion") });
  chosen = now;
  isUntouched = false;
}

function undo() {
  // One press too many is no wish to take back an answer that was sent.
  if (!earlier.length) return isUntouched ? undoLast() : say("Nothing left to undo here");
  const { before, card } = earlier.pop();
  const isMoved = card && !isPair() && before.get(selectOf(card)) !== selectOf(card).value;
  for (const [field, value] of before) field[keyOfValue(field)] = value;
  chosen = before;
  changed(document.getElementById("work"));
  if (card) goTo(card);
  if (isMoved) announce(card);
  else say("Undone");
}

// Places

/** Puts cards into tiers in one step. */
function place(moves) {
  if (!moves.length) return;
  for (const [card, tier] of moves) selectOf(card).value = tier || "";
  changed(selectOf(moves[0][0]));
  announce(moves[0][0]);
}

const tiedWith = (card) => cards().filter((other) => other !== card && tierOf(other) && tierOf(other) === tierOf(card));

/** Half a step: out of a tie, ahead of the others or behind them; or else into a tie with the next ones. */
function move(card, step) {
  const last = cards().length;
  const tier = tierOf(card);
  if (!tier) return place([[card, step < 0 ? 1 : last]]);
  const tied = tiedWith(card);
  if (tied.length) return place(split(card, tied, step));
  const beyond = cards().map(tierOf).filter((other) => other && (other - tier) * step > 0);
  const next = beyond.length ? (step < 0 ? Math.max(...beyond) : Math.min(...beyond)) : tier + step;
  place([[card, Math.min(last, Math.max(1, next))]]);
}

/** The moves that take a card out of its tie, the card's own first: others make room as far as they must. */
function split(card, tied, step) {
  const tier = tierOf(card);
  const pushed = step < 0 ? tied : [card];
  const moves = new Map([[card, tier], ...pushed.map((each) => [each, tier + 1])]);
  for (let full = tier + 1; ; full += 1) {
    const inTheWay = cards().filter((other) => tierOf(other) === full);
    if (!inTheWay.length) break;
    for (const other of inTheWay) moves.set(other, full + 1);
  }
  if (Math.max(...moves.values()) <= cards().length) return [...moves];
  const after = cards().filter(tierOf).map((each) => [each, moves.get(each) ?? tierOf(each)]);
  const used = [...new Set(after.map(([, each]) => each))].sort((a, b) => a - b);
  const dense = after.map(([each, at]) => [each, used.indexOf(at) + 1]);
  return dense.sort(([each]) => (each === card ? -1 : 0));
}

const previousTo = (card) => cards()[cards().indexOf(card) - 1];

function tieWithBefore(card) {
  const other = previousTo(card);
  if (other && tierOf(other)) place([[card, tierOf(other)]]);
  else if (other) say(`${letterOf(other)} is unranked`);
}

function tieByKey(card) {
  const waited = waits(card);
  tieWithBefore(card);
  if (waited && !waits(card)) goOn(card);
}

/** Each button says which answer it ties with: in two columns, and in one's own order, that is not plain. */
function nameTies() {
  for (const card of cards()) {
    const button = card.querySelector("[data-tie]");
    const other = previousTo(card);
    button.hidden = !other;
    if (!other) continue;
    button.lastChild.data = letterOf(other);
    button.title = `Tie with ${letterOf(other)}`;
    button.setAttribute("aria-label", `Tie ${letterOf(card)} with ${letterOf(other)}`);
  }
}

function markUnusable(card) {
  const lowest = card.querySelector('.rating input[value="1"]');
  if (lowest) lowest.checked = true;
  place([[card, cards().length]]);
  goOn(card);
}

// Ratings, and the order that follows from them until somebody changes it

const ranks = (values) => {
  const used = [...new Set(values)].sort((a, b) => a - b);
  return values.map((value) => used.indexOf(value) + 1);
};
const byRating = () => {
  const rated = cards().filter(ratingOf);
  const places = ranks(rated.map((card) => -ratingOf(card)));
  return rated.map((card, index) => [card, places[index]]);
};

/** Whether the tiers say what the ratings say, and no more. */
function followsRatings() {
  const rated = cards().filter(ratingOf);
  if (cards().some((card) => Boolean(tierOf(card)) !== rated.includes(card))) return false;
  const places = ranks(rated.map(tierOf));
  return byRating().every(([, place], index) => place === places[index]);
}

let follows = true;

function followRatings(event) {
  if (isPair() || !areRated()) return;
  if (follows && event.target.matches?.(".rating input")) {
    for (const [card, tier] of byRating()) selectOf(card).value = tier;
  }
  follows = followsRatings();
  document.getElementById("by-ratings").hidden = follows || !cards().some(ratingOf);
}

function rate(card, rating) {
  const option = card.querySelector(`.rating input[value="${rating}"]`);
  option.checked = true;
  changed(option);
  const tier = tierOf(card);
  say(`${letterOf(card)} is rated ${rating}${tier ? `, tier ${tier}` : ""}`);
}

function giveNumber(number) {
  const card = current();
  if (areRated()) rate(card, number);
  else place([[card, number]]);
  goOn(card);
}

// From one card to the next

function goTo(card) {
  for (const other of cards()) other.classList.toggle("current", other === card);
  card.focus({ preventScroll: true });
  bringIntoView(card);
}

const waits = (card) => !(areRated() ? ratingOf(card) : tierOf(card));

/** To the next card that waits; after the last rating to a tie, which is all that is left to decide. */
function goOn(card) {
  const all = cards();
  const order = [...all.slice(all.indexOf(card) + 1), ...all.slice(0, all.indexOf(card))];
  const next = order.find(waits);
  if (next) return goTo(next);
  const tied = areRated() ? all.find((each) => tiedWith(each).length) : null;
  if (!tied) return goTo(card);
  goTo(tied);
  const letters = [tied, ...tiedWith(tied)].map(letterOf);
  say(`All rated. ${letters.join(" and ")} are tied`);
}

function step(by) {
  const all = cards();
  const start = focused() ? all.indexOf(focused()) + by : all.indexOf(current());
  goTo(all[Math.min(all.length - 1, Math.max(0, start))]);
}

/** Scrolls as little as shows the card from its beginning. */
function bringIntoView(card) {
  const { top, bottom } = card.getBoundingClientRect();
  const dock = document.querySelector(".dock").getBoundingClientRect();
  const covered = parseFloat(getComputedStyle(card).scrollMarginTop);
  const seen = Math.min(dock.top, innerHeight);
  if (top >= covered && bottom <= seen) return;
  const isTall = bottom - top > seen - covered;
  card.scrollIntoView({ block: top < covered || isTall ? "start" : "end" });
}

// Views: one at a time, two side by side, all of each text, in one's own order

function zoom() {
  showBeside(null);
  board().classList.toggle("zoomed");
  goTo(current());
}

/** Shows a card beside another, with what differs marked; null: all of them again. */
function showBeside(card, other = null) {
  board().classList.toggle("two", Boolean(other));
  if (other) board().classList.remove("zoomed");
  for (const each of cards()) {
    each.classList.toggle("chosen", Boolean(other) && (each === card || each === other));
    const select = each.querySelector(".beside");
    if (select) select.value = other && each === card ? letterOf(other) : other && each === other ? letterOf(card) : "";
  }
  if (!other) return markDifferences();
  markDifferences(card, other);
  say(`${letterOf(card)} beside ${letterOf(other)}`);
  goTo(card);
}

/** The next of the others; after the last, all again. */
function nextBeside() {
  const card = current();
  const others = cards().filter((each) => each !== card);
  const shown = others.findIndex((each) => board().classList.contains("two") && each.classList.contains("chosen"));
  const next = others[shown + 1];
  showBeside(card, next ?? null);
  if (!next) goTo(card);
}

function showWhole(card, whole) {
  card.classList.toggle("whole", whole);
  const button = card.querySelector("[data-whole]");
  button?.setAttribute("aria-expanded", String(whole));
  if (button) button.firstChild.data = whole ? "Show less" : "Show all";
}

function offerWhole() {
  for (const card of cards()) {
    const text = card.querySelector(".prose");
    const button = card.querySelector("[data-whole]");
    const isCut = text.scrollHeight > text.clientHeight + 4;
    card.classList.toggle("cut", isCut);
    if (button) button.hidden = !isCut && !card.classList.contains("whole");
  }
}

function showAll() {
  const button = document.getElementById("all-whole");
  if (!button) return;
  const whole = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(whole));
  for (const card of cards()) showWhole(card, whole);
  offerWhole();
  bringIntoView(current());
}

function toggleWhole(card) {
  showWhole(card, !card.classList.contains("whole"));
  offerWhole();
  bringIntoView(card);
}

const isInMyOrder = () => document.getElementById("in-my-order")?.getAttribute("aria-pressed") === "true";

function arrange() {
  const place = (card) => (isInMyOrder() ? tierOf(card) || Infinity : 0);
  const wanted = cards().sort((a, b) => place(a) - place(b) || a.dataset.index - b.dataset.index);
  if (wanted.every((card, index) => card === cards()[index])) return;
  const field = document.activeElement;
  board().append(...wanted);
  if (board().contains(field)) field.focus({ preventScroll: true });
}

function toggleMyOrder() {
  const button = document.getElementById("in-my-order");
  if (!button) return;
  button.setAttribute("aria-pressed", String(!isInMyOrder()));
  arrange();
  nameTies();
  bringIntoView(current());
}

// Of two: a press on the scale is the answer. By arrow keys one only moves on it, and sends by Enter

function choose(option) {
  if (isBusy()) return;
  option.checked = true;
  changed(option);
  submitWork();
}

function chooseByKey(key) {
  const option = document.querySelector(`.scale input[data-key="${key}"]`);
  return option && (() => choose(option));
}

document.addEventListener("click", (event) => {
  if (!event.target.matches?.(".scale input")) return;
  // The second click of a double one would answer the next task; none at all is a key that moves.
  if (event.detail > 1) event.preventDefault();
  else if (event.detail === 1) choose(event.target);
});

const KEYS_OF_MANY = {
  x: () => markUnusable(current()),
  "=": () => tieByKey(current()),
  o: () => toggleWhole(current()),
  O: showAll,
  s: toggleMyOrder,
};

function command(event) {
  const key = keyOf(event);
  if (key === "j") return () => step(1);
  if (key === "k") return () => step(-1);
  if (key === "z") return zoom;
  if (key === "d") return nextBeside;
  if (key === "u") return earlier.length || !event.repeat ? undo : null;
  if (key === "Escape") return board().matches(".two, .zoomed") ? leaveViews : null;
  if (isPair()) {
    if (event.repeat) return null;
    if (key === "b") return () => isBusy() || document.getElementById("all-bad").click();
    return /^[1-8=]$/.test(key) ? chooseByKey(key) : null;
  }
  const number = /^[1-9]$/.test(key) ? Number(key) : 0;
  const most = areRated() ? 7 : cards().length;
  if (number) return number <= most && !event.repeat ? () => giveNumber(number) : null;
  if (event.shiftKey && key === "ArrowUp") return () => move(current(), -1);
  if (event.shiftKey && key === "ArrowDown") return () => move(current(), 1);
  return KEYS_OF_MANY[key];
}

function leaveViews() {
  showBeside(null);
  board().classList.remove("zoomed");
  goTo(current());
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
  if (button?.id === "by-ratings") place(byRating());
  if (button?.id === "all-whole") showAll();
  if (button?.id === "in-my-order") toggleMyOrder();
  if (!card) return;
  for (const other of cards()) other.classList.toggle("current", other === card);
  if (button?.dataset.move) move(card, Number(button.dataset.move));
  else if (button && "tie" in button.dataset) tieWithBefore(card);
  else if (button && "whole" in button.dataset) toggleWhole(card);
});

document.addEventListener("change", (event) => {
  if (!event.target.matches?.(".beside")) return;
  showBeside(event.target.closest(".completion"), cardOf(event.target.value));
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

// A letter is tapped, then the shelf it goes to

let picked = null;

function pick(letter) {
  picked = picked === letter ? null : letter;
  for (const token of document.querySelectorAll("#work .token")) token.classList.toggle("picked", token.dataset.token === picked);
  document.getElementById("board").classList.toggle("receiving", picked !== null);
}

document.addEventListener("click", (event) => {
  if (!document.getElementById("board")) return;
  const token = event.target.closest?.("#board .token, .grip .token");
  const shelf = event.target.closest?.("#board .shelf");
  if (token && (!picked || picked === token.dataset.token || !shelf)) return pick(token.dataset.token);
  const letter = picked;
  if (picked) pick(picked);
  if (letter && shelf) place([[cardOf(letter), Number(shelf.dataset.tier)]]);
});

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

function tellProgress() {
  const done = cards().filter(tierOf).length;
  document.getElementById("progress").textContent = `${done} of ${cards().length}`;
}

onWork((form) => {
  if (!cards().length) return;
  picked = null;
  chosen = allChosen();
  earlier = [];
  isUntouched = true;
  cards().forEach((card, index) => { card.dataset.index = index; });
  for (const part of document.querySelectorAll(".moves, .views, .beside, #progress")) part.hidden = false;
  (cards().find((card) => !isPair() && !tierOf(card)) ?? cards()[0]).classList.add("current");
  // The order follows before anybody else hears of a rating: one step back undoes both, a draft has both.
  for (const name of ["change", "input"]) {
    form.addEventListener(name, followRatings, { capture: true });
    form.addEventListener(name, remember);
  }
  const shelves = document.getElementById("board");
  if (!shelves) return;
  followRatings({ target: form });
  makeBoard(shelves);
  makeDraggable(form, shelves);
  const draw = () => { drawBoard(); warnOfContradiction(); tellProgress(); arrange(); nameTies(); };
  form.addEventListener("change", draw);
  form.addEventListener("input", draw);
  draw();
  offerWhole();
  new ResizeObserver(offerWhole).observe(board());
});
