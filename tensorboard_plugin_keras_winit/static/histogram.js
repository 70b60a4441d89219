// Histograms of one layer over the recorded steps, as a strip: steps across, values up.

import { element, formatNumber, resizeCanvas, themeColor } from "./dom.js";

// In CSS pixels.
const LEFT = 56;
const RIGHT = 30;
const TOP = 6;
const BOTTOM = 16;
const MAX_WIDTH = 900;
const CELL_HEIGHT = 3;
const LABEL_HEIGHT = 11;

const CELLS = 56;
const HEIGHT = TOP + CELLS * CELL_HEIGHT + BOTTOM;

// The range of the bins of all histograms.
export function valueRange(histograms) {
  const ends = histograms.flatMap(({ bins }) => [bins[0][0], bins[bins.length - 1][1]]);
  return ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
}

// histograms: [{step, bins: [[left, right, count], ...]}]. The value axis is linear around 0 and
// logarithmic beyond. The opacity of a cell is the logarithm of its share of the values.
export function histogramStrip(histograms, [low, high], label) {
  if (!histograms.length) return element("p", { class: "faint" }, "No histograms of this layer.");
  const unit = Math.max(Math.abs(low), Math.abs(high)) / 30;
  const transform = (value) => Math.asinh(value / unit);
  const height = transform(high) - transform(low) || 1;
  const cellOf = (value) => ((transform(high) - transform(value)) / height) * CELLS;
  const canvas = element("canvas", { role: "img", "aria-label": label });
  const cellWidth = Math.max(1, Math.min(24, Math.floor(MAX_WIDTH / histograms.length)));
  const context = resizeCanvas(canvas, LEFT + cellWidth * histograms.length + RIGHT, HEIGHT);
  context.fillStyle = themeColor("accent");
  histograms.forEach(({ bins }, column) => {
    const shares = cellShares(bins, cellOf);
    const largest = Math.max(...shares);
    shares.forEach((share, cell) => {
      if (!share) return;
      context.globalAlpha = Math.max(0.05, 1 + Math.log10(share / largest) / 2.5);
      context.fillRect(LEFT + column * cellWidth, TOP + cell * CELL_HEIGHT, cellWidth, CELL_HEIGHT);
    });
  });
  context.globalAlpha = 1;
  drawValueLabels(context, [low, high], (value) => TOP + cellOf(value) * CELL_HEIGHT);
  drawStepLabels(context, histograms, cellWidth);
  return canvas;
}

// The share of the values in each cell, if the values of a bin are spread evenly over the axis.
function cellShares(bins, cellOf) {
  const shares = new Float64Array(CELLS);
  const total = bins.reduce((sum, [, , count]) => sum + count, 0);
  for (const [left, right, count] of bins) {
    const [top, bottom] = [cellOf(right), cellOf(left)];
    for (let cell = Math.floor(top); cell < Math.min(bottom, CELLS); cell++) {
      const overlap = Math.min(bottom, cell + 1) - Math.max(top, cell);
      shares[cell] += ((count / total) * overlap) / (bottom - top);
    }
  }
  return shares;
}

function drawValueLabels(context, [low, high], y) {
  context.font = "10px Roboto, sans-serif";
  context.fillStyle = themeColor("faint");
  context.textAlign = "right";
  context.textBaseline = "middle";
  const values = low < 0 && high > 0 ? [high, 0, low] : [high, low];
  let free = -Infinity;
  for (const value of values) {
    if (y(value) < free) continue;
    context.fillText(formatNumber(value), LEFT - 4, y(value));
    free = y(value) + LABEL_HEIGHT;
  }
}

function drawStepLabels(context, histograms, cellWidth) {
  const last = histograms.length - 1;
  context.textAlign = "left";
  context.textBaseline = "bottom";
  context.fillText(`step ${histograms[0].step}`, LEFT, HEIGHT);
  if (last * cellWidth > 90) {
    context.textAlign = "right";
    context.fillText(String(histograms[last].step), LEFT + (last + 1) * cellWidth, HEIGHT);
  }
}
