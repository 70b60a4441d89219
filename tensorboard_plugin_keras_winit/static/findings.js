// What the rules found, with cause and remedy.

import { digits, element } from "./dom.js";

const RANK = ["error", "warning", "info"];

const severity = (finding) => (RANK.includes(finding.severity) ? finding.severity : "info");

// The worst severity of each layer that has findings.
export function severities(findings) {
  const worst = new Map();
  for (const finding of findings) {
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

function item(finding, onSelect) {
  const grade = severity(finding);
  const go = () => onSelect(finding.layer, finding.step);
  const layer = finding.layer
    ? element("button", { type: "button", class: "link", onclick: go }, String(finding.layer))
    : null;
  const rule = element("bdi", {}, String(finding.rule ?? ""));
  return element(
    "li",
    { class: grade },
    element("div", {}, element("span", { class: "badge" }, grade), " ", rule, " ", layer),
    element("p", { class: "faint" }, facts(finding)),
    element("p", {}, String(finding.cause ?? "")),
    finding.remedy ? element("p", { class: "remedy" }, `Remedy: ${finding.remedy}`) : null,
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
