// Legend of the colors of the heat maps.

import { element, formatNumber } from "./dom.js";
import { colorAt } from "./scale.js";

const WIDTH = 200;

export function legendElements(scale, theme) {
  const bar = element("canvas", { width: WIDTH + 1, height: 1, "aria-hidden": "true" });
  const context = bar.getContext("2d");
  for (let x = 0; x <= WIDTH; x++) {
    const position = scale.from + ((1 - scale.from) * x) / WIDTH;
    context.fillStyle = `rgb(${colorAt(position, theme)})`;
    context.fillRect(x, 0, 1, 1);
  }
  const [low, middle, high] = scale.ends.map((end) => (typeof end === "number" ? formatNumber(end) : end));
  return [
    element("span", {}, low),
    bar,
    element("span", {}, high),
    element("span", { class: "faint" }, `middle: ${middle}`),
    element("span", { class: "nan" }),
    element("span", {}, "NaN or infinite"),
    element("span", { class: "faint" }, "dotted line: does not apply"),
  ];
}
