// Curves as SVG: hover, smoothing, zoom, and marks where a health warning was given.

const charts = [];
const domain = () => state.zoom || [0, 1.015 * Math.max(...runs.map((run) => run.kimg), 1e-9)];

function smoothed(values) {
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    sum = state.smoothing * sum + (1 - state.smoothing) * value;
    weight = state.smoothing * weight + (1 - state.smoothing);
    return sum / weight;
  });
}

function quantiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q) => sorted[Math.round(q * (sorted.length - 1))];
  return [at(0.005), at(0.995)];
}

function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

// Powers of ten between two of them, or finer steps where these are fewer than three.
function logTicks(low, high) {
  for (const steps of [[1], [1, 2, 5]]) {
    const found = [];
    for (let e = Math.floor(low); e <= high; e++) found.push(...steps.map((m) => e + Math.log10(m)));
    const inside = found.filter((value) => value >= low && value <= high);
    const every = Math.ceil(inside.length / 7);
    if (inside.length > 2) return inside.filter((_, i) => i % every === 0);
  }
  return ticks(10 ** low, 10 ** high, 8).map(Math.log10);
}

// A chart of `lines`, [{label, color, x, y, run}], and how its panel wants them drawn.
function Chart(title, panel, lines) {
  const [height, left, right, up, down] = [186, 46, 8, 8, 22];
  const drawing = svg("svg", { role: "img", "aria-label": title });
  const tip = el("div", { class: "tip", hidden: true });
  const legend = many ? [] : lines.filter((line) => line.label).map((line) =>
    el("span", { class: "key", style: `--color:${line.color}` }, line.label));
  const card = el("div", { class: "card chart" },
    el("header", {}, el("h3", {}, title), el("span", { class: "legend" }, legend)), drawing, tip);
  let map = null;

  function draw() {
    const width = card.clientWidth - 28;
    const [x0, x1] = domain();
    const shown = lines.filter((line) => line.run.shown);
    const log = panel.log && shown.some((line) => line.y.some((y) => y > 0));
    const scaled = (y) => (log ? Math.log10(Math.max(y, 1e-300)) : y);
    const usable = (y) => !log || y > 0;
    const bounds = [];
    const curves = shown.map((line) => {
      const soft = panel.smooth && line.y.length > 20 && state.smoothing > 0;
      const bold = soft ? smoothed(line.y) : line.y;
      const inside = line.x.map((x, i) => i).filter((i) => line.x[i] >= x0 && line.x[i] <= x1 && usable(line.y[i]));
      if (inside.length) {
        const raw = inside.map((i) => scaled(line.y[i]));
        bounds.push(...(panel.smooth && raw.length > 20 ? quantiles(raw) : [Math.min(...raw), Math.max(...raw)]));
        inside.forEach((i) => usable(bold[i]) && bounds.push(scaled(bold[i])));
      }
      return { line, soft, bold };
    });
    if (!panel.smooth && !log) bounds.push(...panel.rules);
    const reals = many ? null : panel.reals; // of several runs each would have its own
    if (reals != null) bounds.push(scaled(reals));
    let [y0, y1] = bounds.length ? [Math.min(...bounds), Math.max(...bounds)] : [0, 1];
    const margin = 0.07 * (y1 - y0) || 0.1 * Math.abs(y1) || 1;
    [y0, y1] = [y0 - margin, y1 + margin];
    if (!log) {
      const thin = 0.01 * (y1 - y0);
      if (panel.bounds[0] != null) y0 = Math.max(y0, panel.bounds[0] - thin);
      if (panel.bounds[1] != null) y1 = Math.min(y1, panel.bounds[1] + thin);
      if (panel.limits) [y0, y1] = [panel.limits[0], panel.limits[1] ?? y1];
    }
    const X = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - right);
    const Y = (y) => up + ((y1 - scaled(y)) / (y1 - y0)) * (height - up - down);
    const clip = `clip${charts.indexOf(card.chart)}`;
    const parts = [svg("clipPath", { id: clip }, svg("rect", { x: left, y: up - 3, width: width - left - right,
      height: height - up - down + 6 }))];
    for (const tick of log ? logTicks(y0, y1) : ticks(y0, y1, 4)) {
      const y = log ? Y(10 ** tick) : Y(tick);
      const text = log ? number(10 ** tick, 3) : number(Math.abs(tick) < 1e-12 ? 0 : tick);
      parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y }),
        svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text));
    }
    for (const tick of ticks(x0, x1, Math.max(2, width / 70))) {
      if (X(tick) > width - right + 1) continue;
      parts.push(svg("text", { x: X(tick), y: height - 5, "text-anchor": "middle" }, number(tick)));
    }
    const inner = svg("g", { "clip-path": `url(#${clip})` });
    panel.rules.forEach((rule) => usable(rule) &&
      inner.append(svg("line", { class: "rule", x1: left, x2: width - right, y1: Y(rule), y2: Y(rule) })));
    if (reals != null) {
      const below = Y(reals) < height / 2; // on the left, where the curve is still far from it
      inner.append(svg("line", { class: "rule", x1: left, x2: width - right, y1: Y(reals), y2: Y(reals) }),
        svg("text", { x: left + 4, y: Y(reals) + (below ? 13 : -5) }, `${number(panel.num_reals)} held-out reals: ${number(reals, 3)}`));
    }
    const path = (xs, ys) => {
      let [text, pen] = ["", "M"];
      xs.forEach((x, i) => {
        if (!usable(ys[i])) { pen = "M"; return; }
        text += `${pen}${X(x).toFixed(1)} ${Y(ys[i]).toFixed(1)}`;
        pen = "L";
      });
      return text;
    };
    for (const { line, soft, bold } of curves) {
      if (soft) inner.append(svg("path", { class: "raw", stroke: line.color, d: path(line.x, line.y) }));
      inner.append(svg("path", { class: "line", stroke: line.color, d: path(line.x, bold) }));
      if (line.x.length < (panel.smooth ? 8 : 80)) {
        line.x.forEach((x, i) => inner.append(svg("circle", { cx: X(x), cy: Y(line.y[i]), r: 2.5, fill: line.color })));
      }
    }
    parts.push(inner);
    for (const run of runs.filter((r) => r.shown)) {
      for (const warning of run.warnings) {
        if (warning.kimg < x0 || warning.kimg > x1) continue;
        const x = X(warning.kimg);
        parts.push(svg("line", { class: "mark", x1: x, x2: x, y1: up, y2: height - down }),
          svg("path", { class: "flag", d: `M${x - 4} ${up - 6}h8l-4 7z` }, svg("title", {}, warning.text)));
      }
    }
    const cross = svg("line", { class: "cross", y1: up, y2: height - down, visibility: "hidden" });
    const zone = svg("rect", { class: "zone", y: up, height: height - up - down, width: 0 });
    drawing.replaceChildren(...parts, zone, cross);
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    map = { X, x0, x1, width, cross, zone, curves };
  }

  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    const part = (event.clientX - box.left - left) / (box.width - left - right);
    return map.x0 + Math.min(1, Math.max(0, part)) * (map.x1 - map.x0);
  };
  function hover(x) {
    map.cross.setAttribute("visibility", x == null ? "hidden" : "visible");
    if (x != null) { map.cross.setAttribute("x1", map.X(x)); map.cross.setAttribute("x2", map.X(x)); }
  }
  function tell(x, event) {
    const nearest = (xs) => xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
    const rows = map.curves.map(({ line, soft, bold }) => {
      const i = nearest(line.x);
      const raw = soft ? ` (${number(line.y[i])})` : "";
      const name = many ? line.run.name : line.label || title;
      return el("div", {}, el("span", { class: "key", style: `--color:${line.color}` }, name), number(bold[i]) + raw);
    });
    if (!rows.length) return;
    const first = map.curves[0].line;
    const here = (map.x1 - map.x0) / 60;
    const near = runs.flatMap((run) => run.warnings).filter((warning) => Math.abs(warning.kimg - x) < here);
    tip.replaceChildren(el("b", {}, kimg(first.x[nearest(first.x)])), ...rows,
      ...near.map((warning) => el("p", { style: "margin:4px 0 0;color:var(--warn)" }, warning.text)));
    tip.hidden = false;
    const box = card.getBoundingClientRect();
    const side = event.clientX - box.left;
    tip.style.left = side < box.width / 2 ? `${side + 14}px` : "auto";
    tip.style.right = side < box.width / 2 ? "auto" : `${box.width - side + 14}px`;
    tip.style.top = "44px";
  }
  let begin = null;
  drawing.addEventListener("pointermove", (event) => {
    const x = at(event);
    charts.forEach((chart) => chart.hover(x));
    if (begin == null) { tell(x, event); return; }
    const [a, b] = [map.X(Math.min(begin, x)), map.X(Math.max(begin, x))];
    map.zone.setAttribute("x", a);
    map.zone.setAttribute("width", b - a);
    tip.hidden = true;
  });
  drawing.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") { begin = at(event); drawing.setPointerCapture(event.pointerId); }
  });
  drawing.addEventListener("pointerup", (event) => {
    const [from, to] = [begin, at(event)];
    begin = null;
    if (from == null) return;
    if (Math.abs(map.X(from) - map.X(to)) > 6) zoom([Math.min(from, to), Math.max(from, to)]);
    else map.zone.setAttribute("width", 0);
  });
  drawing.addEventListener("dblclick", () => zoom(null));
  drawing.addEventListener("pointerleave", () => { tip.hidden = true; charts.forEach((chart) => chart.hover(null)); });
  card.chart = { draw, hover };
  charts.push(card.chart);
  return card;
}

let resetButton = null;
function zoom(range) {
  state.zoom = range;
  remember();
  if (resetButton) resetButton.hidden = !range;
  charts.forEach((chart) => chart.draw());
}

function curves() {
  const cards = [];
  if (many) {
    const found = new Map(); // a chart for each number, a line for each run
    for (const run of runs) {
      for (const panel of run.panels) {
        for (const series of panel.series) {
          const title = panel.title + (series.label ? ` · ${series.label}` : "");
          if (!found.has(title)) found.set(title, { panel, lines: [] });
          found.get(title).lines.push({ ...series, run, color: run.color });
        }
      }
    }
    found.forEach(({ panel, lines }, title) => cards.push([panel, () => Chart(title, panel, lines)]));
  } else {
    for (const panel of runs[0].panels) {
      const lines = panel.series.map((series) => ({ ...series, run: runs[0], color: `var(--${series.color})` }));
      cards.push([panel, () => Chart(panel.title, panel, lines)]);
    }
  }
  if (!cards.length) return;
  const isScore = ([panel]) => panel.title.startsWith("Evaluation");
  const ordered = [...cards.filter(isScore), ...cards.filter((card) => !isScore(card))];

  const slider = el("input", { id: "smoothing", type: "range", min: 0, max: 0.98, step: 0.02, value: state.smoothing,
    oninput: (event) => { state.smoothing = Number(event.target.value); remember(); charts.forEach((c) => c.draw()); } });
  const end = Math.max(...runs.map((run) => run.kimg));
  resetButton = el("button", { id: "reset", hidden: !state.zoom, onclick: () => zoom(null) }, "Show all");
  const bar = el("div", { class: "bar" }, el("label", {}, "Smoothing", slider),
    el("span", { class: "right" }, resetButton,
      el("button", { onclick: () => zoom([end / 2, end]) }, "Last half"),
      el("button", { onclick: () => zoom([0.9 * end, end]) }, "Last tenth")));
  const chips = many && el("div", { class: "runs bar" }, runs.map((run) => {
    const button = el("button", { "aria-pressed": "true", onclick: () => {
      run.shown = !run.shown;
      button.setAttribute("aria-pressed", run.shown);
      charts.forEach((chart) => chart.draw());
    } }, el("span", { class: "key", style: `--color:${run.color}` }, run.name));
    return button;
  }));
  const told = runs.flatMap((run) => run.warnings.map((warning) => [run, warning]));
  const warnings = told.length && el("ul", { class: "warnings" }, told.slice(-8).map(([run, warning]) =>
    el("li", {}, el("b", {}, `${many ? run.name + ", " : ""}${kimg(warning.kimg)}: `), warning.text)));
  section("Curves", warnings || null, chips || null, bar,
    el("div", { class: "charts" }, ordered.map(([, build]) => build())),
    el("p", { class: "soft", style: "margin-top:10px" },
      el("small", {}, "Against kimg, thousands of real images shown to D. Drag across a curve to zoom, double-click for all.")));
  requestAnimationFrame(() => charts.forEach((chart) => chart.draw()));
}
