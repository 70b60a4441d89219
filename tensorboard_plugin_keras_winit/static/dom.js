// Makes elements and canvases. Names are only ever inserted as text, so none can become markup.

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

// Sets the size of a canvas in CSS pixels, and returns its 2d context, scaled to the pixels of
// the screen.
export function resizeCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

// Replaces the options of a select only if they have changed, as that closes an open list.
export function setOptions(select, options, selected) {
  const content = options.map(([value, label]) => `${value}\n${label}`).join("\n\n");
  if (select.dataset.options !== content) {
    select.dataset.options = content;
    select.replaceChildren(...options.map(([value, label]) => element("option", { value }, label)));
  }
  select.value = selected;
}

// Cuts the start of a text that is too wide: the end of a layer's path tells more than the names
// of its blocks.
export function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let low = 1;
  let high = text.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (context.measureText(`…${text.slice(middle)}`).width <= width) high = middle;
    else low = middle + 1;
  }
  return `…${text.slice(low)}`;
}

// Encloses a name that changes the direction of writing, so that the text after it does not
// change its direction too.
export function isolate(text) {
  return /[\u202a-\u202e\u2066-\u2069]/.test(text) ? `\u2068${text}\u2069` : text;
}

export function formatNumber(value) {
  if (value == null || Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}

// Returns a color that style.css defines for the current theme.
export function themeColor(name) {
  return getComputedStyle(document.body).getPropertyValue(`--${name}`).trim();
}
