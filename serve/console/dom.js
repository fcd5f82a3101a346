// Making elements. Text always goes in as text nodes: answers, names and errors are untrusted.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** el("b", { class: "x", onclick: f, hidden: true }, "text", child): null and false children are left out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Split at backticks: every second part becomes <code>. For the console's own sentences around a name. */
export function sentence(text) {
  return text.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));
}

/** A reference that may be cut short at the end of its name, never in its version: `long-na…@13`. */
export function reference(text) {
  const at = text.lastIndexOf("@");
  const [name, version] = at > 0 ? [text.slice(0, at), text.slice(at)] : [text, ""];
  const node = el("b", { class: "ref", title: text }, el("span", {}, name), version);
  node.style.setProperty("--tail", `${version.length}ch`); // through the CSSOM: the CSP allows no style attribute
  return node;
}

export const inField = (target) =>
  target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;

export const isMac = /Mac|iPhone|iPad/.test(navigator.platform || navigator.userAgent);

export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
