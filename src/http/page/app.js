// The live page: listens to /events and shows what comes. Whatever a node, a document or a key says becomes text
// (textContent), never markup; the one thing that is parsed is the server's own drawing, whose scripts would be dead.
import { draw } from "./picture.js";

const $ = (id) => document.getElementById(id);

/** An element with text and attributes. */
export function el(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
export const count = (n) => (n < 10 ? short.format(Math.round(n * 10) / 10) : n < 10000 ? whole.format(n) : short.format(n));
export const percent = (part) => (part === null ? "–" : `${(part * 100).toFixed(part > 0.995 || part < 0.1 ? 1 : 0)} %`);
const time = (s) => (s < 0.001 ? `${count(s * 1e6)} µs` : s < 1 ? `${count(s * 1e3)} ms` : `${count(s)} s`);
const bytes = (n) => (n === null ? "–" : n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(0)} KiB` : `${(n / 1048576).toFixed(1)} MiB`);
export const words = { healthy: "healthy", failing: "failing", down: "down", drained: "drained" };

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function big(id, value, unit) {
  $(id).querySelector(".value").replaceChildren(value, el("small", ` ${unit}`));
}

function since(iso, now) {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  if (!(seconds >= 0)) return "";
  const [d, h, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return `up ${d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min` : `${Math.floor(seconds)} s`}`;
}

function showHead(state) {
  set($("name"), state.name);
  const strategy = state.strategy ? `, ${state.strategy.replaceAll("_", " ")}` : "";
  const changes = state.changes ? ` · ${state.changes}` : "";
  set($("about"), `${state.role}${strategy} · ${since(state.start_time, state.now)} · ${whole.format(state.totals.requests)} requests${changes}`);
  set($("version"), `dproxy ${state.version}`);
  document.title = `${state.name} · ${count(state.totals.rate)}/s`;
  const well = state.nodes.filter((node) => node.health === "healthy").length;
  const all = state.nodes.length;
  const word = all === 1 ? "proxy" : "proxies";
  set($("summary"), well === all ? `${all} ${word}, all healthy` : `${well} of ${all} ${word} healthy`);
}

function showNumbers({ rate, hit_ratio, stale_ratio, latency, fetch_rate, in_flight }) {
  big("rate", count(rate), "per second");
  big("hit_ratio", percent(hit_ratio), `from a cache · ${percent(stale_ratio)} stale`);
  big("latency", latency ? time(latency[0]) : "–", latency ? `median · p99 ${time(latency[2])}` : "");
  big("fetch_rate", count(fetch_rate), "per second");
  big("in_flight", count(in_flight), "waiting now");
}

function showTable(nodes) {
  const rows = nodes.map((node) => {
    const row = el("tr");
    row.append(el("th", node.name, { scope: "row" }), el("td", words[node.health], { class: `${node.health}-text` }));
    const numbers = [count(node.rate), count(node.in_flight), percent(node.hit_ratio), percent(node.stale_ratio), count(node.fetch_rate),
      node.entries === null ? "–" : whole.format(node.entries), bytes(node.bytes), whole.format(node.errors)];
    row.append(...numbers.map((text) => el("td", text, { class: "number" })));
    return row;
  });
  $("nodes").tBodies[0].replaceChildren(...rows);
}

let lastEvent = null;
function showEvents(events) {
  const newest = events.length ? `${events[0].id} ${events[0].at}` : "";
  if (newest === lastEvent) return;
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const items = events.map((event) => {
    const item = el("li", undefined, { class: event.kind });
    const at = new Date(event.at);
    item.append(el("time", clock.format(at), { datetime: at.toISOString() }), el("span", `${event.node} ${event.text}`));
    return item;
  });
  $("events").replaceChildren(...items);
  if (lastEvent !== null && events.length) set($("said"), `${events[0].node} ${events[0].text}`);
  lastEvent = newest;
}

function showBusy(prefixes, keys) {
  $("busy").hidden = !prefixes.length && !keys.length;
  fillBusy($("prefixes"), prefixes, (one) => `${percent(one.hit_rate)} hits`);
  fillBusy($("keys"), keys);
}

function fillBusy(table, busiest, ...more) {
  const most = Math.max(1e-9, ...busiest.map((one) => one.share));
  table.tBodies[0].replaceChildren(...busiest.map((one) => {
    const tr = el("tr");
    const meter = el("meter", undefined, { min: 0, max: 1, value: one.share / most, "aria-hidden": "true" });
    const cell = el("td");
    cell.append(meter);
    const numbers = [percent(one.share), ...more.map((text) => text(one))];
    tr.append(el("th", one.name, { scope: "row" }), cell, ...numbers.map((text) => el("td", text, { class: "number" })));
    return tr;
  }));
}

const parser = new DOMParser();
function showPlots(plots) {
  for (const { name, svg } of plots) {
    const drawing = parser.parseFromString(svg, "image/svg+xml").documentElement;
    const place = document.querySelector(`#${CSS.escape(name)} .plot`);
    if (!place || drawing.nodeName !== "svg") continue;
    drawing.setAttribute("viewBox", `0 0 ${drawing.getAttribute("width")} ${drawing.getAttribute("height")}`);
    drawing.setAttribute("role", "img");
    const title = place.parentElement.querySelector("h2").textContent;
    drawing.setAttribute("aria-label", `${title}, the last ten minutes`);
    place.replaceChildren(document.importNode(drawing, true));
  }
}

function link(kind, text) {
  $("link").className = `pill ${kind}`;
  set($("link"), text);
}

let last = null;
function listen() {
  const events = new EventSource("events");
  events.addEventListener("state", (event) => {
    last = JSON.parse(event.data);
    link("live", "live");
    showHead(last);
    showNumbers(last.totals);
    showTable(last.nodes);
    showEvents(last.events);
    showBusy(last.prefixes, last.hot_keys);
    draw($("picture"), last);
  });
  events.addEventListener("plots", (event) => showPlots(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    link("lost", "lost, trying again …");
    // The browser tries again by itself, unless the answer was one that it takes as final.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
  });
}

/** What several proxies say of a key, the oldest copy first. */
function tableOf(rows) {
  const columns = { proxy: "proxy", state: "state", age_seconds: "age, s", ttl_left_seconds: "left, s", hits: "hits", last_error: "last error", error: "error" };
  const shown = Object.keys(columns).filter((column) => rows.some((row) => row[column] != null));
  const text = (value) => value == null ? "–" : typeof value === "number" ? String(Math.round(value * 10) / 10) : String(value);
  const line = (kind, cells) => {
    const tr = el("tr");
    tr.append(...cells.map((cell) => el(kind, cell)));
    return tr;
  };
  const table = el("table");
  table.append(line("th", shown.map((column) => columns[column])), ...rows.map((row) => line("td", shown.map((column) => text(row[column])))));
  return table;
}

/** What a reply says, as a list: its names and values are text. */
function list(data) {
  const dl = el("dl");
  for (const [name, value] of Object.entries(data)) {
    const dd = el("dd");
    if (Array.isArray(value)) dd.append(tableOf(value));
    else if (value !== null && typeof value === "object") dd.append(list(value));
    else dd.textContent = value === null ? "–" : String(value);
    dl.append(el("dt", name.replaceAll("_", " ")), dd);
  }
  return dl;
}

async function explain(key) {
  const said = el("p");
  said.append(el("code", key));
  try {
    const response = await fetch(`explain?key=${encodeURIComponent(key)}`);
    const reply = await response.json();
    if (response.ok && reply.data) {
      const open = el("a", "open the document", { href: `./${key.split("/").map(encodeURIComponent).join("/")}` });
      said.append(" ", open);
      return [said, list(reply.data)];
    }
    said.append(" ", el("span", reply.detail ?? reply.data ?? "there is no answer", { class: "wrong" }));
  } catch {
    said.append(" ", el("span", "the node cannot be reached", { class: "wrong" }));
  }
  return [said];
}

$("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("answer").replaceChildren(...(await explain($("key").value.trim())));
});
new ResizeObserver(() => last && draw($("picture"), last)).observe($("picture"));
listen();
