// Elements, numbers and units as the page shows them.

/** An element with text and attributes. */
export function el(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
export const count = (n) => (n < 10 ? short.format(Math.round(n * 10) / 10) : n < 10000 ? whole.format(n) : short.format(n));
export const percent = (part) => (part === null ? "–" : `${(part * 100).toFixed(part > 0.995 || part < 0.1 ? 1 : 0)} %`);
export const time = (s) => (s < 0.001 ? `${count(s * 1e6)} µs` : s < 1 ? `${count(s * 1e3)} ms` : `${count(s)} s`);
export const bytes = (n) => (n === null ? "–" : n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(0)} KiB` : `${(n / 1048576).toFixed(1)} MiB`);
export const words = { healthy: "healthy", failing: "failing", down: "down", drained: "drained" };

/** A text of at most so many characters; what is cut off is an ellipsis. */
export const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
