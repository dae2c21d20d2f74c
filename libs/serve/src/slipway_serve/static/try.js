// Sends the forms of page_form.py: reads their controls, asks their paths, and says the same for a shell.

import { mark, showProblem, showResponse, unmark } from "./answer.js";
import { addressOf, el } from "./elements.js";

const MEDIA = "application/json";

/** The value of one control, as JSON will hold it, or a File. Text that is no number goes as text: the server answers it best. */
function valueOf(control) {
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
      if (control.files.length) return control.files[0];
      if ("form" in control.form.dataset) throw new Error("Choose a file first.");
      return control.dataset.value || "";
    case "json":
      try {
        return JSON.parse(control.value);
      } catch (error) {
        throw new Error(`Not JSON: ${error.message}`);
      }
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

/** The whole request; throws an Error that knows its control when a field holds nothing that could be sent. */
function requestOf(form) {
  let request = {};
  for (const control of form.querySelectorAll("[data-path]")) {
    const path = JSON.parse(control.dataset.path);
    let value;
    try {
      value = valueOf(control);
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

const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** The request as `fetch` takes it: a form where the path reads one, so that a file goes as it is; else JSON. */
async function messageOf(form, request) {
  if ("form" in form.dataset) {
    const body = new FormData();
    for (const [name, value] of Object.entries(request)) body.append(name, value instanceof File ? value : textOf(value));
    return { method: "POST", body };
  }
  return { method: "POST", headers: { "content-type": MEDIA }, body: JSON.stringify(await withBase64(request)) };
}

async function withBase64(value) {
  if (value instanceof File) return base64(await value.arrayBuffer());
  if (value === null || typeof value !== "object") return value;
  const entries = await Promise.all(Object.entries(value).map(async ([name, inner]) => [name, await withBase64(inner)]));
  return Array.isArray(value) ? entries.map(([, inner]) => inner) : Object.fromEntries(entries);
}

/** Asks one path and shows its answer in its place. */
async function ask(form, box, message) {
  box.className = "answer";
  box.hidden = false;
  box.replaceChildren(el("p", { class: "quiet" }, "Waiting for the answer…"));
  const started = performance.now();
  try {
    const response = await fetch(box.dataset.answer, message);
    box.replaceChildren();
    await showResponse(form, box, response, started);
  } catch (error) {
    box.replaceChildren();
    showProblem(form, box, "No answer", { detail: `The server cannot be reached: ${error.message}` }, null, null);
  }
}

async function send(form) {
  const boxes = [...form.querySelectorAll("[data-answer]")];
  const button = form.querySelector("button[type=submit]");
  unmark(form);
  for (const box of boxes) box.hidden = true;
  let message;
  try {
    message = await messageOf(form, requestOf(form));
  } catch (error) {
    mark(error.control, error.message);
    error.control.focus();
    return;
  }
  button.setAttribute("aria-busy", "true");
  await Promise.all(boxes.map((box) => ask(form, box, message)));
  button.removeAttribute("aria-busy");
}

/** The same request for a shell. */
function showCommand(form) {
  const place = form.querySelector("[data-curl]");
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  let given;
  if ("form" in form.dataset) {
    const parts = [...form.querySelectorAll("[data-path]")].map((control) => {
      const name = JSON.parse(control.dataset.path)[0];
      if (control.type === "file") return `-F ${quoted(`${name}=@${control.files[0]?.name ?? "FILE"}`)}`;
      try {
        const value = valueOf(control);
        return value === undefined ? null : `-F ${quoted(`${name}=${textOf(value)}`)}`;
      } catch {
        return null;
      }
    });
    given = parts.filter((part) => part !== null).join(" ");
  } else {
    try {
      const request = JSON.stringify(requestOf(form), (_, value) => (value instanceof File ? "BASE64" : value));
      given = `-H 'content-type: ${MEDIA}' \\\n  -d ${quoted(request)}`;
    } catch {
      given = null;
    }
  }
  const boxes = [...form.querySelectorAll("[data-answer]")];
  const commands = boxes.map((box) => `curl -s ${location.origin}${box.dataset.answer} \\\n  ${given}${boxes.length > 1 ? saving(box) : ""}`);
  place.textContent = given === null ? "" : commands.join("\n");
}

const saving = (box) => ("picture" in box.dataset ? " -o answer" : "");

/** A zone that takes a file by drop, paste or choice, and shows it when it is a picture. */
function prepareDrop(zone) {
  const control = zone.querySelector("input[type=file]");
  const form = control.form;
  for (const event of ["dragenter", "dragover"]) {
    zone.addEventListener(event, (dragged) => {
      dragged.preventDefault();
      zone.classList.add("over");
    });
  }
  zone.addEventListener("dragleave", (left) => {
    if (!zone.contains(left.relatedTarget)) zone.classList.remove("over");
  });
  zone.addEventListener("drop", (dropped) => {
    dropped.preventDefault();
    zone.classList.remove("over");
    take(control, dropped.dataTransfer.files);
  });
  form.addEventListener("paste", (pasted) => take(control, pasted.clipboardData.files));
  control.addEventListener("change", () => {
    showFile(zone, control.files[0]);
    const isAll = form.querySelectorAll("[data-path]").length === 1;
    if (control.files.length && isAll && "form" in form.dataset) send(form); // nothing else to fill in
  });
}

function take(control, files) {
  if (!files.length) return;
  const kept = new DataTransfer();
  kept.items.add(files[0]);
  control.files = kept.files;
  control.dispatchEvent(new Event("input", { bubbles: true }));
  control.dispatchEvent(new Event("change", { bubbles: true }));
}

async function showFile(zone, file) {
  const words = zone.querySelector("[data-file]");
  zone.querySelector("img")?.remove();
  words.hidden = !file;
  if (!file) return;
  words.textContent = `${file.type || "a file"}, ${file.size < 1e6 ? `${Math.ceil(file.size / 1e3)} kB` : `${(file.size / 1e6).toFixed(1)} MB`}`;
  if (!file.type.startsWith("image/")) return;
  const preview = el("img", { src: await addressOf(file), alt: "" });
  preview.onload = () => zone.prepend(preview); // a type that this browser cannot show stays away
}

function switchMissing(box) {
  const control = document.getElementById(box.dataset.missing);
  control.disabled = box.checked;
}

function prepare(form) {
  for (const zone of form.querySelectorAll("[data-drop]")) prepareDrop(zone);
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
    for (const box of form.querySelectorAll("[data-answer]")) box.hidden = true;
    setTimeout(() => {
      for (const zone of form.querySelectorAll("[data-drop]")) showFile(zone, undefined);
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
