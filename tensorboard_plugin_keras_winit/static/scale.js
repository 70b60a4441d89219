// Color scales of the heat map. Sizes are colored by the logarithm of their ratio to a reference,
// and what is not a number has a color of its own.

// The median standard deviation of layer outputs in healthy networks before training, and the
// usual rule of thumb for updates.
const HEALTHY = { stddev: 0.75, update_ratio: 1e-3 };

const SHARE = /_share$|cosine/;
const COUNT = /nonfinite|non_finite|dead_units|count/;
const SIGNED = /^(mean|min|max|minimum|maximum|median|skewness|kurtosis)$|^q\d/;

// Colors at half of the range and at its end, below and above the middle.
const PALETTES = {
  light: { low: [[103, 169, 207], [5, 48, 97]], middle: [247, 247, 247], high: [[239, 138, 98], [128, 0, 20]] },
  dark: { low: [[38, 92, 148], [130, 200, 255]], middle: [48, 48, 48], high: [[158, 72, 40], [255, 150, 110]] },
};
const NOT_A_NUMBER = { light: [0, 0, 0], dark: [255, 255, 255] };

function kindOf(statistic, slice) {
  if (SHARE.test(statistic)) return "share";
  if (COUNT.test(statistic)) return "count";
  return SIGNED.test(statistic) || slice.values.some((value) => value < 0) ? "signed" : "size";
}

// The references that a user can choose for a statistic, with their labels, the default first.
export function referenceOptions(statistic, slice) {
  if (kindOf(statistic, slice) !== "size") return [["zero", "zero"]];
  const options = [["first", "the median at the first step"], ["row", "each row's first value"]];
  const healthy = HEALTHY[statistic];
  return healthy ? [["healthy", `a healthy ${healthy}`], ...options] : options;
}

function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : 1;
}

// The first size of a row that is neither 0 nor broken.
function firstSize(slice, row) {
  for (let record = 0; record < slice.count; record++) {
    const value = Math.abs(slice.values[record * slice.width + row]);
    if (Number.isFinite(value) && value > 0) return value;
  }
  return 1;
}

// Returns a scale:
// - `position(value, row)`, in [-1, 1], or NaN for what is not a number;
// - `from`, the lowest position, -1 or 0;
// - `ends`, the numbers or texts for the positions `from`, halfway, and 1;
// - `middle(row)`, the reference of a row, on scales that have one.
export function colorScale(statistic, slice, reference, decades) {
  const kind = kindOf(statistic, slice);
  if (kind === "share") return { position: (value) => clip(value), from: 0, ends: [0, 0.5, 1] };
  if (kind === "count") {
    const position = (value) => clip(Math.log10(1 + value) / decades);
    return { position, from: 0, ends: [0, 10 ** (decades / 2) - 1, 10 ** decades - 1] };
  }
  const firstStep = Array.from(slice.values.subarray(0, slice.width), Math.abs);
  const typical = median(firstStep.filter((value) => value > 0));
  if (kind === "signed") {
    const top = typical * (10 ** decades - 1);
    const position = (value) => {
      const size = clip(Math.log10(1 + Math.abs(value) / typical) / decades);
      return Math.sign(value) * size;
    };
    return { position, from: -1, ends: [-top, 0, top] };
  }
  const factor = 10 ** decades;
  if (reference === "row") {
    const references = Array.from({ length: slice.width }, (_, row) => firstSize(slice, row));
    const ends = [`first value / ${factor}`, "first value", `first value × ${factor}`];
    return ratioScale((row) => references[row], decades, ends);
  }
  const shared = reference === "healthy" ? HEALTHY[statistic] : typical;
  return ratioScale(() => shared, decades, [shared / factor, shared, shared * factor]);
}

function ratioScale(middle, decades, ends) {
  const position = (value, row) => clip(Math.log10(value / middle(row)) / decades);
  return { position, from: -1, ends, middle };
}

// Infinity counts as not a number. Minus infinity is the logarithm of 0, the low end of a scale.
function clip(position) {
  if (Number.isNaN(position) || position === Infinity) return NaN;
  return Math.max(-1, Math.min(1, position));
}

// Returns the color of a position as [red, green, blue].
export function colorAt(position, theme) {
  if (Number.isNaN(position)) return NOT_A_NUMBER[theme];
  const palette = PALETTES[theme];
  const stops = [palette.middle, ...(position < 0 ? palette.low : palette.high)];
  const place = Math.abs(position) * 2;
  const stop = Math.min(1, Math.floor(place));
  return stops[stop].map((value, i) => Math.round(value + (place - stop) * (stops[stop + 1][i] - value)));
}
