// Curves of one statistic over the recorded steps, one for each run.

import { element, formatNumber, resizeCanvas, themeColor } from "./dom.js";

// In CSS pixels.
const WIDTH = 230;
const HEIGHT = 96;
const LEFT = 46;
const RIGHT = 4;
const TOP = 6;
const BOTTOM = 14;
const PLOT_WIDTH = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT = HEIGHT - TOP - BOTTOM;

// The axis is linear if the largest value is less than this many times the smallest.
const LOGARITHMIC_FROM = 20;

// series: [{slice, index, color}], the series `index` of a slice and the name of its color; the
// series of the main run first. Returns null if no value is a finite number.
export function curveFigure(statistic, series) {
  const curves = series.map(({ slice, index, color }) => ({ points: pointsOf(slice, index), color }));
  const values = curves.flatMap(({ points }) => finiteValues(points));
  if (!values.length) return null;
  const axis = valueAxis(statistic, values);
  const steps = curves.flatMap(({ points }) => points.map(([step]) => step));
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const x = (step) => LEFT + ((step - first) / (last - first || 1)) * PLOT_WIDTH;
  const y = (value) => TOP + (1 - axis.position(value)) * PLOT_HEIGHT;
  const label = describeCurve(statistic, curves[0].points);
  const canvas = element("canvas", { role: "img", "aria-label": label });
  const context = resizeCanvas(canvas, WIDTH, HEIGHT);
  drawAxes(context, [axis.low, axis.high], [first, last]);
  for (const { points, color } of curves) drawCurve(context, points, themeColor(color), x, y);
  const caption = axis.logarithmic ? `${statistic} (log)` : statistic;
  return element("figure", {}, element("figcaption", {}, caption), canvas);
}

function pointsOf(slice, index) {
  return Array.from(slice.steps, (step, record) => [step, slice.values[record * slice.width + index]]);
}

function finiteValues(points) {
  return points.map(([, value]) => value).filter(Number.isFinite);
}

// `position(value)` is 0 for the lowest value and 1 for the highest; a constant is at 0.5.
function valueAxis(statistic, values) {
  let low = Math.min(...values);
  const high = Math.max(...values);
  const smallest = Math.min(...values.filter((value) => value > 0));
  // Shares are between 0 and 1, where a linear axis is easier to read.
  const logarithmic = low >= 0 && high / smallest > LOGARITHMIC_FROM && !/share/.test(statistic);
  if (logarithmic) low = smallest;
  const transform = logarithmic ? Math.log10 : (value) => value;
  const [bottom, top] = [transform(low), transform(high)];
  const position = (value) =>
    low < high ? (transform(Math.max(value, low)) - bottom) / (top - bottom) : 0.5;
  return { low, high, logarithmic, position };
}

function describeCurve(statistic, points) {
  const values = finiteValues(points);
  if (!values.length) return `${statistic}: no finite values`;
  const [[firstStep, first], [lastStep, last]] = [points[0], points[points.length - 1]];
  const ends = `${formatNumber(first)} at step ${firstStep}, ${formatNumber(last)} at step ${lastStep}`;
  const range = `between ${formatNumber(Math.min(...values))} and ${formatNumber(Math.max(...values))}`;
  return `${statistic}: ${ends}, ${range}`;
}

function drawAxes(context, [low, high], [first, last]) {
  context.font = "10px Roboto, sans-serif";
  context.fillStyle = themeColor("faint");
  context.strokeStyle = themeColor("line");
  context.strokeRect(LEFT + 0.5, TOP + 0.5, PLOT_WIDTH, PLOT_HEIGHT);
  context.textAlign = "right";
  context.textBaseline = "top";
  context.fillText(formatNumber(high), LEFT - 4, TOP);
  context.textBaseline = "bottom";
  context.fillText(formatNumber(low), LEFT - 4, TOP + PLOT_HEIGHT);
  context.textAlign = "left";
  context.fillText(String(first), LEFT, HEIGHT);
  context.textAlign = "right";
  context.fillText(String(last), LEFT + PLOT_WIDTH, HEIGHT);
}

// A value that is not finite leaves a gap in the curve, and a tick on the step axis.
function drawCurve(context, points, color, x, y) {
  context.strokeStyle = color;
  context.fillStyle = themeColor("ink");
  context.beginPath();
  let connected = false;
  for (const [step, value] of points) {
    if (!Number.isFinite(value)) {
      context.fillRect(x(step) - 1, HEIGHT - BOTTOM - 5, 2, 5);
    } else if (connected) {
      context.lineTo(x(step), y(value));
    } else {
      // The short line makes a point visible that has no neighbours.
      context.moveTo(x(step), y(value));
      context.lineTo(x(step) + 0.5, y(value));
    }
    connected = Number.isFinite(value);
  }
  context.stroke();
}
