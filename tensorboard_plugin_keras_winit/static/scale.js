// From numbers to colors: relative to a healthy reference, on a log scale, and what is not a
// number in the color that nothing else has.

// The median of healthy networks at their start, and the usual guide for updates.
const HEALTHY = { stddev: 0.75, update_ratio: 1e-3 };

const SHARE = /_share$|cosine/;
const COUNT = /nonfinite|non_finite|dead_units|count/;
const SIGNED = /^(mean|min|max|minimum|maximum|median|skewness|kurtosis)$|^q\d/;

const PALETTES = {
  light: { low: [[103, 169, 207], [5, 48, 97]], none: [247, 247, 247], high: [[239, 138, 98], [128, 0, 20]] },
  dark: { low: [[38, 92, 148], [130, 200, 255]], none: [48, 48, 48], high: [[158, 72, 40], [255, 150, 110]] },
};
export const NOT_A_NUMBER = { light: [0, 0, 0], dark: [255, 255, 255] };

function kind(name, data) {
  if (SHARE.test(name)) return "share";
  if (COUNT.test(name)) return "count";
  return SIGNED.test(name) || data.values.some((value) => value < 0) ? "signed" : "size";
}

// What the colors can be relative to, the usual first.
export function references(name, data) {
  if (kind(name, data) !== "size") return [["zero", "zero"]];
  const choices = [["start", "the median layer at the start"], ["own", "each layer's own start"]];
  return name in HEALTHY ? [["healthy", `a healthy ${HEALTHY[name]}`], ...choices] : choices;
}

function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : 1;
}

function firstOf(data, row) {
  for (let step = 0; step < data.count; step++) {
    const value = Math.abs(data.values[step * data.width + row]);
    if (Number.isFinite(value) && value > 0) return value;
  }
  return 1;
}

// Gives `position(value, row)` in [-1, 1], NaN where there is no number; what the colors at
// `from`, the middle or 0, and 1 stand for; and the reference of a row where there is one.
export function scale(name, data, reference, decades) {
  const what = kind(name, data);
  if (what === "share") return { position: (value) => clip(value), from: 0, ends: [0, 0.5, 1] };
  if (what === "count") {
    const position = (value) => clip(Math.log10(1 + value) / decades);
    return { position, from: 0, ends: [0, 10 ** (decades / 2) - 1, 10 ** decades - 1] };
  }
  const start = Array.from(data.values.subarray(0, data.width), Math.abs);
  if (what === "signed") {
    const unit = median(start.filter((value) => value > 0));
    const top = unit * (10 ** decades - 1);
    const position = (value) =>
      clip((Math.sign(value) * Math.log10(1 + Math.abs(value) / unit)) / decades);
    return { position, from: -1, ends: [-top, 0, top] };
  }
  const shared = reference === "healthy" ? HEALTHY[name] : median(start.filter((v) => v > 0));
  const own = Array.from({ length: data.width }, (_, row) => firstOf(data, row));
  const middle = (row) => (reference === "own" ? own[row] : shared);
  const position = (value, row) => clip(Math.log10(value / middle(row)) / decades);
  const factor = 10 ** decades;
  const ends =
    reference === "own"
      ? [`start / ${factor}`, "start", `start × ${factor}`]
      : [shared / factor, shared, shared * factor];
  return { position, from: -1, ends, middle };
}

// Infinities are as broken as NaN; an exact 0 is the far end of a log scale.
function clip(position) {
  if (Number.isNaN(position) || position === Infinity) return NaN;
  return Math.max(-1, Math.min(1, position));
}

export function paint(position, theme) {
  if (Number.isNaN(position)) return NOT_A_NUMBER[theme];
  const palette = PALETTES[theme];
  const stops = [palette.none, ...(position < 0 ? palette.low : palette.high)];
  const at = Math.abs(position) * 2;
  const from = Math.min(1, Math.floor(at));
  return stops[from].map((value, i) => Math.round(value + (at - from) * (stops[from + 1][i] - value)));
}
