// The console: puts the parts together. One page on the gateway's own HTTP, no build step, nothing from elsewhere.
//
//   session   what this tab remembers        composer    arms, prompt, settings
//   api       HTTP, the event stream         comparison  Run to reveal
//   catalog   what can be compared           answer      one card
//   engine    ready or not                   tally, side what is shown beside

import * as api from "./api.js";
import { readCatalog } from "./catalog.js";
import { Comparison } from "./comparison.js";
import { Composer } from "./composer.js";
import { byId, inField, sentence } from "./dom.js";
import { Engine } from "./engine.js";
import { showAdapters, showAdaptersFailed, showResidency, showResidencyFailed } from "./side.js";
import { Tally } from "./tally.js";

const SOON = 2000; // ms until another look at what is being loaded or unloaded
const DOUBLE_CLICK = 400; // ms in which a second press on Run is not yet meant as Stop

const composer = new Composer();
const engine = new Engine(refresh);
const comparison = new Comparison({ composer, engine, tally: new Tally(), onerror: showError, onrun, onended: loadResidency });
let startedAt = 0;
let residencyTimer = 0;

function showAlert(message) {
  byId("alert-text").replaceChildren(...sentence(message));
  byId("alert").hidden = false;
}

function hideAlert() {
  byId("alert").hidden = true;
}

function showError(error) {
  showAlert(error.message);
  if (error.status === 401) composer.askForKey();
  if (error.status === 404) composer.markUnknownArms();
  if (error.status === 0 || error.status >= 500) engine.look();
}

/** The comparison has begun: where the answers are below the fold, as on a phone, bring them up. */
function onrun() {
  const answers = byId("answers");
  if (answers.getBoundingClientRect().top > innerHeight * 0.62) answers.scrollIntoView({ block: "start", behavior: "smooth" });
}

function run() {
  if (comparison.running) return;
  const missing = composer.missing();
  if (missing) {
    showAlert(missing.message);
    missing.focus.focus();
    return;
  }
  hideAlert();
  for (const picker of [composer.a, composer.b]) picker.markInvalid(false);
  startedAt = performance.now();
  comparison.run();
}

async function loadAdapters() {
  try {
    const catalog = readCatalog(await api.adapters());
    byId("base-name").textContent = catalog.base || "unknown";
    composer.setCatalog(catalog);
    showAdapters(catalog, (reference) => {
      composer.setArms("base", reference);
      composer.prompt.focus();
    });
  } catch (error) {
    if (error.status === 401) composer.askForKey();
    showAdaptersFailed(error.message, refresh);
  }
}

/** Never between Run and the reveal: who is in use, and when, would tell the sides apart. */
async function loadResidency() {
  clearTimeout(residencyTimer);
  if (comparison.blind) return;
  try {
    const body = await api.residency();
    if (comparison.blind) return; // asked before Run, answered after
    if (showResidency(body)) residencyTimer = setTimeout(loadResidency, SOON);
  } catch {
    showResidencyFailed(); // a side note: the header already says when the server is gone
  }
}

async function loadSuggestions() {
  try {
    const { prompts } = await api.suggestions();
    composer.showSuggestions(prompts, (text) => {
      composer.prompt.value = text;
      hideAlert();
      composer.prompt.focus();
    });
  } catch {
    composer.showSuggestions([]); // a page without suggestions is whole
  }
}

function refresh() {
  loadAdapters();
  loadResidency();
  loadSuggestions();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!comparison.running) run();
  else if (performance.now() - startedAt > DOUBLE_CLICK) comparison.stop();
});
byId("alert-close").addEventListener("click", hideAlert);
byId("api-key").addEventListener("change", () => {
  hideAlert();
  refresh();
});
byId("api-key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
  event.preventDefault(); // Enter is for the key, not for Run
  event.target.blur();
});
composer.prompt.addEventListener("input", hideAlert);
comparison.next.addEventListener("click", () => {
  composer.prompt.focus();
  composer.prompt.select();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  } else if (!event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat && !inField(event.target)) {
    comparison.voteByKey(event.key);
  }
});

refresh();
engine.look();
