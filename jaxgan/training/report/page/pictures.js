// Pictures: the grid of samples with its slider, real images, and one image over time.

// Draws cells of a sprite, [[row, column], ...] by rows, with thin gaps and without blurring their pixels.
function paint(canvas, image, grid, cells) {
  const width = canvas.clientWidth || canvas.parentNode.clientWidth;
  if (!width || !image.naturalWidth) return;
  const [rows, columns] = [cells.length, cells[0].length];
  const from = { w: image.naturalWidth / grid.columns };
  from.h = (from.w * grid.cell[0]) / grid.cell[1];
  const scale = window.devicePixelRatio || 1;
  const gap = Math.round((columns > 1 ? 2 : 0) * scale);
  canvas.width = Math.round(width * scale);
  const w = (canvas.width - gap * (columns - 1)) / columns;
  const h = (w * from.h) / from.w;
  canvas.height = Math.round(h * rows + gap * (rows - 1));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = w < from.w;
  cells.forEach((row, y) => row.forEach(([r, c], x) => {
    const [left, up] = [Math.round(x * (w + gap)), Math.round(y * (h + gap))];
    const [right, down] = [Math.round(x * (w + gap) + w), Math.round(y * (h + gap) + h)];
    context.drawImage(image, c * from.w, r * from.h, from.w, from.h, left, up, right - left, down - up);
  }));
}

const rowsOf = (image, grid) =>
  Math.round((image.naturalHeight * grid.columns * grid.cell[1]) / (image.naturalWidth * grid.cell[0]));
const allCells = (image, grid) =>
  Array.from({ length: rowsOf(image, grid) }, (_, r) => Array.from({ length: grid.columns }, (_, c) => [r, c]));

function picture(source) {
  const image = new Image();
  image.src = source;
  return image;
}
const whenReady = (image, then) => (image.complete && image.naturalWidth ? then() : image.addEventListener("load", then));

const redraws = []; // called when the width changes
const movers = []; // called with a moment in kimg when the slider moves
let now = 0; // that moment

// The number of the newest frame that a grid has at a moment.
const frameAt = (grid, moment) => grid.frames.reduce((found, [when], i) => (when <= moment ? i : found), 0);

// Keeps a canvas at the moment of the slider.
function follow(canvas, grid, cells = allCells) {
  let current = null;
  movers.push((moment) => {
    const image = grid.pictures[frameAt(grid, moment)];
    current = image; // one that is ready late must not cover a later one
    whenReady(image, () => image === current && paint(canvas, image, grid, cells(image, grid)));
  });
}

function heads(grid) {
  if (!grid.titles.length) return null;
  return el("div", { class: "heads", style: `grid-template-columns:repeat(${grid.columns},1fr)` },
    grid.titles.map((title) => el("span", { title }, title)));
}

function still(canvas, image, grid, cells = allCells) {
  const draw = () => whenReady(image, () => paint(canvas, image, grid, cells(image, grid)));
  redraws.push(draw);
  requestAnimationFrame(draw);
}

// One image of the grid at up to twelve moments.
function filmStrip(run, row, column) {
  const frames = run.grid.pictures;
  const count = Math.min(12, frames.length);
  const chosen = Array.from({ length: count }, (_, i) => Math.round((i * (frames.length - 1)) / Math.max(count - 1, 1)));
  return chosen.map((i) => {
    const canvas = el("canvas", { style: "width:100%" });
    const draw = () => whenReady(frames[i], () => paint(canvas, frames[i], run.grid, [[[row, column]]]));
    requestAnimationFrame(draw);
    return el("figure", {}, canvas, el("small", { class: "soft" }, number(run.grid.frames[i][0])));
  });
}

function samples() {
  const drawn = runs.filter((run) => run.grid);
  if (!drawn.length) return;
  drawn.forEach((run) => { run.grid.pictures = run.grid.frames.map(([, source]) => picture(source)); });
  const pair = el("div", { class: "pair" });
  const strip = el("div", { id: "strip" });
  for (const run of drawn) {
    const canvas = el("canvas", { class: many ? "" : "pick", role: "img", "aria-label": `samples of ${run.name}` });
    const caption = many ? el("b", { class: "key", style: `--color:${run.color}` }, run.name) : el("b", {}, "Samples");
    const note = el("span", {});
    pair.append(el("figure", { class: "card" }, el("figcaption", {}, caption, note), heads(run.grid), canvas));
    follow(canvas, run.grid);
    if (many) {
      movers.push((moment) => { note.textContent = kimg(run.grid.frames[frameAt(run.grid, moment)][0]); });
      continue;
    }
    note.textContent = "the same latents at every step";
    canvas.title = "Click an image to see it over time";
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const rows = rowsOf(run.grid.pictures[0], run.grid);
      const column = Math.floor(((event.clientX - box.left) / box.width) * run.grid.columns);
      const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
      const close = el("button", { onclick: () => strip.replaceChildren() }, "Close");
      const wide = run.grid.cell[1] > run.grid.cell[0] ? 110 : 76;
      strip.replaceChildren(el("div", { class: "card", style: "margin-top:14px" },
        el("figcaption", {}, el("b", {}, `Row ${row + 1}, column ${column + 1} over time, in kimg`), close),
        el("div", { style: `display:grid;gap:8px;grid-template-columns:repeat(auto-fill,minmax(${wide}px,1fr))` },
          filmStrip(run, row, column))));
    });
  }
  if (!many && drawn[0].grid.reals) {
    const canvas = el("canvas", { role: "img", "aria-label": "real images" });
    pair.append(el("figure", { class: "card" },
      el("figcaption", {}, el("b", {}, "Real images"), el("span", {}, Object.fromEntries(runs[0].facts).images)),
      heads(drawn[0].grid), canvas));
    still(canvas, picture(drawn[0].grid.reals), drawn[0].grid);
  }
  if (many) page.append(el("h2", {}, "Samples"));
  page.append(pair, timeBar(drawn), strip);
}

function timeBar(drawn) {
  const moments = [...new Set(drawn.flatMap((run) => run.grid.frames.map(([when]) => when)))].sort((a, b) => a - b);
  const last = moments.length - 1;
  const output = el("output", { for: "slider" });
  const slider = el("input", { id: "slider", type: "range", min: 0, max: last, "aria-label": "moment of training" });
  const icon = (path) => svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: path }));
  const button = el("button", { class: "play", id: "play" });
  let timer = null;
  function show(index) {
    slider.value = index;
    output.textContent = kimg(moments[index]);
    now = moments[index];
    movers.forEach((move) => move(now));
    state.moment = index === last ? null : moments[index]; // null: the newest, whichever that is after a reload
    remember();
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.replaceChildren(icon("M4 2l9 6-9 6z"));
    button.setAttribute("aria-label", "Play");
  }
  function play() {
    if (slider.value >= last) show(0);
    button.replaceChildren(icon("M3 2h4v12H3zM9 2h4v12H9z"));
    button.setAttribute("aria-label", "Pause");
    const pause = Math.max(60, Math.min(400, 6000 / moments.length));
    timer = setInterval(() => {
      show(Math.min(Number(slider.value) + 1, last));
      if (slider.value >= last) stop();
    }, pause);
  }
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", () => (timer ? stop() : play()));
  stop();
  const begin = state.moment == null ? last : moments.reduce((found, when, i) => (when <= state.moment ? i : found), 0);
  requestAnimationFrame(() => show(begin));
  timeBar.playing = () => timer !== null;
  return el("div", { class: "card time" }, button, slider, output);
}
