// Color scales of the heat map. What is expected is pale, and what is not a number has a color of
// its own. Blue and red differ for all kinds of color blindness.

import { formatNumber } from "./dom.js";
import { expectedRanges, firstSize, median } from "./standards.js";

const SHARE = /_share$|cosine|_repeated$/;
const FAULTS = /nonfinite|non_finite/;
const COUNT = /dead_units|count/;
const SIGNED = /^(mean|min|max|minimum|maximum|median|skewness|kurtosis)$|^q\d/;

// The ends of an expected range have these positions, in a scale from -1 to 1.
const PALE = 0.2;
// Decades of a scale of counts.
const COUNT_DECADES = 4;

// Colors at half of the range and at its end, below and above the middle.
const PALETTES = {
  light: { low: [[103, 169, 207], [5, 48, 97]], middle: [247, 247, 247], high: [[239, 138, 98], [128, 0, 20]] },
  dark: { low: [[38, 92, 148], [130, 200, 255]], middle: [48, 48, 48], high: [[158, 72, 40], [255, 150, 110]] },
};
const NOT_A_NUMBER = { light: [0, 0, 0], dark: [255, 255, 255] };

function kindOf(statistic, slice) {
  if (SHARE.test(statistic)) return "share";
  if (FAULTS.test(statistic)) return "faults";
  if (COUNT.test(statistic)) return "count";
  return SIGNED.test(statistic) || slice.values.some((value) => value < 0) ? "signed" : "size";
}

const EXPECTED = ["expected", "what is expected of each row"];
const OWN_START = ["row", "each row's first value"];
const TYPICAL_START = ["first", "the median at the first step"];
const ZERO = ["zero", "zero"];

// The references that a user can choose for a statistic, with their labels, the default first.
export function referenceOptions(statistic, { table, kinds, slice }) {
  const expected = expectedRanges(statistic, table, kinds, slice) ? [EXPECTED] : [];
  const others = {
    share: [ZERO],
    faults: [ZERO],
    count: [ZERO],
    signed: [OWN_START, ZERO],
    size: [OWN_START, TYPICAL_START],
  };
  return [...expected, ...others[kindOf(statistic, slice)]];
}

// Returns a scale for a view {table, kinds, slice}:
// - `position(value, row, record)`, in [-1, 1], or NaN for what is not a number, or null for what
//   is not defined;
// - `from`, the lowest position, -1 or 0;
// - `ticks`, pairs of a position and its label;
// - `compare(value, row, record)`, a text that compares a value with the reference, or "";
// - `range(row, record)`, the expected lowest and highest value, if they are known.
export function colorScale(statistic, view, reference, decades) {
  const scale = definedScale(statistic, view, reference, decades);
  if (statistic !== "update_ratio") return scale;
  // Weights that are all zero have no relative update, which is no fault.
  const unlessFinite = (action, otherwise) => (value, ...place) =>
    Number.isFinite(value) ? action(value, ...place) : otherwise;
  return {
    ...scale,
    position: unlessFinite(scale.position, null),
    compare: unlessFinite(scale.compare, "not defined while the weights are zero"),
  };
}

function definedScale(statistic, view, reference, decades) {
  const kind = kindOf(statistic, view.slice);
  if (reference === "expected") {
    const ranges = expectedRanges(statistic, view.table, view.kinds, view.slice);
    return kind === "share" ? shareScale(ranges) : rangeScale(ranges, decades);
  }
  if (kind === "share") return fromZero(clip, [0, 0.5, 1]);
  if (kind === "faults") {
    // A single NaN must stand out.
    const position = (count) => clip(count > 0 ? 0.5 + Math.log10(count) / 12 : count);
    return fromZero(position, [0, 1, 1e6]);
  }
  if (kind === "count") {
    const position = (count) => clip(Math.log10(1 + count) / COUNT_DECADES);
    return fromZero(position, [0, 99, 9999]);
  }
  return kind === "signed"
    ? differenceScale(view.slice, reference, decades)
    : ratioScale(view.slice, reference, decades);
}

function fromZero(position, ends) {
  const ticks = [0, 0.5, 1].map((place, i) => [place, formatNumber(ends[i])]);
  return { position, from: 0, ticks, compare: () => "" };
}

const betweenEnds = ([low, , high]) => `expected: ${formatNumber(low)} to ${formatNumber(high)}`;

function shareScale(ranges) {
  const position = (share, row) => {
    const [, , high] = ranges(row);
    return clip(share <= high ? (PALE * share) / high : PALE + ((1 - PALE) * (share - high)) / (1 - high));
  };
  const [, , high] = ranges(0);
  return {
    position,
    from: 0,
    ticks: [[0, "0"], [PALE, formatNumber(high)], [1, "1"]],
    compare: (share, row) => betweenEnds(ranges(row)),
    range: (row) => [0, ranges(row)[2]],
  };
}

// Sizes within their expected range are pale. Beyond it, the color grows with the logarithm.
function rangeScale(ranges, decades) {
  const position = (size, row, record) => {
    const [low, usual, high] = ranges(row, record);
    if (size < low) return clip(-PALE - ((1 - PALE) * Math.log10(low / size)) / decades);
    if (size > high) return clip(PALE + ((1 - PALE) * Math.log10(size / high)) / decades);
    return clip((PALE * Math.log(size / usual)) / Math.abs(Math.log((size < usual ? low : high) / usual)));
  };
  const factor = formatNumber(10 ** decades);
  return {
    position,
    from: -1,
    ticks: [[-1, `${factor} times below`], [0, "expected"], [1, `${factor} times above`]],
    compare: (size, row, record) => betweenEnds(ranges(row, record)),
    range: (row, record) => [ranges(row, record)[0], ranges(row, record)[2]],
  };
}

function ratioScale(slice, reference, decades) {
  const shared = median(Array.from(slice.values.subarray(0, slice.width)).filter((size) => size > 0));
  const middles = Array.from({ length: slice.width }, (_, row) =>
    reference === "row" ? firstSize(slice, row) : shared,
  );
  const factor = 10 ** decades;
  const ends = reference === "row" ? [`1/${factor}`, "first value", `${factor} times`] : [1 / factor, 1, factor];
  const label = (end) => (typeof end === "number" ? formatNumber(end * shared) : end);
  return {
    position: (size, row) => clip(Math.log10(size / middles[row]) / decades),
    from: -1,
    ticks: [-1, 0, 1].map((place, i) => [place, label(ends[i])]),
    compare: (size, row) =>
      Number.isFinite(size) ? `${formatNumber(size / middles[row])} times the reference` : "",
  };
}

// Values with a sign are colored by the logarithm of their difference from zero or from their
// first value, which has the size of the row's typical values as its unit.
function differenceScale(slice, reference, decades) {
  const typical = median(Array.from(slice.values.subarray(0, slice.width), Math.abs).filter((size) => size > 0));
  const middles = Array.from({ length: slice.width }, (_, row) =>
    reference === "row" ? firstFinite(slice, row) : 0,
  );
  const position = (value, row) => {
    const difference = value - middles[row];
    return Math.sign(difference) * clip(Math.log10(1 + Math.abs(difference) / typical) / decades);
  };
  const top = formatNumber(typical * (10 ** decades - 1));
  const middle = reference === "row" ? "first value" : "0";
  return {
    position,
    from: -1,
    ticks: [[-1, `-${top}`], [0, middle], [1, `+${top}`]],
    compare: (value, row) =>
      reference === "row" ? `first value ${formatNumber(middles[row])}` : "",
  };
}

function firstFinite(slice, row) {
  for (let record = 0; record < slice.count; record++) {
    const value = slice.values[record * slice.width + row];
    if (Number.isFinite(value)) return value;
  }
  return 0;
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
