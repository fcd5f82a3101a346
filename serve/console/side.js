// The side panel: the adapters with their versions and aliases, and what the engines hold in memory.

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

const RESIDENT = {
  checking: "checking…", waiting: "waiting…", loading: "loading…", loaded: "", draining: "draining…", leaving: "leaving…",
};

function residentRow({ version, state, leases, pinned }) {
  const facts = [RESIDENT[state] ?? state, leases > 0 ? `${leases} in use` : "", pinned ? "pinned" : ""];
  return el("div", { class: "resident" },
    el("i", { class: state === "loaded" ? "dot on" : "dot", "aria-hidden": "true" }),
    el("div", {}, el("b", {}, String(version)), el("span", {}, facts.filter(Boolean).join(" · "))));
}

/** Which engine, how it is, and how full: the name only where there are several. */
function engineHead({ name, state, cpu_slots: loaded, gpu_slots: batch }, several) {
  const facts = [
    state === "ready" ? "" : state,
    several && loaded ? `${loaded.used} of ${loaded.limit}` : "",
    batch ? `${batch.used} of ${batch.limit} running` : "",
    batch?.waiting ? `${batch.waiting} waiting` : "",
  ];
  return el("div", { class: "engine-head" }, several ? el("b", {}, String(name)) : null,
    el("span", {}, facts.filter(Boolean).join(" · ")));
}

function engineRows(engine, several) {
  const head = engineHead(engine, several);
  if (engine.loading === "lazy") return [head, el("p", { class: "hint" }, "Loads by itself what is asked for, and does not tell.")];
  const others = engine.foreign.length ? el("p", { class: "hint" }, `And ${count(engine.foreign.length, "adapter")} of others.`) : null;
  const rows = engine.residents.map(residentRow);
  if (!rows.length) rows.push(el("p", { class: "hint" }, "No adapter is loaded. The first request for one loads it."));
  return [head, ...rows, others].filter(Boolean);
}

/** Tells whether something there is under way, so that another look is worth it. */
export function showResidency(body) {
  const engines = body?.engines ?? [];
  const known = engines.filter((engine) => engine.cpu_slots);
  const sum = (part) => known.reduce((total, engine) => total + engine.cpu_slots[part], 0);
  byId("resident-title").textContent = engines.length > 1 ? "In the engines" : "In the engine";
  byId("resident-count").textContent = known.length ? `${sum("used")} of ${sum("limit")}` : "";
  const rows = engines.flatMap((engine) => engineRows(engine, engines.length > 1));
  const lost = (body?.pins ?? []).filter((pin) => pin.version === null);
  rows.push(...lost.map((pin) => el("p", { class: "hint" }, ...sentence(`The pin \`${pin.reference}\` names nothing now.`))));
  fill("residency", [el("div", { class: "scroller" }, ...rows)]);
  return engines.some(({ state, residents }) => state !== "ready" || residents.some((one) => one.state !== "loaded"));
}

export function showResidencyFailed() {
  fill("residency", [el("p", { class: "hint" }, "Not known right now.")]);
}
