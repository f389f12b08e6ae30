// A chart as a file: its picture, its drawing, its numbers.

import { short } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, EDGE] = [900, 420, 60];

export const FILES = {
  png: (chart) => picture(chart),
  svg: async (chart) => new Blob([new XMLSerializer().serializeToString(drawing(chart))], { type: "image/svg+xml" }),
  csv: async (chart) => new Blob([table(chart)], { type: "text/csv" }),
};

export async function save(chart, kind) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await FILES[kind](chart));
  link.download = `${chart.definition.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Every number that is known of the lines, not smoothed.
function table({ lines, steps, definition }) {
  const quoted = (text) => `"${`${text}`.replaceAll('"', '""')}"`;
  const head = [definition.x ?? "step", ...lines.map(({ label }) => label)].map(quoted);
  const rows = steps.map((step) => [step, ...lines.map(({ points }) => points.get(step) ?? "")]);
  return [head, ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

function picture({ plot, place, definition }) {
  const source = plot.ctx.canvas;
  const head = 28 * devicePixelRatio;
  const canvas = Object.assign(document.createElement("canvas"), { width: source.width, height: source.height + head });
  const ctx = canvas.getContext("2d");
  const colour = (name) => getComputedStyle(place).getPropertyValue(name).trim();
  ctx.fillStyle = colour("--paper");
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = colour("--ink");
  ctx.font = `${15 * devicePixelRatio}px 'Source Sans 3', sans-serif`;
  ctx.fillText(definition.title, 8 * devicePixelRatio, head * 0.7);
  ctx.drawImage(source, 0, head);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function drawing(chart) {
  const { lines, definition, place, plot } = chart;
  const { x, y } = plot.scales;
  const scale = (value, { min, max }, size) => ((value - min) / (max - min || 1)) * size;
  const height = ({ distr, min, max }) => (distr === 3 ? { min: Math.log10(min), max: Math.log10(max) } : { min, max });
  const lift = (value) => (y.distr === 3 ? Math.log10(value) : value);
  const at = (step, value) => [
    EDGE + scale(step, x, WIDTH - 2 * EDGE),
    HEIGHT - EDGE - scale(lift(value), height(y), HEIGHT - 2 * EDGE),
  ];
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "font-family": "sans-serif", "font-size": 13 });
  svg.append(element("rect", { width: "100%", height: "100%", fill: "#fff" }));
  svg.append(element("text", { x: EDGE, y: 24, "font-size": 16 }, definition.title));
  svg.append(element("path", { d: `M${EDGE},${EDGE}V${HEIGHT - EDGE}H${WIDTH - EDGE}`, fill: "none", stroke: "#888" }));
  for (const [value, anchor, left] of [[x.min, "start", EDGE], [x.max, "end", WIDTH - EDGE]]) {
    svg.append(element("text", { x: left, y: HEIGHT - EDGE + 18, "text-anchor": anchor }, short(value)));
  }
  for (const [value, top] of [[y.max, EDGE], [y.min, HEIGHT - EDGE]]) {
    svg.append(element("text", { x: EDGE - 6, y: top + 4, "text-anchor": "end" }, short(value)));
  }
  lines.forEach(({ points, label }, i) => {
    const colour = getComputedStyle(place).getPropertyValue(`--series-${chart.colourOf(i) + 1}`).trim();
    const inside = [...points].filter(([step, value]) => step >= x.min && step <= x.max && Number.isFinite(lift(value)));
    const corners = inside.sort((a, b) => a[0] - b[0]).map(([step, value]) => at(step, value));
    if (corners.length > 1) svg.append(element("polyline", { points: corners.join(" "), fill: "none", stroke: colour, "stroke-width": 2 }));
    else if (corners.length) svg.append(element("circle", { cx: corners[0][0], cy: corners[0][1], r: 5, fill: colour }));
    svg.append(element("text", { x: EDGE + 8, y: EDGE + 16 * i, fill: colour }, label));
  });
  return svg;
}

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
