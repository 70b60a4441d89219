// Axes of curves: where their ticks are, and how values are placed between their ends.

import { formatNumber } from "./dom.js";

// The axis is logarithmic if the largest value is at least this many times the smallest.
const LOGARITHMIC_FROM = 20;

// Returns an axis that covers some finite values: `position(value)` is 0 for the lowest end and 1
// for the highest, and `ticks` are round values between the ends, as pairs of a value and a label.
export function valueAxis(statistic, values) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  const positive = values.filter((value) => value > 0);
  const smallest = Math.min(...positive);
  // Shares are between 0 and 1, where a linear axis is easier to read.
  const logarithmic = low >= 0 && high / smallest >= LOGARITHMIC_FROM && !/share/.test(statistic);
  if (logarithmic) low = smallest;
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  const transform = logarithmic ? Math.log10 : (value) => value;
  const [bottom, top] = [transform(low), transform(high)];
  const position = (value) => (transform(Math.min(high, Math.max(value, low))) - bottom) / (top - bottom);
  const places = logarithmic ? powerTicks(low, high, 4) : roundTicks(low, high, 4);
  const ticks = places.map((value) => [value, logarithmic ? formatNumber(value) : tickLabel(value, places)]);
  return { low, high, logarithmic, position, ticks };
}

// Ticks that are close together need more digits than other numbers.
function tickLabel(value, [first, second = first]) {
  const interval = second - first;
  const digits = Math.ceil(Math.log10(Math.abs(value) / interval)) + 1;
  const size = Math.abs(value);
  if (!(digits > 3 && size >= 1e-3 && size < 1e5)) return formatNumber(value);
  return String(Number(value.toPrecision(Math.min(digits, 12))));
}

// Returns about `count` multiples of 1, 2 or 5 times a power of ten between two ends.
export function roundTicks(low, high, count) {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const interval = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / interval - 1e-9);
  const last = Math.floor(high / interval + 1e-9);
  // The rounding removes what is left of a sum such as 0.1 + 0.2.
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * interval).toPrecision(12)));
}

// Returns at most `count` powers of ten between two ends, or round values if there are too few.
function powerTicks(low, high, count) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) return roundTicks(low, high, 3).filter((tick) => tick > 0);
  const stride = Math.ceil((last - first + 1) / count);
  const powers = [];
  for (let power = first; power <= last; power += stride) powers.push(Number(`1e${power}`));
  return powers;
}
