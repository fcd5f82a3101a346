// One answer card: it waits, streams, ends or fails; after the reveal it shows its arm and can be corrected.

import * as api from "./api.js";
import { byId, isMac, reference, sentence } from "./dom.js";

const NAMES = { left: "Left", right: "Right" };
const EMPTY = { left: "One of the two arms answers here.", right: "The other one answers here." };

export class Answer {
  #buffer = "";
  #frame = 0;
  #draft = null;
  #interaction = null;
  #arm = "";

  constructor(side, onedit) {
    this.side = side;
    this.onedit = onedit;
    const card = byId("answer-card").content.cloneNode(true).firstElementChild;
    const part = (selector) => card.querySelector(selector);
    this.card = card;
    this.body = part(".answer-body");
    this.text = part(".answer-text");
    this.empty = part(".answer-empty");
    this.error = part(".answer-error");
    this.mark = part(".answer-mark");
    this.badge = part(".badge");
    this.note = part(".answer-note");
    this.editor = part(".editor");
    this.field = part(".editor textarea");
    this.editorError = part(".editor-error");
    this.editButton = part("[data-act=edit]");
    this.saveButton = part("[type=submit]");
    this.#label();
    this.#listen();
    this.reset();
  }

  #label() {
    const name = NAMES[this.side];
    this.card.dataset.testid = `card-${this.side}`;
    this.card.setAttribute("aria-label", `${name} answer`);
    this.body.setAttribute("aria-label", `${name} answer text`);
    this.card.querySelector(".answer-side").textContent = name;
    this.text.dataset.testid = `answer-${this.side}`;
    this.badge.dataset.testid = `reveal-${this.side}`;
    this.editButton.dataset.testid = `edit-${this.side}`;
    this.field.setAttribute("aria-label", `Corrected ${this.side} answer`);
    this.card.querySelector(".mod").textContent = isMac ? "⌘" : "Ctrl";
  }

  #listen() {
    this.editButton.addEventListener("click", () => this.openEditor());
    this.card.querySelector("[data-act=cancel]").addEventListener("click", () => this.closeEditor(true));
    this.editor.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.closeEditor(true);
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#save();
      else return;
      event.preventDefault();
      event.stopPropagation(); // Ctrl+Enter saves here; it doesn't run the prompt again
    });
  }

  get state() { return this.card.dataset.state; }
  get settled() { return ["done", "blank", "error", "stopped"].includes(this.state); }
  get usable() { return this.state === "done" || this.state === "blank"; }

  #setState(state) {
    this.card.dataset.state = state;
    this.text.setAttribute("aria-busy", String(state === "waiting" || state === "streaming"));
  }

  /** Back to how the page began, or ("waiting") to just after Run. */
  reset(state = "idle") {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#buffer = "";
    this.#draft = null;
    this.#interaction = null;
    this.#arm = "";
    this.text.textContent = "";
    this.body.scrollTop = 0;
    this.empty.textContent = EMPTY[this.side];
    this.error.hidden = true;
    this.mark.hidden = true;
    this.badge.hidden = true;
    this.editButton.hidden = true;
    this.#say("");
    delete this.card.dataset.arm;
    delete this.card.dataset.preferred;
    this.closeEditor();
    this.#setState(state);
  }

  /** One DOM write per frame, however fast the tokens come. The view stays at the top: two answers are compared from
   * their beginnings, and a shade at the lower edge says that there is more. */
  append(delta) {
    this.#buffer += delta;
    if (this.state !== "streaming") this.#setState("streaming");
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#buffer) return;
    this.text.append(this.#buffer);
    this.#buffer = "";
  }

  finish() {
    this.#flush();
    this.text.normalize();
    const blank = this.text.textContent.trim() === "";
    if (blank) this.empty.textContent = "This arm gave an empty answer.";
    this.#setState(blank ? "blank" : "done");
  }

  fail(message) {
    this.#flush();
    this.error.querySelector("span").textContent = message;
    this.error.hidden = false;
    this.#setState("error");
    this.body.scrollTop = this.body.scrollHeight;
  }

  stop() {
    this.#flush();
    this.#say("Stopped before it was complete.");
    this.#setState("stopped");
  }

  /** `revealed` is the server's { arm, interaction_id }, `letter` the picker it came from. */
  reveal(revealed, letter, mark) {
    this.#arm = String(revealed?.arm ?? "unknown");
    this.#interaction = revealed?.interaction_id ?? null;
    if (letter) this.card.dataset.arm = letter;
    this.badge.querySelector("b").replaceWith(reference(this.#arm));
    this.badge.hidden = false;
    this.mark.hidden = !mark;
    this.mark.querySelector("span").textContent = mark ?? "";
    if (mark) this.card.dataset.preferred = "";
    this.editButton.hidden = !this.#interaction || !this.usable;
    this.editButton.querySelector("span").textContent = "Correct this answer";
  }

  openEditor() {
    this.onedit(this);
    this.field.value = this.#draft ?? this.text.textContent;
    this.editorError.hidden = true;
    this.body.hidden = true;
    this.editor.hidden = false;
    this.card.dataset.editing = "";
    this.field.dataset.testid = "edit-text"; // only one editor is open at a time, so the name is unique
    this.saveButton.dataset.testid = "edit-save";
    this.field.focus();
    this.field.setSelectionRange(0, 0);
    this.field.scrollTop = 0;
  }

  /** What was typed is kept, so that opening the other card's editor loses nothing. */
  closeEditor(refocus = false) {
    if (this.editor.hidden) return;
    const typed = this.field.value;
    this.#draft = typed === this.text.textContent ? null : typed;
    this.editor.hidden = true;
    this.body.hidden = false;
    delete this.card.dataset.editing;
    delete this.field.dataset.testid;
    delete this.saveButton.dataset.testid;
    if (refocus) this.editButton.focus();
  }

  async #save() {
    const edit = this.field.value.trim();
    if (!edit) return this.#refuse("Write the answer as it should have been.");
    if (edit === this.text.textContent.trim()) return this.#refuse("Nothing has been changed yet.");
    const interaction = this.#interaction;
    this.saveButton.disabled = true;
    try {
      await api.feedback({ interaction_id: interaction, edit });
    } catch (error) {
      return this.#refuse(error.message);
    } finally {
      this.saveButton.disabled = false;
    }
    if (interaction !== this.#interaction) return undefined; // a new comparison began meanwhile
    this.text.textContent = edit;
    this.field.value = edit;
    this.#setState("done");
    this.closeEditor(true);
    this.editButton.querySelector("span").textContent = "Edit again";
    this.#say("Correction saved. `hub export` makes it a training row.", "good");
    return undefined;
  }

  #refuse(message) {
    this.editorError.textContent = message;
    this.editorError.hidden = false;
    this.field.focus();
  }

  #say(text, tone = "") {
    this.note.replaceChildren(...sentence(text));
    this.note.dataset.tone = tone;
  }
}
