// Keeps a page true: asks for it again, and changes only what is different, so that nothing flickers, no focus is lost
// and no opened detail closes. While nobody looks it does not ask. When nothing answers, it says so.

const main = document.getElementById("main");
const stale = document.getElementById("stale");
const everyMs = 1000 * Number(main.dataset.refreshS || 0);
const PATIENCE_MS = 10_000;
let heardAt = new Date();

/** Make `old` what `fresh` is, touching only what differs. What a person opened stays open. */
export function become(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh.cloneNode(true));
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  const kept = old.nodeName === "DETAILS" ? "open" : "";
  for (const { name } of [...old.attributes]) {
    if (name !== kept && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== kept && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((child, index) => {
    if (index < before.length) become(before[index], child);
    else old.append(child.cloneNode(true));
  });
  for (const child of before.slice(after.length)) child.remove();
}

async function look() {
  if (document.hidden) return;
  try {
    const reply = await fetch(location.href, { signal: AbortSignal.timeout(PATIENCE_MS) });
    const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
    heardAt = new Date();
    stale.hidden = true;
    if (!getSelection().toString()) become(main, fresh.getElementById("main"));
    document.title = fresh.title;
  } catch {
    const at = heardAt.toISOString().slice(11, 19);
    stale.textContent = `The console has not answered since ${at} UTC. What you see is from then.`;
    stale.hidden = false;
  }
}

async function watch() {
  await look();
  setTimeout(watch, everyMs);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

document.addEventListener("visibilitychange", () => everyMs && look());
if (everyMs) setTimeout(watch, everyMs);
