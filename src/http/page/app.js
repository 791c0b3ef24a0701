// The live page: listens to /events and shows what comes. Whatever a node, a document or a key says becomes text
// (textContent), never markup; the one thing that is parsed is the server's own drawing, whose scripts would be dead.
import { explained } from "./explain.js";
import { drawFleet, isMany } from "./fleet.js";
import { draw } from "./picture.js";
import { bytes, count, el, percent, set, time, whole, words } from "./text.js";

const $ = (id) => document.getElementById(id);

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
  const all = state.nodes.length;
  const word = all === 1 ? "proxy" : "proxies";
  const unwell = ["down", "failing", "drained"].map((health) => [state.nodes.filter((node) => node.health === health).length, words[health]]);
  const told = unwell.filter(([number]) => number).map(([number, health]) => `${number} ${health}`);
  set($("summary"), `${all} ${word}, ${told.length ? told.join(", ") : "all healthy"}`);
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

/** Few nodes are a picture with their plots below; of many the plots come first, then a small box for each, then the events. */
function arrange(many) {
  if (document.body.classList.contains("many") === many) return;
  document.body.classList.toggle("many", many);
  const [nodes, plots, events] = [document.querySelector(".picture"), document.querySelector(".plots"), $("happened")];
  if (many) {
    nodes.before(plots);
    nodes.after(events);
  } else {
    plots.before(nodes);
    plots.append(events);
  }
  $("fleet").replaceChildren();
  $("picture").replaceChildren();
}

function showNodes(state) {
  const many = isMany(state.nodes);
  arrange(many);
  if (many) drawFleet($("fleet"), state);
  else draw($("picture"), state);
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
    showNodes(last);
  });
  events.addEventListener("plots", (event) => showPlots(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    link("lost", "lost, trying again …");
    // The browser tries again by itself, unless the answer was one that it takes as final.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
  });
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
      return [said, ...explained(reply.data)];
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
new ResizeObserver(() => last && showNodes(last)).observe($("picture"));
listen();
