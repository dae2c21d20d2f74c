// Asks for each panel of a dashboard and draws it; asks again while somebody looks and the page ends now.

import { SVG, el } from "/static/elements.js";
import { chart, clock, darkest, isBuckets, isNarrow, levelOf, onScheme, stylesOf } from "/static/charts.js";
import { figure } from "/static/figures.js";
import { become } from "/static/live.js";

const grid = document.getElementById("grid");
const chooser = document.getElementById("chooser");
const drawn = document.getElementById("drawn");
const BESIDE = 4;
const SOON_MS = 5_000;
const LATER_MS = 30_000;
const SIGNS = { bad: "▲", warn: "◆", good: "●" };
const SHOWN = 12;
const MOST_MARKS = 30;
const panels = [...grid.querySelectorAll("[data-panel]")].map((place) => ({ place, body: place.querySelector(".body"), view: null, answer: null }));
let marks = [];

/** The address of a part of this dashboard, with what is chosen. */
function address(part) {
  const asked = new URLSearchParams(new FormData(chooser));
  asked.delete("viewPanel");
  return `/api/dashboards/${encodeURIComponent(grid.dataset.uid)}/${part}?${asked}`;
}

async function ask(part) {
  const reply = await fetch(address(part), { signal: AbortSignal.timeout(15_000) });
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error.message);
  return body;
}

async function draw(panel) {
  try {
    panel.answer = await ask(`panels/${panel.place.dataset.panel}`);
    show(panel);
  } catch (error) {
    say(panel, `No answer: ${error.message}`, "error");
  }
  panel.body.setAttribute("aria-busy", "false");
}

function say(panel, words, kind) {
  panel.view?.destroy();
  panel.view = null;
  panel.body.replaceChildren(el("p", { class: kind }, words));
}

function show(panel) {
  const { answer } = panel;
  const amount = answer.lines.some((one) => one.values.some((value) => value !== null)) || answer.values.length || answer.rows.length;
  if (!amount) return say(panel, answer.empty, "says");
  if (["timeseries", "heatmap", "state-timeline"].includes(answer.kind)) return showChart(panel);
  const fresh = el("div", { class: "body" }, { stat, table, bargauge }[answer.kind](answer));
  become(panel.body, Object.assign(fresh, { id: panel.body.id }));
  return null;
}

function showChart(panel) {
  const { answer, body, place } = panel;
  const shape = JSON.stringify([answer.kind, answer.lines.map((one) => one.name)]);
  if (panel.view && panel.shape === shape) {
    panel.view.update(answer, marks);
  } else {
    panel.view?.destroy();
    const canvas = el("div", { class: "canvas", role: "img", "aria-label": `Chart: ${place.querySelector("h2").textContent}. Its last values are in the list below.` });
    body.replaceChildren(canvas, el("div", { class: "legend" }));
    panel.view = chart(canvas, answer, marks, heightOf(panel));
    panel.shape = shape;
  }
  become(body.lastElementChild, answer.kind === "heatmap" && isBuckets(answer) ? scale(answer) : legend(answer));
}

function heightOf({ place, answer }) {
  if (answer.kind === "state-timeline") return Math.max(90, 40 * answer.lines.length + 40);
  return place.classList.contains("alone") ? (isNarrow() ? 260 : 380) : 200;
}

/** The last value of each line, the largest first: what the chart says, in words. */
function legend(answer) {
  const last = (one) => one.values.findLast((value) => value !== null) ?? null;
  const styles = stylesOf(answer.lines);
  const entries = answer.lines.map((one, index) => ({ one, style: styles[index], value: last(one) }));
  const items = entries.slice(0, SHOWN).map(({ one, style, value }) => {
    const words = answer.kind === "state-timeline" && answer.words[value] ? answer.words[value] : figure(value, answer.unit, answer.decimals);
    return el("li", {}, answer.kind === "timeseries" ? swatch(style) : "", el("span", { class: "name" }, one.name || "value"), el("span", { class: "number" }, words));
  });
  if (entries.length > SHOWN) items.push(el("li", { class: "quiet" }, `and ${entries.length - SHOWN} more`));
  return el("div", { class: "legend" }, el("ul", {}, ...items));
}

function scale(answer) {
  return el("div", { class: "legend" }, el("p", {}, `The darkest stands for ${figure(darkest(answer), "short")}.`));
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function swatch({ colour, dash }) {
  const line = svg("line", { x1: 0, y1: 2, x2: 18, y2: 2, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash.join(" ") || "none" });
  return svg("svg", { viewBox: "0 0 18 4", width: 18, height: 4, "aria-hidden": "true" }, line);
}

function bar(share, level) {
  const length = svg("rect", { width: (100 * share).toFixed(1), height: 10 });
  return svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: `bar ${level}`, "aria-hidden": "true" }, length);
}

function stat(answer) {
  const values = answer.values.length ? answer.values : answer.lines.map((one) => ({ name: one.name, value: one.values.findLast((value) => value !== null) ?? null }));
  const items = values.map(({ name, value }) => {
    const level = value === null ? "" : levelOf(answer.thresholds, value);
    const words = answer.words[value] ?? figure(value, answer.unit, answer.decimals);
    return el("div", { class: `stat ${level}` }, name && values.length > 1 ? el("dt", {}, name) : el("dt", { class: "unseen" }, name || "Value"), el("dd", {}, level ? el("span", { class: `sign ${level}`, "aria-hidden": "true" }, SIGNS[level]) : "", words));
  });
  return el("dl", { class: "stats" }, ...items);
}

function table(answer) {
  const head = answer.columns.map((one) => el("th", { scope: "col", class: one.ref ? "number" : "words" }, one.title));
  const rows = answer.rows.map((row) => el("tr", {}, ...row.map((cell, index) => tableCell(answer.columns[index], cell, index))));
  const made = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }, made);
}

function tableCell(column, cell, index) {
  if (typeof cell === "string") return el(index ? "td" : "th", index ? { "data-label": column.title } : { scope: "row" }, shortened(cell));
  const level = cell === null ? "" : levelOf(column.thresholds, cell);
  return el("td", { class: `number ${level}`, "data-label": column.title }, el("span", {}, marked(level), figure(cell, column.unit, column.decimals)));
}

/** The sign of what is not good, so that colour is not all that says it. */
const marked = (level) => (level && level !== "good" ? el("span", { class: `sign ${level}`, "aria-hidden": "true" }, `${SIGNS[level]} `) : "");

const shortened = (text) => (/^sha256:/.test(text) ? text.slice(7, 19) : text);

function bargauge(answer) {
  const most = answer.maximum ?? Math.max(...[...answer.values, ...answer.thresholds].map((one) => Math.abs(one.value ?? 0)));
  const items = [...answer.values].sort((a, b) => (b.value ?? 0) - (a.value ?? 0)).map(({ name, value }) => {
    const level = value === null ? "" : levelOf(answer.thresholds, value);
    const share = Math.min(1, Math.abs(value ?? 0) / (most || 1));
    return el("li", {}, el("span", { class: "name" }, name || "value"), bar(share, level), el("span", { class: "number" }, marked(level), figure(value, answer.unit, answer.decimals)));
  });
  return el("ul", { class: "bars" }, ...items);
}

/** What the dashed lines in the charts stand for. */
function markList() {
  if (!marks.length) return el("div", { id: "marks" });
  const items = marks.slice(-MOST_MARKS).reverse().map((mark) => el("li", {}, `${clock(mark.at)} UTC · ${mark.name} · ${mark.text}`));
  const words = `${marks.length} marked moment${marks.length === 1 ? "" : "s"}: deploys, canary steps, alerts`;
  return el("div", { id: "marks" }, el("details", {}, el("summary", {}, words), el("ul", { class: "rows" }, ...items)));
}

/** All panels, a few at a time, the first ones first. */
async function drawAll() {
  const began = performance.now();
  marks = await ask("marks").catch(() => []);
  const waiting = [...panels];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await draw(next);
  };
  await Promise.all(Array.from({ length: BESIDE }, worker));
  become(document.getElementById("marks"), markList());
  const at = clock(Date.now() / 1000);
  drawn.textContent = `As of ${at} UTC`;
  drawn.dataset.tookMs = String(Math.round(performance.now() - began));
  grid.dataset.ready = "true";
}

async function watch() {
  if (!document.hidden) await drawAll();
  const asked = new FormData(chooser);
  if (!asked.get("to")) setTimeout(watch, /now-\d+[sm]|now-1h/.test(asked.get("from")) ? SOON_MS : LATER_MS);
}

chooser.addEventListener("change", () => chooser.requestSubmit());
onScheme(() => {
  for (const panel of panels.filter(({ view }) => view)) {
    panel.view.destroy();
    panel.view = null;
    show(panel);
  }
});
watch();
