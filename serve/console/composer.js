// What is asked: two arms, one prompt, and the folded-away system prompt and settings.

import { exactOf, optionsOf } from "./catalog.js";
import { Combobox } from "./combobox.js";
import { byId, el, isMac } from "./dom.js";
import { armsInAddress, putArmsInAddress, session } from "./session.js";

const KEPT = { system: "", "max-tokens": "128", temperature: "0" };

/** A field's number, or the default where it's empty or no number. */
function number(id, { min, max = Infinity, whole = false }) {
  const value = Number.parseFloat(byId(id).value);
  if (!Number.isFinite(value)) return Number(KEPT[id]);
  return Math.min(max, Math.max(min, whole ? Math.round(value) : value));
}

export class Composer {
  catalog = { base: "", adapters: [] };
  options = optionsOf(this.catalog);
  loaded = false;

  constructor() {
    this.a = new Combobox(byId("combo-a"), "Arm A", () => this.#armsChanged());
    this.b = new Combobox(byId("combo-b"), "Arm B", () => this.#armsChanged());
    this.prompt = byId("prompt");
    byId("mod-key").textContent = isMac ? "⌘" : "Ctrl";
    for (const [id, preset] of Object.entries(KEPT)) this.#keep(id, preset);
    this.#fold("system");
    this.#fold("settings");
    byId("api-key").addEventListener("change", () => session.set("apiKey", byId("api-key").value.trim()));
    window.addEventListener("hashchange", () => {
      const { left, right } = armsInAddress();
      if (left || right) this.setArms(left || this.a.value, right || this.b.value);
    });
    const address = armsInAddress();
    const last = session.get("arms", {});
    this.a.value = address.left || last.left || "base";
    this.b.value = address.right || last.right || "";
    this.#armsNoted();
  }

  #keep(id, preset) {
    const field = byId(id);
    field.value = session.get(id, preset);
    const mark = () => {
      const panel = id === "system" ? ["system"] : ["max-tokens", "temperature"];
      const changed = panel.some((one) => byId(one).value.trim() !== KEPT[one]);
      byId(id === "system" ? "system-toggle" : "settings-toggle").toggleAttribute("data-set", changed);
    };
    field.addEventListener("input", () => {
      session.set(id, field.value);
      mark();
    });
    mark();
  }

  #fold(name) {
    const toggle = byId(`${name}-toggle`);
    toggle.addEventListener("click", () => {
      const open = toggle.getAttribute("aria-expanded") !== "true";
      this.unfold(name, open);
      if (open) byId(`${name}-area`).querySelector("textarea, input").focus();
    });
  }

  unfold(name, open = true) {
    byId(`${name}-toggle`).setAttribute("aria-expanded", String(open));
    byId(`${name}-area`).hidden = !open;
  }

  askForKey() {
    byId("key-area").hidden = false;
    this.unfold("settings");
    byId("api-key").focus();
  }

  setCatalog(catalog) {
    this.catalog = catalog;
    this.loaded = true;
    this.options = optionsOf(catalog);
    for (const picker of [this.a, this.b]) picker.setOptions(this.options);
    if (!this.b.value) this.b.value = this.options.find((option) => !option.value.includes("@") && option.value !== "base")?.value
      ?? this.options[1]?.value ?? "base";
    this.#armsChanged();
  }

  setArms(left, right) {
    this.a.value = left;
    this.b.value = right;
    this.#armsChanged();
  }

  #armsChanged() {
    const { value: left } = this.a;
    const { value: right } = this.b;
    if (left && right) {
      session.set("arms", { left, right });
      putArmsInAddress(left, right);
    }
    this.#armsNoted();
  }

  #armsNoted() {
    const note = (picker, id) => {
      const known = this.options.find((option) => option.value === picker.value);
      const box = byId(id);
      box.textContent = known?.note ?? (picker.value && this.loaded ? "not in the list, used as written" : "");
      box.dataset.tone = "";
      picker.input.title = picker.value;
    };
    note(this.a, "arm-a-note");
    note(this.b, "arm-b-note");
    if (this.a.value && this.exact(this.a.value) === this.exact(this.b.value)) {
      byId("arm-b-note").textContent = "The same as Arm A";
      byId("arm-b-note").dataset.tone = "warn";
    }
  }

  exact(reference) { return exactOf(reference, this.catalog, this.options); }

  /** The first thing that keeps this from being run, as { message, focus }; null when nothing does. */
  missing() {
    for (const [picker, name] of [[this.a, "Arm A"], [this.b, "Arm B"]]) {
      picker.markInvalid(!picker.value);
      if (!picker.value) return { message: `Choose ${name}: the base, or an adapter.`, focus: picker.input };
    }
    if (!this.prompt.value.trim()) return { message: "Write a prompt first, or pick a suggested one.", focus: this.prompt };
    return null;
  }

  /** The body of POST /hub/comparisons. */
  body() {
    const system = byId("system").value.trim();
    const user = { role: "user", content: this.prompt.value.trim() };
    return {
      messages: system ? [{ role: "system", content: system }, user] : [user],
      arms: [this.a.value, this.b.value],
      max_tokens: number("max-tokens", { min: 1, whole: true }),
      temperature: number("temperature", { min: 0, max: 2 }),
    };
  }

  /** After a 404: an arm that the catalog doesn't know is probably the one meant. */
  markUnknownArms() {
    for (const picker of [this.a, this.b]) {
      picker.markInvalid(!this.options.some((option) => option.value === picker.value) && picker.value !== this.catalog.base);
    }
  }

  showSuggestions(prompts, onpick) {
    const texts = (Array.isArray(prompts) ? prompts : []).filter((text) => typeof text === "string" && text.trim());
    byId("suggestions").hidden = !texts.length;
    byId("suggestions").querySelector("ul").replaceChildren(...texts.map((text) =>
      el("li", {}, el("button", { type: "button", title: text, "data-testid": "suggestion", onclick: () => onpick(text) }, text))));
  }
}
