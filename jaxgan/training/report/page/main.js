// The head of the page, and all parts of it in order.

function themeButton() {
  const dark = () => (state.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = el("button", { id: "theme", onclick: () => { state.theme = dark() ? "light" : "dark"; apply(); } });
  function apply() {
    if (state.theme) document.documentElement.dataset.theme = state.theme;
    button.textContent = dark() ? "Light" : "Dark";
    remember();
  }
  apply();
  return button;
}

function stateChip(run) {
  const chip = el("span", { class: `state ${run.status}` });
  // Reports come as often as samples are drawn; while a run compiles, before its first lines, nobody knows how often.
  const patience = run.interval ? 60 + 2 * run.interval : 900;
  const say = () => {
    const age = Date.now() / 1000 - run.written;
    const running = run.status === "running";
    const silent = running && age > patience;
    chip.classList.toggle("running", running && !silent);
    const done = `${Math.round((100 * run.kimg) / run.total)} %`;
    chip.textContent = silent ? `no news for ${duration(age)}, at ${done}`
      : running ? `running, ${done}${run.left ? `, ${run.left} left` : ""}`
      : run.kimg < run.total ? `${run.status} at ${done}` : run.status;
  };
  say();
  if (run.status === "running") setInterval(say, 1000);
  return chip;
}

function tiles(run) {
  const facts = Object.fromEntries(run.facts);
  const found = run.scores.slice(0, 3).map((score) => {
    const best = score.higher != null;
    const where = best ? `best, at ${kimg(score.where)}` : "last";
    return [score.name, number(best ? score.best : score.last), where];
  });
  found.push(["trained", kimg(run.kimg), `of ${kimg(run.total)}`]);
  if (facts["trained for"]) found.push(["time", facts["trained for"], run.status === "running" && run.left ? `${run.left} left` : "over all starts"]);
  if (facts.speed) found.push(["speed", facts.speed.split(" ")[0], "images a second"]);
  if (facts.cost) found.push(["cost", facts.cost.split(" ").slice(0, 2).join(" "), "an image"]);
  const tile = ([name, value, more]) => el("div", {}, el("span", {}, name), el("b", {}, value), el("small", {}, more));
  return el("div", { class: "tiles" }, found.map(tile));
}

function headline() {
  const run = runs[0];
  const title = many ? `${runs.length} runs` : run.name;
  const what = many ? [...new Set(runs.map((r) => r.title))].join(" · ") : `${run.title} · config ${run.config}`;
  page.append(el("header", {}, el("div", {}, el("h1", {}, title), el("p", { class: "soft" }, what)),
    !many && stateChip(run), themeButton()));
  if (many) return;
  if (run.status === "running") {
    page.append(el("div", { class: "progress" }, el("i", { style: `width:${(100 * run.kimg) / run.total}%` })));
  }
  page.append(tiles(run));
}

headline();
if (many) { comparison(); samples(); curves(); }
else { samples(); scores(); curves(); classes(); neighbours(); about(); }
const when = new Date(Math.max(...runs.map((run) => run.written)) * 1000);
page.append(el("footer", {}, `Written by jaxgan on ${when.toISOString().slice(0, 16).replace("T", " ")} UTC.`));

let resizing = null;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    charts.forEach((chart) => chart.draw());
    redraws.forEach((draw) => draw());
    movers.forEach((move) => move(now));
  }, 120);
});

// A page whose run trains looks again, unless somebody is at work on it.
if (!many && runs[0].status === "running") {
  let touched = 0;
  ["pointerdown", "pointermove", "keydown"].forEach((name) => addEventListener(name, () => { touched = Date.now(); }));
  setInterval(() => {
    const busy = document.hidden || Date.now() - touched < 5000 || (timeBar.playing && timeBar.playing());
    if (!busy) location.reload();
  }, 20000);
}
