// A text field with a list of suggestions (the ARIA combobox pattern). Any text is a valid value; the list only helps.

import { el, icon } from "./dom.js";

const SHOWN = 60; // a hub can hold thousands of versions; past this, typing finds faster than scrolling

/** Options match when every word typed occurs in them; the text before the note counts first. */
function search(options, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = options.filter(({ value, note }) => {
    const hay = `${value} ${note}`.toLowerCase();
    return words.every((word) => hay.includes(word));
  });
  const starts = (option) => option.value.toLowerCase().startsWith(words[0] ?? "");
  return [...matches.filter(starts), ...matches.filter((option) => !starts(option))];
}

export class Combobox {
  #options = [];
  #shown = [];
  #active = -1;

  constructor(root, label, onchange) {
    this.input = root.querySelector("input");
    this.onchange = onchange;
    const id = `${this.input.id}-list`;
    this.list = el("div", { class: "combo-list", id, role: "listbox", "aria-label": label, hidden: true });
    const opener = { class: "combo-open", type: "button", tabindex: -1, "aria-label": `Show choices for ${label}` };
    this.toggle = el("button", opener, icon("chevron"));
    root.append(this.toggle, this.list);
    const roles = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": id };
    for (const [name, value] of Object.entries(roles)) this.input.setAttribute(name, value);
    this.#listen();
  }

  get value() { return this.input.value.trim(); }
  set value(text) { this.input.value = text; }
  get isOpen() { return !this.list.hidden; }

  setOptions(options) {
    this.#options = options;
    if (this.isOpen) this.#show(options);
  }

  markInvalid(invalid) {
    if (invalid) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  #listen() {
    const { input, list, toggle } = this;
    input.addEventListener("input", () => {
      this.markInvalid(false);
      // A complete reference needs no help, and a closed list covers nothing that is wanted next.
      if (this.#options.some((option) => option.value === this.value)) this.close();
      else this.#show(search(this.#options, this.value));
      this.onchange(this.value);
    });
    // With the whole text selected a click shows everything, and typing replaces what was there.
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => { if (!this.isOpen) this.#show(this.#options); });
    input.addEventListener("blur", () => this.close());
    input.addEventListener("keydown", (event) => this.#key(event));
    // The field keeps the focus while the list is used, so that blur means "left".
    for (const part of [list, toggle]) part.addEventListener("pointerdown", (event) => event.preventDefault());
    for (const part of [list, toggle]) part.addEventListener("mousedown", (event) => event.preventDefault());
    toggle.addEventListener("click", () => {
      if (this.isOpen) return this.close();
      input.focus();
      this.#show(this.#options);
    });
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#pick(Number(option.dataset.index));
    });
  }

  #key(event) {
    const last = this.#shown.length - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!this.isOpen) return this.#show(this.#options);
      const down = event.key === "ArrowDown";
      const next = this.#active + (down ? 1 : -1);
      this.#move(next > last ? 0 : next < 0 ? last : next);
    } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      event.preventDefault(); // Enter never submits from here: it picks, or closes
      if (this.isOpen && this.#active >= 0) this.#pick(this.#active);
      else this.close();
    } else if (event.key === "Escape" && this.isOpen) {
      event.stopPropagation();
      this.close();
    }
    return undefined;
  }

  #pick(index) {
    this.input.value = this.#shown[index].value;
    this.markInvalid(false);
    this.close();
    this.onchange(this.value);
  }

  #show(options) {
    this.#shown = options.slice(0, SHOWN);
    this.#active = -1;
    const rows = this.#shown.map(({ value, note }, index) => {
      const selected = String(value === this.value);
      const props = { class: "option", role: "option", id: `${this.list.id}-${index}`, "aria-selected": selected };
      return el("div", { ...props, "data-index": index }, el("b", {}, value), el("span", {}, note));
    });
    const rest = options.length - this.#shown.length;
    if (rest > 0) rows.push(el("p", { class: "combo-more" }, `${rest} more. Type to narrow them down.`));
    if (!options.length) rows.push(el("p", { class: "combo-more" }, "Not in the list. It is used as written."));
    this.list.replaceChildren(...rows);
    this.list.hidden = false;
    this.list.scrollTop = 0;
    this.input.setAttribute("aria-expanded", "true");
    this.input.removeAttribute("aria-activedescendant");
    if (options === this.#options) this.#move(this.#shown.findIndex((option) => option.value === this.value));
  }

  #move(index) {
    const rows = this.list.querySelectorAll("[role=option]");
    rows[this.#active]?.removeAttribute("data-active");
    this.#active = index;
    const row = rows[index];
    if (!row) return;
    row.setAttribute("data-active", "");
    row.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", row.id);
  }

  close() {
    this.list.hidden = true;
    this.#active = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
