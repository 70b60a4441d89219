// Entry point of the tab: shows what the user has chosen, and follows a run while it is written.

import { Unreadable, emptySlice, fetchColumn, fetchFindings, fetchHistograms, fetchRow, fetchRuns } from "./data.js";
import { detailElements } from "./detail.js";
import { element, setOptions } from "./dom.js";
import { findingList, worstSeverities } from "./findings.js";
import { currentTheme, followReloads, followTheme } from "./host.js";
import { legendElements } from "./legend.js";
import { HeatMap } from "./map.js";
import { buildPage, loadStyle } from "./page.js";
import { colorScale, referenceOptions } from "./scale.js";
import { chosenOptions, recordIndex, rowIndex, rowKeys, tableOptions } from "./tables.js";

const REFRESH_INTERVAL = 5000; // in milliseconds
const KINDS = ["layers", "variables"];
const PREFERRED_STATISTICS = ["stddev", "gradient_norm"];

// `run` and `other` are keys of tables, `row` is the key of the selected row, and the infinite
// step stands for the newest one.
const state = {
  tables: [],
  run: "",
  other: "",
  kind: KINDS[0],
  statistic: "",
  reference: "",
  decades: 1,
  row: "",
  step: Infinity,
};
let page;
// What of the runs cannot be read, as texts.
const unreadable = new Set();
const panes = [];
// One for each run on the page: {table, keys, findings, slice}.
let views = [];
// Numbers of the latest requests: the answer to an earlier request is dropped.
let latestLoad = 0;
let latestDetail = 0;
// What was shown last, to leave it alone while it is the same.
let shownRuns = "";
let shownFindings = "";

// TensorBoard calls this function to start the tab.
export function render() {
  const styled = loadStyle();
  page = buildPage(choose);
  setOptions(page.selects.decades, [[1, "± 1 decade"], [2, "± 2 decades"], [4, "± 4 decades"]], state.decades);
  followTheme(() => {
    draw();
    if (views.length) reportErrors(showDetail);
  });
  followReloads(refresh);
  setInterval(() => document.visibilityState === "visible" && refresh(), REFRESH_INTERVAL);
  let frame = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  }).observe(document.body);
  styled.then(refresh);
}

function choose(control, value) {
  state[control] = control === "decades" ? Number(value) : value;
  reportErrors(load);
}

async function reportErrors(action) {
  try {
    await action();
  } catch (error) {
    shownRuns = "";
    page.status.textContent = `TensorBoard does not answer: ${error.message}`;
  }
}

// Loads the tables again if any of them has grown.
function refresh() {
  return reportErrors(async () => {
    const runs = await fetchRuns();
    if (JSON.stringify(runs) === shownRuns) return;
    shownRuns = JSON.stringify(runs);
    state.tables = runs.tables;
    unreadable.clear();
    for (const { run, tag } of runs.skipped ?? []) unreadable.add(`${run}, ${tag}`);
    await load();
  });
}

async function load() {
  const request = ++latestLoad;
  const tables = chooseTables();
  if (!tables.length) return showEmpty();
  const loaded = await Promise.all(tables.map(loadView));
  showUnreadable();
  if (request !== latestLoad) return;
  views = loaded.filter(Boolean);
  draw();
  await showDetail();
  document.body.dataset.ready = String(Number(document.body.dataset.ready ?? 0) + 1);
}

// Resolves to a substitute, and notes what is missing, if a run cannot be read.
async function orSubstitute(fetched, substitute) {
  try {
    return await fetched;
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    unreadable.add(error.message);
    return substitute;
  }
}

function showUnreadable() {
  page.unreadable.textContent = unreadable.size
    ? `Skipped, because it cannot be read: ${[...unreadable].join("; ")}`
    : "";
}

// Replaces choices that the data does not offer, updates the controls to match, and returns the
// tables of one run or two.
function chooseTables() {
  const kinds = KINDS.filter((kind) => tableOptions(state.tables, kind).length);
  if (!kinds.length) return [];
  if (!kinds.includes(state.kind)) state.kind = kinds[0];
  const options = tableOptions(state.tables, state.kind);
  const chosen = chosenOptions(options, [state.run, state.other]);
  [state.run, state.other] = chosen.map((option) => option?.[0] ?? "");
  const tables = chosen.filter(Boolean).map(([, , table]) => table);
  const statistics = tables[0].columns;
  if (!statistics.includes(state.statistic)) {
    state.statistic = PREFERRED_STATISTICS.find((name) => statistics.includes(name)) ?? statistics[0];
  }
  const { selects } = page;
  setOptions(selects.kind, kinds.map((kind) => [kind, kind]), state.kind);
  setOptions(selects.run, options, state.run);
  setOptions(selects.other, [["", "no other run"], ...options], state.other);
  setOptions(selects.statistic, statistics.map((name) => [name, name]), state.statistic);
  return tables;
}

async function loadView(table) {
  const column = table.columns.indexOf(state.statistic);
  if (column < 0) return null;
  const [findings, slice] = await Promise.all([
    orSubstitute(fetchFindings(table.run), []),
    orSubstitute(fetchColumn(table, column), emptySlice(table.rows.length)),
  ]);
  return { table, keys: rowKeys(table.rows), findings, slice };
}

function showEmpty() {
  page.status.textContent =
    "No data yet. Train with ActivationMonitor(log_dir=...) and point TensorBoard at that directory.";
  showUnreadable();
  document.body.dataset.ready = "1";
}

function draw() {
  if (!views.length) return;
  const { keys, slice } = views[0];
  if (!views.some((view) => view.keys.includes(state.row))) state.row = keys[0];
  const references = referenceOptions(state.statistic, slice);
  if (!references.some(([value]) => value === state.reference)) state.reference = references[0][0];
  setOptions(page.selects.reference, references, state.reference);
  const { count, steps } = slice;
  page.status.textContent = count
    ? `${count} recorded steps, the last is step ${steps[count - 1]}`
    : "No recorded steps yet.";
  drawMaps();
  showFindings();
}

function drawMaps() {
  const scales = views.map(({ slice }) => colorScale(state.statistic, slice, state.reference, state.decades));
  page.legend.replaceChildren(...legendElements(scales[0], currentTheme()));
  while (panes.length < views.length) panes.push(makePane(panes.length));
  const used = panes.slice(0, views.length);
  if (page.maps.children.length !== used.length) {
    page.maps.replaceChildren(...used.map(({ box }) => box));
  }
  const width = Math.max(300, Math.floor(page.maps.clientWidth / views.length) - 12);
  const height = Math.max(300, window.innerHeight * 0.62);
  views.forEach((view, i) => {
    used[i].title.textContent = view.table.run;
    used[i].map.draw(mapView(view, i, scales), width, height);
  });
  page.readout.textContent = used
    .map(({ map }) => map)
    .filter(({ view }) => view.row >= 0 && view.slice.count)
    .map((map) => {
      const text = map.describe(map.view.row, map.view.record);
      return views.length > 1 ? `${map.view.table.run}: ${text}` : text;
    })
    .join("; ");
}

function mapView(view, i, scales) {
  const { statistic, reference, decades } = state;
  const theme = currentTheme();
  const [{ table, slice }] = views;
  return {
    ...view,
    id: `map${i}`,
    statistic,
    // Both runs have the colors of the first, unless each row has a reference of its own.
    scale: scales[reference === "row" ? i : 0],
    scaleKey: [statistic, reference, decades, theme, table.run, slice.count].join(),
    theme,
    row: rowIndex(state.row, view, views),
    record: recordIndex(state.step, view.slice),
    severities: worstSeverities(view.findings),
  };
}

function makePane(i) {
  const map = new HeatMap((row, record) => {
    const { keys, slice } = views[i];
    select(keys[row], record === slice.count - 1 ? Infinity : slice.steps[record]);
  });
  const title = element("h2", {});
  return { map, title, box: element("div", { class: "pane" }, title, map.element) };
}

// Unchanged findings stay in the page, so that what the user has unfolded stays unfolded.
function showFindings() {
  const findings = JSON.stringify(views.map((view) => [view.table.run, view.findings]));
  if (findings === shownFindings) return;
  shownFindings = findings;
  page.findings.replaceChildren(
    element("h2", {}, "Findings"),
    ...views.flatMap((view) => findingList(view.table.run, view.findings, selectFromFinding)),
  );
}

async function select(row, step) {
  const changed = row !== state.row;
  state.row = row;
  state.step = step ?? Infinity;
  draw();
  if (changed) await reportErrors(showDetail);
}

// Selects the layer or the variable that a finding is about, and changes the kind if necessary.
async function selectFromFinding(row, step) {
  if (views.some(({ keys }) => keys.includes(row))) return select(row, step);
  const table = state.tables.find(({ rows }) => rows.includes(row));
  if (!table) return;
  Object.assign(state, { kind: table.kind, row, step });
  await reportErrors(load);
}

async function showDetail() {
  const request = ++latestDetail;
  const name = state.row;
  const withRow = views.filter((view) => rowIndex(name, view, views) >= 0);
  const runs = await Promise.all(withRow.map((view) => loadRow(view, rowIndex(name, view, views))));
  if (request !== latestDetail) return;
  page.detail.replaceChildren(...detailElements(name, runs));
}

async function loadRow({ table }, row) {
  const hasHistograms = table.kind === "layers";
  const [slice, histograms] = await Promise.all([
    orSubstitute(fetchRow(table, row), emptySlice(table.columns.length)),
    hasHistograms ? orSubstitute(fetchHistograms(table.run, table.tags[row]), []) : null,
  ]);
  showUnreadable();
  return { table, slice, histograms };
}
