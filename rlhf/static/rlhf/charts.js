// Draws figures: a run's, kept up to date until it is over, or one that brings its rows along.

const POLL_MS = 2000;
const HEIGHT = 210;
const COLOURS = 8; // --series-1 … in rounds.css
const WHOLE_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.definition = JSON.parse(figure.querySelector("script").textContent);
    this.points = this.definition.series.map(() => new Map());
    this.ends = this.definition.series.map(() => new Map()); // of intervals: [low, high] by step
    this.levels = this.definition.levels ?? [];
    this.plot = null;
  }

  take(rows) {
    for (const row of rows) {
      this.definition.series.forEach(({ metric, split }, i) => {
        const value = row.values[metric];
        if (row.split !== split || !Number.isFinite(value)) return;
        this.points[i].set(row.step, value);
        const ends = [row.values[`${metric} low`], row.values[`${metric} high`]];
        if (ends.every(Number.isFinite)) this.ends[i].set(row.step, ends);
      });
    }
    if (this.points.every((points) => points.size === 0)) return;
    this.figure.hidden = false;
    if (this.plot) this.plot.setData(this.data());
    else this.draw();
    this.describe();
  }

  data() {
    const steps = [...new Set(this.points.flatMap((points) => [...points.keys()]))];
    steps.sort((a, b) => a - b);
    const lines = this.points.map((points) => steps.map((step) => points.get(step) ?? null));
    return [steps, ...lines, ...this.levels.map(({ value }) => steps.map(() => value))];
  }

  draw() {
    this.plot?.destroy();
    const place = this.figure.querySelector(".plot");
    const colour = (name) => getComputedStyle(place).getPropertyValue(name).trim();
    const axis = { stroke: colour("--ink-soft"), ticks: { stroke: colour("--line") } };
    axis.grid = { stroke: colour("--line"), width: 1 };
    axis.font = axis.labelFont = "13px 'Source Sans 3', sans-serif";
    const palette = Array.from({ length: COLOURS }, (_, i) => colour(`--series-${i + 1}`));
    const strokes = this.definition.series.map(({ colour: own }, i) => palette[(own ?? i) % COLOURS]);
    const { unit, x = "step", right } = this.definition;
    axis.values = (_, ticks) => ticks.map(tickLabel);
    const options = {
      width: place.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      padding: [12, right ? 0 : 74, 0, 0],
      scales: { x: { time: false }, right: { range: [0, 1] } },
      axes: [
        { ...axis, label: x, labelSize: 20, size: 34, ...(x === "step" && { incrs: WHOLE_STEPS }) },
        { ...axis, label: unit, labelSize: 22, size: 52 },
        ...(right ? [{ ...axis, label: right, labelSize: 22, size: 52, side: 1, scale: "right", grid: { show: false } }] : []),
      ],
      series: [
        {},
        ...this.definition.series.map(({ label, dots, diamond, right, colour: own }, i) => ({
          label,
          scale: right ? "right" : "y",
          stroke: strokes[i],
          width: 2,
          dash: i && own === undefined ? [6, 4] : [],
          spanGaps: true,
          ...((dots || diamond) && { paths: () => null }),
          points: {
            // A line of one point is a point, or nobody would see it.
            show: () => !diamond && (i > 0 || dots || this.points[i].size === 1),
            size: this.points[i].size === 1 ? 9 : 6,
            fill: strokes[i],
          },
        })),
        ...this.levels.map(({ label }) => ({
          label,
          scale: "y",
          stroke: colour("--ink-soft"),
          width: 1,
          dash: [2, 4],
          points: { show: false },
        })),
      ],
      hooks: {
        draw: [
          right
            ? (plot) => this.diamonds(plot, strokes)
            : (plot) => this.label(plot, strokes, colour("--ink-soft")),
        ],
      },
    };
    this.plot = new uPlot(options, this.data(), place);
  }

  // Each diamond with its interval and its name.
  diamonds(plot, strokes) {
    const ratio = devicePixelRatio;
    const { ctx } = plot;
    ctx.save();
    ctx.font = `${13 * ratio}px 'Source Sans 3', sans-serif`;
    ctx.textBaseline = "bottom";
    this.definition.series.forEach(({ diamond, label }, i) => {
      if (!diamond) return;
      ctx.strokeStyle = ctx.fillStyle = strokes[i];
      ctx.lineWidth = 2 * ratio;
      for (const [step, value] of this.points[i]) {
        const x = plot.valToPos(step, "x", true);
        const y = plot.valToPos(value, "right", true);
        const ends = this.ends[i].get(step)?.map((end) => plot.valToPos(end, "right", true));
        if (ends) line(ctx, [x, ends[0]], [x, ends[1]]);
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

  // The name and the last value stand where the line ends, above the labels of the axis.
  label(plot, strokes, soft) {
    const ends = this.definition.series
      .map(({ label }, i) => {
        const last = [...this.points[i]].sort((a, b) => a[0] - b[0]).at(-1);
        return last && { label, value: last[1], colour: strokes[i] };
      })
      .filter(Boolean)
      .concat(this.levels.map((level) => ({ ...level, colour: soft })))
      .map((end) => ({ ...end, y: plot.valToPos(end.value, "y", true) }))
      .sort((a, b) => a.y - b.y);
    const ratio = devicePixelRatio;
    const step = 32 * ratio;
    const lowest = plot.bbox.top + plot.bbox.height - 22 * ratio;
    ends.forEach((end, i) => (end.top = Math.max(end.y, i ? ends[i - 1].top + step : -Infinity)));
    ends.reduceRight((most, end) => ((end.top = Math.min(end.top, most)), end.top - step), lowest);
    plot.ctx.save();
    plot.ctx.textBaseline = "middle";
    plot.ctx.textAlign = "left";
    for (const { label, value, colour, top } of ends) {
      plot.ctx.fillStyle = colour;
      plot.ctx.font = `${13 * ratio}px 'Source Sans 3', sans-serif`;
      const left = plot.bbox.left + plot.bbox.width + 6 * ratio;
      plot.ctx.fillText(label, left, top);
      plot.ctx.fillText(short(value), left, top + 15 * ratio);
    }
    plot.ctx.restore();
  }

  describe() {
    const words = this.definition.series.map(({ label }, i) => {
      const points = [...this.points[i]].sort((a, b) => a[0] - b[0]);
      if (!points.length) return "";
      const [[first, from], [last, to]] = [points[0], points.at(-1)];
      const x = this.definition.x?.split(" ")[0] ?? "step";
      const all = points.map(([, value]) => value);
      const [low, high] = [Math.min(...all), Math.max(...all)];
      // A run that went astray and came back, or did not, shows it here.
      const strayed = low < Math.min(from, to) || high > Math.max(from, to);
      const range = strayed ? ` (between ${short(low)} and ${short(high)})` : "";
      const ends = this.ends[i].get(first);
      const interval = ends ? ` (${ends.map(short).join(" to ")})` : "";
      const end = points.length > 1 ? `, ${short(to)} at ${x} ${short(last)}${range}` : interval;
      return `${label}: ${short(from)} at ${x} ${short(first)}${end}`;
    });
    words.push(...this.levels.map(({ label, value }) => `${label}: ${short(value)}`));
    this.figure.querySelector("figcaption").textContent = words.filter(Boolean).join(" · ");
  }
}

// What a computer makes of a difference of equals is 0.
const short = (value) => {
  if (Math.abs(value) < 1e-6) return "0";
  return Number.isInteger(value) ? `${value}` : `${Number(value.toPrecision(3))}`;
};

const tickLabel = (tick) => (tick === null ? "" : `${Number(tick.toPrecision(6))}`);

function line(ctx, from, to) {
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}

async function follow(source, charts) {
  let after = -1;
  for (;;) {
    try {
      const answer = await fetch(`${source}?after=${after}`, { headers: { Accept: "application/json" } });
      if (answer.ok) {
        const { rows, over } = await answer.json();
        charts.forEach((chart) => chart.take(rows));
        // Held-out rows of a step come after its training row: ask for the last step once more.
        if (rows.length) after = Math.max(...rows.map((row) => row.step)) - 1;
        if (over) return;
      } else if (answer.status < 500 && answer.status !== 401) return;
    } catch {
      // The site is away, or the person signed out: try again in a moment.
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const charts = [...document.querySelectorAll("figure.chart")].map((figure) => new Chart(figure));
charts.forEach((chart) => chart.take(chart.definition.rows ?? []));
const sources = new Set(charts.map((chart) => chart.figure.dataset.source).filter(Boolean));
for (const source of sources) {
  follow(source, charts.filter((chart) => chart.figure.dataset.source === source));
}

const redraw = () => charts.forEach((chart) => chart.plot && chart.draw());
document.addEventListener("themechange", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", () => {
  for (const { plot, figure } of charts) {
    plot?.setSize({ width: figure.querySelector(".plot").clientWidth, height: HEIGHT });
  }
});
