"use strict";
// What goes wrong here is kept where a test, or a person with the page's source, can see it.
addEventListener("error", (e) => note(e.message));
addEventListener("unhandledrejection", (e) => note(String(e.reason)));
function note(text) {
  const root = document.documentElement;
  root.dataset.error = (root.dataset.error ? root.dataset.error + "; " : "") + text;
}

// tables: a click on a heading sorts -------------------------------------------------------------
function sortRows(table, column, descending) {
  const body = table.tBodies[0];
  const key = (row) => row.cells[column].dataset.sort;
  const rows = [...body.rows].map((row, i) => [key(row), i, row]);
  const numeric = rows.every(([k]) => k === "" || !isNaN(k));
  rows.sort(([a, i], [b, j]) => {
    if (a === b) return i - j;
    if (a === "") return 1;
    if (b === "") return -1;
    const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
    return descending ? -order : order;
  });
  body.append(...rows.map(([, , row]) => row));
}

function onHeading(table, action) {
  for (const th of table.tHead.rows[0].cells) {
    const act = () => {
      const descending = th.ariaSort === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", descending ? "descending" : "ascending");
      action(th, descending);
    };
    th.addEventListener("click", act);
    th.addEventListener("keydown", (e) => { if (e.key === "Enter") act(); });
  }
}

for (const table of document.querySelectorAll("table.sortable"))
  onHeading(table, (th, descending) => sortRows(table, th.cellIndex, descending));

// fits: unpack -----------------------------------------------------------------------------------
const fits = JSON.parse(document.getElementById("fit-data").textContent);
const blocks = new Map();

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function block(i) {
  if (!blocks.has(i)) {
    const planes = await inflated(fits.blocks[i]);
    const n = planes.length / 4;
    const values = new Int32Array(n);
    for (let k = 0; k < n; k++) {
      const z = (planes[k] | planes[n + k] << 8 | planes[2 * n + k] << 16
        | planes[3 * n + k] << 24) >>> 0;
      values[k] = (z >>> 1) ^ -(z & 1);
    }
    blocks.set(i, values);
  }
  return blocks.get(i);
}

const binsOf = (p) => fits.edges[fits.axis[p]].length - 1;
const lengthOf = (p) => binsOf(p) * (fits.weighted[p] ? 4 : 3);

function twiceSummed(values, step) {
  let slope = 0, value = 0;
  return Array.from(values, (v) => (slope += v, value += slope, value * step));
}

async function pictureOf(p) {
  const values = await block(Math.floor(p / fits.block));
  let start = 0;
  for (let i = p - p % fits.block; i < p; i++) start += lengthOf(i);
  const n = binsOf(p);
  const row = (k) => values.subarray(start + k * n, start + (k + 1) * n);
  const [countStep, step, least] = fits.steps[p];
  const model = twiceSummed(row(0), step);
  const counts = model.map((m, i) => (row(2)[i] + Math.floor(m / countStep + 0.5)) * countStep);
  const variance = fits.weighted[p]
    ? Array.from(row(3), (v) => v ? least * Math.exp((v - 1) * 0.02) : 0) : counts;
  return {
    edges: fits.edges[fits.axis[p]], observable: fits.units[fits.unit[p]][0], unit: fits.units[fits.unit[p]][1],
    counts, variance, model, background: twiceSummed(row(1), step),
  };
}

// fits: draw -------------------------------------------------------------------------------------
const SVG = "http://www.w3.org/2000/svg";
function add(parent, kind, attributes, text) {
  const node = document.createElementNS(SVG, kind);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++)
    out.push(+(i * step).toPrecision(12));
  return out;
}

function short(x, digits = 4) {
  if (x === null || x === undefined || !isFinite(x)) return "–";
  if (Number.isInteger(x)) return x.toLocaleString("en").replaceAll(",", "\u202f").replace("-", "−");
  const a = Math.abs(x);
  const text = a < 1e-3 || a >= 1e6 ? x.toExponential(1) : String(+x.toPrecision(digits));
  return text.replaceAll("-", "−");
}

function draw(place, p, log) {
  const W = 640, left = 74, right = 626, top = 14, middle = 356, under = 374, bottom = 472;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${W} 520`);
  svg.setAttribute("role", "img");
  const n = p.counts.length, low = p.edges[0], high = p.edges[n];
  const X = (x) => left + (x - low) / (high - low) * (right - left);
  const centre = p.counts.map((_, i) => 0.5 * (p.edges[i] + p.edges[i + 1]));
  // bins of different widths are drawn as densities, per bin of their median
  const widths = p.counts.map((_, i) => p.edges[i + 1] - p.edges[i]);
  const median = [...widths].sort((a, b) => a - b)[n >> 1];
  const dense = (values) => Array.from(values, (v, i) => v * median / widths[i]);
  const counts = dense(p.counts), model = dense(p.model), background = dense(p.background);
  const error = dense(p.variance.map((v) => Math.sqrt(Math.max(v, 0))));
  const peak = Math.max(...counts.map((c, i) => c + error[i]), ...model, 1e-12);
  let floor = Math.min(0, ...counts.map((c, i) => c - error[i]));
  let Y = (y) => middle - (y - floor) / (1.12 * peak - floor) * (middle - top);
  let marks = ticks(floor, 1.12 * peak, 6).map((y) => [y, short(y)]);
  if (log) {
    const positive = [...counts, ...model].filter((y) => y > 0);
    floor = 0.5 * Math.min(...positive, peak);
    const span = Math.log(peak * 2 / floor);
    Y = (y) => middle - Math.max(Math.log(Math.max(y, floor) / floor) / span, 0) * (middle - top);
    marks = [];
    for (let e = Math.ceil(Math.log10(floor)); e <= Math.log10(peak * 2); e++)
      marks.push([10 ** e, e >= 0 && e < 5 ? short(10 ** e) : `1e${e}`]);
  }

  const total = p.counts.reduce((a, b) => a + b, 0);
  const weight = total > 0 ? p.variance.reduce((a, b) => a + b, 0) / total : 1;
  const pulls = p.model.map((m, i) => m * weight > 0 ? (p.counts[i] - m) / Math.sqrt(m * weight) : NaN);
  const reach = Math.min(Math.max(3.5, 1.1 * Math.max(...pulls.filter(isFinite).map(Math.abs), 0)), 50);
  const Z = (z) => (under + bottom) / 2 - Math.max(Math.min(z / reach, 1), -1) * (bottom - under) / 2;

  add(svg, "rect", { class: "band", x: left, width: right - left, y: Z(2), height: Z(-2) - Z(2) });
  pulls.forEach((z, i) => {
    if (!isFinite(z)) return;
    const x = X(p.edges[i]), w = Math.max(X(p.edges[i + 1]) - x - 0.6, 0.6);
    add(svg, "rect", { class: "pull", x, width: w, y: Math.min(Z(z), Z(0)), height: Math.abs(Z(z) - Z(0)) });
  });
  add(svg, "line", { class: "zero", x1: left, x2: right, y1: Z(0), y2: Z(0) });

  const line = (values) => "M" + values.map((y, i) => `${X(centre[i]).toFixed(1)} ${Y(y).toFixed(1)}`).join("L");
  const hasBackground = background.some((b) => b > 0);
  if (hasBackground) add(svg, "path", { class: "background", d: line(background) });
  const radius = n > 150 ? 1.8 : 2.6;
  counts.forEach((c, i) => {
    if (log && c <= 0) return;
    const x = X(centre[i]);
    if (error[i] > 0)
      add(svg, "line", { class: "error", x1: x, x2: x, y1: Y(c - error[i]), y2: Y(c + error[i]) });
    add(svg, "circle", { class: "point", cx: x, cy: Y(c), r: radius });
  });
  add(svg, "path", { class: "model", d: line(model) });

  for (const [a, b] of [[top, middle], [under, bottom]])
    add(svg, "rect", { class: "frame", x: left, y: a, width: right - left, height: b - a });
  for (const x of ticks(low, high, 8)) {
    for (const y of [middle, bottom])
      add(svg, "line", { class: "tick", x1: X(x), x2: X(x), y1: y, y2: y - 6 });
    add(svg, "text", { x: X(x), y: bottom + 18, "text-anchor": "middle" }, short(x));
  }
  for (const [y, text] of marks) {
    add(svg, "line", { class: "tick", x1: left, x2: left + 6, y1: Y(y), y2: Y(y) });
    add(svg, "text", { x: left - 7, y: Y(y) + 5, "text-anchor": "end" }, text);
  }
  for (const z of ticks(-reach, reach, 3)) {
    add(svg, "line", { class: "tick", x1: left, x2: left + 6, y1: Z(z), y2: Z(z) });
    add(svg, "text", { x: left - 7, y: Z(z) + 5, "text-anchor": "end" }, short(z));
  }
  const unit = p.unit ? ` [${p.unit}]` : "";
  add(svg, "text", { x: right, y: bottom + 40, "text-anchor": "end" },
    p.observable + unit);
  const label = (y, text, anchor) => add(svg, "text", {
    transform: `translate(16 ${y}) rotate(-90)`, "text-anchor": anchor }, text);
  label(top, `events / ${short(median, 3)} ${p.unit}`, "end");
  label((under + bottom) / 2, "pull", "middle");

  const legend = [["point", "events"], ["model", "model"]];
  if (hasBackground) legend.push(["background", "background"]);
  legend.forEach(([kind, text], i) => {
    const y = top + 22 + 20 * i, x = right - 118;
    if (kind === "point") {
      add(svg, "line", { class: "error", x1: x + 12, x2: x + 12, y1: y - 8, y2: y + 8 });
      add(svg, "circle", { class: "point", cx: x + 12, cy: y, r: 2.6 });
    } else add(svg, "path", { class: kind, d: `M${x} ${y}H${x + 24}` });
    add(svg, "text", { x: x + 32, y: y + 5 }, text);
  });
  place.replaceChildren(svg);
}

// fits: the table, and which one is shown --------------------------------------------------------
const GOOD = ["ok"], FALLBACK = ["merged", "held"], ROWS = 100;
const $ = (id) => document.getElementById(id);
const state = { order: [], page: 0, key: "", descending: false, chosen: -1 };

function passing() {
  const text = $("fit-search").value.toLowerCase();
  const group = $("fit-group").value, status = $("fit-status").value;
  const out = [];
  fits.name.forEach((name, i) => {
    if (group !== "" && fits.group[i] !== +group) return;
    if (status !== "" && fits.status[i] !== +status) return;
    if (text && !name.toLowerCase().includes(text)) return;
    out.push(i);
  });
  if (state.key) {
    const value = {
      name: (i) => fits.name[i], status: (i) => fits.statuses[fits.status[i]],
      events: (i) => fits.events[i], probability: (i) => fits.probability[i],
      chi2: (i) => fits.ndf[i] ? fits.chi2[i] / fits.ndf[i] : null,
    }[state.key];
    const sign = state.descending ? -1 : 1;
    out.sort((i, j) => {
      const a = value(i), b = value(j);
      if (a === b) return i - j;
      if (a === null) return 1;
      if (b === null) return -1;
      return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    });
  }
  return out;
}

function cell(row, text, kind) {
  const td = row.insertCell();
  td.textContent = text;
  if (kind) td.className = kind;
  return td;
}

function showRows() {
  const body = $("fit-table").tBodies[0];
  const first = state.page * ROWS;
  body.replaceChildren();
  for (const i of state.order.slice(first, first + ROWS)) {
    const row = body.insertRow();
    row.dataset.fit = i;
    row.className = i === state.chosen ? "chosen" : fits.picture[i] < 0 ? "blank" : "";
    const name = cell(row, "");
    if (fits.picture[i] < 0) name.textContent = fits.name[i];
    else {
      const link = document.createElement("a");
      link.href = addressOf(i);
      link.textContent = fits.name[i];
      name.append(link);
    }
    if ($("fit-group").value === "" && fits.groups.length > 1) {
      const kind = document.createElement("span");
      kind.className = "small";
      kind.textContent = ` ${fits.groups[fits.group[i]].replaceAll("_", " ")}`;
      name.append(kind);
    }
    cell(row, short(fits.events[i]), "number");
    cell(row, fits.ndf[i] ? `${fits.chi2[i].toFixed(1)} / ${fits.ndf[i]}` : "–", "number");
    cell(row, short(fits.probability[i], 2), "number");
    const status = fits.statuses[fits.status[i]];
    const mark = document.createElement("span");
    const look = GOOD.includes(status) ? "good" : FALLBACK.includes(status) ? "fallback" : "bad";
    mark.className = status ? `status ${look}` : "";
    mark.textContent = status ? status.replaceAll("_", " ") : "–";
    cell(row, "").append(mark);
  }
  const pages = Math.max(Math.ceil(state.order.length / ROWS), 1);
  $("fit-count").textContent = `${short(state.order.length)} of ${short(fits.name.length)} fits`;
  $("page-place").textContent = `page ${state.page + 1} of ${pages}`;
  $("page-back").disabled = state.page === 0;
  $("page-on").disabled = state.page >= pages - 1;
  document.querySelector(".pages").hidden = pages === 1;
  document.querySelector(".pages").style.display = pages === 1 ? "none" : "";
}

function filter() {
  state.order = passing();
  state.page = 0;
  showRows();
}

function addressOf(i) {
  const first = fits.name.indexOf(fits.name[i]) === i;
  const name = encodeURIComponent(fits.name[i]);
  return first ? `#fit=${name}` : `#fit=${name}&group=${encodeURIComponent(fits.groups[fits.group[i]])}`;
}

function bringIntoView(row) {
  // scrolls the table alone: scrollIntoView would move the page as well
  const box = $("fit-table").parentElement;
  if (!row || box.scrollHeight <= box.clientHeight) return;
  const top = row.offsetTop, heading = $("fit-table").tHead.offsetHeight;
  if (top - heading < box.scrollTop) box.scrollTop = top - heading;
  else if (top + row.offsetHeight > box.scrollTop + box.clientHeight)
    box.scrollTop = top + row.offsetHeight - box.clientHeight;
}

let asked = 0;
async function show(i) {
  const mine = ++asked;
  state.chosen = i;
  const at = state.order.indexOf(i);
  if (at >= 0) state.page = Math.floor(at / ROWS);
  showRows();
  bringIntoView($("fit-table").querySelector(".chosen"));
  const group = fits.groups[fits.group[i]];
  $("fit-title").textContent = fits.name[i] + (group === "categories" ? "" : ` (${group.replaceAll("_", " ")})`);
  const line = [`${short(fits.events[i])} events`];
  if (fits.ndf[i])
    line.push(`chi2 / ndf ${fits.chi2[i].toFixed(1)} / ${fits.ndf[i]}`, `probability ${short(fits.probability[i], 2)}`);
  if (fits.statuses[fits.status[i]]) line.push(fits.statuses[fits.status[i]].replaceAll("_", " "));
  $("fit-text").textContent = line.join(", ") + (fits.text[i] ? "\n" + fits.text[i] : "");
  if (fits.picture[i] < 0) return $("fit-drawing").replaceChildren("There is no fit to draw.");
  const picture = await pictureOf(fits.picture[i]);
  if (mine !== asked) return;
  draw($("fit-drawing"), picture, $("fit-log").checked);
  $("fit-picture").dataset.drawn = fits.name[i];
}

function step(by) {
  const drawn = state.order.filter((i) => fits.picture[i] >= 0);
  if (!drawn.length) return;
  const at = drawn.indexOf(state.chosen);
  const next = at < 0 ? 0 : (at + by + drawn.length) % drawn.length;
  history.replaceState(null, "", addressOf(drawn[next]));
  show(drawn[next]);
}

function followAddress() {
  const [, name, group] = location.hash.match(/^#fit=([^&]*)(?:&group=(.*))?$/) || [];
  if (name === undefined) return false;
  const wanted = decodeURIComponent(name), kind = group && decodeURIComponent(group);
  const i = fits.name.findIndex((n, k) => n === wanted && (!kind || fits.groups[fits.group[k]] === kind));
  if (i < 0) return false;
  if (!state.order.includes(i)) {
    $("fit-search").value = $("fit-status").value = "";
    $("fit-group").value = String(fits.group[i]);
    filter();
  }
  show(i);
  const box = $("fit-picture").getBoundingClientRect();
  if (box.top < 0 || box.bottom > innerHeight) $("fits").scrollIntoView();
  return true;
}

function options(select, every, names) {
  select.append(new Option(every, ""));
  names.forEach((name, i) => select.append(new Option(name.replaceAll("_", " ") || "–", i)));
}

if (fits.name.length) {
  const count = (of, i) => of.filter((k) => k === i).length;
  options($("fit-group"), "all kinds", fits.groups.map((g, i) => `${g} (${count(fits.group, i)})`));
  options($("fit-status"), "any status", fits.statuses);
  if (fits.groups.length > 1) $("fit-group").value = "0";
  for (const id of ["fit-search", "fit-group", "fit-status"]) $(id).addEventListener("input", filter);
  onHeading($("fit-table"), (th, descending) => {
    state.key = th.dataset.key;
    state.descending = descending;
    filter();
  });
  $("fit-table").tBodies[0].addEventListener("click", (e) => {
    const row = e.target.closest("tr");
    if (!row || e.target.closest("a")) return;
    history.replaceState(null, "", addressOf(+row.dataset.fit));
    show(+row.dataset.fit);
  });
  $("page-back").addEventListener("click", () => { state.page--; showRows(); });
  $("page-on").addEventListener("click", () => { state.page++; showRows(); });
  $("fit-back").addEventListener("click", () => step(-1));
  $("fit-on").addEventListener("click", () => step(1));
  $("fit-log").addEventListener("change", () => show(state.chosen));
  addEventListener("keydown", (e) => {
    const typing = e.target instanceof Element && e.target.matches("input[type=search], select");
    if (e.altKey || e.ctrlKey || e.metaKey || typing) return;
    if (e.key === "ArrowLeft" || e.key === "ArrowRight") {
      e.preventDefault();
      step(e.key === "ArrowLeft" ? -1 : 1);
    }
  });
  addEventListener("hashchange", followAddress);
  filter();
  if (!followAddress()) {
    const first = state.order.find((i) => fits.picture[i] >= 0);
    if (first !== undefined) show(first);
    else show(0);
  }
}
// on paper nothing is folded
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => d.open = true));
document.documentElement.dataset.ready = "1";
