// Draws figures: runs', kept up to date until they are over, or some that bring their rows along.

import { Chart } from "./chart.js";
import { save } from "./chart_files.js";

const POLL_MS = 2000;
const KEPT = "charts"; // in localStorage: smoothing and scale

const tools = document.querySelector(".chart-tools");
const board = { smoothing: 0, isLog: false, window: null, zoom };
Object.assign(board, kept());
const charts = [...document.querySelectorAll("figure.chart")].map((figure) => new Chart(figure, board));
const sources = JSON.parse(document.querySelector("#sources")?.textContent ?? "{}");

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {}; // nothing may be kept here, or something else was
  }
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ smoothing: board.smoothing, isLog: board.isLog }));
  } catch {
    // Then it is for this page alone.
  }
}

const redraw = () => charts.forEach((chart) => chart.plot && chart.show());

async function read(run, query) {
  const answer = await fetch(`${sources[run]}?${new URLSearchParams(query)}`, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw Object.assign(new Error(answer.statusText), { status: answer.status });
  return answer.json();
}

async function follow(run) {
  let after = -1;
  for (;;) {
    try {
      const { columns, over } = await read(run, { after });
      give(run, columns);
      // Held-out rows of a step come after its training row: ask for the last step once more.
      const steps = Object.values(columns).flatMap(({ step }) => step.at(-1));
      if (steps.length) after = Math.max(after, ...steps) - 1;
      if (over) return;
    } catch ({ status }) {
      // The site is away, or the person signed out: try again in a moment.
      if (status && status < 500 && status !== 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function give(run, columns) {
  for (const chart of charts) if (chart.runs.includes(run)) chart.takeColumns(run, columns);
}

// All charts by step show the same window; what is between the points is asked for.
async function zoom(window) {
  const whole = extent();
  if (window) {
    const ends = [Math.max(window[0], whole[0]), Math.min(window[1], whole[1])];
    window = ends[1] - ends[0] >= 1 ? ends : null;
  }
  board.window = window;
  redraw();
  tools?.querySelectorAll("[data-zoom]").forEach((button) => (button.disabled = !window && button.dataset.zoom !== "in"));
  if (!window) return;
  const [after, last] = [Math.floor(window[0]) - 1, Math.ceil(window[1])];
  const runs = new Set(charts.flatMap((chart) => chart.runs));
  await Promise.all([...runs].map(async (run) => {
    try {
      const { columns } = await read(run, { after: Math.max(after, -1), last });
      if (board.window === window) give(run, columns);
    } catch {
      // The points of the whole run are still shown.
    }
  }));
}

function extent() {
  const steps = charts.filter((chart) => chart.isBySteps).flatMap((chart) => chart.steps);
  return [steps.reduce((a, b) => Math.min(a, b), Infinity), steps.reduce((a, b) => Math.max(a, b), -Infinity)];
}

const MOVES = { in: [0.25, 0.75], out: [-0.5, 1.5], earlier: [-0.5, 0.5], later: [0.5, 1.5] };

function move(name) {
  if (name === "reset") return zoom(null);
  const whole = extent();
  const [low, high] = board.window ?? whole;
  const span = high - low;
  let ends = MOVES[name].map((share) => low + share * span);
  if (name === "earlier" || name === "later") {
    const over = Math.min(0, ends[0] - whole[0]) + Math.max(0, ends[1] - whole[1]);
    ends = ends.map((end) => end - over);
  }
  return zoom(ends[0] <= whole[0] && ends[1] >= whole[1] ? null : ends);
}

if (tools) {
  tools.hidden = false;
  const smoothing = tools.querySelector("[name=smoothing]");
  const log = tools.querySelector("[name=log]");
  smoothing.value = board.smoothing;
  log.checked = board.isLog;
  smoothing.addEventListener("input", () => {
    board.smoothing = Number(smoothing.value);
    keep();
    redraw();
  });
  log.addEventListener("change", () => {
    board.isLog = log.checked;
    keep();
    redraw();
  });
  tools.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-zoom]");
    if (button) move(button.dataset.zoom);
  });
}

const buttons = document.querySelector("#chart-buttons");
for (const chart of charts) {
  if (buttons) chart.figure.querySelector("h2").after(buttons.content.cloneNode(true));
  chart.figure.addEventListener("click", ({ target }) => {
    const { file, full } = target.closest("button")?.dataset ?? {};
    if (file) save(chart, file);
    if (full === undefined) return;
    if (document.fullscreenElement) document.exitFullscreen();
    else chart.figure.requestFullscreen();
  });
  if (chart.definition.rows) chart.takeRows(chart.definition.rows);
}
for (const run of new Set(charts.flatMap((chart) => chart.runs))) follow(run);

// Of the figures that can be chosen, those whose name has what is searched for.
const search = document.querySelector("[data-search]");
search?.addEventListener("input", () => {
  const words = search.value.toLowerCase();
  for (const choice of document.querySelectorAll("[data-choice]")) choice.hidden = !choice.dataset.choice.includes(words);
  for (const group of document.querySelectorAll("[data-choices]")) {
    group.hidden = !group.querySelector("[data-choice]:not([hidden])");
  }
});

document.addEventListener("themechange", redraw);
document.addEventListener("fullscreenchange", () => charts.forEach((chart) => chart.resize()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
