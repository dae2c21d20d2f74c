// Elements out of data. Nothing here makes HTML out of text: nothing that a server or a person wrote can become markup.

export const SVG = "http://www.w3.org/2000/svg";

/** One element; strings become text. */
export function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Words in which backticks mark code. */
export function prose(text) {
  const parts = text.split("`");
  return parts.length % 2 ? parts.map((part, index) => (index % 2 ? el("code", {}, part) : part)) : [text];
}

/** The bytes as an address that the pages' policy lets an image have. */
export const addressOf = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
