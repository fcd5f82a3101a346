// What this tab remembers: settings and the tally in sessionStorage, the two arms in the address too, to be shared.

const PREFIX = "loom.";

export const session = {
  get(key, fallback) {
    try {
      return JSON.parse(sessionStorage.getItem(PREFIX + key)) ?? fallback;
    } catch {
      return fallback; // storage is blocked, or holds something else: start afresh
    }
  },
  set(key, value) {
    try {
      sessionStorage.setItem(PREFIX + key, JSON.stringify(value));
    } catch {
      // storage is full or blocked: the page works on, and forgets on reload
    }
  },
};

/** `#left=base&right=support@2` as { left, right }; what is missing is "". */
export function armsInAddress() {
  const query = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"));
  return { left: (query.get("left") ?? "").trim(), right: (query.get("right") ?? "").trim() };
}

// `@` and `/` are safe in a fragment and make the address readable.
const fragment = (text) => encodeURIComponent(text).replaceAll("%40", "@").replaceAll("%2F", "/");

export function putArmsInAddress(left, right) {
  const hash = `#left=${fragment(left)}&right=${fragment(right)}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
}
