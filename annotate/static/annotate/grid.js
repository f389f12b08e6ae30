// The grid by keys: from cell to cell, open one, tick its row, and what is done with rows.

import { isCommand, keyOf } from "./keys.js";

const grid = document.getElementById("grid");
const lines = () => [...grid.querySelector("tbody").rows].map((row) => [...row.querySelectorAll(".cell")]);

// By its name: a cell that was answered meanwhile is another element.
let current = null;

function place() {
  const all = lines();
  const row = all.findIndex((cells) => cells.some((cell) => cell.id === current));
  return { all, row, column: row < 0 ? 0 : all[row].findIndex((cell) => cell.id === current) };
}

function move(down, right) {
  const { all, row, column } = place();
  const next = row < 0 ? all[0]?.[0] : (all[row + down]?.[column + right] ?? all[row][column]);
  next?.focus();
}

grid.addEventListener("focusin", (event) => {
  current = event.target.closest(".cell")?.id ?? current;
});

const MOVES = { j: [1, 0], k: [-1, 0], h: [0, -1], l: [0, 1] };
const ARROWS = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const PRESSED = { r: "#ask-to-rank", w: "#ask-to-write", v: "#view", d: "#compare", e: "#again" };

const cellNow = () => (current ? document.getElementById(current) : null);
const DOES = {
  o: () => cellNow()?.querySelector("[data-open]").click(),
  x: () => cellNow()?.closest("tr").querySelector("[name=row]").click(),
  s: () => document.getElementById("suite-name").focus(),
};

function actOf(event, key) {
  const isInGrid = grid.contains(document.activeElement);
  if (MOVES[key]) return () => move(...MOVES[key]);
  if (ARROWS[key] && isInGrid && !event.shiftKey) return () => move(...ARROWS[key]);
  if (key === "Enter" && document.activeElement.matches(".cell")) return DOES.o;
  if (PRESSED[key]) return () => document.querySelector(PRESSED[key])?.click();
  return DOES[key];
}

document.addEventListener("keydown", (event) => {
  if (!isCommand(event)) return;
  const key = keyOf(event);
  const act = actOf(event, key);
  if (!act || (event.repeat && !MOVES[key] && !ARROWS[key])) return;
  event.preventDefault();
  act();
});
