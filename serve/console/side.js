// The side panel: the adapters with their versions and aliases, and what the engine holds in memory.

import { byId, count, el, sentence } from "./dom.js";

function fill(id, nodes) {
  const box = byId(id);
  box.removeAttribute("aria-busy");
  box.replaceChildren(...nodes);
}

const failure = (message, retry) => [
  el("p", { class: "hint" }, ...sentence(message)),
  el("button", { type: "button", onclick: retry }, "Try again"),
];

function adapterRow({ name, aliases, versions }, onpick) {
  const facts = [
    count(versions.length, "version"),
    ...Object.entries(aliases).map(([alias, version]) => `${alias} @${version}`),
  ];
  return el("button", { type: "button", class: "adapter", title: `Compare base and ${name}`, onclick: onpick },
    el("b", {}, name), el("span", { class: "facts" }, ...facts.map((fact) => el("span", {}, fact))));
}

/** `onpick(reference)` gets what the adapter should be called by: its production, else its newest version. */
export function showAdapters({ adapters }, onpick) {
  byId("adapter-count").textContent = adapters.length || "";
  if (!adapters.length) {
    const text = "No adapter is published yet. Train one with `hub train`, then `hub publish` makes it appear here.";
    return fill("adapters", [el("p", { class: "hint" }, ...sentence(text))]);
  }
  const rows = adapters.map((adapter) => {
    const reference = adapter.aliases.production ? adapter.name : `${adapter.name}@${adapter.versions[0] ?? 1}`;
    return adapterRow(adapter, () => onpick(reference));
  });
  return fill("adapters", [el("div", { class: "scroller" }, ...rows)]);
}

export function showAdaptersFailed(message, retry) {
  fill("adapters", failure(message, retry));
}

export function showResidency(body) {
  const resident = body?.residents ?? [];
  const capacity = Number(body?.capacity);
  byId("resident-count").textContent = capacity ? `${resident.length} of ${capacity}` : resident.length || "";
  if (!resident.length) {
    return fill("residency", [el("p", { class: "hint" }, "No adapter is loaded. The first request for one loads it.")]);
  }
  const rows = resident.map(({ version, leases }) =>
    el("div", { class: "resident" }, el("i", { class: "dot on", "aria-hidden": "true" }), el("b", {}, String(version)),
      leases > 0 ? el("span", {}, `${leases} in use`) : null));
  return fill("residency", [el("div", { class: "scroller" }, ...rows)]);
}

export function showResidencyFailed() {
  fill("residency", [el("p", { class: "hint" }, "Not known right now.")]);
}
