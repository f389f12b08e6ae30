// One figure: its lines, what they are at the pointer, its zoom.

import { short, tickLabel } from "./numbers.js";

const HEIGHT = 230;
const COLOURS = 8; // --series-1 … in rounds.css
const WHOLE_STEPS = [1, 2, 5, 10, 20, 50].flatMap((n) => [n, n * 100, n * 10_000, n * 1_000_000]).sort((a, b) => a - b);
const HOUR = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: "UTC" };
const DAY = { day: "numeric", month: "short", timeZone: "UTC" };
const DAY_SECONDS = 86400;
const FONT = "13px 'Source Sans 3', sans-serif";

export class Chart {
  // `board`: what all charts of the page share: {smoothing, isLog, window, zoom(window)}.
  constructor(figure, board) {
    this.figure = figure;
    this.board = board;
    this.definition = { levels: [], marks: [], ...JSON.parse(figure.querySelector("script").textContent) };
    this.lines = this.definition.series.map((series) => ({ ...series, points: new Map(), ends: new Map() }));
    this.plot = null;
    this.place = figure.querySelector(".plot");
    this.readout = figure.querySelector(".readout") ?? this.place.insertAdjacentElement("beforebegin", document.createElement("p"));
    this.readout.className = "readout small";
  }

  get isBySteps() {
    return (this.definition.x ?? "step") === "step";
  }

  get isByTime() {
    return this.definition.x === "time";
  }

  // Where something is on the axis below: a step, or a moment in seconds.
  at(x) {
    if (!this.isByTime) return short(x);
    return new Date(x * 1000).toLocaleString(document.documentElement.lang, x % DAY_SECONDS ? HOUR : DAY);
  }

  get runs() {
    return [...new Set(this.lines.map(({ run }) => run).filter((run) => run !== undefined))];
  }

  // Rows that came with the figure: {step, split, values}.
  takeRows(rows) {
    for (const { step, split, values } of rows) {
      for (const line of this.lines) if (line.split === split) this.add(line, step, (name) => values[name]);
    }
    this.show();
  }

  // Columns of a run: {split: {step: [], name: []}}.
  takeColumns(run, columns) {
    for (const line of this.lines) {
      const table = columns[line.split];
      if (line.run !== run || !table) continue;
      table.step.forEach((step, i) => this.add(line, step, (name) => table[name]?.[i]));
    }
    this.show();
  }

  add(line, step, value) {
    if (!Number.isFinite(value(line.metric))) return;
    line.points.set(step, value(line.metric));
    const ends = [value(`${line.metric} low`), value(`${line.metric} high`)];
    if (ends.every(Number.isFinite)) line.ends.set(step, ends);
  }

  show() {
    if (this.lines.every(({ points }) => points.size === 0)) return;
    this.figure.hidden = false;
    const drawn = this.layers();
    const shape = JSON.stringify([drawn.layers.map(({ look }) => look), this.board.isLog]);
    // New points go into the plot that is there: whoever points at it keeps their place.
    if (this.plot && shape === this.shape) this.plot.setData([drawn.steps, ...drawn.layers.map(({ data }) => data)]);
    else this.draw(drawn);
    this.shape = shape;
    this.read(this.plot.cursor.idx);
    this.describe();
  }

  get steps() {
    return [...new Set(this.lines.flatMap(({ points }) => [...points.keys()]))].sort((a, b) => a - b);
  }

  // The columns that uPlot draws, and how it draws each.
  layers() {
    const steps = this.steps;
    const colour = (name) => getComputedStyle(this.place).getPropertyValue(name).trim();
    const visible = (value) => (value === undefined || (this.board.isLog && value <= 0) ? null : value);
    const layers = [];
    const bands = [];
    this.lines.forEach((line, i) => {
      const stroke = colour(`--series-${this.colourOf(i) + 1}`);
      const raw = steps.map((step) => visible(line.points.get(step)));
      const isSmoothed = this.board.smoothing > 0 && !line.dots && !line.diamond && line.points.size > 2;
      if (line.ends.size > 1 && !line.diamond) {
        const [high, low] = [1, 0].map((end) => steps.map((step) => visible(line.ends.get(step)?.[end])));
        bands.push({ series: [layers.length + 1, layers.length + 2], fill: `${stroke}26` });
        layers.push({ data: high, look: { stroke: null, width: 0, points: { show: false } } });
        layers.push({ data: low, look: { stroke: null, width: 0, points: { show: false } } });
      }
      if (isSmoothed) layers.push({ data: raw, look: this.look(line, i, `${stroke}40`) });
      layers.push({ data: isSmoothed ? smooth(raw, this.board.smoothing) : raw, look: this.look(line, i, stroke) });
    });
    const soft = { stroke: colour("--ink-soft"), width: 1, dash: [2, 4], points: { show: false } };
    for (const { value } of this.definition.levels) {
      // A level is drawn across the chart even where its line has one point.
      layers.push({ data: steps.map(() => visible(value)), look: soft });
    }
    return { steps, layers, bands };
  }

  colourOf(i) {
    return (this.lines[i].colour ?? i) % COLOURS;
  }

  look(line, i, stroke) {
    const isAlone = line.points.size === 1;
    const isDashed = line.dashed ?? line.is_baseline ?? (i > 0 && line.colour === undefined);
    return {
      scale: line.right ? "right" : "y",
      stroke,
      width: 2,
      dash: isDashed ? [6, 4] : [],
      spanGaps: true,
      ...((line.dots || line.diamond) && { paths: () => null }),
      // A line of one point is a point, or nobody would see it.
      points: { show: () => !line.diamond && (line.dots || isAlone), size: isAlone ? 10 : 6, fill: stroke },
    };
  }

  draw({ steps, layers, bands }) {
    this.plot?.destroy();
    const colour = (name) => getComputedStyle(this.place).getPropertyValue(name).trim();
    const { unit, x = "step", right } = this.definition;
    const axis = { stroke: colour("--ink-soft"), ticks: { stroke: colour("--line") }, font: FONT, labelFont: FONT };
    axis.grid = { stroke: colour("--line"), width: 1 };
    axis.values = (_, ticks) => ticks.map(tickLabel);
    const below = this.isByTime ? { space: 80, values: (_, ticks) => ticks.map((tick) => this.at(tick)) } : { label: x };
    const isLog = this.board.isLog && this.isBySteps;
    const options = {
      width: this.place.clientWidth,
      height: this.height,
      legend: { show: false },
      cursor: {
        drag: { x: this.isBySteps, y: false, setScale: false },
        ...(this.isBySteps && { sync: { key: "steps", filters: { pub: (type) => !/^mouse(down|up)|click/.test(type) } } }),
      },
      padding: [12, this.isByTime ? 28 : 12, 0, 0],
      scales: {
        x: { time: this.isByTime, range: (_, low, high) => this.range(low, high) },
        right: { range: [0, 1] },
        ...(isLog && { y: { distr: 3 } }),
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      axes: [
        { ...axis, ...below, labelSize: 20, size: 34, ...(x === "step" && { incrs: WHOLE_STEPS }) },
        { ...axis, label: unit || undefined, labelSize: unit ? 22 : 0, size: 56 },
        ...(right ? [{ ...axis, label: right, labelSize: 22, size: 52, side: 1, scale: "right", grid: { show: false } }] : []),
      ],
      bands,
      series: [{}, ...layers.map(({ look }) => look)],
      hooks: {
        setCursor: [(plot) => this.read(plot.cursor.idx)],
        setSelect: [(plot) => this.select(plot)],
        draw: [(plot) => this.diamonds(plot), (plot) => this.marks(plot, colour("--warn"))],
      },
    };
    this.plot = new uPlot(options, [steps, ...layers.map(({ data }) => data)], this.place);
    if (this.isBySteps) this.plot.over.addEventListener("dblclick", () => this.board.zoom(null));
  }

  get height() {
    return document.fullscreenElement === this.figure ? Math.max(HEIGHT, innerHeight - 200) : HEIGHT;
  }

  range(low, high) {
    if (this.isBySteps && this.board.window) return this.board.window;
    if (low === null || low === undefined) return [0, 1];
    // Of a single moment uPlot would show years.
    if (this.isByTime && this.steps.length === 1) return [this.steps[0] - DAY_SECONDS, this.steps[0] + DAY_SECONDS];
    return low === high ? [low - 1, high + 1] : [low, high];
  }

  select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const ends = [left, left + width].map((at) => plot.posToVal(at, "x"));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.board.zoom(ends);
  }

  resize() {
    this.plot?.setSize({ width: this.place.clientWidth, height: this.height });
  }

  // What the lines are at the pointer; without one, where they end. It is the legend, too.
  read(index) {
    const step = index === null || index === undefined ? null : this.plot.data[0][index];
    const parts = this.lines.map((line, i) => {
      const at = step ?? [...line.points.keys()].reduce((last, each) => Math.max(last, each), -Infinity);
      const ends = line.ends.get(at);
      const interval = ends ? ` (${ends.map(short).join(" to ")})` : "";
      const value = line.points.has(at) ? short(line.points.get(at)) + interval : "–";
      return { colour: this.colourOf(i), text: `${line.label} `, value, isEmpty: !line.points.size };
    });
    parts.push(...this.definition.levels.map(({ label, value }) => ({ text: `${label} `, value: short(value) })));
    const rings = this.definition.marks.filter(({ first, last }) => step !== null && first <= step && step <= last);
    parts.push(...rings.map(({ label }) => ({ text: "Alarm: ", value: label })));
    if (step !== null) parts.unshift({ text: this.isByTime ? "" : `${this.definition.x ?? "step"} `, value: this.at(step) });
    this.readout.replaceChildren(...parts.filter(({ isEmpty }) => !isEmpty).flatMap((part) => [entry(part), " "]));
  }

  // Each diamond with its interval and its name.
  diamonds(plot) {
    const ratio = devicePixelRatio;
    const { ctx } = plot;
    ctx.save();
    ctx.font = `${13 * ratio}px 'Source Sans 3', sans-serif`;
    ctx.textBaseline = "bottom";
    this.lines.forEach(({ diamond, label, points, ends }, i) => {
      if (!diamond) return;
      ctx.strokeStyle = ctx.fillStyle = getComputedStyle(this.place).getPropertyValue(`--series-${this.colourOf(i) + 1}`);
      ctx.lineWidth = 2 * ratio;
      for (const [step, value] of points) {
        const x = plot.valToPos(step, "x", true);
        const y = plot.valToPos(value, "right", true);
        const interval = ends.get(step)?.map((end) => plot.valToPos(end, "right", true));
        if (interval) stroke(ctx, [x, interval[0]], [x, interval[1]]);
        const size = 7 * ratio;
        ctx.beginPath();
        for (const [dx, dy] of [[0, -size], [size, 0], [0, size], [-size, 0]]) ctx.lineTo(x + dx, y + dy);
        ctx.closePath();
        ctx.fill();
        const name = label.split(",")[0];
        const room = plot.bbox.left + plot.bbox.width - x;
        ctx.textAlign = room < ctx.measureText(name).width + 2 * size ? "right" : "left";
        ctx.fillText(name, x + (ctx.textAlign === "left" ? size : -size), y - size / 2);
      }
    });
    ctx.restore();
  }

  // Where an alarm rang first: a line from a triangle down.
  marks(plot, warn) {
    const { ctx, bbox } = plot;
    const size = 6 * devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = warn;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([size / 2, size / 2]);
    for (const { first } of this.definition.marks) {
      const x = plot.valToPos(first, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      stroke(ctx, [x, bbox.top], [x, bbox.top + bbox.height]);
      ctx.beginPath();
      for (const [dx, dy] of [[-size, -size], [size, -size], [0, size / 2]]) ctx.lineTo(x + dx, bbox.top + dy);
      ctx.closePath();
      ctx.fill();
    }
    ctx.restore();
  }

  describe() {
    const x = this.isByTime ? "on" : `at ${this.definition.x?.split(" ")[0] ?? "step"}`;
    const words = this.lines.map(({ label, points, ends }) => {
      const sorted = [...points].sort((a, b) => a[0] - b[0]);
      if (!sorted.length) return "";
      const [[first, from], [last, to]] = [sorted[0], sorted.at(-1)];
      const all = sorted.map(([, value]) => value);
      const [low, high] = [Math.min(...all), Math.max(...all)];
      // A run that went astray and came back, or did not, shows it here.
      const strayed = low < Math.min(from, to) || high > Math.max(from, to);
      const range = strayed ? ` (between ${short(low)} and ${short(high)})` : "";
      const interval = ends.has(first) ? ` (${ends.get(first).map(short).join(" to ")})` : "";
      const end = sorted.length > 1 ? `, ${short(to)} ${x} ${this.at(last)}${range}` : interval;
      return `${label}: ${short(from)} ${x} ${this.at(first)}${end}`;
    });
    words.push(...this.definition.levels.map(({ label, value }) => `${label}: ${short(value)}`));
    words.push(...this.definition.marks.map(({ label, first }) => `Alarm from step ${first}: ${label}`));
    this.figure.querySelector("figcaption").textContent = words.filter(Boolean).join(" · ");
  }
}

// An exponential moving average, corrected for its beginning (Kingma and Ba 2015, section 3).
function smooth(values, weight) {
  let [sum, share] = [0, 1];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    share *= weight;
    return sum / (1 - share);
  });
}

function entry({ colour, text, value }) {
  const span = document.createElement("span");
  if (colour !== undefined) span.className = `key series-${colour + 1}`;
  const number = document.createElement("strong");
  number.textContent = value;
  span.append(text, number);
  return span;
}

function stroke(ctx, from, to) {
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}
