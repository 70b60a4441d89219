"""What `diagnosis.py` plants: the fault, its layers, and the rules that would be right."""

from functools import partial

import numpy as np
from keras import layers, ops
from nets import (
    BATCH,
    Repeated,
    applying,
    attention,
    cnn,
    constant,
    gradient_times,
    head,
    mlp,
    normal,
    recurrent,
    residual,
    scheme,
    times,
)
from plans import adam, plant, sgd


def scaled(factor, offset=0.0):
    return lambda x, y: (x * factor + offset, y)


def with_nan(step):
    def spoil(x, y):
        x[step * BATCH + 3, 2] = np.nan
        return x, y

    return spoil


D = " ".join(f"d{i}" for i in range(10))
C = "c0 c1 c2 c3"
WRONG, TANH = "wrong_init_for_activation", {"activation": "tanh", "init": "winit>xavier_uniform"}
SIGMOID = {**TANH, "activation": "sigmoid"}
DEEP = "vanishing_forward vanishing_backward"
RATE = "update_too_large exploding_backward non_finite"


def symmetry():
    for net, where, options in (
        (mlp, D, {}),
        (mlp, D, {"activation": "tanh"}),
        (mlp, D, {"activation": "tanh", "depth": 10}),
        (cnn, C, {}),
    ):
        what = f"{net.__name__} {' '.join(map(str, options.values())) or 'relu'}"
        zeros = "symmetric_units"
        plant("zeros", f"zeros, {what}", where, zeros, net, init="zeros", **options)
        same = constant(0.05 if net is mlp else 1.0)
        plant("constant", f"constant, {what}", where, "constant_units", net, init=same, **options)
    two = {1: "zeros", 2: "zeros"}
    plant("zeros", "zeros, d1 and d2", "d1 d2", "symmetric_units", mlp, special=two)
    plant("zeros", "zeros, d3", "d3", "symmetric_units", mlp, special={3: "zeros"})
    whole = {"first": "zeros", "end": "zeros"}
    blocks = " ".join(f"b{i}_in b{i}_out" for i in range(6))
    plant("zeros", "zeros, whole branches", blocks, "symmetric_units", residual, **whole)
    plant("zeros", "zeros, attention", "a0 a1", "symmetric_units", attention, init="zeros")
    for i, init, what in ((2, "ones", "ones"), (2, Repeated(), "half the units")):
        name = f"constant, {what} in d{i}"
        plant("constant", name, f"d{i}", "constant_units", mlp, special={i: init})
    name = "constant, half the units in c2"
    plant("constant", name, "c2", "constant_units", cnn, special={2: Repeated()})
    plant("constant", "constant, attention", "a0 a1", "constant_units", attention, init="ones")
    plant("constant", "constant, feed", "f0_in f1_in", "constant_units", attention, feed="ones")
    name = "constant, recurrent kernel"
    same = constant(0.1)
    options = {"kind": layers.GRU, "recurrent_initializer": same}
    plant("constant", name, "r0", "constant_units", recurrent, **options)


def size():
    for activation, depth in (("relu", 5), ("tanh", 5), ("relu", 10), ("tanh", 10), ("sigmoid", 5)):
        for stddev, kind in ((1e-3, "small"), (1.0, "large")):
            options = {"init": normal(stddev), "activation": activation, "depth": depth}
            plant(kind, f"N(0, {stddev:g}²), {depth} {activation}", D, WRONG, mlp, **options)
    for stddev, kind in ((1e-3, "small"), (1.0, "large")):
        init = normal(stddev)
        plant(kind, f"{kind}, CNN", C, WRONG, cnn, init=init)
        plant(kind, f"{kind}, c1", "c1", WRONG, cnn, special={1: init})
        plant(kind, f"{kind}, d2", "d2", WRONG, mlp, special={2: init})
        plant(kind, f"{kind}, tanh d2", "d2", WRONG, mlp, special={2: init}, **TANH)
    plant("small", "small, d0", "d0", WRONG, mlp, special={0: normal(1e-3)})
    rules = f"{WRONG} vanishing_forward"
    both = {"kernel_initializer": normal(1e-3), "recurrent_initializer": normal(1e-3)}
    plant("small", "small, LSTM", "r0", rules, recurrent, **both)
    rules = f"{WRONG} bad_initial_loss exploding_forward"
    plant("large", "large, attention", "", rules, attention, init=normal(1.0), feed=normal(1.0))
    negative = "winit>negative_normal"
    rules = f"dead_units {WRONG}"
    plant("negative", "negative, relu", D, rules, mlp, init=negative)
    plant("negative", "negative, d2", "d2", rules, mlp, special={2: negative})
    plant("negative", "negative, CNN", C, rules, cnn, init=negative)
    feed = {"activation": "relu", "bias": {1: -8.0}}
    plant("dead", "dead feed", "f1_in", "dead_units", attention, **feed)
    for kind in (layers.LSTM, layers.SimpleRNN):
        name = f"large recurrent kernel, {kind.__name__}"
        options = {"kind": kind, "recurrent_initializer": normal(1.0)}
        plant("recurrent", name, "r0", WRONG, recurrent, **options)
    four = scheme("Orthogonal", gain=4.0)
    options = {"kind": layers.SimpleRNN, "recurrent_initializer": four}
    plant("recurrent", "recurrent kernel of gain 4", "r0", WRONG, recurrent, **options)


def units():
    dead, flat = "dead_units", "saturated"
    plant("dead", "dead biases, all", D, dead, mlp, bias=dict.fromkeys(range(5), -3.0))
    plant("dead", "dead biases, d2", "d2", dead, mlp, bias={2: -8.0})
    plant("dead", "dead biases, c2", "c2", dead, cnn, bias={2: -8.0})
    plant("dead", "dead biases, branch", "b2_in", dead, residual, bias={2: -30.0}, norm=True)
    plant("saturated", "biases of 5, tanh d1", "d1", flat, mlp, bias={1: 5.0}, **TANH)
    plant(
        "saturated", "biases of 8, sigmoid d1", "d1", flat, mlp, bias={1: 8.0}, depth=3, **SIGMOID
    )
    plant(
        "saturated", "biases of 10, relu6 d1", "d1", flat, mlp, bias={1: 10.0}, activation="relu6"
    )
    plant("saturated", "biases of 5, tanh c1", "c1", flat, cnn, bias={1: 5.0}, **TANH)
    feed = {"activation": "tanh", "bias": {0: 6.0}}
    plant("saturated", "biases of 6, tanh feed", "f0_in", flat, attention, **feed)
    large = {0: times(30.0)}
    plant("saturated", "signal times 30, tanh", "d1 between0", flat, mlp, after=large, **TANH)
    rules = "input_scale saturated"
    for net, options in ((mlp, TANH), (mlp, SIGMOID), (cnn, TANH)):
        depth = {"depth": 2} if options is SIGMOID else {}
        name = f"inputs times 5000, {net.__name__} {options['activation']}"
        more = {**options, **depth, "spoil": scaled(5000.0)}
        plant("inputs", name, "input d0 c0", rules, net, **more)
    more = {"spoil": scaled(5000.0)}
    plant("inputs", "inputs times 5000, recurrent", "input r0", "input_scale", recurrent, **more)
    more = {"spoil": scaled(30.0), **TANH}
    plant("inputs", "inputs times 30, tanh", "input d0", rules, mlp, **more)
    more = {"spoil": scaled(1.0, 100.0), **TANH}
    plant("inputs", "inputs plus 100, tanh", "input d0", rules, mlp, **more)
    rules = "input_scale bad_initial_loss"
    for net in (mlp, cnn):
        name = f"inputs of 0 to 255, {net.__name__} relu"
        plant("inputs", name, "input loss", rules, net, spoil=scaled(255.0))


def signals():
    less, more = {1: times(1e-3)}, {1: times(1e3)}
    weak, strong = "vanishing_forward", "exploding_forward"
    plant("vanishing signal", "signal / 1000, relu", "between1 d2", weak, mlp, after=less)
    plant("vanishing signal", "signal / 1000, tanh", "between1 d2", weak, mlp, after=less, **TANH)
    plant("vanishing signal", "signal / 1000, CNN", "between1 c2", weak, cnn, after=less)
    name, after = "signal / 1000, LSTM", {0: times(1e-3)}
    plant("vanishing signal", name, "between0 r1", weak, recurrent, after=after)
    plant("vanishing signal", "10 sigmoid", D, DEEP, mlp, depth=10, **SIGMOID)
    name = "10 sigmoid, orthogonal"
    options = {**SIGMOID, "init": "winit>orthogonal", "depth": 10}
    plant("vanishing signal", name, D, DEEP, mlp, **options)
    plant("exploding signal", "signal times 1000, relu", "between1 d2", strong, mlp, after=more)
    plant("exploding signal", "signal times 1000, CNN", "between1 c2", strong, cnn, after=more)
    threes = {i: times(3.0) for i in range(8)}
    where = f"{D} {' '.join(f'between{i}' for i in range(8))}"
    options = {"after": threes, "depth": 8}
    plant("exploding signal", "signal times 3, 8 times", where, strong, mlp, **options)
    rules = f"{strong} bad_initial_loss exploding_backward"
    plant("exploding signal", "20 residual blocks", "", rules, residual, blocks=20)


def gradients():
    less, more = gradient_times(1e-5), gradient_times(1e4)
    weak, strong = "vanishing_backward", "exploding_backward"
    kind = "vanishing gradient"
    plant(kind, "gradient / 1e5, relu", "d0 d1 between1", weak, mlp, after={1: less})
    plant(kind, "gradient / 1e5, tanh", "d0 d1 between1", weak, mlp, after={1: less}, **TANH)
    plant(kind, "gradient / 1e5, CNN", "c0 c1 between1", weak, cnn, after={1: less})
    plant(kind, "gradient / 1e5, LSTM", "r0 between0", weak, recurrent, after={0: less})
    where = "stem b0_in b0_out between0"
    plant(kind, "gradient / 1e5, residual", where, weak, residual, after={0: less}, blocks=4)
    kind = "exploding gradient"
    plant(kind, "gradient times 1e4, relu", "d0 between0", strong, mlp, after={0: more})
    plant(kind, "gradient times 1e4, CNN", "c0 between0", strong, cnn, after={0: more})
    plant(kind, "gradient times 1e4, LSTM", "r0 between0", strong, recurrent, after={0: more})
    none = applying(ops.stop_gradient)
    rules = "update_frozen vanishing_backward"
    plant("frozen", "no gradient, relu", "d0 d1 between1", rules, mlp, after={1: none})
    plant("frozen", "no gradient, CNN", "c0 c1 between1", rules, cnn, after={1: none})
    plant("frozen", "no gradient, LSTM", "r0 between0", rules, recurrent, after={0: none})
    where = "b2_in b2_out between2"
    plant("frozen", "branch times 0", where, rules, residual, inner={2: times(0.0)}, norm=True)
    plant(
        "frozen", "feed times 0", "f0_in f0_out between0", rules, attention, inner={0: times(0.0)}
    )
    where = "words a0 f0_in f0_out between0"
    plant("frozen", "no gradient, attention", where, rules, attention, after={0: none})


def outcomes():
    loud, sure = partial(head, normal(4.0)), partial(head, bias=normal(50.0))
    for net in (mlp, cnn, recurrent, attention):
        name = f"head of stddev 4, {net.__name__}"
        plant("first loss", name, "loss head", f"bad_initial_loss {WRONG}", net, last=loud)
    plant("first loss", "biases of head", "loss head", "bad_initial_loss", mlp, last=sure)
    for net, optimizer, what in (
        (mlp, sgd(100.0), "SGD 100"),
        (mlp, sgd(5.0), "SGD 5"),
        (mlp, adam(1.0), "Adam 1"),
        (mlp, adam(0.3), "Adam 0.3"),
        (cnn, adam(1.0), "Adam 1"),
        (cnn, adam(0.3), "Adam 0.3"),
        (recurrent, adam(0.3), "Adam 0.3"),
        (residual, adam(0.3), "Adam 0.3"),
        (attention, adam(0.3), "Adam 0.3"),
    ):
        options = {"norm": True} if net is residual else {}
        name = f"{what}, {net.__name__}"
        plant("rate", name, "", RATE, net, optimizer=optimizer, **options)
    plant("rate", "Adam 0.3, tanh", "", RATE, mlp, optimizer=adam(0.3), **TANH)


def numbers():
    rule, kind = "non_finite", "not finite"
    for step in (0, 12, 14):
        name = f"NaN in the data at step {step}"
        where = "input" if step in (0, 12) else ""
        plant(kind, name, where, rule, mlp, spoil=with_nan(step))
    for net in (cnn, recurrent):
        name = f"NaN in the data, {net.__name__}"
        plant(kind, name, "input", rule, net, spoil=with_nan(8))
    logs = {1: applying(ops.log)}
    plant(kind, "log(0), relu", "between1", rule, mlp, after=logs)
    plant(kind, "log(0), CNN", "between1", rule, cnn, after=logs)
    # The slope of a root at 0 is infinite.
    far = {1: applying(lambda x: x + ops.sqrt(ops.sum((x - x[:1]) ** 2, -1, keepdims=True)))}
    plant(kind, "a distance of 0", "d0 d1 between1", rule, mlp, after=far)
    half = {"policy": "mixed_float16"}
    kind, large = "float16", times(3e4)
    plant(kind, "N(0, 40²)", D, rule + " " + WRONG, mlp, init=normal(40.0), depth=4, **half)
    rules = f"{rule} exploding_forward"
    for net, where in ((mlp, "between1 d2"), (cnn, "between1 c2")):
        name = f"signal times 3e4, {net.__name__}"
        plant(kind, name, where, rules, net, after={1: large}, **half)


def plan():
    for part in (symmetry, size, units, signals, gradients, outcomes, numbers):
        part()


def sensitivity():
    """How far off something must be; no faults, for the most part."""
    for factor in (1 / 30, 1 / 10, 1 / 3, 3, 10, 30):
        name = f"times {factor:.2g}"
        init = normal(factor * (2 / 64) ** 0.5)
        plant("sensitivity", f"stddev of d2 {name}", "d2", "", mlp, special={2: init})
        plant("sensitivity", f"stddev of all {name}", D, "", mlp, init=init)
    for rate in (0.01, 0.03, 0.1):
        plant("sensitivity", f"Adam {rate}", "", "", mlp, optimizer=adam(rate))
    for value in (-1.0, -2.0, -4.0):
        plant("sensitivity", f"biases of {value:g}, relu d2", "d2", "", mlp, bias={2: value})
    for value in (1.0, 2.0, 3.0):
        plant(
            "sensitivity", f"biases of {value:g}, tanh d2", "d2", "", mlp, bias={2: value}, **TANH
        )
    for factor in (3.0, 10.0):
        name = f"inputs times {factor:g}, tanh"
        plant("sensitivity", name, "input d0", "", mlp, spoil=scaled(factor), **TANH)
