// Many proxies: a small box each, the worst first, behind those of the balancer and the origin. Few are a picture (picture.js).
import { count, cut, el, percent, set, words } from "./text.js";

/** More proxies than this are boxes. */
const FEW = 6;
/** The longest reason that is shown, in characters; all of it stands in the title. */
const LONGEST_REASON = 70;

export const isMany = (nodes) => nodes.length > FEW;

/** A name that fits a box: of a host name its first label, and the port. */
function shortened(name) {
  const [, label, port] = /^([a-z][^.:]*)\.[^:]*(:\d+)$/i.exec(name) ?? [];
  const short = label ? `${label}…${port}` : name;
  return short.length <= 24 ? short : `${short.slice(0, 14)}…${short.slice(-9)}`;
}

/** How bad it is, 0 for the worst, with the state in a word and what to say of it. */
function trouble(node) {
  const load = `${count(node.rate)}/s`;
  const isFull = (held, most) => most !== null && held !== null && held >= most * 0.99;
  switch (true) {
    case node.health === "down": return [0, words.down, node.why || "does not answer"];
    case node.health === "failing": return [1, words.failing, node.why || load];
    case node.origin_fails: return [2, "origin fails", `${load} · ${percent(node.stale_ratio)} stale`];
    case node.health === "drained": return [3, words.drained, `${count(node.in_flight)} in flight`];
    case isFull(node.entries, node.max_entries) && !isFull(node.bytes, node.max_bytes):
      return [4, "full", `${count(node.entries)} entries, no more`];
    default: return [5, "", node.hit_ratio === null ? load : `${load} · ${percent(node.hit_ratio)} hits`];
  }
}

/** The boxes by their names: kept, so that nothing flickers. */
const boxes = new Map();

function boxOf(name) {
  let box = boxes.get(name);
  if (!box) {
    const item = el("li", undefined, { "data-node": name });
    const line = el("span");
    box = { item, state: el("i", ""), what: el("span", "") };
    line.append(box.state, box.what);
    item.append(el("b", shortened(name)), line);
    boxes.set(name, box);
  }
  return box;
}

function show(name, kind, state, what) {
  const box = boxOf(name);
  box.item.className = kind;
  box.item.title = [name, state, what].filter((text) => text).join(": ");
  set(box.state, state && `${state} · `);
  set(box.what, cut(what, LONGEST_REASON));
  return box.item;
}

/** Shows the state in a list, whose order changes only with how its nodes are. */
export function drawFleet(place, { nodes, totals, origin }) {
  const ranked = nodes.map((node) => [node, ...trouble(node)]).sort((a, b) => a[1] - b[1]);
  const failing = origin === "down";
  const items = [
    show("origin", failing ? "down end" : "healthy end", failing ? "fails" : "",
      failing ? "the caches serve what they hold" : `${count(totals.fetch_rate)} fetches/s`),
    show("balancer", "healthy end", "", `${count(totals.rate)}/s · ${count(totals.in_flight)} in flight`),
    ...ranked.map(([node, rank, state, what]) =>
      show(node.name, ["down", "failing", "failing", "drained", "full", "healthy"][rank], state, what)),
  ];
  if (items.some((item, at) => place.children[at] !== item) || place.children.length !== items.length) {
    place.replaceChildren(...items);
    const names = new Set(items.map((item) => item.dataset.node));
    for (const name of boxes.keys()) if (!names.has(name)) boxes.delete(name);
  }
}
