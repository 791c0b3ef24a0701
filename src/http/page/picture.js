// The picture of the cluster: balancer, proxies, origin, and what flows between them. Side by side where there is
// room, one below the other on a phone. Built once per layout and changed in place, so that nothing jumps.
import { count, cut, percent, words } from "./text.js";

const NS = "http://www.w3.org/2000/svg";
const [BOX_W, BOX_H, GAP] = [256, 84, 16];
const LONGEST = 21;
/** The longest reason that fits a box, in characters. */
const LONGEST_REASON = 40;
let peak = 1;
let built = "";
let parts = new Map();

function svg(name, attributes, text) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Where each box is, and how large the whole. */
function layout(width, nodes, balanced) {
  const n = nodes.length;
  if (width >= 860) {
    const height = Math.max(1, n) * (BOX_H + GAP) - GAP + 8;
    const middle = (height - BOX_H) / 2;
    const columns = balanced ? 3 : 2;
    const x = (column) => 2 + ((width - BOX_W - 4) * column) / (columns - 1);
    const first = balanced ? 1 : 0;
    const places = nodes.map((_, i) => ({ x: x(first), y: 4 + i * (BOX_H + GAP) }));
    return { height, wide: true, w: BOX_W, balancer: { x: x(0), y: middle }, places, origin: { x: x(columns - 1), y: middle } };
  }
  const w = Math.min(width - 36, 320);
  const step = BOX_H + GAP;
  const top = balanced ? BOX_H + 36 : 4;
  const places = nodes.map((_, i) => ({ x: 34, y: top + i * step }));
  const end = top + n * step + 20;
  return { height: end + BOX_H + 4, wide: false, w, balancer: { x: 2, y: 2 }, places, origin: { x: 2, y: end } };
}

/** The way from one box to another. */
function way(from, to, { wide, w }) {
  if (wide) {
    const [x1, y1, x2, y2] = [from.x + w, from.y + BOX_H / 2, to.x, to.y + BOX_H / 2];
    const bend = (x2 - x1) / 2;
    return `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  const down = from.x < to.x; // from the balancer to a proxy, or from a proxy to the origin
  const [proxy, other] = down ? [to, from] : [from, to];
  const [x, y] = [16, proxy.y + BOX_H / 2];
  return down ? `M${x} ${other.y + BOX_H} V${y - 8} Q${x} ${y} ${x + 8} ${y} H${proxy.x}`
    : `M${proxy.x} ${y} H${x + 8} Q${x} ${y} ${x} ${y + 8} V${other.y}`;
}

/** Squeezes a text that is longer than its place. */
function fit(text, most) {
  text.removeAttribute("textLength");
  if (text.getComputedTextLength() <= most) return;
  text.setAttribute("lengthAdjust", "spacingAndGlyphs");
  text.setAttribute("textLength", most);
}

/** A long name keeps its beginning and its port. */
function shortened(name) {
  return name.length <= LONGEST ? name : `${name.slice(0, LONGEST - 8)}…${name.slice(-7)}`;
}

function box(key, { x, y }, w, title) {
  const group = svg("g", { transform: `translate(${x} ${y})` });
  const inner = w - 32;
  const named = {
    group,
    name: svg("text", { class: "name", x: 32, y: 27 }, shortened(title)),
    state: svg("text", { class: "state", x: w - 16, y: 27, "text-anchor": "end" }),
    first: svg("text", { class: "what", x: 16, y: 49 }),
    load: svg("rect", { class: "load", x: 16, y: 63, width: 0, height: 5, rx: 2.5 }),
    inner,
  };
  group.append(svg("rect", { class: "box", width: w, height: BOX_H, rx: 13 }), svg("circle", { class: "dot", cx: 20, cy: 22.5, r: 4.5 }),
    svg("title", {}, title), named.name, named.state, named.first,
    svg("rect", { class: "bar", x: 16, y: 63, width: inner, height: 5, rx: 2.5 }), named.load);
  parts.set(key, named);
  return group;
}

function wire(key, path) {
  const flow = svg("path", { class: "flow", d: path, "data-busy": "no" });
  parts.set(key, { flow });
  return [svg("path", { class: "wire", d: path }), flow];
}

function build(place, state, width) {
  parts = new Map();
  const balanced = state.role === "balancer";
  const plan = layout(width, state.nodes, balanced);
  const root = svg("svg", { viewBox: `0 0 ${width} ${plan.height}`, height: plan.height, role: "img" });
  const [wires, boxes] = [[], []];
  state.nodes.forEach((node, i) => {
    if (balanced) wires.push(...wire(`to ${node.name}`, way(plan.balancer, plan.places[i], plan)));
    wires.push(...wire(`from ${node.name}`, way(plan.places[i], plan.origin, plan)));
    boxes.push(box(node.name, plan.places[i], plan.wide ? plan.w : plan.w - 4, node.name));
  });
  if (balanced) boxes.push(box("balancer", plan.balancer, plan.w, "balancer"));
  boxes.push(box("origin", plan.origin, plan.w, "origin"));
  root.append(...wires, ...boxes);
  place.replaceChildren(root);
  return root;
}

function show(key, health, line, part) {
  const named = parts.get(key);
  named.group.setAttribute("class", health);
  named.group.setAttribute("data-node", key);
  named.state.textContent = words[health];
  named.first.textContent = line;
  fit(named.first, named.inner);
  fit(named.name, named.inner - 24 - named.state.getComputedTextLength());
  named.load.setAttribute("width", Math.max(0, Math.min(1, part || 0)) * named.inner);
}

function flow(key, rate) {
  const named = parts.get(key);
  if (!named) return;
  named.flow.dataset.busy = rate > 0.05 ? "yes" : "no";
  named.flow.setAttribute("stroke-width", Math.min(6, 2.5 + Math.log10(1 + rate)).toFixed(1));
}

/** Draws the state into a place, anew only when the layout has changed. */
export function draw(place, state) {
  const width = Math.round(place.clientWidth);
  if (!width) return;
  const plan = JSON.stringify([width, state.role, state.nodes.map((node) => node.name)]);
  const root = plan === built && place.firstChild ? place.firstChild : build(place, state, width);
  built = plan;
  const { totals } = state;
  const down = state.nodes.length && state.nodes.every((node) => node.health === "down");
  peak = Math.max(1, totals.rate, peak * 0.999);
  const all = Math.max(1e-9, state.nodes.reduce((sum, node) => sum + node.rate, 0));
  for (const node of state.nodes) {
    const hits = node.hit_ratio === null ? "" : ` · ${percent(node.hit_ratio)} hits`;
    const line = node.health === "down" ? cut(node.why || "does not answer", LONGEST_REASON) : `${count(node.rate)}/s · ${count(node.in_flight)} in flight${hits}`;
    show(node.name, node.health, line, node.health === "down" ? 0 : node.rate / all);
    flow(`to ${node.name}`, node.health === "down" ? 0 : node.rate);
    flow(`from ${node.name}`, node.health === "down" ? 0 : node.fetch_rate);
  }
  if (parts.has("balancer")) {
    const line = `${count(totals.rate)}/s · ${count(totals.in_flight)} in flight`;
    show("balancer", down ? "failing" : "healthy", line, totals.rate / peak);
  }
  const fetched = `${count(totals.fetch_rate)} fetches/s`;
  show("origin", state.origin, state.origin === "down" ? "fails · the caches serve what they hold" : fetched, totals.rate > 0 ? totals.fetch_rate / totals.rate : 0);
  const told = state.nodes.map((node) => `${node.name} ${words[node.health]}`).join(", ");
  root.setAttribute("aria-label", `Origin ${words[state.origin]}; proxies: ${told}`);
}
