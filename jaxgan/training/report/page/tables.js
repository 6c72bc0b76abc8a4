// Tables: scores, classes, settings, and the comparison of several runs.

// A table of {text, value, best, words} cells; a click on a heading sorts by its values.
function table(headings, rows, sortable = false) {
  const isNumber = headings.map((_, i) => rows.some((row) => typeof row[i].value === "number"));
  const isWords = headings.map((_, i) => rows.some((row) => row[i].words));
  const line = (row) => el("tr", {}, row.map((cell, i) =>
    el("td", { class: [isNumber[i] && "number", isWords[i] && "words", cell.best && "best"].filter(Boolean).join(" ") },
      cell.node || cell.text)));
  const body = el("tbody", {}, rows.map(line));
  const heads = headings.map((heading, i) => {
    const th = el("th", { scope: "col", class: isNumber[i] ? "number" : "" });
    th.append(sortable ? el("button", { onclick: () => sort(i, th) }, heading) : heading);
    return th;
  });
  function sort(column, th) {
    const rising = th.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const key = (row) => row[column].value ?? row[column].text;
    const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true }));
    const sorted = [...rows].sort((a, b) => (rising ? 1 : -1) * order(key(a), key(b)));
    body.replaceChildren(...sorted.map(line));
  }
  return el("div", { class: "card wide" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body));
}
const cell = (value) => (typeof value === "number" ? { text: number(value), value } : { text: value ?? "–" });

function scores() {
  const run = runs[0];
  if (run.scores.length) {
    const rows = run.scores.map((score) => [cell(score.name), cell(score.last), cell(score.best),
      { text: score.where == null ? "–" : kimg(score.where), value: score.where ?? undefined },
      { text: score.protocol, words: true }]);
    section("Scores", table(["score", "last", "best", "at", "how it was made"], rows));
  }
  if (run.measured.length) {
    const rows = run.measured.flatMap((one) => Object.entries(one.scores).filter(([name]) => !name.endsWith("_std"))
      .map(([name, value]) => {
        const spread = one.scores[`${name}_std`];
        const details = Object.entries(one.protocol).filter(([key]) => key !== "networks" && key !== "protocol")
          .map(([key, what]) => `${key} ${what}`).join(", ");
        return [cell(name), { text: number(value) + (spread == null ? "" : ` ± ${number(spread, 2)}`), value },
          { text: kimg(one.kimg), value: one.kimg }, { text: `${one.protocol.protocol}: ${details}`, words: true }];
      }));
    section(run.scores.length ? "Scores of single checkpoints" : "Scores", table(["score", "value", "at", "protocol"], rows));
  }
}

function classes() {
  const run = runs[0];
  const grid = run.grid;
  if (!grid || !grid.titles.length) return;
  const names = [...new Set(grid.titles)];
  const card = el("div", { class: "card", style: "padding:4px 0" });
  const real = grid.reals && picture(grid.reals);
  for (const name of names) {
    const column = grid.titles.indexOf(name);
    const cells = (image) => [Array.from({ length: rowsOf(image, grid) }, (_, row) => [row, column])];
    const values = Object.entries(run.classes).filter(([, by]) => by[name] != null)
      .map(([key, by]) => el("small", { class: "soft", style: "display:block" }, `${key} ${number(by[name], 3)}`));
    const fakes = el("canvas", { role: "img", "aria-label": `samples of ${name}` });
    card.append(el("div", { class: "class" }, el("div", {}, el("b", {}, name), ...values), fakes));
    follow(fakes, grid, cells);
    if (real) {
      const reals = el("canvas", { role: "img", "aria-label": `real images of ${name}` });
      card.lastChild.append(reals);
      still(reals, real, grid, cells);
    }
  }
  section("Classes: samples, and real images", card);
}

function neighbours() {
  if (!runs[0].neighbours) return;
  section("Nearest training images", el("p", { class: "soft" },
    "The samples that are nearest to a training image, nearest first, each beside that image. Twins mean memorising."),
  el("figure", { class: "card" }, el("img", { src: runs[0].neighbours, alt: "samples beside their nearest real images" })));
}

function about() {
  const run = runs[0];
  section("What was trained", el("dl", { class: "card facts" }, run.facts.map(([name, text]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, text)))));
  const changed = Object.entries(run.settings).map(([key, [value, other]]) =>
    [{ node: el("code", {}, `config.${key}`) }, { node: el("code", {}, value || "–") }, { node: el("code", { class: "soft" }, other || "–") }]);
  if (changed.length) section("Settings that differ from the defaults", 
    table(["setting", "here", "default"], changed));
  if (run.command) {
    const button = el("button", { onclick: () => navigator.clipboard?.writeText(run.command)
      .then(() => { button.textContent = "Copied"; }, () => {}) }, "Copy");
    section("The same run again", el("div", { class: "card copy" }, el("pre", {}, run.command), button));
  }
}

function comparison() {
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))];
  const unset = Object.fromEntries(runs.flatMap((run) => Object.entries(run.settings).map(([key, [, other]]) => [key, other])));
  const value = (run, key) => (run.settings[key] ? run.settings[key][0] : unset[key]);
  const differing = keys.filter((key) => new Set(runs.map((run) => value(run, key))).size > 1)
    .sort((a, b) => (a === "seed") - (b === "seed"));
  const names = [...new Set(runs.flatMap((run) => run.scores.map((score) => score.name)))];
  const score = (run, name) => run.scores.find((one) => one.name === name);
  const chief = (one) => one && (one.higher == null ? one.last : one.best);
  const bestOf = (name, values) => {
    const higher = runs.map((run) => score(run, name)).find(Boolean).higher;
    const known = values.filter((v) => v != null);
    return higher == null ? null : Math[higher ? "max" : "min"](...known);
  };
  const asCell = (text) => (text !== "" && Number.isFinite(Number(text)) ? { text, value: Number(text) } : { text: text || "–" });

  const columns = names.map((name) => runs.map((run) => chief(score(run, name))));
  const rows = runs.map((run, i) => [
    { text: run.name, node: el("span", { class: "key", style: `--color:${run.color}` }, run.name) },
    ...names.map((name, n) => ({ ...cell(columns[n][i]), best: columns[n][i] != null && columns[n][i] === bestOf(name, columns[n]) })),
    { text: number(run.kimg), value: run.kimg },
    { text: duration(run.seconds), value: run.seconds ?? undefined },
    ...differing.map((key) => asCell(value(run, key))),
  ]);
  const label = (name) => (runs.some((run) => score(run, name)?.higher != null) ? `best ${name}` : name);
  section("Runs", table(["run", ...names.map(label), "kimg", "time", ...differing], rows, true));

  // Runs that differ in the seed only are one experiment.
  const groups = new Map();
  for (const run of runs) {
    const key = JSON.stringify(keys.filter((name) => name !== "seed").map((name) => value(run, name)));
    groups.set(key, [...(groups.get(key) || []), run]);
  }
  if (![...groups.values()].some((group) => group.length > 1)) return;
  const settings = differing.filter((key) => key !== "seed");
  const statistics = [...groups.values()].map((group) => names.map((name) => {
    const values = group.map((run) => chief(score(run, name))).filter((v) => v != null);
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
    const std = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1));
    return { values, mean, std };
  }));
  const means = [...groups.values()].map((group, g) => [
    { text: String(group.length), value: group.length },
    ...names.map((name, n) => {
      const { values, mean, std } = statistics[g][n];
      const text = values.length ? number(mean) + (values.length > 1 ? ` ± ${number(std, 2)}` : "") : "–";
      return { text, value: mean, best: groups.size > 1 && mean === bestOf(name, statistics.map((s) => s[n].mean)) };
    }),
    ...settings.map((key) => asCell(value(group[0], key))),
  ]);
  section("Over seeds: mean ± standard deviation", table(["seeds", ...names.map(label), ...settings], means, true));
}
