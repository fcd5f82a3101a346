// The votes of this browser tab, added up by pair of revealed arms. The server keeps the real record.

import { byId, count, el, reference } from "./dom.js";
import { session } from "./session.js";

const KEY = "tally";

/** Pairs are kept under their sorted names, so that left and right don't matter. */
export function addVote(pairs, vote, left, right) {
  const [first, second] = left <= right ? [left, right] : [right, left];
  const key = JSON.stringify([first, second]);
  const before = pairs[key] ?? { first, second, firstWins: 0, secondWins: 0, ties: 0, bad: 0 };
  const winner = vote === "left" ? left : right;
  const field = { tie: "ties", both_bad: "bad" }[vote] ?? (winner === first ? "firstWins" : "secondWins");
  return { ...pairs, [key]: { ...before, [field]: before[field] + 1 } };
}

function row({ first, second, firstWins, secondWins, ties, bad }) {
  const segment = (kind, n) => {
    const part = el("i", { class: kind });
    part.style.flexGrow = String(n); // through the CSSOM: the CSP allows no style attribute
    return n ? part : null;
  };
  const meter = el("div", { class: "meter", "aria-hidden": "true" },
    ...[segment("first", firstWins), segment("tie", ties + bad), segment("second", secondWins)].filter(Boolean));
  const between = [ties && count(ties, "tie"), bad && `${bad} both bad`].filter(Boolean).join(", ");
  return el("div", { class: "pair" },
    reference(first), meter, reference(second),
    el("span", {}, count(firstWins, "win")), el("span", {}, between), el("span", {}, count(secondWins, "win")));
}

export class Tally {
  constructor() {
    byId("tally-clear").addEventListener("click", () => {
      session.set(KEY, {});
      this.show();
    });
    this.show();
  }

  add(vote, left, right) {
    if (left === right) return; // an arm against itself says nothing about arms
    session.set(KEY, addVote(session.get(KEY, {}), vote, left, right));
    this.show();
  }

  show() {
    const pairs = Object.values(session.get(KEY, {}));
    byId("tally-clear").hidden = !pairs.length;
    byId("tally").replaceChildren(
      ...(pairs.length ? pairs.map(row) : [el("p", { class: "hint" }, "Your votes add up here, by pair of arms.")]));
  }
}
