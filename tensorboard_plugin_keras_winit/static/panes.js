// The heat maps of one run or two, side by side.

import { element } from "./dom.js";
import { worstSeverities } from "./findings.js";
import { currentTheme } from "./host.js";
import { HeatMap } from "./map.js";
import { recordIndex, rowIndex } from "./tables.js";

const MIN_WIDTH = 300;
const GAP = 12;

export class Panes {
  // `onSelect(i, row, record)` is called when the user chooses a cell of map `i`; `onKey(key)`
  // when the user presses a letter in a map.
  constructor(parent, onSelect, onKey) {
    Object.assign(this, { parent, onSelect, onKey, panes: [], used: [] });
  }

  // Draws a map for each view {table, keys, kinds, slice, findings}, with its scale.
  draw(views, scales, state) {
    while (this.panes.length < views.length) this.panes.push(this._makePane(this.panes.length));
    this.used = this.panes.slice(0, views.length);
    if (this.parent.children.length !== views.length) {
      this.parent.replaceChildren(...this.used.map(({ box }) => box));
    }
    const width = Math.max(MIN_WIDTH, Math.floor(this.parent.clientWidth / views.length) - GAP);
    const height = Math.max(MIN_WIDTH, window.innerHeight * 0.62);
    views.forEach((view, i) => {
      this.used[i].title.textContent = view.table.run;
      this.used[i].map.draw(mapView(views, i, scales, state), width, height);
    });
  }

  // Describes the selected cell of each map.
  describe() {
    const maps = this.used.map(({ map }) => map);
    return maps
      .filter(({ view }) => view.row >= 0 && view.slice.count)
      .map((map) => {
        const text = map.describe(map.view.row, map.view.record);
        return maps.length > 1 ? `${map.view.table.run}: ${text}` : text;
      })
      .join("; ");
  }

  _makePane(i) {
    const map = new HeatMap((row, record) => this.onSelect(i, row, record), this.onKey);
    const title = element("h2", {});
    return { map, title, box: element("div", { class: "pane" }, title, map.element) };
  }
}

function mapView(views, i, scales, { statistic, reference, decades, row, step }) {
  const view = views[i];
  const theme = currentTheme();
  return {
    ...view,
    id: `map${i}`,
    statistic,
    scale: scales[i],
    scaleKey: [statistic, reference, decades, theme, views[0].table.run, views[0].slice.count].join(),
    theme,
    row: rowIndex(row, view, views),
    record: recordIndex(step, view.slice),
    severities: worstSeverities(view.findings),
  };
}
