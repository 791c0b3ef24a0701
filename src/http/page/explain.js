// What a node knows of a key, in words and units. All of it is text.
import { bytes, count, el, time } from "./text.js";

const yes = (value) => (value ? "yes" : "no");
const left = (value) => (value < 0 ? `none since ${time(-value)}` : time(value));
const ago = (value) => `${time(value)} ago`;
const sources = { node: "a node of dproxy", http: "an API over HTTP", bucket: "a bucket" };
const same = String;

/** The words for the fields of EXPLAIN and their values, in the order in which they are shown. */
const FIELDS = {
  state: ["copy", same],
  age_seconds: ["age", time],
  lifetime_seconds: ["lifetime", time],
  rule: ["lifetime by", (rule) => ({ flag: "flag (--ttl)", header: "header of the API" })[rule] ?? rule],
  ttl_left_seconds: ["time left", left],
  last_error: ["last failure", same],
  last_error_age_seconds: ["failed", ago],
  tried_again_in_seconds: ["next try in", time],
  asked_of: ["fetched from", same],
  source: ["which is", (source) => sources[source] ?? source],
  origin_failing: ["it fails", yes],
  origin_error: ["its last failure", same],
  origin_error_age_seconds: ["it failed", ago],
  cached: ["held", yes],
  negative: ["held as not found", yes],
  size: ["size", bytes],
  hits: ["hits", count],
  not_kept: ["not kept, because", same],
  fetch_under_way: ["fetch under way", yes],
  changes_told: ["changes are told", yes],
  validator: ["has a validator", yes],
  tags: ["tags", (tags) => tags.join(", ")],
  proxy: ["said by proxy", same],
  node: ["node", same],
  next: ["next request goes to", same],
  strategy: ["strategy", (strategy) => strategy.replaceAll("_", " ")],
  goes_by_key: ["chosen by the key", yes],
  proxies_left_off: ["proxies left off", count],
  error: ["no answer", same],
};

/** The columns of what several proxies say. */
const COLUMNS = {
  proxy: "proxy", state: "copy", age_seconds: "age", ttl_left_seconds: "left", hits: "hits", last_error: "last failure", error: "no answer",
};

function said(field, value) {
  const [, shown] = FIELDS[field] ?? ["", typeof value === "object" ? JSON.stringify : same];
  return shown(value);
}

/** What several proxies say, the oldest copy first. */
function table(rows) {
  const shown = Object.keys(COLUMNS).filter((column) => rows.some((row) => row[column] != null));
  const line = (kind, cells) => {
    const tr = el("tr");
    tr.append(...cells.map((cell) => el(kind, cell)));
    return tr;
  };
  const cells = (row) => shown.map((column) => (row[column] == null ? "–" : said(column, row[column])));
  const table = el("table");
  table.append(line("th", shown.map((column) => COLUMNS[column])), ...rows.map((row) => line("td", cells(row))));
  const scroll = el("div", undefined, { class: "scroll" });
  scroll.append(table);
  return scroll;
}

/** The data of a reply to EXPLAIN: what is known, field by field, then the table of the proxies. */
export function explained(data) {
  const dl = el("dl");
  const known = Object.keys(FIELDS).filter((field) => field in data);
  const others = Object.keys(data).filter((field) => !(field in FIELDS) && field !== "key" && field !== "proxies");
  for (const field of [...known, ...others]) {
    if (data[field] === null) continue;
    const [name] = FIELDS[field] ?? [field.replaceAll("_", " ")];
    dl.append(el("dt", name), el("dd", said(field, data[field])));
  }
  return Array.isArray(data.proxies) && data.proxies.length ? [dl, table(data.proxies)] : [dl];
}
