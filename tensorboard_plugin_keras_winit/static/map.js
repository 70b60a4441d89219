// The heat map: layers down, sampled steps across.

import { color, context, digits, element, shortened } from "./dom.js";
import { paint } from "./scale.js";

const GUTTER = 190;
const AXIS = 20;
const PAGE = 10;
const LABEL = 15;

export class HeatMap {
  // `onSelect(row, sample)` is told of a choice by pointer or key.
  constructor(onSelect) {
    this.onSelect = onSelect;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.tip = element("div", { class: "tip", hidden: true });
    this.list = element("div", { class: "hidden" });
    this.element = element(
      "div",
      { class: "map", tabindex: 0, role: "listbox", onkeydown: (event) => this._key(event) },
      this.canvas,
      this.list,
      this.tip,
    );
    this.canvas.addEventListener("click", (event) => {
      const cell = this.cellAt(event.offsetX, event.offsetY);
      if (cell) this.onSelect(cell.row, cell.sample);
    });
    this.canvas.addEventListener("pointermove", (event) => this._hover(event));
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
  }

  // shown: {id, table, keys, name, data, scale, look, theme, row, sample, severities}; `look`
  // changes with whatever changes the colors.
  draw(shown, width, height) {
    this.shown = shown;
    const { table, data } = shown;
    this.rowHeight = Math.max(2, Math.min(24, Math.floor((height - AXIS) / data.width)));
    this.plot = Math.max(50, width - GUTTER);
    const drawing = context(this.canvas, width, this.rowHeight * data.width + AXIS);
    drawing.clearRect(0, 0, width, this.rowHeight * data.width + AXIS);
    if (data.count) this._cells(drawing);
    this._labels(drawing);
    this._steps(drawing);
    this._selection(drawing);
    this._options(table);
  }

  // The sample whose cell covers a pixel; several may share one.
  sampleAt(x) {
    return Math.min(this.shown.data.count - 1, Math.floor((x * this.shown.data.count) / this.plot));
  }

  cellAt(x, y) {
    const row = Math.floor(y / this.rowHeight);
    const inside = x < GUTTER + this.plot && y >= 0 && row < this.shown.data.width;
    if (!inside || !this.shown.data.count) return null;
    return { row, sample: x < GUTTER ? this.shown.sample : this.sampleAt(x - GUTTER) };
  }

  describe(row, sample) {
    const { table, name, data, scale } = this.shown;
    const value = data.values[sample * data.width + row];
    const head = `${table.rows[row]}, step ${data.steps[sample]}: ${name} `;
    if (data.absent[row]) return `${head}does not apply`;
    const ratio = value / (scale.middle?.(row) ?? NaN);
    const times = Number.isFinite(ratio) ? `, ${digits(ratio)} times the reference` : "";
    return `${head}${digits(value)}${times}`;
  }

  _cells(drawing) {
    const { data, look } = this.shown;
    const known = this.painted;
    if (known?.data !== data || known.look !== look || known.small.width !== this.plot) {
      this.painted = { data, look, small: this._paint() };
    }
    drawing.imageSmoothingEnabled = false;
    drawing.drawImage(this.painted.small, GUTTER, 0, this.plot, this.rowHeight * data.width);
    this._absent(drawing);
    this._gaps(drawing);
  }

  // A pixel that several samples share shows the worst of them: no NaN goes unseen.
  _paint() {
    const { data, scale, theme } = this.shown;
    const columns = this.plot;
    const image = new ImageData(columns, data.width);
    for (let x = 0; x < columns; x++) {
      const first = this.sampleAt(x);
      const last = Math.max(first, this.sampleAt(x + 1) - 1);
      for (let row = 0; row < data.width; row++) {
        if (data.absent[row]) continue;
        let worst = 0;
        for (let sample = first; sample <= last && !Number.isNaN(worst); sample++) {
          const position = scale.position(data.values[sample * data.width + row], row);
          if (!(Math.abs(position) <= Math.abs(worst))) worst = position;
        }
        const at = 4 * (row * columns + x);
        image.data.set(paint(worst, theme), at);
        image.data[at + 3] = 255;
      }
    }
    const small = element("canvas", { width: columns, height: data.width });
    small.getContext("2d").putImageData(image, 0, 0);
    return small;
  }

  _absent(drawing) {
    const { data } = this.shown;
    drawing.strokeStyle = color("faint");
    for (let row = 0; row < data.width; row++) {
      if (!data.absent[row]) continue;
      const middle = (row + 0.5) * this.rowHeight;
      drawing.setLineDash([1, 5]);
      drawing.beginPath();
      drawing.moveTo(GUTTER, middle);
      drawing.lineTo(GUTTER + this.plot, middle);
      drawing.stroke();
      drawing.setLineDash([]);
    }
  }

  _gaps(drawing) {
    if (this.rowHeight < 8) return;
    drawing.fillStyle = color("back");
    for (let row = 1; row < this.shown.data.width; row++) {
      drawing.fillRect(GUTTER, row * this.rowHeight - 0.5, this.plot, 1);
    }
  }

  _labels(drawing) {
    const { table, severities, row: selected } = this.shown;
    const every = Math.ceil(LABEL / this.rowHeight);
    drawing.font = "11px Roboto, sans-serif";
    drawing.textAlign = "right";
    drawing.textBaseline = "middle";
    table.rows.forEach((name, row) => {
      const middle = Math.max(6, (row + 0.5) * this.rowHeight);
      const severity = severities.get(name);
      if (severity) {
        drawing.fillStyle = color(severity);
        drawing.fillRect(GUTTER - 9, row * this.rowHeight, 6, Math.max(2, this.rowHeight - 1));
      }
      const crowded = Math.abs(row - selected) < every;
      if (row !== selected && (row % every || crowded)) return;
      drawing.fillStyle = color(row === selected ? "ink" : "faint");
      drawing.fillText(shortened(drawing, name, GUTTER - 16), GUTTER - 13, middle);
    });
  }

  _steps(drawing) {
    const { data } = this.shown;
    const bottom = this.rowHeight * data.width;
    drawing.fillStyle = color("faint");
    drawing.textAlign = "center";
    drawing.textBaseline = "top";
    let free = -Infinity;
    for (let sample = 0; sample < data.count; sample++) {
      const middle = GUTTER + ((sample + 0.5) * this.plot) / data.count;
      const text = String(data.steps[sample]);
      const half = drawing.measureText(text).width / 2;
      if (middle - half < free + 14 || middle + half > GUTTER + this.plot) continue;
      drawing.fillText(text, middle, bottom + 5);
      free = middle + half;
    }
  }

  _selection(drawing) {
    const { data, row, sample } = this.shown;
    if (row < 0 || !data.count) return;
    drawing.strokeStyle = color("accent");
    drawing.lineWidth = 2;
    const top = row * this.rowHeight;
    drawing.strokeRect(GUTTER + 1, top, this.plot - 2, Math.max(3, this.rowHeight));
    const left = GUTTER + (sample * this.plot) / data.count;
    const cell = Math.max(3, this.plot / data.count);
    drawing.strokeRect(left, 0, cell, this.rowHeight * data.width);
    drawing.lineWidth = 1;
  }

  // What a screen reader finds in the map: one option for each layer.
  _options(table) {
    const { id, row, name } = this.shown;
    this.element.setAttribute("aria-label", `${name} of ${table.run}, layers in execution order`);
    const known = table.rows.join("\n");
    if (this.known !== known) {
      this.known = known;
      this.list.replaceChildren(
        ...table.rows.map((text, i) => element("div", { role: "option", id: `${id}-${i}` }, text)),
      );
    }
    this.list.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
    const option = this.list.children[row];
    if (!option) return;
    option.setAttribute("aria-selected", "true");
    option.textContent = this.shown.data.count ? this.describe(row, this.shown.sample) : table.rows[row];
    this.element.setAttribute("aria-activedescendant", option.id);
  }

  _key(event) {
    const { data, row, sample } = this.shown ?? {};
    if (!data?.count) return;
    const moves = {
      ArrowDown: [row + 1, sample],
      ArrowUp: [row - 1, sample],
      PageDown: [row + PAGE, sample],
      PageUp: [row - PAGE, sample],
      Home: [0, sample],
      End: [data.width - 1, sample],
      ArrowLeft: [row, sample - 1],
      ArrowRight: [row, sample + 1],
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const within = (value, end) => Math.max(0, Math.min(end - 1, value));
    this.onSelect(within(move[0], data.width), within(move[1], data.count));
  }

  _hover(event) {
    const cell = this.shown && this.cellAt(event.offsetX, event.offsetY);
    this.tip.hidden = !cell;
    if (!cell) return;
    this.tip.textContent = this.describe(cell.row, cell.sample);
    const left = Math.min(event.offsetX + 12, this.canvas.clientWidth - this.tip.offsetWidth);
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${event.offsetY + 16}px`;
  }
}
