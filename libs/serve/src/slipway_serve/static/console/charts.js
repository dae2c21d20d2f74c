// Charts by uPlot: lines, heat maps and states over time. Colours tell series apart for colour-blind people as well
// (Okabe and Ito, https://jfly.uni-koeln.de/color/), and lines differ by their dashes too.

import { figure, clock } from "/static/figures.js";

const COLOURS = {
  light: ["#0072b2", "#b54a00", "#00795a", "#a8407f", "#7a5c00", "#1f77a8", "#5b4bb7", "#3f464d"],
  dark: ["#56b4e9", "#f0932b", "#2fc79a", "#e08fc0", "#f0e442", "#9ad0ef", "#b3a5ff", "#c9d1d9"],
};
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
const dark = matchMedia("(prefers-color-scheme: dark)");
export const isNarrow = () => innerWidth < 600;

const PROMISED = [4, 3];

const colourOf = (index) => (dark.matches ? COLOURS.dark : COLOURS.light)[index % COLOURS.light.length];
const dashOf = (index) => DASHES[Math.floor(index / COLOURS.light.length) % DASHES.length];

/** Colour and dash of each line, the same in chart and legend; what is promised has the colour of the text. */
export function stylesOf(lines) {
  let nth = 0;
  return lines.map((one) => (one.is_promised ? { colour: inkOf("--ink"), dash: PROMISED } : { colour: colourOf(nth), dash: dashOf(nth++) }));
}

export const inkOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const onScheme = (redraw) => dark.addEventListener("change", redraw);

/** A chart of an answer in `place`; returns what takes the next answer: `{ update, destroy }`. */
export function chart(place, answer, marks, heightPx) {
  const draw = { "timeseries": lines, "heatmap": heat, "state-timeline": states }[answer.kind];
  let [options, data] = draw(answer, marks);
  const size = () => ({ width: Math.max(160, place.clientWidth), height: heightPx });
  const made = new uPlot({ ...size(), ...options }, data, place);
  const watcher = new ResizeObserver(() => made.setSize(size()));
  watcher.observe(place);
  return {
    update(next, nextMarks) {
      [options, data] = draw(next, nextMarks);
      made.state = options.state;
      made.setData(data);
    },
    destroy() {
      watcher.disconnect();
      made.destroy();
    },
  };
}

function frame(answer, marks) {
  const grid = { stroke: inkOf("--line"), width: 1 };
  const ink = { stroke: inkOf("--quiet"), font: "12px system-ui, sans-serif", grid, ticks: { show: false } };
  return {
    state: { answer, marks },
    ms: 1e-3,
    tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1e3), "Etc/UTC"),
    legend: { show: false },
    padding: [18, 12, 0, 0],
    scales: { x: { range: (chart, low, high) => [low, high] } },
    cursor: { points: { size: 6 }, drag: { x: true, y: false }, sync: { key: "time" } },
    axes: [
      { ...ink, space: 70, size: 30, values: (chart, at) => at.map((one) => timeWord(one, answer.times)) },
      { ...ink, size: 62, space: 28, values: (chart, at) => at.map((one) => figure(one, answer.unit)) },
    ],
    hooks: { init: [(chart) => (chart.state = { answer, marks })], draw: [drawMarks], setSelect: [zoom] },
  };
}

function timeWord(at, times) {
  const span = times[times.length - 1] - times[0];
  const word = new Date(at * 1000).toISOString();
  return span > 172_800 ? word.slice(5, 10) : span > 600 ? word.slice(11, 16) : word.slice(11, 19);
}

function lines(answer, marks) {
  const stacked = answer.is_stacked ? stack(answer.lines) : answer.lines.map((one) => one.values);
  const options = frame(answer, marks);
  const limits = answer.thresholds.filter((one) => one.value !== null).map((one) => one.value);
  options.scales.y = { range: (chart, low, high) => room(answer, low, high, limits) };
  options.series = [{}];
  stylesOf(answer.lines).forEach(({ colour, dash }, index) => {
    const fill = answer.is_stacked ? `${colour}40` : undefined;
    options.series.push({ label: answer.lines[index].name, stroke: colour, width: 2, dash, fill, points: { size: 5 } });
  });
  if (answer.is_stacked) {
    options.bands = answer.lines.slice(1).map((one, index) => ({ series: [index + 2, index + 1], fill: `${colourOf(index + 1)}40` }));
  }
  options.hooks.draw.push(drawLimits, drawSpots);
  return [options, [answer.times, ...stacked]];
}

function room(answer, low, high, limits) {
  const near = limits.filter((limit) => limit <= 2 * (high || 0) || limits.length === 1 && limit <= 4 * (high || 1));
  const bottom = answer.minimum ?? Math.min(0, low ?? 0);
  let top = Math.max(high ?? 0, ...near, bottom);
  if (answer.maximum !== null) top = Math.max(Math.min(top, answer.maximum), bottom);
  return top === bottom ? [bottom, bottom + 1] : [bottom, top + (answer.maximum === top ? 0 : 0.08 * (top - bottom))];
}

function stack(series) {
  const sum = new Array(series[0]?.values.length || 0).fill(0);
  return series.map((one) => one.values.map((value, index) => (value === null ? (sum[index] || null) : (sum[index] += value))));
}

function heat(found, marks) {
  const answer = { ...found, lines: isBuckets(found) ? uncumulated(found.lines) : [...found.lines].reverse() };
  const options = frame(answer, marks);
  const count = answer.lines.length;
  const nth = Math.ceil(count / 8);
  const names = (at) => bucket(answer.lines[Math.floor(at)]?.name, found);
  options.scales.y = { range: () => [0, count] };
  options.axes[1].splits = () => [...Array(count).keys()].filter((row) => row % nth === 0).map((row) => row + 0.5);
  options.axes[1].values = (chart, at) => at.map(names);
  options.axes[1].size = isBuckets(found) ? 62 : 120;
  options.series = [{}, { paths: () => null, points: { show: false } }];
  options.hooks.draw.unshift(drawHeat);
  return [options, [answer.times, answer.times.map(() => 0)]];
}

/** Whether a heat map's rows are the buckets of a histogram, each of which counts those below it too. */
export const isBuckets = (answer) => answer.lines.some((one) => one.name === "+Inf");

function uncumulated(lines) {
  const bound = ({ name }) => (name === "+Inf" ? Infinity : Number(name));
  const sorted = [...lines].sort((one, other) => bound(one) - bound(other));
  return sorted.map((one, row) => {
    const below = row ? sorted[row - 1].values : [];
    return { name: one.name, values: one.values.map((value, index) => (value === null ? null : Math.max(0, value - (below[index] || 0)))) };
  });
}

/** The largest cell: what the darkest colour stands for. */
export const darkest = (answer) => Math.max(0, ...(isBuckets(answer) ? uncumulated(answer.lines) : answer.lines).flatMap((one) => one.values.map((value) => value || 0)));

function bucket(name, answer) {
  if (name === undefined) return "";
  if (name === "+Inf") return "more";
  return isBuckets(answer) ? figure(Number(name), answer.unit) : name.length > 17 ? `${name.slice(0, 16)}…` : name;
}

function drawHeat(chart) {
  const { answer } = chart.state;
  const most = Math.max(...answer.lines.flatMap((one) => one.values.map((value) => value || 0))) || 1;
  const wide = Math.max(1, chart.valToPos(answer.times[1], "x", true) - chart.valToPos(answer.times[0], "x", true));
  const high = chart.bbox.height / answer.lines.length;
  chart.ctx.save();
  chart.ctx.fillStyle = inkOf("--accent");
  answer.lines.forEach((one, row) => {
    one.values.forEach((value, index) => {
      if (!value || value < most * 1e-6) return;
      chart.ctx.globalAlpha = 0.08 + 0.92 * Math.sqrt(value / most);
      const x = chart.valToPos(answer.times[index], "x", true);
      chart.ctx.fillRect(x, chart.bbox.top + chart.bbox.height - (row + 1) * high, Math.ceil(wide), Math.ceil(high) - 1);
    });
  });
  chart.ctx.restore();
}

function states(answer, marks) {
  const options = frame(answer, marks);
  const count = answer.lines.length;
  options.scales.y = { range: () => [0, Math.max(1, count)] };
  options.axes[1] = { ...options.axes[1], show: false };
  options.series = [{}, { paths: () => null, points: { show: false } }];
  options.hooks.draw.unshift(drawStates);
  return [options, [answer.times, answer.times.map(() => 0)]];
}

function drawStates(chart) {
  const { answer } = chart.state;
  const { ctx, bbox } = chart;
  const high = bbox.height / Math.max(1, answer.lines.length);
  const step = answer.times[1] - answer.times[0];
  ctx.save();
  ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  answer.lines.forEach((one, row) => {
    const top = bbox.top + row * high;
    for (const [from, to, value] of runs(one.values)) {
      const [left, right] = [from, to].map((index) => chart.valToPos(answer.times[0] + index * step, "x", true));
      const end = Math.min(right, bbox.left + bbox.width);
      ctx.fillStyle = stateColour(answer, value);
      ctx.fillRect(left, top + 0.56 * high, Math.max(1, end - left), 0.28 * high);
    }
    ctx.fillStyle = inkOf("--ink");
    ctx.fillText(one.name, bbox.left, top + 0.44 * high);
  });
  ctx.restore();
}

function* runs(values) {
  let from = 0;
  for (let index = 1; index <= values.length; index += 1) {
    if (index < values.length && values[index] === values[from]) continue;
    if (values[from] !== null) yield [from, index, values[from]];
    from = index;
  }
}

/** The colour of a value by a panel's thresholds, as one of ours. */
export function levelOf(thresholds, value) {
  const passed = thresholds.filter((one) => one.value === null || value >= one.value);
  const name = passed.length ? passed[passed.length - 1].color : "";
  if (/red/.test(name)) return "bad";
  if (/orange|yellow/.test(name)) return "warn";
  return /green/.test(name) ? "good" : "";
}

const stateColour = (answer, value) => inkOf({ bad: "--bad", warn: "--warn", good: "--good" }[levelOf(answer.thresholds, value)] || "--accent");

function drawMarks(chart) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.setLineDash([4, 3]);
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textBaseline = "alphabetic";
  let last = -Infinity;
  for (const mark of chart.state?.marks || []) {
    const x = chart.valToPos(mark.at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = inkOf(/red/.test(mark.color) ? "--bad" : "--quiet");
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const word = mark.name.toLowerCase();
    if (x - last > ctx.measureText(word).width + 10) {
      const right = x + ctx.measureText(word).width + 4 > bbox.left + bbox.width;
      ctx.textAlign = right ? "right" : "left";
      ctx.fillText(word, x + (right ? 4 : -4), bbox.top - 5 * devicePixelRatio);
      last = x;
    }
  }
  ctx.restore();
}

function drawLimits(chart) {
  const { answer } = chart.state;
  const { ctx, bbox } = chart;
  ctx.save();
  for (const limit of answer.thresholds) {
    if (limit.value === null || !/red|orange/.test(limit.color)) continue;
    const y = chart.valToPos(limit.value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.strokeStyle = inkOf(/red/.test(limit.color) ? "--bad" : "--warn");
    ctx.setLineDash([7, 5]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}

function drawSpots(chart) {
  const { ctx } = chart;
  ctx.save();
  ctx.strokeStyle = inkOf("--ink");
  for (const spot of chart.state.answer.spots) {
    const [x, y] = [chart.valToPos(spot.at, "x", true), chart.valToPos(spot.value, "y", true)];
    ctx.strokeRect(x - 3, y - 3, 6, 6);
  }
  ctx.restore();
}

function zoom(chart) {
  if (chart.select.width < 8) return;
  const [from, to] = [chart.select.left, chart.select.left + chart.select.width].map((x) => Math.round(chart.posToVal(x, "x") * 1000));
  chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  const address = new URL(location.href);
  address.searchParams.set("from", from);
  address.searchParams.set("to", to);
  location.assign(address);
}

export { clock };
