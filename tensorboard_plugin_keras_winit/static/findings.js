// Lists findings with their cause, their remedy and their consequences.

import { element, formatNumber } from "./dom.js";

export const SEVERITIES = ["error", "warning", "info"]; // the worst first

// Shapes that tell severities apart without colors.
export const MARKS = { error: "✖", warning: "▲", info: "●" };

export const severityOf = ({ severity }) => (SEVERITIES.includes(severity) ? severity : "info");

const consequencesOf = (finding) => finding.consequences ?? [];

// Maps each layer with findings or consequences to the worst of their severities.
export function worstSeverities(findings) {
  const worst = new Map();
  for (const finding of findings.flatMap((cause) => [cause, ...consequencesOf(cause)])) {
    const severity = severityOf(finding);
    const known = worst.get(finding.layer);
    if (finding.layer && (!known || SEVERITIES.indexOf(severity) < SEVERITIES.indexOf(known))) {
      worst.set(finding.layer, severity);
    }
  }
  return worst;
}

// `onSelect(finding)` is called when the user clicks on the layer of a finding.
export function findingList(run, findings, onSelect) {
  const items = findings.map((finding) => findingItem(finding, onSelect));
  return [
    element("h3", {}, run),
    items.length
      ? element("ol", {}, ...items)
      : element("p", { class: "faint" }, "No findings so far."),
  ];
}

function findingItem(finding, onSelect) {
  const severity = severityOf(finding);
  const consequences = consequencesOf(finding).map((consequence) =>
    element("li", { class: severityOf(consequence) }, ...ruleAndLayer(consequence, onSelect)),
  );
  const count = consequences.length === 1 ? "1 consequence" : `${consequences.length} consequences`;
  return element(
    "li",
    { class: severity },
    element("div", {}, element("span", { class: "badge" }, `${MARKS[severity]} ${severity}`), " ", ...ruleAndLayer(finding, onSelect)),
    element("p", { class: "faint" }, describeNumbers(finding)),
    element("p", {}, String(finding.cause ?? "")),
    finding.remedy ? element("p", { class: "remedy" }, `Remedy: ${finding.remedy}`) : null,
    consequences.length
      ? element("details", {}, element("summary", {}, count), element("ul", {}, ...consequences))
      : null,
  );
}

function ruleAndLayer(finding, onSelect) {
  const onclick = () => onSelect(finding);
  return [
    element("bdi", {}, String(finding.rule ?? "")),
    " ",
    finding.layer
      ? element("button", { type: "button", class: "link", onclick }, String(finding.layer))
      : null,
  ];
}

function describeNumbers({ step, first_step: firstStep, hits, value, threshold, healthy_range: range }) {
  // JSON has no NaN: it is written as null, and infinities as text.
  const format = (entry) =>
    typeof entry === "number" || entry === null ? formatNumber(entry) : String(entry);
  const parts = [];
  if (step !== undefined) parts.push(`step ${step}`);
  if (firstStep !== undefined && firstStep !== step) parts.push(`first at step ${firstStep}`);
  if (hits > 1) parts.push(`at ${hits} recorded steps`);
  if (value !== undefined) parts.push(`value ${format(value)}`);
  if (threshold !== undefined && threshold !== null) parts.push(`threshold ${format(threshold)}`);
  if (Array.isArray(range)) parts.push(`healthy ${range.map(format).join(" to ")}`);
  else if (range) parts.push(`healthy ${range}`);
  return parts.join(", ");
}
