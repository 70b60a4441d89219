// Shows everything about one row: a curve of each statistic, and the histograms of a layer.

import { curveFigure } from "./curve.js";
import { element, isolate } from "./dom.js";
import { histogramStrip, valueRange } from "./histogram.js";

const COLORS = ["accent", "second"];

// runs: [{table, slice, histograms}], of one run or two; `slice` has all statistics of the row,
// and `histograms` is null for a variable.
export function detailElements(name, runs) {
  const statistics = runs[0]?.table.columns ?? [];
  return [
    element("h2", {}, `All statistics of ${isolate(name)}`),
    runs.length > 1 ? runColors(runs) : "",
    element("div", { class: "curves" }, ...statistics.map((statistic) => curveOf(statistic, runs))),
    ...histogramElements(name, runs),
  ];
}

// Names the runs in the colors and with the lines of their curves.
export function runColors(runs) {
  const names = runs.map(({ table }, i) => element("span", { class: COLORS[i] }, table.run));
  return element("p", { class: "key" }, ...names);
}

function curveOf(statistic, runs) {
  const indexed = runs.map(({ table, slice }) => ({ slice, index: table.columns.indexOf(statistic) }));
  return curveFigure(statistic, seriesOf(indexed));
}

// Gives the series of each run the color of the run, without those that do not apply. `index` is
// -1 if a run lacks the series.
export function seriesOf(runs) {
  const series = runs.map((run, i) => ({ ...run, color: COLORS[i] }));
  return series.filter(({ slice, index }) => index >= 0 && !slice.absent[index]);
}

function histogramElements(name, runs) {
  const layers = runs.filter(({ histograms }) => histograms);
  const range = valueRange(layers.flatMap(({ histograms }) => histograms));
  return layers.flatMap(({ table, histograms }) => {
    const label = `Histograms of ${name} over ${histograms.length} steps`;
    const heading = element("h3", {}, `Histograms, ${table.run}`);
    return [heading, histogramStrip(histograms, range, label)];
  });
}
