// Elements and canvases. Text only ever becomes text: no name can turn into markup.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

// The 2d context of a canvas of so many CSS pixels, sharp on any screen.
export function context(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const drawing = canvas.getContext("2d");
  drawing.scale(ratio, ratio);
  return drawing;
}

export function fill(select, options, chosen) {
  const wanted = options.map(([value, label]) => `${value}\n${label}`).join("\n\n");
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    select.replaceChildren(...options.map(([value, label]) => element("option", { value }, label)));
  }
  select.value = chosen;
}

// The end of a long text tells more than its start: block names come first.
export function shortened(drawing, text, width) {
  if (drawing.measureText(text).width <= width) return text;
  let from = 1;
  let until = text.length;
  while (from < until) {
    const middle = (from + until) >> 1;
    if (drawing.measureText(`…${text.slice(middle)}`).width <= width) until = middle;
    else from = middle + 1;
  }
  return `…${text.slice(from)}`;
}

// A name that switches the direction of writing must not take what follows with it.
export function isolated(text) {
  return /[\u202a-\u202e\u2066-\u2069]/.test(text) ? `\u2068${text}\u2069` : text;
}

export function digits(value) {
  if (value == null || Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}

// What the theme's style sheet calls a color.
export function color(name) {
  return getComputedStyle(document.body).getPropertyValue(`--${name}`).trim();
}
