// Legend of the colors of the heat maps.

import { element } from "./dom.js";
import { colorAt } from "./scale.js";

const WIDTH = 260; // of the bar, in pixels

export function legendElements(scale, theme) {
  const bar = element("canvas", { width: WIDTH + 1, height: 1, "aria-hidden": "true" });
  const context = bar.getContext("2d");
  for (let x = 0; x <= WIDTH; x++) {
    const position = scale.from + ((1 - scale.from) * x) / WIDTH;
    context.fillStyle = `rgb(${colorAt(position, theme)})`;
    context.fillRect(x, 0, 1, 1);
  }
  const ticks = scale.ticks.map(([position, label]) => {
    const share = (position - scale.from) / (1 - scale.from);
    return element("span", { style: `left: ${100 * share}%` }, label);
  });
  return [
    element("div", { class: "scale" }, bar, element("div", { class: "ticks faint" }, ...ticks)),
    element("span", { class: "nan" }),
    element("span", {}, "NaN or infinite"),
    element("span", { class: "faint" }, "dotted line or no color: does not apply"),
  ];
}
