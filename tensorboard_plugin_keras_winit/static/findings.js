// What the rules found, with cause and remedy.

import { digits, element } from "./dom.js";

const RANK = ["error", "warning", "info"];

const severity = (finding) => (RANK.includes(finding.severity) ? finding.severity : "info");

const consequences = (finding) => finding.consequences ?? [];

// The worst severity of each layer that has findings, or consequences of others.
export function severities(findings) {
  const worst = new Map();
  for (const finding of findings.flatMap((one) => [one, ...consequences(one)])) {
    const known = worst.get(finding.layer);
    if (finding.layer && (!known || RANK.indexOf(severity(finding)) < RANK.indexOf(known))) {
      worst.set(finding.layer, severity(finding));
    }
  }
  return worst;
}

export function list(run, findings, onSelect) {
  const items = findings.map((finding) => item(finding, onSelect));
  return [
    element("h3", {}, run),
    items.length
      ? element("ol", {}, ...items)
      : element("p", { class: "faint" }, "Nothing found so far."),
  ];
}

// What was found, and a link to the layer where.
function heading(finding, onSelect) {
  const go = () => onSelect(finding.layer, finding.step);
  return [
    element("bdi", {}, String(finding.rule ?? "")),
    " ",
    finding.layer
      ? element("button", { type: "button", class: "link", onclick: go }, String(finding.layer))
      : null,
  ];
}

function item(finding, onSelect) {
  const grade = severity(finding);
  const follows = consequences(finding).map((one) =>
    element("li", { class: severity(one) }, ...heading(one, onSelect)),
  );
  return element(
    "li",
    { class: grade },
    element("div", {}, element("span", { class: "badge" }, grade), " ", ...heading(finding, onSelect)),
    element("p", { class: "faint" }, facts(finding)),
    element("p", {}, String(finding.cause ?? "")),
    finding.remedy ? element("p", { class: "remedy" }, `Remedy: ${finding.remedy}`) : null,
    follows.length
      ? element("details", {}, element("summary", {}, `Hence ${follows.length} more`), element("ul", {}, ...follows))
      : null,
  );
}

function facts({ step, first_step: first, hits, value, threshold, healthy_range: healthy }) {
  const number = (given) => (typeof given === "number" || given === null ? digits(given) : String(given));
  const parts = [];
  if (step !== undefined) parts.push(`step ${step}`);
  if (first !== undefined && first !== step) parts.push(`since step ${first}`);
  if (hits > 1) parts.push(`${hits} times`);
  if (value !== undefined) parts.push(`value ${number(value)}`);
  if (threshold !== undefined && threshold !== null) parts.push(`threshold ${number(threshold)}`);
  if (Array.isArray(healthy)) parts.push(`healthy ${healthy.map(number).join(" to ")}`);
  else if (healthy) parts.push(`healthy ${healthy}`);
  return parts.join(", ");
}
