// Builds the page: the controls at the top, the heat maps with details below, and beside them the
// curve of the selected row and the findings.

import { element } from "./dom.js";

const CONTROLS = {
  run: "Run",
  other: "Compare with",
  kind: "Rows",
  statistic: "Statistic",
  reference: "Relative to",
  decades: "Range",
};

const KEYS =
  "Keys in a map: the arrows, Page Up, Page Down, Home and End choose a row and a step, with Ctrl " +
  "the first or the last step; S chooses the next statistic, F the next finding.";

// Returns the elements whose content changes. `onChoose(control, value)` is called when the user
// chooses an option of a control.
export function buildPage(onChoose) {
  document.documentElement.lang = "en";
  document.title = "Winit";
  const selects = {};
  const controls = Object.entries(CONTROLS).map(([id, label]) => {
    const onchange = (event) => onChoose(id, event.target.value);
    selects[id] = element("select", { id, onchange });
    return element("span", {}, element("label", { for: id }, label), " ", selects[id]);
  });
  const page = {
    selects,
    status: element("p", { id: "status", role: "status", class: "faint" }),
    unreadable: element("p", { id: "unreadable", role: "status" }),
    legend: element("div", { id: "legend" }),
    maps: element("section", { id: "maps", "aria-label": "Heat maps" }),
    readout: element("p", { id: "readout", "aria-live": "polite" }),
    keys: element("p", { id: "keys", class: "faint" }, KEYS),
    detail: element("section", { id: "detail", "aria-label": "All statistics of the selected row" }),
    curve: element("section", { id: "curve", "aria-label": "Selected row" }),
    findings: element("section", { id: "findings", "aria-label": "Findings" }),
    waiting: element("section", { id: "waiting", "aria-label": "No data yet" }),
  };
  const left = element("div", {}, page.legend, page.maps, page.readout, page.keys, page.detail);
  page.main = element("main", { hidden: true }, left, element("aside", {}, page.curve, page.findings));
  document.body.append(
    element("header", {}, ...controls, page.status, page.unreadable),
    page.waiting,
    page.main,
  );
  return page;
}

// Resolves when the style sheet is in effect, on which the sizes of the page depend.
export function loadStyle() {
  const href = new URL("./style.css", import.meta.url);
  return new Promise((resolve) => {
    document.head.append(element("link", { rel: "stylesheet", href, onload: resolve }));
  });
}
