"use strict";
// The page works without this script: figures are then pictures and tables stay in their order.
// Names from a run are only ever set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const DASHES = { "-": "", "--": "7 4", ":": "2 3", "-.": "7 3 2 3" };

function make(name, attributes, parent, text) {
  const svg = ["svg", "g", "path", "line", "rect", "text", "clipPath"].includes(name);
  const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

// matplotlib's markers, so that a strategy looks the same in chart and figure
function marker(kind, r) {
  const polygon = (points) => "M" + points.map(([x, y]) => `${(x * r).toFixed(2)},${(y * r).toFixed(2)}`).join("L") + "Z";
  const turned = (points, angle) => points.map(([x, y]) =>
    [x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle)]);
  const triangle = [[0, -1.1], [1.05, 0.8], [-1.05, 0.8]], w = 0.36;
  const plus = [[-w, -1.1], [w, -1.1], [w, -w], [1.1, -w], [1.1, w], [w, w], [w, 1.1], [-w, 1.1], [-w, w], [-1.1, w], [-1.1, -w], [-w, -w]];
  const star = Array.from({ length: 10 }, (_, i) => {
    const angle = Math.PI * (i / 5 - 0.5), far = i % 2 ? 0.5 : 1.3;
    return [far * Math.cos(angle), far * Math.sin(angle)];
  });
  const square = [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]];
  const shapes = {
    s: square, D: turned(square, Math.PI / 4), "^": triangle, v: turned(triangle, Math.PI),
    ">": turned(triangle, Math.PI / 2), "<": turned(triangle, -Math.PI / 2), P: plus, X: turned(plus, Math.PI / 4), "*": star,
  };
  return shapes[kind] ? polygon(shapes[kind]) : `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`;
}

function steps(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push([i * step, (i * step).toFixed(digits).replace("-", "−")]);
  return found;
}

const count = (x) => x.toLocaleString("en", { maximumFractionDigits: 3 });

class Chart {
  constructor(figure, number) {
    this.spec = JSON.parse(figure.querySelector("script").textContent);
    this.number = number;
    this.hidden = new Set();
    this.view = null; // {x0, x1, y0, y1} while zoomed
    this.at = null; // the number of labels that is looked at
    this.box = figure.querySelector(".chart");
    this.tools();
    this.svg = make("svg", { tabindex: "0", role: "img", "aria-label": figure.querySelector("img").alt }, this.box);
    this.tip = make("div", { class: "tip", role: "status", hidden: "" }, this.box);
    make("p", { class: "hint" }, this.box, "Point, tap or use the arrow keys for exact values; drag or + and − to zoom; a name hides its curve.");
    figure.classList.add("drawn");
    this.listen();
    new ResizeObserver(() => this.box.clientWidth && this.box.clientWidth !== this.drawnAt && this.draw()).observe(this.box);
    this.draw();
  }

  tools() {
    const tools = make("div", { class: "tools" }, this.box);
    const legend = make("div", { class: "legend", role: "group", "aria-label": "Show or hide curves" }, tools);
    this.spec.series.forEach((series, i) => {
      const button = make("button", { type: "button", "aria-pressed": "true" }, legend);
      const mark = make("svg", { viewBox: "-15 -7 30 14", "aria-hidden": "true" }, button);
      const group = this.group(series, mark);
      make("line", { class: "line", x1: -14, x2: 14, y1: 0, y2: 0, "stroke-width": 2, "stroke-dasharray": DASHES[series.dashes] }, group);
      make("path", { class: "point", d: marker(series.marker, 4.5) }, group);
      make("span", {}, button, series.name);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(i)) this.hidden.add(i);
        button.setAttribute("aria-pressed", String(!this.hidden.has(i)));
        this.draw();
      });
    });
    const zoom = make("div", { class: "zoom", role: "group", "aria-label": "Zoom" }, tools);
    for (const [sign, label, act] of [["+", "Zoom in", () => this.zoom(0.5)], ["−", "Zoom out", () => this.zoom(2)], ["Reset", "Show everything", () => this.reset()]])
      make("button", { type: "button", "aria-label": label, title: label }, zoom, sign).addEventListener("click", act);
  }

  group(series, parent) {
    const node = make("g", { class: series.published ? "series published" : "series" }, parent);
    node.style.setProperty("--light", series.colour);
    node.style.setProperty("--dark", series.dark);
    return node;
  }

  get shown() { return this.spec.series.filter((_, i) => !this.hidden.has(i)); }

  // what there is to see: of the curves shown, between x0 and x1
  extent(x0 = -Infinity, x1 = Infinity) {
    const xs = [], ys = this.spec.lines.map((line) => line.value), [least, most] = this.spec.frame ?? [-Infinity, Infinity];
    for (const s of this.shown) s.x.forEach((x, i) => {
      if (x >= x0 && x <= x1) { xs.push(x); ys.push(...[s.mean[i], s.low[i], s.high[i]].filter((y) => y !== null).map((y) => Math.min(most, Math.max(least, y)))); }
    });
    if (!xs.length) xs.push(...this.spec.ticks, ...(this.spec.ticks.length ? [] : [0, 1]));
    if (!ys.length) ys.push(0, 1);
    const [low, high, left, right] = [Math.min(...ys), Math.max(...ys), Math.min(...xs), Math.max(...xs)];
    const pad = 0.05 * (high - low) || 0.01, side = 0.03 * (right - left) || 1;
    return { x0: left - side, x1: right + side, y0: low - pad, y1: high + pad };
  }

  draw() {
    const width = Math.max(240, this.svg.clientWidth || this.box.clientWidth), height = Math.round(Math.min(430, Math.max(260, 0.56 * width)));
    this.drawnAt = this.box.clientWidth;
    const range = this.range = this.view || this.extent();
    const ticks = steps(range.y0, range.y1, height / 50);
    const left = 30 + 7 * Math.max(...ticks.map(([, text]) => text.length));
    const area = this.area = { x0: left, x1: width - 12, y0: 8, y1: height - 44 };
    this.x = (v) => area.x0 + (v - range.x0) / (range.x1 - range.x0) * (area.x1 - area.x0);
    this.y = (v) => area.y1 - (v - range.y0) / (range.y1 - range.y0) * (area.y1 - area.y0);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.axes(ticks);
    const clip = `plot-${this.number}`;
    make("rect", { x: area.x0, y: area.y0 - 6, width: area.x1 - area.x0 + 6, height: area.y1 - area.y0 + 6 }, make("clipPath", { id: clip }, this.svg));
    const plot = make("g", { "clip-path": `url(#${clip})` }, this.svg);
    for (const series of this.shown) this.curve(series, plot);
    for (const line of this.spec.lines) this.across(line, plot);
    this.guide = make("line", { class: "guide", y1: area.y0, y2: area.y1, visibility: "hidden" }, this.svg);
    if (this.at !== null) this.show(this.at);
  }

  axes(ticks) {
    const { x0, x1, y0, y1 } = this.area;
    for (const [value, text] of ticks) {
      make("line", { class: "grid", x1: x0, x2: x1, y1: this.y(value), y2: this.y(value) }, this.svg);
      make("text", { x: x0 - 6, y: this.y(value) + 4, "text-anchor": "end" }, this.svg, text);
    }
    const inside = (v) => v >= this.range.x0 && v <= this.range.x1;
    let marks = this.spec.ticks.filter(inside).map((v) => [v, count(v)]);
    if (marks.length < 2) marks = steps(this.range.x0, this.range.x1, 4).map(([v]) => [v, count(v)]);
    let end = Infinity; // labels that would touch the next one are left out
    for (const [value, text] of marks.reverse()) {
      const at = this.x(value), half = 3.6 * text.length;
      make("line", { class: "axis", x1: at, x2: at, y1: y1, y2: y1 + 4 }, this.svg);
      if (at + half + 6 < end) {
        make("text", { x: Math.min(at, x1 + 12 - half), y: y1 + 18, "text-anchor": "middle" }, this.svg, text);
        end = at - half;
      }
    }
    make("line", { class: "axis", x1: x0, x2: x1, y1: y1, y2: y1 }, this.svg);
    make("text", { class: "title", x: (x0 + x1) / 2, y: y1 + 38, "text-anchor": "middle" }, this.svg, this.spec.xlabel);
    make("text", { class: "title", transform: `translate(13 ${(y0 + y1) / 2}) rotate(-90)`, "text-anchor": "middle" }, this.svg, this.spec.ylabel);
  }

  across(line, parent) {
    const { x0, x1, y0 } = this.area, y = this.y(line.value);
    make("line", { class: "across", x1: x0, x2: x1, y1: y, y2: y }, parent);
    // its label stands at the end where the curves are farther away
    const away = (end) => Math.min(...this.shown.map((s) => Math.abs(s.mean[end ? s.mean.length - 1 : 0] - line.value)));
    const right = away(true) > away(false), place = { y: y - 5 < y0 + 8 ? y + 14 : y - 5, class: "said" };
    make("text", right ? { ...place, x: x1 - 6, "text-anchor": "end" } : { ...place, x: x0 + 6 }, parent, line.label);
  }

  curve(series, parent) {
    const group = this.group(series, parent);
    const points = series.x.map((x, i) => [this.x(x), series.mean[i], series.low[i], series.high[i]]).filter(([, mean]) => mean !== null);
    const path = (list) => list.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)},${this.y(y).toFixed(2)}`).join("");
    const ranged = points.filter(([, , low, high]) => low !== null && high !== null);
    if (series.published) {
      for (const [x, , low, high] of ranged) make("path", { class: "error", d: `M${x},${this.y(low)}V${this.y(high)}` }, group);
    } else if (ranged.length > 1) {
      const band = path(ranged.map(([x, , , high]) => [x, high])) + path(ranged.map(([x, , low]) => [x, low]).reverse()).replace("M", "L") + "Z";
      make("path", { class: "band", d: band }, group);
    }
    make("path", { class: "line", d: path(points), "stroke-width": series.published ? 1.3 : 2, "stroke-dasharray": DASHES[series.dashes] }, group);
    for (const [x, mean] of points)
      make("path", { class: "point", d: marker(series.marker, series.published ? 3.4 : 4.6), transform: `translate(${x.toFixed(2)} ${this.y(mean).toFixed(2)})` }, group);
  }

  listen() {
    const svg = this.svg;
    let start = null, frame = null;
    const place = (event) => {
      const box = svg.getBoundingClientRect(), { x0, x1, y0, y1 } = this.area;
      return [Math.min(x1, Math.max(x0, event.clientX - box.left)), Math.min(y1, Math.max(y0, event.clientY - box.top))];
    };
    svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0) {
        start = place(event);
        svg.setPointerCapture(event.pointerId);
      } else this.near(place(event)[0]);
    });
    svg.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (!start) return this.near(x);
      frame = frame || make("rect", { class: "frame" }, svg);
      const box = { x: Math.min(x, start[0]), y: Math.min(y, start[1]), width: Math.abs(x - start[0]), height: Math.abs(y - start[1]) };
      for (const [key, value] of Object.entries(box)) frame.setAttribute(key, value);
    });
    const finish = (event) => {
      if (!start) return;
      const [x, y] = place(event), [a, b] = start;
      start = null;
      if (frame) frame.remove();
      frame = null;
      if (Math.abs(x - a) > 8 && Math.abs(y - b) > 8) this.frameTo(Math.min(x, a), Math.max(x, a), Math.min(y, b), Math.max(y, b));
    };
    svg.addEventListener("pointerup", finish);
    svg.addEventListener("pointercancel", () => { start = null; if (frame) frame.remove(); frame = null; });
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && document.activeElement !== svg) this.hide(); });
    svg.addEventListener("blur", () => this.hide());
    svg.addEventListener("dblclick", () => this.reset());
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible") && this.at === null) this.move("Home"); });
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const acts = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), 0: () => this.reset(), Escape: () => this.hide() };
      for (const key of ["ArrowLeft", "ArrowRight", "Home", "End"]) acts[key] = () => this.move(key);
      if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
    });
  }

  // measured numbers of labels within the view
  stops() {
    const all = new Set(this.shown.flatMap((s) => s.x.filter((_, i) => s.mean[i] !== null)));
    return [...all].filter((x) => x >= this.range.x0 && x <= this.range.x1).sort((a, b) => a - b);
  }

  near(pixel) {
    const stops = this.stops();
    if (stops.length) this.show(stops.reduce((best, x) => Math.abs(this.x(x) - pixel) < Math.abs(this.x(best) - pixel) ? x : best));
  }

  move(key) {
    const stops = this.stops(), now = stops.indexOf(this.at);
    if (!stops.length) return;
    const to = { Home: 0, End: stops.length - 1, ArrowLeft: Math.max(0, now - 1), ArrowRight: Math.min(stops.length - 1, now + 1) }[key];
    this.show(stops[to]);
  }

  show(at) {
    this.at = at;
    const rows = this.shown.map((s) => [s, s.x.indexOf(at)]).filter(([s, i]) => i >= 0 && s.mean[i] !== null);
    if (!rows.length || at < this.range.x0 || at > this.range.x1) return this.hide();
    rows.sort(([a, i], [b, j]) => b.mean[j] - a.mean[i]);
    const x = this.x(at);
    this.guide.setAttribute("x1", x);
    this.guide.setAttribute("x2", x);
    this.guide.setAttribute("visibility", "visible");
    const table = make("table");
    make("caption", {}, table, `${count(at)} ${this.spec.xlabel}`);
    for (const [series, i] of rows) {
      const row = make("tr", {}, table), cell = make("td", {}, row);
      const mark = make("svg", { viewBox: "-7 -7 14 14", width: 12, height: 12, "aria-hidden": "true" }, cell);
      mark.style.width = "12px";
      make("path", { class: "point", d: marker(series.marker, 5) }, this.group(series, mark));
      make("th", { scope: "row" }, row, series.name);
      make("td", {}, row, series.text[i]);
    }
    this.tip.replaceChildren(table);
    this.tip.hidden = false;
    const svg = this.svg.getBoundingClientRect(), box = this.box.getBoundingClientRect();
    const across = svg.left - box.left, down = svg.top - box.top, room = this.box.clientWidth, wide = this.tip.offsetWidth;
    const left = x < room / 2 ? across + x + 14 : across + x - wide - 14;
    this.tip.style.left = `${Math.max(4, Math.min(left, room - wide - 4))}px`;
    // on a phone it would cover the curves: below the axis
    this.tip.style.top = `${down + (room < 520 ? this.area.y1 + 24 : 12)}px`;
  }

  hide() {
    this.at = null;
    this.tip.hidden = true;
    this.guide.setAttribute("visibility", "hidden");
  }

  frameTo(left, right, top, bottom) {
    const { x0, x1, y0, y1 } = this.area, { range } = this;
    const across = (p) => range.x0 + (p - x0) / (x1 - x0) * (range.x1 - range.x0);
    const up = (p) => range.y0 + (y1 - p) / (y1 - y0) * (range.y1 - range.y0);
    this.view = { x0: across(left), x1: across(right), y0: up(bottom), y1: up(top) };
    this.draw();
  }

  // by buttons and keys: along the labels, with the heights that are there
  zoom(factor) {
    const all = this.extent(), { x0, x1 } = this.range;
    const middle = this.at !== null ? this.at : (x0 + x1) / 2, half = factor * (x1 - x0) / 2;
    if (2 * half >= all.x1 - all.x0) return this.reset();
    const low = Math.min(Math.max(all.x0, middle - half), all.x1 - 2 * half);
    const within = this.extent(low, low + 2 * half);
    this.view = { x0: low, x1: low + 2 * half, y0: within.y0, y1: within.y1 };
    this.draw();
  }

  reset() {
    this.view = null;
    this.draw();
  }
}

// By value where cells have numbers, by text elsewhere; the third click gives the first order back.
function sortable(table) {
  const body = table.tBodies[0], first = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", { type: "button", title: "Sort" }, null, head.textContent);
    head.replaceChildren(button);
    const number = (row) => row.cells[column].dataset.value === undefined ? null : Number(row.cells[column].dataset.value);
    const numbers = first.some((row) => number(row) !== null);
    const orders = numbers ? ["descending", "ascending", null] : ["ascending", "descending", null];
    button.addEventListener("click", () => {
      const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (order) head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const text = (row) => row.cells[column].textContent.trim();
      const compare = (a, b) => {
        if (!numbers) return sign * text(a).localeCompare(text(b), undefined, { numeric: true });
        const [p, q] = [number(a), number(b)];
        if (p === null || q === null) return (p === null) - (q === null); // no number: last, either way
        return sign * (p - q);
      };
      body.append(...(order ? [...first].sort(compare) : first)); // sort is stable
    });
  });
}

document.querySelectorAll("figure:has(> .chart)").forEach((figure, number) => new Chart(figure, number));
document.querySelectorAll("table.sortable").forEach(sortable);
const contents = document.querySelector("nav details");
if (contents && window.innerWidth < 640 && contents.querySelectorAll("a").length > 10) contents.open = false;
