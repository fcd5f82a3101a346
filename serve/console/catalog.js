// What can be compared: the base, and every adapter's production, aliases and versions, as options for a picker.

const text = (value) => (typeof value === "string" || typeof value === "number" ? String(value) : "");
const list = (value) => (Array.isArray(value) ? value : []);

/** Version numbers, newest first: a list of them is believed; of a count, 1..newest when none can be missing. */
function versionsOf(adapter) {
  const named = list(adapter.versions).map((v) => Number(v?.version ?? v));
  if (named.length) return named.filter(Number.isInteger).sort((a, b) => b - a);
  const newest = Number(adapter.newest) || 0;
  if (newest && newest === Number(adapter.versions)) return Array.from({ length: newest }, (_, i) => newest - i);
  const known = [newest, ...Object.values(adapter.aliases)].filter((v) => Number.isInteger(v) && v > 0);
  return [...new Set(known)].sort((a, b) => b - a);
}

/** What /hub/adapters tells as { base, adapters: [{ name, base, aliases, versions }] }: those on the served base. */
export function readCatalog(body) {
  const served = text(body?.base?.name);
  const adapters = list(body?.items)
    .filter((adapter) => text(adapter?.name) && text(adapter.base) === served)
    .map((adapter) => {
      const aliases = {};
      for (const [alias, version] of Object.entries(adapter.aliases ?? {})) {
        aliases[alias] = Number(version?.version ?? version);
      }
      const known = { name: text(adapter.name), base: text(adapter.base), aliases };
      return { ...known, versions: versionsOf({ ...adapter, aliases }) };
    });
  return { base: served, adapters };
}

/** [{ value, note, exact }]: `exact` is the version that the reference means now. */
export function optionsOf(catalog) {
  const options = [{ value: "base", note: catalog.base ? `${catalog.base}, no adapter` : "no adapter", exact: "base" }];
  for (const { name, aliases, versions } of catalog.adapters) {
    const exact = (version) => `${name}@${version}`;
    if (aliases.production) {
      options.push({ value: name, note: `production, now @${aliases.production}`, exact: exact(aliases.production) });
    }
    for (const [alias, version] of Object.entries(aliases)) {
      if (alias === "production") continue;
      options.push({ value: `${name}@${alias}`, note: `alias, now @${version}`, exact: exact(version) });
    }
    for (const version of versions) {
      options.push({ value: exact(version), note: `version ${version}`, exact: exact(version) });
    }
  }
  return options;
}

/** The exact version of a reference as far as the catalog tells; the reference itself where it doesn't. */
export function exactOf(reference, catalog, options) {
  if (reference === catalog.base) return "base";
  const [name, at] = reference.split("@");
  if (at === "production") return exactOf(name, catalog, options);
  return options.find((option) => option.value === reference)?.exact ?? reference;
}

/**
 * Which picker's arm a revealed side is: { left: "a"|"b"|null, right: … }. The server shuffles and answers with exact
 * versions, so both pairings are scored; null when they can't be told apart.
 */
export function pairUp(revealed, chosen, exact) {
  const score = (shown, picked) => {
    if (!shown || !picked) return 0;
    if (shown === picked || exact(shown) === exact(picked)) return 2;
    return shown.split("@")[0] === picked.split("@")[0] ? 1 : 0;
  };
  const straight = score(revealed.left, chosen.a) + score(revealed.right, chosen.b);
  const crossed = score(revealed.left, chosen.b) + score(revealed.right, chosen.a);
  if (straight === crossed) return { left: null, right: null };
  return straight > crossed ? { left: "a", right: "b" } : { left: "b", right: "a" };
}
