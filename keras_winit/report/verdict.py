"""Sums a report up: a verdict in one sentence, and what to change."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keras_winit.monitor.diagnosis.findings import Finding, Findings
from keras_winit.monitor.diagnosis.rules.remedies import reinitialize_code
from keras_winit.monitor.row_names import layer_of
from keras_winit.report.rows import LayerRow

REINITIALIZE = "`keras_winit.reinitialize(model)`"

# Stands for the code that draws one layer anew.
ONE_LAYER = "{reinitialize}"

# The rules whose findings new weights repair, unless the layers already have a fitting scheme.
OF_WEIGHTS = (
    *("vanishing_forward", "exploding_forward", "vanishing_backward", "exploding_backward"),
    *("wrong_init_for_activation", "saturated", "dead_units", "constant_units"),
    *("symmetric_units", "equal_kernels"),
)

# A signal that is smaller than this share of what it was is lost, as for the monitor's rules.
LOST = 0.01

# Most layers that a change names.
LAYERS_NAMED = 3


@dataclass(frozen=True)
class Headline:
    """The sentence with which the verdict reports the findings of a rule.

    Args:
        text: Sentence without its end, with the name of the layer, its place and the number.
        smallest: Whether the smallest value is the worst.
    """

    text: str
    smallest: bool = False


# The order decides which one is reported, if several rules have findings with the same cause.
HEADLINES = {
    "vanishing_forward": Headline(
        "The signal vanishes: {percent} of the differences between samples arrive in {layer}", True
    ),
    "exploding_forward": Headline(
        "The signal explodes: its standard deviation in {layer} is {value:.2g}"
    ),
    "saturated": Headline(
        "Activations saturate: {percent} of the outputs of {layer} lie where the activation is flat"
    ),
    "dead_units": Headline(
        "Units are dead: {percent} of those of {layer} are zero for all samples"
    ),
    "vanishing_backward": Headline(
        "The gradient vanishes: {percent} of the largest one arrives in {layer}", True
    ),
    "exploding_backward": Headline(
        "The gradient explodes: in {layer} it is {value:.2g} times the median"
    ),
    "wrong_init_for_activation": Headline(
        "The weights of {layer} do not fit: their variance is {value:.2g} times the nearest one "
        "that keeps a signal",
    ),
    "constant_units": Headline("Units are equal: {percent} of those of {layer} repeat another one"),
}


def verdict(
    findings: Findings, rows: Sequence[LayerRow], uses_moving_statistics: bool = False
) -> str:
    """Return one sentence with one number and one remedy.

    Args:
        findings: Findings of the rules, the worst first.
        rows: Rows of the report.
        uses_moving_statistics: Whether batch normalization ran in inference mode.
    """
    serious = [finding for finding in findings if finding.severity != "info"]
    if not serious:
        return _healthy(findings, rows, uses_moving_statistics)
    root = serious[0]
    remedy = _remedy(root)
    return f"{_headline(root, rows)}; {remedy}."


def _healthy(findings: Findings, rows: Sequence[LayerRow], uses_moving_statistics: bool) -> str:
    notes = f" ({len(findings)} note{'s' * (len(findings) > 1)} below)" if findings else ""
    hidden = [row for row in rows if row.has_kernel and row.hidden and row.unit_stddev > 0]
    if len(hidden) < 2:
        return f"Nothing is wrong with this start{notes}; train the model as it is."
    share = hidden[-1].unit_stddev / hidden[0].unit_stddev
    if uses_moving_statistics and not LOST <= share <= 1 / LOST:
        return (
            f"In inference mode the last of {len(hidden)} hidden layers varies {share:.2g} times "
            "as much as the first, because batch normalization has no statistics yet; call "
            "`keras_winit.signal_report(model, training=True)` to see what training will see."
        )
    return (
        f"Nothing is wrong with this start{notes}: between samples, the last of {len(hidden)} "
        f"hidden layers varies {share:.2g} times as much as the first; train the model as it is."
    )


def _headline(root: Finding, rows: Sequence[LayerRow]) -> str:
    found = [root, *root.consequences]
    for rule, headline in HEADLINES.items():
        of_rule = [finding for finding in found if finding.rule == rule]
        if root.rule in OF_WEIGHTS and of_rule:
            choose = min if headline.smallest else max
            # If several values print alike, the first one counts.
            worst = choose(of_rule, key=lambda finding: float(f"{finding.value:.2g}"))
            return headline.text.format(
                layer=_place(worst.layer, rows), percent=percent(worst.value), value=worst.value
            )
    # Names of functions keep their first letter.
    first_word = root.cause.partition(" ")[0]
    return root.cause[:1].upper() + root.cause[1:] if first_word.isalpha() else root.cause


def percent(share: float) -> str:
    """Return a share in percent, with two digits however small it is."""
    # Two digits of 100 would be 1e+02.
    return f"{100 * share:.{3 if share >= 0.995 else 2}g} %"


def _place(layer: str, rows: Sequence[LayerRow]) -> str:
    names = list(dict.fromkeys(layer_of(row.layer) for row in rows if row.has_kernel))
    if layer not in names:
        return f"layer {layer!r}"
    return f"layer {layer!r} ({names.index(layer) + 1} of {len(names)})"


def _remedy(root: Finding) -> str:
    if _needs_weights(root):
        return f"call {REINITIALIZE}"
    return root.remedy


def _needs_weights(finding: Finding) -> bool:
    return finding.rule in OF_WEIGHTS and "keras_winit.reinitialize(" in finding.remedy


def changes(findings: Findings) -> tuple[str, ...]:
    """Return what to change, one text for each remedy, the worst findings first."""
    serious = [finding for finding in findings if finding.severity != "info"]
    layers_of: dict[str, list[str]] = {}
    for finding in _roots_and_repaired(serious):
        # Remedies that differ only in the name of their layer are one.
        remedy = finding.remedy.replace(reinitialize_code(finding.layer), ONE_LAYER)
        layers_of.setdefault(remedy, []).append(finding.layer)
    texts = []
    if any(_needs_weights(finding) for finding in serious):
        texts.append(f"all layers: call {REINITIALIZE}, or change by hand what follows")
    for remedy, layers in layers_of.items():
        names = list(dict.fromkeys(layers))
        code = reinitialize_code(names[0]) if len(names) == 1 else REINITIALIZE
        texts.append(f"{_names(names)}: {remedy.replace(ONE_LAYER, code)}")
    return tuple(texts)


def _roots_and_repaired(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the roots, and the consequences that new weights in the same layers repair."""
    for finding in findings:
        yield finding
        for other in finding.consequences:
            if _needs_weights(finding) and _needs_weights(other):
                yield other


def _names(layers: list[str]) -> str:
    shown = ", ".join(layers[:LAYERS_NAMED])
    more = len(layers) - LAYERS_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
