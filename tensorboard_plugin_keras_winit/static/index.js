// Entry point of the tab: shows what the user has chosen, and follows a run while it is written.

import { curveFigure } from "./curve.js";
import {
  fetchColumn, fetchColumns, fetchFindings, fetchHistograms, fetchRow, fetchRuns, unreadable,
} from "./data.js";
import { detailElements, runColors, seriesOf } from "./detail.js";
import { element, formatNumber, setOptions } from "./dom.js";
import { findingList } from "./findings.js";
import { currentTheme, followReloads, followTheme } from "./host.js";
import { legendElements } from "./legend.js";
import { newestFirst, openingState, placeOf } from "./opening.js";
import { buildPage, loadStyle } from "./page.js";
import { Panes } from "./panes.js";
import { colorScale, referenceOptions } from "./scale.js";
import { TELLING_COLUMNS, rowKinds } from "./standards.js";
import { chosenOptions, recordIndex, rowIndex, rowKeys, tableOptions } from "./tables.js";
import { waitingElements } from "./waiting.js";

const REFRESH_INTERVAL = 5000; // in milliseconds
const KINDS = ["layers", "variables"];
const PREFERRED_STATISTICS = ["stddev", "gradient_norm"];
const CURVE_SIZE = { width: 330, height: 190 };
const MAX_NAMED = 3;

// `run` and `other` are keys of tables, `row` is the key of the selected row, and the infinite
// step stands for the newest one.
const state = {
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
let panes;
let tables = [];
let opened = false;
// One for each run on the page: {table, keys, kinds, findings, slice}.
let views = [];
// The finding that the key F has shown last.
let shownFinding = -1;
// The kinds of the rows of each table, which do not change.
const kindsOfTables = new Map();
// Numbers of the latest requests: the answer to an earlier request is dropped.
let latestLoad = 0;
let latestDetail = 0;
// Number of the request whose answer is in `views`. Until it is the latest, `views` do not belong
// to `state`, and nothing is drawn.
let loadInViews = 0;
// What was shown last, to leave it alone while it is the same.
let shownRuns = "";
let shownFindings = "";

// TensorBoard calls this function to start the tab.
export function render() {
  const styled = loadStyle();
  page = buildPage(choose);
  panes = new Panes(page.maps, selectCell, handleKey);
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
  if (control === "statistic" || control === "kind") state.reference = "";
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
    tables = runs.tables;
    unreadable.clear();
    for (const { run, tag } of runs.skipped) unreadable.add(`${run}, ${tag}`);
    if (!tables.length) return showWaiting(runs.waiting);
    if (!opened) {
      opened = true;
      Object.assign(state, await openingState(runs, fetchFindings));
    }
    await load();
  });
}

async function load() {
  const request = ++latestLoad;
  const loaded = await Promise.all(chooseTables().map(loadView));
  showUnreadable();
  if (request !== latestLoad) return;
  views = loaded.filter(Boolean);
  loadInViews = request;
  page.waiting.replaceChildren();
  page.main.hidden = false;
  draw();
  await showDetail();
  markReady();
}

function markReady() {
  document.body.dataset.ready = String(Number(document.body.dataset.ready ?? 0) + 1);
}

function showUnreadable() {
  const names = [...unreadable];
  const more = names.length > MAX_NAMED ? `; and ${names.length - MAX_NAMED} more` : "";
  page.unreadable.textContent = names.length
    ? `Skipped, because this version cannot read it: ${names.slice(0, MAX_NAMED).join("; ")}${more}`
    : "";
}

function showWaiting(runs) {
  views = [];
  page.main.hidden = true;
  page.status.textContent = "";
  page.waiting.replaceChildren(...waitingElements(runs));
  showUnreadable();
  markReady();
}

// Replaces choices that the data does not offer, updates the controls to match, and returns the
// tables of one run or two.
function chooseTables() {
  const kinds = KINDS.filter((kind) => tableOptions(tables, kind).length);
  if (!kinds.includes(state.kind)) state.kind = kinds[0];
  const options = tableOptions(tables, state.kind);
  const chosen = chosenOptions(options, [state.run, state.other]);
  [state.run, state.other] = chosen.map((option) => option?.[0] ?? "");
  const shown = chosen.filter(Boolean).map(([, , table]) => table);
  const statistics = shown[0].columns;
  if (!statistics.includes(state.statistic)) {
    state.statistic = PREFERRED_STATISTICS.find((name) => statistics.includes(name)) ?? statistics[0];
  }
  const { selects } = page;
  setOptions(selects.kind, kinds.map((kind) => [kind, kind]), state.kind);
  setOptions(selects.run, options, state.run);
  setOptions(selects.other, [["", "no other run"], ...options], state.other);
  setOptions(selects.statistic, statistics.map((name) => [name, name]), state.statistic);
  return shown;
}

async function loadView(table) {
  const column = table.columns.indexOf(state.statistic);
  if (column < 0) return null;
  const [findings, slice, kinds] = await Promise.all([
    fetchFindings(table.run),
    fetchColumn(table, column),
    loadKinds(table),
  ]);
  return { table, keys: rowKeys(table.rows), kinds, findings, slice };
}

async function loadKinds(table) {
  const key = `${table.run}\n${table.tag}`;
  if (!kindsOfTables.has(key)) {
    const ofRun = tables.filter(({ run, kind }) => run === table.run && kind === "variables");
    const variables = ofRun.flatMap(({ rows }) => rows);
    const slices = await fetchColumns(table, TELLING_COLUMNS);
    kindsOfTables.set(key, rowKinds(table.rows, slices, variables));
  }
  return kindsOfTables.get(key);
}

function draw() {
  if (!views.length || loadInViews !== latestLoad) return;
  const [view] = views;
  if (!views.some(({ keys }) => keys.includes(state.row))) state.row = view.keys[0];
  const references = referenceOptions(state.statistic, view);
  if (!references.some(([value]) => value === state.reference)) state.reference = references[0][0];
  setOptions(page.selects.reference, references, state.reference);
  const { count, steps } = view.slice;
  page.status.textContent = count
    ? `${count} recorded steps, the last is step ${steps[count - 1]}`
    : "No recorded steps yet: the next one appears here by itself.";
  const scales = runScales();
  page.legend.replaceChildren(...legendElements(scales[0], currentTheme()));
  panes.draw(views, scales, state);
  page.readout.textContent = panes.describe();
  showCurve(scales);
  showFindings();
}

// Each run has a scale of its own, unless the reference is shared: then it is that of the first.
function runScales() {
  const { statistic, reference, decades } = state;
  const scaleOf = (view) => colorScale(statistic, view, reference, decades);
  const isShared = reference === "first" || reference === "zero";
  return views.map((view) => scaleOf(isShared ? views[0] : view));
}

// Shows the chosen statistic of the selected row, with the range that is expected of it.
function showCurve(scales) {
  const rows = views.map((view) => rowIndex(state.row, view, views));
  const main = rows.findIndex((row) => row >= 0);
  const record = recordIndex(state.step, views[main].slice);
  const range = scales[main].range?.(rows[main], record) ?? null;
  const series = seriesOf(views.map(({ slice }, i) => ({ slice, index: rows[i] })));
  const figure = curveFigure(state.statistic, series, { size: CURVE_SIZE, range });
  const note = range ? `Expected of this row: ${range.map(formatNumber).join(" to ")}, shaded.` : "";
  page.curve.replaceChildren(
    element("h2", {}, state.row),
    figure ?? element("p", { class: "faint" }, `${state.statistic} does not apply to this row.`),
    figure && views.length > 1 ? runColors(views) : "",
    element("p", { class: "faint" }, figure ? note : ""),
  );
}

// Unchanged findings stay in the page, so that what the user has unfolded stays unfolded.
function showFindings() {
  const findings = JSON.stringify(views.map((view) => [view.table.run, view.findings]));
  if (findings === shownFindings) return;
  shownFindings = findings;
  page.findings.replaceChildren(
    element("h2", {}, "Findings"),
    ...views.flatMap((view) => findingList(view.table.run, view.findings, selectFinding)),
  );
}

function selectCell(i, row, record) {
  const { keys, slice } = views[i];
  return select(keys[row], record === slice.count - 1 ? Infinity : slice.steps[record]);
}

async function select(row, step) {
  const changed = row !== state.row;
  Object.assign(state, { row, step });
  draw();
  if (changed) await reportErrors(showDetail);
}

// Shows the row and the statistic that a finding is about.
function selectFinding(finding) {
  const own = views.map(({ table }) => table.run);
  const place = placeOf(finding, tables.filter(({ run }) => own.includes(run)).sort(newestFirst));
  if (!place) return;
  Object.assign(state, place, { reference: "" });
  reportErrors(load);
}

function handleKey(key) {
  if (key === "s") {
    const statistics = views[0].table.columns;
    choose("statistic", statistics[(statistics.indexOf(state.statistic) + 1) % statistics.length]);
  } else if (key === "f") {
    const findings = views.flatMap((view) => view.findings);
    if (findings.length) selectFinding(findings[(shownFinding = (shownFinding + 1) % findings.length)]);
  }
}

async function showDetail() {
  const request = ++latestDetail;
  const name = state.row;
  const withRow = views.filter((view) => rowIndex(name, view, views) >= 0);
  const runs = await Promise.all(withRow.map((view) => loadRow(view, rowIndex(name, view, views))));
  showUnreadable();
  if (request !== latestDetail) return;
  page.detail.replaceChildren(...detailElements(name, runs));
}

async function loadRow({ table }, row) {
  const hasHistograms = table.kind === "layers";
  const [slice, histograms] = await Promise.all([
    fetchRow(table, row),
    hasHistograms ? fetchHistograms(table.run, table.tags[row]) : null,
  ]);
  return { table, slice, histograms };
}
