// One comparison from Run to reveal. The page never holds what a side is before the server answers a vote.

import * as api from "./api.js";
import { Answer } from "./answer.js";
import { pairUp } from "./catalog.js";
import { byId, sentence } from "./dom.js";

const OTHER = { left: "right", right: "left" };
const KEYS = { 1: "left", 2: "right", 3: "tie", 4: "both_bad" };
const BLINDFOLDED = new Set(["waiting", "streaming", "voting", "sending"]);
const ENDED = new Set(["revealed", "failed", "stopped"]);
const BLIND = "Sides are shuffled, so the vote is blind.";
const SAID = {
  left: (left, right) => `You chose \`${left}\` over \`${right}\`.`,
  right: (left, right) => `You chose \`${right}\` over \`${left}\`.`,
  tie: (left, right) => `A tie between \`${left}\` and \`${right}\`.`,
  both_bad: (left, right) => `Both bad: \`${left}\` and \`${right}\`.`,
  none: (left, right) => `Left was \`${left}\`, right was \`${right}\`.`,
};
const SAID_SHORT = {
  left: () => "You chose the left answer.",
  right: () => "You chose the right answer.",
  tie: () => "You called it a tie.",
  both_bad: () => "You called both bad.",
  none: () => "Revealed without a vote.",
};

export class Comparison {
  #id = null;
  #stop = null;
  #chosen = { a: "", b: "" };
  phase = "idle"; // idle, waiting, streaming, voting, sending, revealed, failed, stopped

  constructor({ composer, engine, tally, onerror, onrun, onended }) {
    Object.assign(this, { composer, engine, tally, onerror, onrun, onended });
    const onedit = (opened) => this.answers[OTHER[opened.side]].closeEditor();
    this.answers = { left: new Answer("left", onedit), right: new Answer("right", onedit) };
    byId("answers").append(this.answers.left.card, this.answers.right.card);
    this.buttons = [...byId("votes").querySelectorAll("button")];
    this.reveal = byId("reveal");
    this.next = byId("next");
    for (const button of [...this.buttons, this.reveal]) button.addEventListener("click", () => this.vote(button.dataset.vote, true));
    this.#enter("idle", BLIND);
  }

  get running() { return this.#stop !== null; }
  get blind() { return BLINDFOLDED.has(this.phase); }
  get #sides() { return Object.values(this.answers); }

  #enter(phase, text) {
    this.phase = phase;
    const status = byId("status");
    status.dataset.phase = phase;
    status.replaceChildren(...sentence(text));
    const complete = this.#sides.every((answer) => answer.settled) && this.#id !== null;
    for (const button of this.buttons) {
      button.disabled = phase !== "voting";
      if (phase !== "revealed") button.setAttribute("aria-pressed", "false");
    }
    this.reveal.disabled = !(phase === "voting" || (phase === "failed" && complete));
    this.reveal.hidden = phase === "revealed";
    this.next.hidden = phase !== "revealed";
    const run = byId("run");
    run.textContent = this.running ? "Stop" : "Run";
    run.dataset.mode = this.running ? "stop" : "run";
    if (ENDED.has(phase)) this.onended();
  }

  async run() {
    if (this.running) return;
    const stop = new AbortController();
    this.#stop = stop;
    this.#id = null;
    const body = this.composer.body();
    this.#chosen = { a: body.arms[0], b: body.arms[1] };
    for (const answer of this.#sides) answer.reset("waiting");
    try {
      if (this.engine.state === "starting") {
        this.#enter("waiting", "The engine is starting. Your prompt runs as soon as it is ready.");
        await this.engine.whenReady(stop.signal);
      }
      this.#enter("streaming", "Both arms are answering…");
      const { id } = await api.compare(body, stop.signal);
      this.#id = id;
      this.onrun();
      for await (const event of api.events(id, stop.signal)) this.#take(event);
      for (const answer of this.#sides) if (!answer.settled) answer.fail("The answer was cut off. Run it again.");
      this.#stop = null;
      this.#judge();
    } catch (error) {
      this.#stop = null;
      this.#ended(error);
    }
  }

  #take(event) {
    const answer = this.answers[event?.side];
    if (!answer || answer.settled) return;
    if (event.error) answer.fail(event.error.message ?? "This arm failed to answer.");
    else {
      if (event.delta) answer.append(event.delta);
      if (event.done) answer.finish();
    }
  }

  #judge() {
    if (this.#sides.every((answer) => answer.usable)) return this.#enter("voting", "Both answers are in. Which one is better?");
    const both = this.#sides.every((answer) => !answer.usable);
    return this.#enter("failed", `${both ? "Both answers" : "One answer"} failed, so there is nothing to vote on.`);
  }

  #ended(error) {
    if (error.name === "AbortError") {
      for (const answer of this.#sides) if (!answer.settled) answer.stop();
      return this.#enter("stopped", "Stopped. Run it again to compare.");
    }
    if (this.#id === null) {
      for (const answer of this.#sides) answer.reset();
      this.#enter("failed", BLIND);
      return this.onerror(error);
    }
    for (const answer of this.#sides) if (!answer.settled) answer.fail(error.message);
    if (error.status === 0) this.engine.look();
    return this.#judge();
  }

  stop() { this.#stop?.abort(); }

  voteByKey(key) {
    const vote = KEYS[key];
    if (vote && this.phase === "voting") this.vote(vote);
  }

  async vote(vote, clicked = false) {
    const before = this.phase;
    const id = this.#id;
    this.#enter("sending", "Saving your vote…");
    let result;
    try {
      result = await api.vote(id, vote);
    } catch (error) {
      if (id !== this.#id) return undefined;
      if (error.status === 401) this.onerror(error);
      return this.#enter(before, `Not saved. ${error.message}`);
    }
    if (id !== this.#id) return undefined; // Run was pressed meanwhile
    this.#show(vote, result);
    if (clicked) this.next.focus({ preventScroll: true }); // the button that was pressed is disabled now
    return undefined;
  }

  #show(vote, { left, right }) {
    const names = { left: String(left?.arm ?? "unknown"), right: String(right?.arm ?? "unknown") };
    const letters = pairUp(names, this.#chosen, (reference) => this.composer.exact(reference));
    for (const side of ["left", "right"]) {
      const revealed = side === "left" ? left : right;
      this.answers[side].reveal(revealed, letters[side], vote === side ? "Your choice" : null);
    }
    // Long names are on the answers already; the line under them stays one line.
    const short = (names.left + names.right).length <= 64;
    const text = (short ? SAID : SAID_SHORT)[vote](names.left, names.right);
    this.#enter("revealed", text);
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.vote === vote));
    if (vote !== "none") this.tally.add(vote, names.left, names.right);
  }
}
