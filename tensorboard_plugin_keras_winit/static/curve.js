// Curves of one statistic over the recorded steps, one for each run.

import { roundTicks, valueAxis } from "./axis.js";
import { element, formatNumber, resizeCanvas, themeColor } from "./dom.js";

// In CSS pixels.
const SIZE = { width: 236, height: 116 };
const LEFT = 50;
const RIGHT = 8;
const TOP = 7;
const BOTTOM = 18;
const TICK = 4;
const LABEL_GAP = 6;

// Dashes of the curve of each run, which tell them apart without colors.
const DASHES = [[], [5, 3]];

// series: [{slice, index, color}], the series `index` of a slice and the name of its color; the
// series of the main run first. `range`, the lowest and the highest expected value, is shaded.
// Returns null if no value is a finite number.
export function curveFigure(statistic, series, { size = SIZE, range = null } = {}) {
  const curves = series.map(({ slice, index, color }) => ({ points: pointsOf(slice, index), color }));
  const values = curves.flatMap(({ points }) => finiteValues(points));
  if (!values.length) return null;
  const axis = valueAxis(statistic, values);
  const steps = curves.flatMap(({ points }) => points.map(([step]) => step));
  const ends = [Math.min(...steps), Math.max(...steps)];
  const label = describeCurve(statistic, curves[0].points);
  const canvas = element("canvas", { role: "img", "aria-label": label });
  const context = resizeCanvas(canvas, size.width, size.height);
  const plot = plotOf(axis, ends, size);
  if (range) drawRange(context, plot, axis, range);
  drawAxes(context, plot, axis, ends);
  curves.forEach(({ points, color }, i) => drawCurve(context, plot, points, themeColor(color), DASHES[i]));
  const caption = axis.logarithmic ? `${statistic} (log)` : statistic;
  return element("figure", {}, element("figcaption", {}, caption), canvas);
}

function pointsOf(slice, index) {
  return Array.from(slice.steps, (step, record) => [step, slice.values[record * slice.width + index]]);
}

function finiteValues(points) {
  return points.map(([, value]) => value).filter(Number.isFinite);
}

function describeCurve(statistic, points) {
  const values = finiteValues(points);
  if (!values.length) return `${statistic}: no finite values`;
  const [[firstStep, first], [lastStep, last]] = [points[0], points[points.length - 1]];
  const ends = `${formatNumber(first)} at step ${firstStep}, ${formatNumber(last)} at step ${lastStep}`;
  const range = `between ${formatNumber(Math.min(...values))} and ${formatNumber(Math.max(...values))}`;
  return `${statistic}: ${ends}, ${range}`;
}

// The rectangle of a plot, and the functions `x` of a step and `y` of a value.
function plotOf(axis, [first, last], { width, height }) {
  const [right, bottom] = [width - RIGHT, height - BOTTOM];
  const x = (step) => LEFT + ((step - first) / (last - first || 1)) * (right - LEFT);
  const y = (value) => TOP + (1 - axis.position(value)) * (bottom - TOP);
  return { right, bottom, x, y };
}

function drawRange(context, { right, y }, axis, [low, high]) {
  if (high < axis.low || low > axis.high) return;
  context.fillStyle = themeColor("range");
  context.fillRect(LEFT, y(high), right - LEFT, y(low) - y(high));
}

function drawAxes(context, { right, bottom, x, y }, axis, ends) {
  context.font = "10px Roboto, sans-serif";
  context.fillStyle = themeColor("faint");
  context.strokeStyle = themeColor("line");
  context.lineWidth = 1;
  context.beginPath();
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [tick, label] of axis.ticks) {
    const height = Math.round(y(tick)) + 0.5;
    context.moveTo(LEFT - TICK, height);
    context.lineTo(right, height);
    context.fillText(label, LEFT - TICK - 2, height);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  let free = -Infinity;
  for (const step of roundTicks(...ends, 5).filter(Number.isInteger)) {
    const text = String(step);
    const width = context.measureText(text).width;
    const place = Math.round(x(step)) + 0.5;
    context.moveTo(place, bottom);
    context.lineTo(place, bottom + TICK);
    const middle = Math.min(place, right + RIGHT - width / 2);
    if (middle - width / 2 < free) continue;
    context.fillText(text, middle, bottom + TICK + 2);
    free = middle + width / 2 + LABEL_GAP;
  }
  context.stroke();
  context.strokeRect(LEFT + 0.5, TOP + 0.5, right - LEFT, bottom - TOP);
}

// A value that is not finite leaves a gap in the curve, and a tick on the step axis.
function drawCurve(context, { bottom, x, y }, points, color, dashes) {
  context.strokeStyle = color;
  context.fillStyle = themeColor("ink");
  context.lineWidth = 1.5;
  context.setLineDash(dashes);
  context.beginPath();
  let connected = false;
  for (const [step, value] of points) {
    if (!Number.isFinite(value)) {
      context.fillRect(x(step) - 1, bottom - 5, 2, 5);
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
  context.setLineDash([]);
}
