// The gateway over HTTP: JSON calls, and the stream of a comparison. Everything that fails is an ApiError.

import { session } from "./session.js";

// The page may sit behind a path prefix, so the server's root is found from where this file came from.
const ROOT = new URL("../", import.meta.url);

export class ApiError extends Error {
  /** status 0: the server was not reached, or hung up. */
  constructor(message, status = 0) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

const NO_KEY = "This server wants an API key. Put yours into the field under the prompt.";
const WRONG_KEY = "The server does not know this API key: it is mistyped, was revoked, or has expired.";
const UNREACHABLE = "The server did not answer. Is `hub serve` still running?";

async function request(path, { body, signal, accept = "application/json" } = {}) {
  const headers = { accept };
  const key = session.get("apiKey", "");
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE);
  }
  if (response.status === 401) throw new ApiError(key ? WRONG_KEY : NO_KEY, response.status);
  if (!response.ok) throw new ApiError(await errorMessage(response), response.status);
  return response;
}

/** OpenAI's error shape first, FastAPI's `detail` next, the bare status last. */
async function errorMessage(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? (typeof body?.detail === "string" ? body.detail : null);
  if (message) return String(message);
  return `The server answered ${response.status}${response.statusText ? ` ${response.statusText}` : ""}.`;
}

async function json(path, options) {
  const response = await request(path, options);
  const body = await response.json().catch(() => {
    throw new ApiError("The server's answer was not JSON.", response.status);
  });
  return body ?? {};
}

/** Every page of /hub/adapters as one: { base, items }. */
export async function adapters() {
  const items = [];
  let page = { next: "" };
  do {
    page = await json(`hub/adapters?limit=1000${page.next ? `&cursor=${encodeURIComponent(page.next)}` : ""}`);
    items.push(...(page.items ?? []));
  } while (page.next);
  return { base: page.base, items };
}

export const residency = () => json("hub/residency");
export const suggestions = () => json("hub/suggestions");
export const compare = (body, signal) => json("hub/comparisons", { body, signal });
export const vote = (id, choice) => json(`hub/comparisons/${encodeURIComponent(id)}/vote`, { body: { vote: choice } });
export const feedback = (body) => json("hub/feedback", { body });

/** "ready", "starting", or "down" when nobody answers. A server without /ready is taken to be ready. */
export async function readiness() {
  try {
    await request("ready");
    return "ready";
  } catch (error) {
    if (error.status === 0) return "down";
    return error.status >= 500 ? "starting" : "ready";
  }
}

/**
 * Yields each event of a comparison until `[DONE]`. EventSource would reconnect and run the prompt again,
 * and can't carry a key, so the body is read by hand.
 */
export async function* events(id, signal) {
  const path = `hub/comparisons/${encodeURIComponent(id)}/stream`;
  const response = await request(path, { signal, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (pending + value).split("\n");
      pending = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") {
          // The server closes next; read that far, so that the connection can be used again.
          while (!(await reader.read()).done);
          return;
        }
        if (data) yield JSON.parse(data);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The connection was lost before the answer was complete.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
