// Shows what came back: lists as rows, figures large, pictures, problems at the field that they are about.

import { SVG, addressOf, el, prose } from "./elements.js";

const STREAMS = ["text/event-stream", "application/x-ndjson"];

export function mark(control, message) {
  control.setAttribute("aria-invalid", "true");
  const error = document.getElementById(`${control.id}-error`);
  error.replaceChildren(...prose(message));
  error.hidden = false;
  const described = control.getAttribute("aria-describedby");
  if (!described.includes(error.id)) control.setAttribute("aria-describedby", `${described} ${error.id}`);
}

export function unmark(form) {
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  for (const error of form.querySelectorAll(".error")) error.hidden = true;
}

/** The control that a problem's `path` is about: `$.income`, or the nearest field around it. */
function controlAt(form, path) {
  const controls = [...form.querySelectorAll("[data-path]")];
  const named = controls.map((control) => ["$", ...JSON.parse(control.dataset.path)].join("."));
  const found = named.findIndex((name) => path === name || path.startsWith(`${name}.`) || path.startsWith(`${name}[`));
  return found < 0 ? null : controls[found];
}

/** `Object missing required field `x`` and the like name the field in words, not in the path. */
function controlIn(form, words) {
  const named = /field `([^`]+)`/.exec(words);
  return named ? controlAt(form, `$.${named[1]}`) : null;
}

/** How it went, and how long it took; which path it was, when there are several. */
function statusLine(box, words, elapsed) {
  const path = box.hasAttribute("aria-label") ? el("code", {}, box.dataset.answer) : null;
  const line = el("div", { class: "status-line" }, el("span", {}, el("strong", {}, words), path === null ? "" : " ", path));
  if (elapsed !== null) line.append(el("span", { class: "quiet", title: "in this browser" }, `${elapsed.toFixed(elapsed < 10 ? 1 : 0)} ms`));
  return line;
}

const isRatio = (name, value) => /probability|score|ratio|risk|confidence/.test(name) && value >= 0 && value <= 1;
const shortOf = (value) => (typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : value === "" ? '""' : String(value));
const wordsOf = (name) => name.replaceAll("_", " ");

function barOf(ratio) {
  const bar = el("div", { class: "bar", "aria-hidden": "true" }, el("span"));
  bar.firstChild.style.width = `${ratio * 100}%`;
  return bar;
}

/** The scalar members of an answer, numbers large when they are all there is; a ratio gets a bar. */
function valuesOf(answer, isSmall) {
  const list = el("dl", { class: isSmall ? "values aside" : "values" });
  for (const [name, value] of Object.entries(answer)) {
    if (value !== null && typeof value === "object") continue;
    const number = typeof value === "number";
    const shown = el("dd", number && !isSmall ? {} : { class: "small" }, shortOf(value));
    const row = el("div", { class: "value" }, el("dt", {}, wordsOf(name)), shown);
    if (number && isRatio(name, value)) row.append(barOf(value));
    list.append(row);
  }
  return list.childElementCount ? list : null;
}

/** A list of objects as rows of their scalar members; null when it is no such list. */
function listOf(form, name, items) {
  const columns = Object.keys(items[0] ?? {}).filter((key) => items[0][key] === null || typeof items[0][key] !== "object");
  if (!columns.length || !items.every((item) => item !== null && typeof item === "object" && !Array.isArray(item))) return null;
  const list = el("ol", { class: "items", "aria-label": wordsOf(name) });
  for (const item of items) {
    const row = el("li", {});
    for (const column of columns) {
      const ratio = typeof item[column] === "number" && isRatio(column, item[column]);
      const text = ratio ? `${(item[column] * 100).toFixed(1)} %` : shortOf(item[column]);
      row.append(el("span", { class: typeof item[column] === "string" ? "said" : "measured", title: wordsOf(column) }, text));
    }
    if (isShape(item.box)) outlineOn(form, row, item.box);
    list.append(row);
  }
  return list;
}

const isShape = (box) => Array.isArray(box) && box.length > 2 && box.every((point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite));

/** A row that has a `box` shows it on the picture beside it, while the pointer or the focus is on the row. */
function outlineOn(form, row, box) {
  const show = () => {
    const picture = form.querySelector(".answer .picture");
    const image = picture?.querySelector("img");
    if (!image?.naturalWidth) return;
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`);
    drawing.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(SVG, "polygon");
    shape.setAttribute("points", box.map((point) => point.join(",")).join(" "));
    drawing.append(shape);
    picture.querySelector("svg")?.remove();
    picture.append(drawing);
  };
  const hide = () => form.querySelector(".answer .picture svg")?.remove();
  row.tabIndex = 0;
  for (const event of ["pointerenter", "focus"]) row.addEventListener(event, show);
  for (const event of ["pointerleave", "blur"]) row.addEventListener(event, hide);
}

/** An answer that is JSON: lists as rows, scalars as figures, and the whole of it as text. */
function showJson(form, box, body, text) {
  const raw = el("pre", { class: "wrap", tabindex: "0" }, el("code", {}, body === null ? text : JSON.stringify(body, null, 2)));
  const isObject = body !== null && typeof body === "object" && !Array.isArray(body);
  const lists = isObject ? Object.entries(body).filter(([, value]) => Array.isArray(value)) : [];
  const made = lists.map(([name, items]) => (items.length ? listOf(form, name, items) : el("p", { class: "quiet" }, `No ${wordsOf(name)}.`)));
  const shown = made.filter((list) => list !== null);
  const values = isObject ? valuesOf(body, shown.length > 0) : null;
  box.append(...shown);
  if (values) box.append(values);
  box.append(shown.length ? el("details", {}, el("summary", {}, "The answer as JSON"), raw) : raw);
}

export function showProblem(form, box, status, problem, elapsed, retryAfter) {
  const said = problem.detail || "";
  const twin = [...form.querySelectorAll(".answer.bad")].some((other) => other !== box && !other.hidden && other.dataset.said === said);
  box.className = "answer bad";
  box.dataset.said = said;
  box.hidden = twin; // two paths that refuse the same file say it once
  box.append(statusLine(box, `${status} ${problem.title || ""}`.trim(), elapsed));
  const control = problem.path ? controlAt(form, problem.path) ?? controlIn(form, said) : null;
  if (said) box.append(el("p", { class: "detail" }, ...prose(said), problem.path ? ", at " : "", problem.path ? el("code", {}, problem.path) : ""));
  if (problem.hint) box.append(el("p", { class: "quiet" }, ...prose(problem.hint)));
  if (retryAfter) box.append(el("p", { class: "quiet" }, `Retry in ${retryAfter} s.`));
  const facts = [problem.code && `code ${problem.code}`, problem.instance && `instance ${problem.instance}`].filter(Boolean);
  if (facts.length) box.append(el("p", { class: "quiet" }, facts.join(" · ")));
  if (control) {
    mark(control, said);
    control.focus();
  }
}

export async function showResponse(form, box, response, started) {
  const media = (response.headers.get("content-type") || "").split(";")[0];
  if (media.startsWith("image/")) {
    const address = await addressOf(await response.blob());
    const image = el("img", { src: address, alt: `The answer of ${box.dataset.answer}` });
    const save = el("a", { href: address, download: `answer.${media.split("/")[1]}` }, "Save the picture");
    box.append(statusLine(box, `${response.status} OK`, performance.now() - started), el("div", { class: "picture" }, image), el("p", { class: "quiet" }, save));
    return;
  }
  if (response.ok && STREAMS.includes(media)) {
    await showStream(box, response, started);
    return;
  }
  const text = await response.text();
  const elapsed = performance.now() - started;
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    /* shown as text below */
  }
  if (!response.ok) {
    showProblem(form, box, response.status, body || { title: response.statusText, detail: text }, elapsed, response.headers.get("retry-after"));
    return;
  }
  box.append(statusLine(box, `${response.status} OK`, elapsed));
  showJson(form, box, body, text);
}

/** Items as they come. */
async function showStream(box, response, started) {
  const place = el("code", {});
  box.replaceChildren(el("pre", { class: "wrap", tabindex: "0" }, place));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) place.append(part.value);
  box.prepend(statusLine(box, `${response.status} OK`, performance.now() - started));
}
