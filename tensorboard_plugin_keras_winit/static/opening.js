// Chooses what to show first, and what to show of a finding: where there is something to see.

import { SEVERITIES, severityOf } from "./findings.js";

// The statistics that show what a rule has found. Of the others, the finding says all.
const STATISTICS_OF_RULES = new Map([
  ["constant_output", ["unit_stddev"]],
  ["constant_units", ["weight_repeated"]],
  ["dead_output", ["dead_share"]],
  ["dead_units", ["dead_share"]],
  ["exploding_backward", ["gradient_norm"]],
  ["exploding_forward", ["stddev"]],
  ["non_finite", ["nonfinite", "gradient_nonfinite"]],
  ["nothing_learns", ["update_ratio"]],
  ["saturated", ["saturated_share"]],
  ["symmetric_units", ["gradient_repeated"]],
  ["update_frozen", ["update_ratio"]],
  ["update_too_large", ["update_ratio"]],
  ["vanishing_backward", ["gradient_norm"]],
  ["vanishing_forward", ["unit_stddev"]],
  // The rule compares the weights; their effect is seen in the layer's output.
  ["wrong_init_for_activation", ["stddev"]],
]);

// Findings of at most this many runs, the newest, are looked at before the page opens.
const MAX_RUNS = 30;

export const newestFirst = (a, b) => b.time - a.time;

// Returns the part of the state that shows a finding of a run: {kind, statistic, row, step}, or
// null if no table of the run has a row for it.
export function placeOf(finding, tables) {
  const statistics = STATISTICS_OF_RULES.get(finding.rule) ?? [];
  const places = tables.flatMap((table) => {
    const row = rowOf(finding.layer, table.rows, statistics);
    if (row === undefined) return [];
    const statistic = statistics.find((name) => table.columns.includes(name));
    const place = { kind: table.kind, row, step: finding.step };
    return [statistic ? { ...place, statistic } : place];
  });
  return places.find(({ statistic }) => statistic) ?? places[0] ?? null;
}

// The row of a layer, or of the first variable of the layer. Outputs of a saturated activation
// look alike, so a wrong size is seen before the activation.
function rowOf(layer, rows, statistics) {
  const before = `${layer}.pre`;
  if (statistics.includes("stddev") && rows.includes(before)) return before;
  return rows.includes(layer) ? layer : rows.find((name) => name.startsWith(`${layer}/`));
}

// Returns the part of the state to open with: the run with the worst findings, at the worst of
// them; without findings, the two newest runs side by side. `fetchFindings(run)` resolves to the
// findings of a run.
export async function openingState({ tables, findings }, fetchFindings) {
  const runs = [...findings].sort(newestFirst).slice(0, MAX_RUNS);
  const listed = await Promise.all(runs.map(({ run }) => fetchFindings(run)));
  const worst = runs
    .map(({ run }, i) => ({ run, finding: listed[i][0] }))
    .filter(({ run, finding }) => finding && tables.some((table) => table.run === run))
    .sort((a, b) => rankOf(a.finding) - rankOf(b.finding))[0];
  if (worst) {
    const own = tables.filter(({ run }) => run === worst.run).sort(newestFirst);
    return { run: worst.run, ...placeOf(worst.finding, own) };
  }
  const [run, other] = new Set([...tables].sort(newestFirst).map((table) => table.run));
  return { run: run ?? "", other: other ?? "" };
}

const rankOf = (finding) => SEVERITIES.indexOf(severityOf(finding));
