"use strict";
// Sends the forms of page_form.py and shows what came back. Builds elements, never HTML out of text: nothing that a
// server or a person wrote can become markup here.

const MEDIA = "application/json";

/** One element; strings become text. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Words in which backticks mark code. */
function prose(text) {
  const parts = text.split("`");
  return parts.length % 2 ? parts.map((part, index) => (index % 2 ? el("code", {}, part) : part)) : [text];
}

/** The value of one control, as JSON will hold it. Text that is no number goes as text: the server answers it best. */
async function valueOf(control) {
  if (control.disabled) return null;
  if ("optional" in control.dataset && control.value === "" && !control.validity.badInput) return undefined;
  switch (control.dataset.kind) {
    case "number":
    case "integer":
      return control.value === "" ? (control.validity.badInput ? "" : null) : Number(control.value);
    case "boolean":
      return control.checked;
    case "choice":
      return JSON.parse(control.value);
    case "bytes":
      return control.files.length ? base64(await control.files[0].arrayBuffer()) : control.dataset.value || "";
    case "json":
      return JSON.parse(control.value);
    default:
      return control.value;
  }
}

function base64(buffer) {
  const bytes = new Uint8Array(buffer);
  const parts = [];
  for (let at = 0; at < bytes.length; at += 0x8000) parts.push(String.fromCharCode(...bytes.subarray(at, at + 0x8000)));
  return btoa(parts.join(""));
}

/** The whole request; throws a SyntaxError that knows its control when a JSON field is not JSON. */
async function requestOf(form) {
  let request = {};
  for (const control of form.querySelectorAll("[data-path]")) {
    const path = JSON.parse(control.dataset.path);
    let value;
    try {
      value = await valueOf(control);
    } catch (error) {
      error.control = control;
      throw error;
    }
    if (path.length === 0) return value;
    if (value === undefined) continue;
    let place = request;
    for (const name of path.slice(0, -1)) place = place[name] ??= {};
    place[path.at(-1)] = value;
  }
  return request;
}

function mark(control, message) {
  control.setAttribute("aria-invalid", "true");
  const error = document.getElementById(`${control.id}-error`);
  error.replaceChildren(...prose(message));
  error.hidden = false;
  const described = control.getAttribute("aria-describedby");
  if (!described.includes(error.id)) control.setAttribute("aria-describedby", `${described} ${error.id}`);
}

function unmark(form) {
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

function statusLine(words, elapsed) {
  const line = el("div", { class: "status-line" }, el("strong", {}, words));
  if (elapsed !== null) line.append(el("span", { class: "quiet" }, `${elapsed.toFixed(elapsed < 10 ? 1 : 0)} ms in this browser`));
  return line;
}

/** The members of an answer, numbers large; a ratio gets a bar. */
function valuesOf(answer) {
  if (answer === null || typeof answer !== "object" || Array.isArray(answer)) return null;
  const list = el("dl", { class: "values" });
  for (const [name, value] of Object.entries(answer)) {
    if (value !== null && typeof value === "object") continue;
    const number = typeof value === "number";
    const text = number && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : value === "" ? '""' : String(value);
    const shown = el("dd", number ? {} : { class: "small" }, text);
    const row = el("div", { class: "value" }, el("dt", {}, name.replaceAll("_", " ")), shown);
    if (number && /probability|score|ratio|risk|confidence/.test(name) && value >= 0 && value <= 1) {
      const bar = el("div", { class: "bar", "aria-hidden": "true" }, el("span"));
      bar.firstChild.style.width = `${value * 100}%`;
      row.append(bar);
    }
    list.append(row);
  }
  return list.childElementCount ? list : null;
}

function showProblem(form, box, status, problem, elapsed, retryAfter) {
  box.className = "answer bad";
  box.append(statusLine(`${status} ${problem.title || ""}`.trim(), elapsed));
  const control = problem.path ? controlAt(form, problem.path) ?? controlIn(form, problem.detail || "") : null;
  if (problem.detail) box.append(el("p", { class: "detail" }, ...prose(problem.detail), problem.path ? ", at " : "", problem.path ? el("code", {}, problem.path) : ""));
  if (problem.hint) box.append(el("p", { class: "quiet" }, ...prose(problem.hint)));
  if (retryAfter) box.append(el("p", { class: "quiet" }, `Retry in ${retryAfter} s.`));
  const facts = [problem.code && `code ${problem.code}`, problem.instance && `instance ${problem.instance}`].filter(Boolean);
  if (facts.length) box.append(el("p", { class: "quiet" }, facts.join(" · ")));
  if (control) {
    mark(control, problem.detail || "");
    control.focus();
  }
}

async function showResponse(form, box, response, elapsed) {
  const media = (response.headers.get("content-type") || "").split(";")[0];
  if (media.startsWith("image/")) {
    box.append(statusLine(`${response.status} OK`, elapsed), el("p", { class: "quiet" }, media));
    const reader = new FileReader();
    reader.onload = () => box.append(el("img", { src: reader.result, alt: "The answer" }));
    reader.readAsDataURL(await response.blob());
    return;
  }
  const text = await response.text();
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
  const values = valuesOf(body);
  box.append(statusLine(`${response.status} OK`, elapsed));
  if (values) box.append(values);
  box.append(el("pre", { class: "wrap", tabindex: "0" }, el("code", {}, body === null ? text : JSON.stringify(body, null, 2))));
}

async function send(form) {
  const box = form.querySelector("[data-answer]");
  const button = form.querySelector("button[type=submit]");
  unmark(form);
  box.replaceChildren();
  box.className = "answer";
  let request;
  try {
    request = await requestOf(form);
  } catch (error) {
    box.hidden = true;
    mark(error.control, `Not JSON: ${error.message}`);
    error.control.focus();
    return;
  }
  button.setAttribute("aria-busy", "true");
  const started = performance.now();
  try {
    const response = await fetch(form.dataset.try, { method: "POST", headers: { "content-type": MEDIA }, body: JSON.stringify(request) });
    await showResponse(form, box, response, performance.now() - started);
  } catch (error) {
    showProblem(form, box, "No answer", { detail: `The server cannot be reached: ${error.message}` }, null, null);
  } finally {
    box.hidden = false;
    button.removeAttribute("aria-busy");
  }
}

/** The same request for a shell. */
async function showCommand(form) {
  const place = form.querySelector("[data-curl]");
  try {
    const body = JSON.stringify(await requestOf(form)).replaceAll("'", "'\\''");
    place.textContent = `curl -s ${location.origin}${form.dataset.try} \\\n  -H 'content-type: ${MEDIA}' \\\n  -d '${body}'`;
  } catch {
    place.textContent = "";
  }
}

function switchMissing(box) {
  const control = document.getElementById(box.dataset.missing);
  control.disabled = box.checked;
}

function prepare(form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
  form.addEventListener("input", (event) => {
    if (event.target.dataset.missing) switchMissing(event.target);
    showCommand(form);
  });
  form.addEventListener("reset", () => {
    unmark(form);
    form.querySelector("[data-answer]").hidden = true;
    setTimeout(() => {
      for (const box of form.querySelectorAll("[data-missing]")) switchMissing(box);
      showCommand(form);
    });
  });
  showCommand(form);
}

/** Says whether the server is ready. */
async function showReadiness(pill) {
  try {
    const response = await fetch("/readyz");
    pill.textContent = response.ok ? "ready" : "not ready";
    pill.className = response.ok ? "pill good" : "pill bad";
  } catch {
    pill.textContent = "not reachable";
    pill.className = "pill bad";
  }
}

for (const form of document.querySelectorAll("form[data-try]")) prepare(form);
for (const pill of document.querySelectorAll("[data-ready]")) showReadiness(pill);
const first = document.querySelector("form[data-first]");
if (first && location.hash === "#try") send(first);
