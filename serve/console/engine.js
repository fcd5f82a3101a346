// Whether the engine can answer: the dot in the header, and a promise for whoever needs to wait for it.

import * as api from "./api.js";
import { byId } from "./dom.js";

const SOON = 2500; // ms between looks while it isn't ready
const LATER = 30000; // and once it is
const TEXT = { unknown: "Connecting…", ready: "Engine ready", starting: "Engine starting…", down: "Server unreachable" };

export class Engine {
  #timer = 0;
  #waiting = [];
  state = "unknown";

  constructor(onready) {
    this.onready = onready;
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.look(); });
  }

  async look() {
    clearTimeout(this.#timer);
    const before = this.state;
    this.state = await api.readiness();
    const shown = byId("engine");
    if (before !== this.state) {
      shown.dataset.state = this.state;
      byId("engine-text").textContent = TEXT[this.state];
    }
    if (this.state === "ready") {
      for (const resolve of this.#waiting.splice(0)) resolve();
      if (before !== "ready") this.onready();
    }
    clearTimeout(this.#timer); // two looks may have overlapped
    this.#timer = setTimeout(() => this.look(), this.state === "ready" ? LATER : SOON);
  }

  /** Resolves when the engine is ready; rejects with AbortError when `signal` fires first. */
  whenReady(signal) {
    if (this.state === "ready") return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push(resolve);
      signal.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")), { once: true });
    });
  }
}
