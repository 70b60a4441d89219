"""Findings as text and as HTML."""

import html
from dataclasses import replace

import pytest

from keras_winit.monitor import Finding, FindingError, Findings
from keras_winit.monitor.diagnosis.findings import describe_consequences

FINDING = Finding(
    rule="dead_units",
    severity="warning",
    layer="conv",
    step=8,
    value=0.61,
    threshold=0.53,
    healthy_range="0 .. 0.385",
    cause="the units died",
    remedy="initialize the layer anew",
    first_step=3,
    hits=3,
)


def test_the_table():
    finding = replace(
        FINDING,
        details=("range of conv: 0 .. 2",),
        consequences=(replace(FINDING, rule="saturated", layer="dense"),),
    )
    assert str(Findings([finding])) == str(finding)
    assert str(finding) == (
        "severity  rule        layer  step    value  threshold\n"
        "warning   dead_units  conv   3 .. 8  0.61   0.53\n"
        "  cause: the units died\n"
        "  remedy: initialize the layer anew\n"
        "  details: range of conv: 0 .. 2\n"
        "  consequence: layer 'dense' is saturated"
    )


def test_code_stays_on_one_line():
    code = "`model.compile(keras.optimizers.Adam(1e-4, clipnorm=1.0), model.loss)`"
    remedy = f"lower the rate, and clip all gradients: {code} and {code} and train again"
    lines = str(replace(FINDING, remedy=remedy)).splitlines()
    assert sum(code in line for line in lines) == 2
    assert max(map(len, lines)) <= 96
    assert " ".join(" ".join(lines).split()).endswith(f"remedy: {remedy}")


def test_no_findings():
    assert str(Findings()) == "nothing was found"
    assert Findings()._repr_html_() == "<p>nothing was found</p>"


def test_the_error():
    assert str(FindingError(FINDING)) == (
        "`ActivationMonitor` found dead_units in 'conv' at step 8: the units died. "
        "Received: value=0.61, threshold=0.53, healthy='0 .. 0.385'. Initialize the layer anew."
    )


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([("saturated", "bad")], "layer 'bad' is saturated"),
        ([("dead_units", "a"), ("dead_units", "b")], "layers 'a' and 'b' have dead units"),
        (
            [("update_frozen", name) for name in "abcde"],
            "layers 'a', 'b', 'c' and 2 more are not updated",
        ),
        (
            [("saturated", "a"), ("bad_initial_loss", "loss"), ("saturated", "b")],
            "layers 'a' and 'b' are saturated; the loss is too high at the first step",
        ),
        (
            [("input_scale", "input:1")],
            "input 'input:1' has data far from mean 0 and standard deviation 1",
        ),
        ([("mine", "a")], "layer 'a' has a finding of the rule 'mine'"),
        ([], ""),
    ],
)
def test_consequences_in_words(pairs, text):
    assert describe_consequences(pairs) == text


HOSTILE = '<script>alert("x")</script>\n| é\x1b[31m' + "x" * 500


def test_hostile_names_stay_on_their_line_and_out_of_the_page():
    finding = replace(FINDING, layer=HOSTILE, cause=HOSTILE)
    finding = replace(finding, consequences=(finding, replace(finding, rule=HOSTILE)))
    findings = Findings([finding])
    text = str(findings)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 600
    page = findings._repr_html_()
    assert "<script>" not in page
    assert html.escape("alert(") in page or "xxx" in page
