"""Rules of one's own, and findings as they are shown."""

import html
from dataclasses import dataclass, replace

import pytest
from support.planted import found, run

import keras_winit
from keras_winit.monitor import RULES, Finding, Findings, Offence, Rule


@dataclass(frozen=True)
class Loud(Rule):
    id = "loud"
    cause = "it is loud"
    threshold: float = 1.0

    def check(self, view):
        for seen in view.outputs:
            if seen["max"] > self.threshold:
                yield Offence(seen.layer, seen["max"], seen.order)


def test_rules_of_ones_own():
    (finding,) = found(run(2), rules=(*RULES, Loud()))
    assert (finding.rule, finding.layer, finding.value) == ("loud", "a", 2.0)
    assert [one.layer for one in finding.consequences] == ["b", "c", "head"]
    assert found(run(2), rules=(Loud(threshold=2.0),)) == ()


def test_a_rule_that_fails_is_left_out():
    class Broken(Loud):
        id = "broken"

        def check(self, view):
            raise KeyError("x")

    with pytest.warns(RuntimeWarning) as caught:
        assert len(found(run(3), rules=(Broken(), Loud()))) == 1
    assert [str(w.message) for w in caught] == [
        "The rule 'broken' is applied no more. Received: KeyError: 'x'"
    ]


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        (
            (Loud,),
            TypeError,
            "`ActivationMonitor(rules=...)` must be a list of instances of "
            f"`keras_winit.monitor.Rule`. Received: rules=({Loud!r},).",
        ),
        (
            (Loud(), Loud(2.0)),
            ValueError,
            "`ActivationMonitor(rules=...)` must have different ids. Received: ['loud', 'loud'].",
        ),
    ],
)
def test_what_is_no_set_of_rules(rules, error, message):
    with pytest.raises(error) as caught:
        keras_winit.ActivationMonitor(rules=rules)
    assert str(caught.value) == message


HOSTILE = '<script>alert("x")</script>\n| é\x1b[31m' + "x" * 500


def test_hostile_names_stay_on_their_line_and_out_of_the_page():
    (finding,) = found(run(1, layers={"b": {"nonfinite": 1}}))
    finding = replace(finding, layer=HOSTILE, cause=HOSTILE)
    shown = Findings([finding])
    text = str(shown)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 600
    page = shown._repr_html_()
    assert "<script>" not in page
    assert html.escape("alert(") in page or "xxx" in page


def test_the_table():
    finding = Finding(
        "dead_units",
        "warning",
        "conv",
        8,
        0.61,
        0.53,
        "0 .. 0.385",
        "they died",
        "another start",
        3,
        3,
        consequences=(),
    )
    assert str(Findings([finding])) == (
        "severity  rule        layer  step    value  limit\n"
        "warning   dead_units  conv   3 .. 8  0.61   0.53\n"
        "  why: they died\n"
        "  try: another start"
    )
