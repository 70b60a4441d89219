// What is expected of each row of a table in healthy training.

// Ranges [low, usual, high] between the 1 % and the 99 % quantiles of healthy runs, from which the
// rules of the monitor were calibrated. An activation reduces the standard deviation to about 0.6
// of that before it: ReLU to sqrt(1/2 - 1/(2 pi)) = 0.58 if its input is normal, tanh to 0.63.
const AFTER_ACTIVATION = [0.07, 0.75, 1.3];
const OTHER_OUTPUT = [0.07, 1.25, 2.2];
const RANGES = {
  dead_share: [0, 0, 0.385],
  saturated_share: [0, 0, 0.06],
  // A rectifier is off for half of the values of a symmetric distribution, and learns to be so
  // for more.
  zero_share: [0, 0, 0.8],
};
const KERNEL_UPDATE = [3.7e-5, 1e-3, 6.4e-2];

// The range of gradient norms relative to the median of the variables of the same kind at the
// same step: gradients of all layers shrink with the loss, which is no fault.
const RELATIVE = [0.008, 1, 16];

// The range of sizes relative to their first value, for rows that have no usual size. A classifier
// starts close to uniform probabilities, and becomes more certain. Embeddings start as small as
// their initializer makes them, and the layers behind them expect that.
const RELATIVE_TO_START = [0.01, 1, 100];

// Columns from which `rowKinds` tells the kinds of rows apart.
export const TELLING_COLUMNS = ["min", "max", "dead_share", "saturated_share"];

// Returns the kind of each row: "after" an activation, "bounded" between 0 and 1 as probabilities
// are, "embedding", or "other". `slices` has a slice for each of `TELLING_COLUMNS`, or undefined;
// `variables` are the paths of the variables of the same run.
export function rowKinds(rows, slices, variables) {
  const [names, paths] = [new Set(rows), new Set(variables)];
  const at = (column, row) => slices[column]?.values[row] ?? NaN;
  return rows.map((name, row) => {
    if (paths.has(`${name}/embeddings`)) return "embedding";
    if (at("dead_share", row) >= 0) return "after";
    if (at("min", row) >= 0 && at("max", row) <= 1) return "bounded";
    return at("saturated_share", row) >= 0 || names.has(`${name}.pre`) ? "after" : "other";
  });
}

// Returns a function of a row and a record that gives the range [low, usual, high] of a statistic
// there, or null if none is known of this statistic.
export function expectedRanges(statistic, table, kinds, slice) {
  if (RANGES[statistic]) return () => RANGES[statistic];
  if (statistic === "stddev" || statistic === "unit_stddev") {
    const ranges = kinds.map((kind, row) => {
      if (kind === "after") return AFTER_ACTIVATION;
      return kind === "other" ? OTHER_OUTPUT : scaled(RELATIVE_TO_START, firstSize(slice, row));
    });
    return (row) => ranges[row];
  }
  const relative = relativeRanges(table.rows, slice);
  if (statistic === "gradient_norm") return relative;
  if (statistic !== "update_ratio") return null;
  // A bias starts at zero, so that its first updates are as large as itself.
  return (row, record) => (/kernel|embeddings/.test(kindOf(table.rows[row])) ? KERNEL_UPDATE : relative(row, record));
}

const scaled = (range, factor) => range.map((value) => value * factor);

// The kind of a variable is the last part of its path, such as "kernel" or "bias".
const kindOf = (path) => path.slice(path.lastIndexOf("/") + 1);

function relativeRanges(rows, slice) {
  const kinds = rows.map(kindOf);
  const medians = new Map();
  return (row, record) => {
    const key = `${record} ${kinds[row]}`;
    if (!medians.has(key)) {
      const start = record * slice.width;
      const norms = kinds.flatMap((kind, i) => (kind === kinds[row] ? [slice.values[start + i]] : []));
      medians.set(key, median(norms.filter((norm) => norm > 0)));
    }
    return scaled(RELATIVE, medians.get(key));
  };
}

export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : 1;
}

// The first size of a row that is neither 0 nor broken.
export function firstSize(slice, row) {
  for (let record = 0; record < slice.count; record++) {
    const value = Math.abs(slice.values[record * slice.width + row]);
    if (Number.isFinite(value) && value > 0) return value;
  }
  return 1;
}
