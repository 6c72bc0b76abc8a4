// Draws the report of one run, or a comparison of several, from the JSON in the page; no libraries. What the reader
// has set (smoothing, zoom, step, theme) outlives the reload of a page whose run still trains.
"use strict";

const runs = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");
const many = runs.length > 1;
const hues = ["blue", "orange", "green", "purple", "gold", "grey", "rose", "sky"];
runs.forEach((run, i) => { run.color = `var(--${hues[i % hues.length]})`; run.shown = true; });

function make(namespace, tag, attributes, children) {
  const node = namespace ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}
const el = (tag, attributes = {}, ...children) => make(false, tag, attributes, children);
const svg = (tag, attributes = {}, ...children) => make(true, tag, attributes, children);

function number(value, digits = 4) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(parseFloat(value.toPrecision(digits)));
}
const kimg = (value) => `${number(value)} kimg`;

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.round((minutes % 1440) / 60)} h`;
}

const memory = "jaxgan " + runs.map((run) => run.name).join(" ");
const state = { smoothing: 0.6, zoom: null, moment: null, theme: "" };
try { Object.assign(state, JSON.parse(sessionStorage.getItem(memory))); } catch { /* a browser may refuse */ }
function remember() {
  try { sessionStorage.setItem(memory, JSON.stringify(state)); } catch { /* then a reload begins anew */ }
}

function section(title, ...children) {
  page.append(el("section", {}, el("h2", {}, title), ...children));
}
