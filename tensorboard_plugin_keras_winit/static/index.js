// The tab: what is shown, and how it follows a run.

import * as data from "./data.js";
import { curve, span, strip } from "./detail.js";
import { digits, element, fill } from "./dom.js";
import { list, severities } from "./findings.js";
import { HeatMap } from "./map.js";
import { paint, references, scale } from "./scale.js";

const EVERY = 5000;
const PREFERRED = ["stddev", "gradient_norm"];

const state = {
  tables: [],
  kind: "layers",
  runs: ["", ""],
  name: "",
  reference: "",
  decades: 1,
  layer: "",
  step: Infinity,
};
const controls = {};
const panes = [];
let shown = [];
// Counted, so that an answer that a newer choice has overtaken can be dropped.
let loads = 0;
let details = 0;
let news = "";
let listed = "";

export function render() {
  document.documentElement.lang = "en";
  document.title = "Winit";
  const style = new URL("./style.css", import.meta.url);
  const ready = new Promise((resolve) => {
    document.head.append(element("link", { rel: "stylesheet", href: style, onload: resolve }));
  });
  build();
  followTheme();
  onReload(refresh);
  setInterval(() => document.visibilityState === "visible" && refresh(), EVERY);
  let frame = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  }).observe(document.body);
  ready.then(refresh);
}

function build() {
  const choose = (id, label, change) => {
    controls[id] = element("select", { id, onchange: () => change(controls[id].value) });
    return element("span", {}, element("label", { for: id }, label), " ", controls[id]);
  };
  const set = (key) => (value) => {
    state[key] = value;
    attempt(load);
  };
  const run = (i) => (value) => {
    state.runs[i] = value;
    attempt(load);
  };
  controls.status = element("p", { id: "status", role: "status", class: "faint" });
  controls.legend = element("div", { id: "legend" });
  controls.readout = element("p", { id: "readout", "aria-live": "polite" });
  controls.findings = element("section", { id: "findings", "aria-label": "Findings" });
  controls.detail = element("section", { id: "detail", "aria-label": "Selected layer" });
  controls.maps = element("section", { id: "maps", "aria-label": "Heat maps" });
  document.body.append(
    element(
      "header",
      {},
      choose("run", "Run", run(0)),
      choose("other", "Compare with", run(1)),
      choose("kind", "Rows", set("kind")),
      choose("statistic", "Statistic", set("name")),
      choose("reference", "Relative to", set("reference")),
      choose("decades", "Range", (value) => set("decades")(Number(value))),
      controls.status,
    ),
    element(
      "main",
      {},
      element("div", {}, controls.legend, controls.maps, controls.readout, controls.detail),
      controls.findings,
    ),
  );
  fill(controls.decades, [1, 2, 4].map((n) => [n, n === 1 ? "± 1 decade" : `± ${n} decades`]), state.decades);
}

// The tables of a kind, newest first; a run whose layers changed has several.
function choices(kind) {
  const tables = state.tables.filter((table) => table.kind === kind);
  tables.sort((a, b) => (a.run < b.run ? -1 : a.run > b.run ? 1 : b.time - a.time));
  return tables.map((table, i) => {
    const again = i > 0 && tables[i - 1].run === table.run;
    const label = again ? `${table.run} (earlier, ${table.rows.length} rows)` : table.run;
    return [`${table.run}\n${table.tag}`, label, table];
  });
}

// Ask what there is; fetch what has grown since.
async function refresh() {
  await attempt(async () => {
    const found = await data.runs();
    if (JSON.stringify(found) === news) return;
    news = JSON.stringify(found);
    state.tables = found.tables;
    await load();
  });
}

async function attempt(act) {
  try {
    await act();
  } catch (error) {
    news = "";
    controls.status.textContent = `TensorBoard does not answer: ${error.message}`;
  }
}

async function load() {
  const mine = ++loads;
  const kinds = ["layers", "variables"].filter((kind) => choices(kind).length);
  if (!kinds.length) return empty();
  if (!kinds.includes(state.kind)) state.kind = kinds[0];
  const options = choices(state.kind);
  const find = (key) => options.find(([value]) => value === key);
  // Another kind: the same run.
  const same = (key) => options.find(([value]) => value.split("\n")[0] === key.split("\n")[0]);
  const newest = options.reduce((a, b) => (b[2].time > a[2].time ? b : a));
  const [run, other] = state.runs;
  state.runs = [(find(run) ?? same(run) ?? newest)[0], (find(other) ?? same(other) ?? [""])[0]];
  const tables = state.runs.filter(Boolean).map((key) => find(key)[2]);
  const names = tables[0].columns;
  if (!names.includes(state.name)) {
    state.name = PREFERRED.find((name) => names.includes(name)) ?? names[0];
  }
  fill(controls.kind, kinds.map((kind) => [kind, kind]), state.kind);
  fill(controls.run, options, state.runs[0]);
  fill(controls.other, [["", "nothing"], ...options], state.runs[1]);
  fill(controls.statistic, names.map((name) => [name, name]), state.name);
  const fetched = await Promise.all(tables.map(fetchTable));
  if (mine !== loads) return;
  shown = fetched.filter((one) => one.data);
  draw();
  await detail();
  document.body.dataset.ready = String(Number(document.body.dataset.ready ?? 0) + 1);
}

async function fetchTable(table) {
  const index = table.columns.indexOf(state.name);
  const findings = await data.findings(table.run);
  const keys = distinct(table.rows);
  return index < 0 ? {} : { table, keys, findings, data: await data.column(table, index) };
}

// Names that occur twice are told apart by their number.
function distinct(names) {
  const seen = new Map();
  return names.map((name) => {
    const times = (seen.get(name) ?? 0) + 1;
    seen.set(name, times);
    return times > 1 ? `${name} (${times})` : name;
  });
}

function empty() {
  controls.status.textContent =
    "No data yet. Train with ActivationMonitor(log_dir=...) and point TensorBoard at that directory.";
  document.body.dataset.ready = "1";
}

const theme = () => (document.body.classList.contains("dark") ? "dark" : "light");

function draw() {
  if (!shown.length) return;
  const first = shown[0];
  if (!shown.some(({ keys }) => keys.includes(state.layer))) state.layer = first.keys[0];
  const offered = references(state.name, first.data);
  if (!offered.some(([value]) => value === state.reference)) state.reference = offered[0][0];
  fill(controls.reference, offered, state.reference);
  // Both runs in the colors of the first.
  const colors = scale(state.name, first.data, state.reference, state.decades);
  legend(colors);
  const others = shown.slice(1).map((one) => scale(state.name, one.data, state.reference, state.decades));
  const scales = state.reference === "own" ? [colors, ...others] : shown.map(() => colors);
  while (panes.length < shown.length) panes.push(pane(panes.length));
  const used = panes.slice(0, shown.length);
  if (controls.maps.children.length !== used.length) {
    controls.maps.replaceChildren(...used.map(({ box }) => box));
  }
  const width = Math.floor(controls.maps.clientWidth / shown.length) - 12;
  const height = Math.max(300, window.innerHeight * 0.62);
  shown.forEach((one, i) => {
    used[i].title.textContent = one.table.run;
    used[i].map.draw(
      {
        ...one,
        id: `map${i}`,
        name: state.name,
        scale: scales[i],
        look: [state.name, state.reference, state.decades, theme(), first.table.run, first.data.count].join(),
        theme: theme(),
        row: rowIn(one),
        sample: sampleOf(one.data),
        severities: severities(one.findings),
      },
      Math.max(300, width),
      height,
    );
  });
  const { count, steps } = first.data;
  controls.status.textContent = count ? `${count} samples, last at step ${steps[count - 1]}` : "No samples yet.";
  controls.readout.textContent = used
    .filter(({ map }) => map.shown.row >= 0 && map.shown.data.count)
    .map(({ map }) => `${shown.length > 1 ? `${map.shown.table.run}: ` : ""}${map.describe(map.shown.row, map.shown.sample)}`)
    .join("; ");
  // What is open in them stays open while they are the same.
  const told = JSON.stringify(shown.map(({ table, findings }) => [table.run, findings]));
  if (told !== listed) {
    listed = told;
    controls.findings.replaceChildren(
      element("h2", {}, "Findings"),
      ...shown.flatMap(({ table, findings }) => list(table.run, findings, jump)),
    );
  }
}

// The last sample that is not after the chosen step.
function sampleOf({ steps, count }) {
  let sample = 0;
  while (sample + 1 < count && steps[sample + 1] <= state.step) sample++;
  return sample;
}

// The selected layer's row. Automatic names count on from model to model: where a run lacks
// the name but is as deep, it is the one at the same place.
function rowIn({ keys }) {
  const place = keys.indexOf(state.layer);
  const other = shown.find((one) => one.keys.includes(state.layer));
  if (place >= 0 || other?.keys.length !== keys.length) return place;
  return other.keys.indexOf(state.layer);
}

function pane(i) {
  const map = new HeatMap((row, sample) => {
    const { keys, data } = shown[i];
    select(keys[row], sample === data.count - 1 ? Infinity : data.steps[sample]);
  });
  const title = element("h2", {});
  return { map, title, box: element("div", { class: "pane" }, title, map.element) };
}

async function select(layer, step) {
  const other = layer !== state.layer;
  state.layer = layer;
  state.step = step ?? Infinity;
  draw();
  if (other) await attempt(detail);
}

// To what a finding is about, be it a layer or a variable.
async function jump(row, step) {
  const found = state.tables.find((table) => table.rows.includes(row));
  if (shown.some(({ keys }) => keys.includes(row))) return select(row, step);
  if (!found) return;
  Object.assign(state, { kind: found.kind, layer: row, step });
  await attempt(load);
}

async function detail() {
  const mine = ++details;
  const using = shown.filter((one) => rowIn(one) >= 0);
  const rows = await Promise.all(using.map((one) => data.row(one.table, rowIn(one))));
  const strips = await Promise.all(
    using.map(({ table, keys }) =>
      table.kind === "layers" ? data.histogram(table.run, table.tags[rowIn({ keys })]) : null,
    ),
  );
  if (mine !== details) return;
  const names = using[0]?.table.columns ?? [];
  const reach = span(strips.flat().filter(Boolean));
  const curves = names.map((name) => {
    const series = using.map(({ table }, i) => ({
      data: rows[i],
      at: table.columns.indexOf(name),
      shade: i ? "second" : "accent",
    }));
    return curve(name, series.filter(({ data: one, at }) => at >= 0 && !one.absent[at]));
  });
  controls.detail.replaceChildren(
    element("h2", {}, state.layer),
    using.length > 1
      ? element("p", { class: "key" }, ...using.map(({ table }, i) => element("span", { class: i ? "second" : "first" }, table.run)))
      : "",
    element("div", { class: "curves" }, ...curves),
    ...strips.flatMap((histograms, i) =>
      histograms
        ? [element("h3", {}, `Histogram, ${using[i].table.run}`), strip(histograms, reach, `Histograms of ${state.layer} over ${histograms.length} steps`)]
        : [],
    ),
  );
  document.body.dataset.layer = state.layer;
}

function legend(colors) {
  const bar = element("canvas", { width: 201, height: 1, "aria-hidden": "true" });
  const drawing = bar.getContext("2d");
  for (let x = 0; x <= 200; x++) {
    const position = colors.from + ((1 - colors.from) * x) / 200;
    drawing.fillStyle = `rgb(${paint(position, theme())})`;
    drawing.fillRect(x, 0, 1, 1);
  }
  const text = colors.ends.map((end) => (typeof end === "number" ? digits(end) : end));
  controls.legend.replaceChildren(
    element("span", {}, text[0]),
    bar,
    element("span", {}, text[2]),
    element("span", { class: "faint" }, `middle: ${text[1]}`),
    element("span", { class: "nan" }),
    element("span", {}, "NaN or infinite"),
    element("span", { class: "faint" }, "dotted: does not apply"),
  );
}

// The frame stays light by itself; TensorBoard marks its own body.
function followTheme() {
  const host = parent.document.body;
  const follow = () => {
    document.body.classList.toggle("dark", host.classList.contains("dark-mode"));
    draw();
    if (shown.length) attempt(detail);
  };
  new MutationObserver(follow).observe(host, { attributes: true, attributeFilter: ["class"] });
  follow();
}

// TensorBoard's reload button, by the protocol of its plugin library.
function onReload(act) {
  const { port1, port2 } = new MessageChannel();
  parent.postMessage("experimental.bootstrap", location.origin, [port2]);
  port1.onmessage = (event) => {
    const { type, id, isReply } = JSON.parse(event.data);
    if (isReply) return;
    if (type === "experimental.DataReloaded") act();
    port1.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
  };
}
