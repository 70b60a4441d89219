// One layer: a curve for each statistic, and its histogram over the steps.

import { color, context, digits, element } from "./dom.js";

const PLOT = { width: 230, height: 96, left: 46, bottom: 14, top: 6 };
const STRIP = { left: 56, top: 6, bottom: 16, most: 900, cells: 56, cell: 3 };
const HEIGHT = STRIP.top + STRIP.cells * STRIP.cell + STRIP.bottom;

// A curve spans less than this factor: a linear axis.
const NARROW = 20;

function finite(data, at) {
  const points = [];
  for (let step = 0; step < data.count; step++) {
    points.push([data.steps[step], data.values[step * data.width + at]]);
  }
  return points;
}

// series: [{data, at, shade}], the first is that of the main run.
export function curve(name, series) {
  const lines = series.map(({ data, at, shade }) => ({ points: finite(data, at), shade }));
  const numbers = lines.flatMap(({ points }) => points.map(([, y]) => y).filter(Number.isFinite));
  if (!numbers.length) return null;
  let [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const positive = numbers.filter((value) => value > 0);
  const smallest = Math.min(...positive);
  const logarithmic = low >= 0 && positive.length > 0 && high / smallest > NARROW && !/share/.test(name);
  if (logarithmic) low = smallest;
  const canvas = element("canvas", { role: "img", "aria-label": told(name, lines[0].points) });
  const drawing = context(canvas, PLOT.width, PLOT.height);
  const axis = logarithmic ? Math.log10 : (value) => value;
  // What is constant runs through the middle.
  const [bottom, top] = low < high ? [axis(low), axis(high)] : [axis(low) - 1, axis(low) + 1];
  const steps = lines.flatMap(({ points }) => points.map(([x]) => x));
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const across = PLOT.width - PLOT.left - 4;
  const down = PLOT.height - PLOT.bottom - PLOT.top;
  const x = (step) => PLOT.left + ((step - first) / (last - first || 1)) * across;
  const y = (value) =>
    PLOT.top + down - ((axis(Math.max(value, low)) - bottom) / (top - bottom)) * down;
  frame(drawing, [low, high], [first, last], across, down);
  for (const { points, shade } of lines) trace(drawing, points, color(shade), x, y);
  const note = logarithmic ? " (log)" : "";
  return element("figure", {}, element("figcaption", {}, name + note), canvas);
}

function told(name, points) {
  const numbers = points.map(([, y]) => y).filter(Number.isFinite);
  if (!numbers.length) return `${name}: no numbers`;
  const [from, to] = [points[0], points[points.length - 1]];
  const range = `between ${digits(Math.min(...numbers))} and ${digits(Math.max(...numbers))}`;
  const ends = `${digits(from[1])} at step ${from[0]}, ${digits(to[1])} at step ${to[0]}`;
  return `${name}: ${ends}, ${range}`;
}

function frame(drawing, [low, high], [first, last], across, down) {
  drawing.font = "10px Roboto, sans-serif";
  drawing.fillStyle = color("faint");
  drawing.strokeStyle = color("line");
  drawing.strokeRect(PLOT.left + 0.5, PLOT.top + 0.5, across, down);
  drawing.textAlign = "right";
  drawing.textBaseline = "top";
  drawing.fillText(digits(high), PLOT.left - 4, PLOT.top);
  drawing.textBaseline = "bottom";
  drawing.fillText(digits(low), PLOT.left - 4, PLOT.top + down);
  drawing.textAlign = "left";
  drawing.fillText(String(first), PLOT.left, PLOT.height);
  drawing.textAlign = "right";
  drawing.fillText(String(last), PLOT.left + across, PLOT.height);
}

// A gap and a tick at the foot where there is no number.
function trace(drawing, points, shade, x, y) {
  drawing.strokeStyle = shade;
  drawing.fillStyle = color("ink");
  drawing.beginPath();
  let pen = false;
  for (const [step, value] of points) {
    if (Number.isFinite(value)) {
      if (pen) drawing.lineTo(x(step), y(value));
      else drawing.moveTo(x(step), y(value));
      if (!pen) drawing.lineTo(x(step) + 0.5, y(value));
    } else {
      drawing.fillRect(x(step) - 1, PLOT.height - PLOT.bottom - 5, 2, 5);
    }
    pen = Number.isFinite(value);
  }
  drawing.stroke();
}

// The range of all bins.
export function span(histograms) {
  const ends = histograms.flatMap(({ bins }) => [bins[0][0], bins[bins.length - 1][1]]);
  return ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
}

// histograms: [{step, bins: [[left, right, count], ...]}]. Steps across, values up on an axis
// that is linear around 0 and logarithmic beyond; shaded by the log of each cell's share.
export function strip(histograms, [low, high], label) {
  if (!histograms.length) return element("p", { class: "faint" }, "No histograms of this layer.");
  const unit = Math.max(Math.abs(low), Math.abs(high)) / 30;
  const bend = (value) => Math.asinh(value / unit);
  const place = (value) => ((bend(high) - bend(value)) / (bend(high) - bend(low) || 1)) * STRIP.cells;
  const canvas = element("canvas", { role: "img", "aria-label": label });
  const cell = Math.max(1, Math.min(24, Math.floor(STRIP.most / histograms.length)));
  const drawing = context(canvas, STRIP.left + cell * histograms.length + 30, HEIGHT);
  drawing.fillStyle = color("accent");
  histograms.forEach(({ bins }, i) => {
    const parts = shares(bins, place);
    const peak = Math.max(...parts);
    parts.forEach((share, at) => {
      if (!share) return;
      drawing.globalAlpha = Math.max(0.05, 1 + Math.log10(share / peak) / 2.5);
      drawing.fillRect(STRIP.left + i * cell, STRIP.top + at * STRIP.cell, cell, STRIP.cell);
    });
  });
  drawing.globalAlpha = 1;
  rulers(drawing, histograms, cell, [low, high], (value) => STRIP.top + place(value) * STRIP.cell);
  return canvas;
}

// How much of a histogram falls into each cell, its bins being flat on the bent axis.
function shares(bins, place) {
  const cells = new Float64Array(STRIP.cells);
  const total = bins.reduce((sum, [, , count]) => sum + count, 0);
  for (const [left, right, count] of bins) {
    const [top, bottom] = [place(right), place(left)];
    for (let at = Math.floor(top); at < Math.min(bottom, STRIP.cells); at++) {
      const overlap = Math.min(bottom, at + 1) - Math.max(top, at);
      cells[at] += ((count / total) * overlap) / (bottom - top);
    }
  }
  return cells;
}

function rulers(drawing, histograms, cell, [low, high], y) {
  drawing.font = "10px Roboto, sans-serif";
  drawing.fillStyle = color("faint");
  drawing.textAlign = "right";
  drawing.textBaseline = "middle";
  let free = -Infinity;
  for (const value of [high, ...(low < 0 && high > 0 ? [0] : []), low]) {
    if (y(value) < free) continue;
    drawing.fillText(digits(value), STRIP.left - 4, y(value));
    free = y(value) + 11;
  }
  drawing.textAlign = "left";
  drawing.textBaseline = "bottom";
  const last = histograms.length - 1;
  drawing.fillText(`step ${histograms[0].step}`, STRIP.left, HEIGHT);
  if (last * cell > 90) {
    drawing.textAlign = "right";
    drawing.fillText(String(histograms[last].step), STRIP.left + (last + 1) * cell, HEIGHT);
  }
}
