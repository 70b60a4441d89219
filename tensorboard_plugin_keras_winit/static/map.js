// Heat map of one statistic: one line for each row of the table, one column for each recorded step.

import { element, formatNumber, isolate, resizeCanvas, shorten, themeColor } from "./dom.js";
import { MARKS } from "./findings.js";
import { colorAt } from "./scale.js";

// All lengths are in CSS pixels.
const NAMES_WIDTH = 190;
const STEPS_HEIGHT = 24;
const TICK = 4;
const NAME_HEIGHT = 15;
const STEP_GAP = 8;
const ROWS_PER_PAGE = 10;

export class HeatMap {
  // `onSelect(row, record)` is called when the user chooses a cell by pointer or keyboard, and
  // `onKey(letter)` when the user presses a letter.
  constructor(onSelect, onKey) {
    Object.assign(this, { onSelect, onKey });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.tip = element("div", { class: "tip", hidden: true });
    this.list = element("div", { class: "screen-reader" });
    this.element = element(
      "div",
      {
        class: "map",
        tabindex: 0,
        role: "listbox",
        "aria-describedby": "keys",
        onkeydown: (event) => this._handleKey(event),
      },
      this.canvas,
      this.list,
      this.tip,
    );
    this.canvas.addEventListener("click", (event) => {
      const cell = this._cellAt(event.offsetX, event.offsetY);
      if (cell) this.onSelect(cell.row, cell.record);
      this.element.focus({ preventScroll: true });
    });
    this.canvas.addEventListener("pointermove", (event) => this._showTip(event));
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
  }

  // view: {id, table, statistic, slice, scale, scaleKey, theme, row, record, severities}. `row`
  // and `record` are selected; `row` is -1 if the table lacks it. The cells are painted again if
  // `slice` or `scaleKey` has changed.
  draw(view, width, height) {
    this.view = view;
    const rows = view.slice.width;
    this.rowHeight = Math.max(2, Math.min(24, Math.floor((height - STEPS_HEIGHT) / rows)));
    this.cellsWidth = Math.max(50, width - NAMES_WIDTH);
    this.cellsHeight = this.rowHeight * rows;
    const context = resizeCanvas(this.canvas, width, this.cellsHeight + STEPS_HEIGHT);
    if (view.slice.count) this._drawCells(context);
    this._drawNames(context);
    this._drawSteps(context);
    this._drawSelection(context);
    this._updateOptions();
  }

  describe(row, record) {
    const { table, statistic, slice, scale } = this.view;
    const value = slice.values[record * slice.width + row];
    const start = `${isolate(table.rows[row])}, step ${slice.steps[record]}: ${statistic} `;
    if (slice.absent[row]) return `${start}does not apply`;
    const comparison = scale.compare(value, row, record);
    return `${start}${formatNumber(value)}${comparison && `, ${comparison}`}`;
  }

  // The last record whose cell covers a pixel, `x` pixels from the left end of the cells.
  _recordAt(x) {
    const { count } = this.view.slice;
    return Math.min(count - 1, Math.floor((x * count) / this.cellsWidth));
  }

  // The cell at a point of the canvas. A point on a name belongs to the selected record.
  _cellAt(x, y) {
    const { slice, record } = this.view;
    const row = Math.floor(y / this.rowHeight);
    const inside = x < NAMES_WIDTH + this.cellsWidth && y >= 0 && row < slice.width;
    if (!inside || !slice.count) return null;
    return { row, record: x < NAMES_WIDTH ? record : this._recordAt(x - NAMES_WIDTH) };
  }

  _drawCells(context) {
    const { slice, scaleKey } = this.view;
    const { painted } = this;
    const unchanged =
      painted?.slice === slice && painted.scaleKey === scaleKey && painted.canvas.width === this.cellsWidth;
    if (!unchanged) this.painted = { slice, scaleKey, canvas: this._paintCells() };
    context.imageSmoothingEnabled = false;
    context.drawImage(this.painted.canvas, NAMES_WIDTH, 0, this.cellsWidth, this.cellsHeight);
    this._drawAbsentRows(context);
    this._drawGaps(context);
  }

  // Returns a canvas with one pixel for the height of a row. Where several records share a pixel,
  // it shows the one farthest from the middle of the scale, or NaN, so that none goes unseen.
  _paintCells() {
    const { slice, scale, theme } = this.view;
    const image = new ImageData(this.cellsWidth, slice.width);
    for (let x = 0; x < this.cellsWidth; x++) {
      const first = this._recordAt(x);
      const last = Math.max(first, this._recordAt(x + 1) - 1);
      for (let row = 0; row < slice.width; row++) {
        if (slice.absent[row]) continue;
        let farthest = null;
        for (let record = first; record <= last && !Number.isNaN(farthest); record++) {
          const position = scale.position(slice.values[record * slice.width + row], row, record);
          if (position === null) continue;
          // The negation makes NaN win.
          if (farthest === null || !(Math.abs(position) <= Math.abs(farthest))) farthest = position;
        }
        if (farthest === null) continue;
        const offset = 4 * (row * this.cellsWidth + x);
        image.data.set(colorAt(farthest, theme), offset);
        image.data[offset + 3] = 255;
      }
    }
    const canvas = element("canvas", { width: this.cellsWidth, height: slice.width });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  _drawAbsentRows(context) {
    const { slice } = this.view;
    context.strokeStyle = themeColor("faint");
    context.setLineDash([1, 5]);
    for (let row = 0; row < slice.width; row++) {
      if (!slice.absent[row]) continue;
      const middle = (row + 0.5) * this.rowHeight;
      context.beginPath();
      context.moveTo(NAMES_WIDTH, middle);
      context.lineTo(NAMES_WIDTH + this.cellsWidth, middle);
      context.stroke();
    }
    context.setLineDash([]);
  }

  _drawGaps(context) {
    if (this.rowHeight < 8) return;
    context.fillStyle = themeColor("back");
    for (let row = 1; row < this.view.slice.width; row++) {
      context.fillRect(NAMES_WIDTH, row * this.rowHeight - 0.5, this.cellsWidth, 1);
    }
  }

  // Draws the names of the rows, as many as there is room for, and marks rows with findings.
  _drawNames(context) {
    const { table, severities, row: selected } = this.view;
    const interval = Math.ceil(NAME_HEIGHT / this.rowHeight);
    context.font = "11px Roboto, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    table.rows.forEach((name, row) => {
      this._drawMark(context, severities.get(name), row);
      // The selected name is always drawn, and its neighbours make room for it.
      const crowded = Math.abs(row - selected) < interval;
      if (row !== selected && (row % interval || crowded)) return;
      const middle = Math.max(6, (row + 0.5) * this.rowHeight);
      context.fillStyle = themeColor(row === selected ? "ink" : "faint");
      context.fillText(shorten(context, name, NAMES_WIDTH - 16), NAMES_WIDTH - 13, middle);
    });
  }

  // Where there is no room for a shape, a bar marks the row.
  _drawMark(context, severity, row) {
    if (!severity) return;
    context.fillStyle = themeColor(severity);
    if (this.rowHeight < 10) {
      context.fillRect(NAMES_WIDTH - 9, row * this.rowHeight, 6, Math.max(2, this.rowHeight - 1));
    } else {
      context.fillText(MARKS[severity], NAMES_WIDTH - 2, (row + 0.5) * this.rowHeight);
    }
  }

  // Draws the numbers of the steps, as many as there is room for, and always the last.
  _drawSteps(context) {
    const { count, steps } = this.view.slice;
    const end = NAMES_WIDTH + this.cellsWidth;
    context.fillStyle = themeColor("faint");
    context.textAlign = "right";
    context.textBaseline = "top";
    const top = this.cellsHeight + TICK + 3;
    context.fillText("step", NAMES_WIDTH - 13, top);
    context.textAlign = "left";
    const labels = Array.from(steps, (step, record) => {
      const text = String(step);
      const width = context.measureText(text).width;
      const middle = NAMES_WIDTH + ((record + 0.5) * this.cellsWidth) / count;
      return { text, middle, left: Math.min(middle - width / 2, end - width), width };
    });
    const draw = ({ text, left, middle }) => {
      context.fillRect(Math.floor(middle), this.cellsHeight + 1, 1, TICK);
      context.fillText(text, left, top);
    };
    const last = labels.pop();
    if (!last) return;
    let free = NAMES_WIDTH;
    for (const label of labels) {
      if (label.left < free || label.left + label.width + STEP_GAP > last.left) continue;
      draw(label);
      free = label.left + label.width + STEP_GAP;
    }
    draw(last);
  }

  _drawSelection(context) {
    const { slice, row, record } = this.view;
    if (row < 0 || !slice.count) return;
    const top = row * this.rowHeight;
    const left = NAMES_WIDTH + (record * this.cellsWidth) / slice.count;
    // A line of the page's color around each line makes it visible on cells of any color.
    for (const [color, width] of [["back", 4], ["ink", 2]]) {
      context.strokeStyle = themeColor(color);
      context.lineWidth = width;
      context.strokeRect(NAMES_WIDTH + 1, top, this.cellsWidth - 2, Math.max(3, this.rowHeight));
      context.strokeRect(left, 1, Math.max(3, this.cellsWidth / slice.count), this.cellsHeight - 2);
    }
    context.lineWidth = 1;
  }

  // Gives screen readers an option for each row, as they cannot read the canvas.
  _updateOptions() {
    const { id, table, statistic, slice, row, record } = this.view;
    this.element.setAttribute("aria-label", `${statistic} of ${table.run}, ${table.kind} by recorded step`);
    const names = table.rows.join("\n");
    if (this.optionNames !== names) {
      this.optionNames = names;
      this.list.replaceChildren(
        ...table.rows.map((name, i) => element("div", { role: "option", id: `${id}-${i}` }, name)),
      );
    }
    this.list.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
    const option = this.list.children[row];
    if (!option) return;
    option.setAttribute("aria-selected", "true");
    option.textContent = slice.count ? this.describe(row, record) : table.rows[row];
    this.element.setAttribute("aria-activedescendant", option.id);
  }

  _handleKey(event) {
    const { slice, row, record } = this.view ?? {};
    if (!slice?.count) return;
    const last = slice.count - 1;
    const targets = {
      ArrowDown: [row + 1, record],
      ArrowUp: [row - 1, record],
      PageDown: [row + ROWS_PER_PAGE, record],
      PageUp: [row - ROWS_PER_PAGE, record],
      Home: [event.ctrlKey ? row : 0, event.ctrlKey ? 0 : record],
      End: [event.ctrlKey ? row : slice.width - 1, event.ctrlKey ? last : record],
      ArrowLeft: [row, record - 1],
      ArrowRight: [row, record + 1],
    };
    if (event.metaKey || event.altKey) return;
    if (/^[a-z]$/i.test(event.key) && !event.ctrlKey) this.onKey(event.key.toLowerCase());
    const target = targets[event.key];
    if (!target) return;
    event.preventDefault();
    const clamp = (index, count) => Math.max(0, Math.min(count - 1, index));
    this.onSelect(clamp(target[0], slice.width), clamp(target[1], slice.count));
  }

  _showTip(event) {
    const cell = this.view && this._cellAt(event.offsetX, event.offsetY);
    this.tip.hidden = !cell;
    if (!cell) return;
    this.tip.textContent = this.describe(cell.row, cell.record);
    const left = Math.min(event.offsetX + 12, this.canvas.clientWidth - this.tip.offsetWidth);
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${event.offsetY + 16}px`;
  }
}
