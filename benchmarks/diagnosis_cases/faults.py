"""Planted faults: the model, the layers it is planted in, and the rules that name it rightly.

`sensitivity_cases` are faults of increasing size, to see from which size on they are found.
"""

from functools import partial

import numpy as np
from keras import layers, ops

from diagnosis_cases.base import adam, case, sgd
from diagnosis_cases.networks import (
    BATCH,
    HalfRepeated,
    attention,
    cnn,
    constant,
    gradient_times,
    head,
    lambda_layer,
    mlp,
    normal,
    recurrent,
    residual,
    scheme,
    signal_times,
)

# Layers of an MLP and of a CNN.
DENSE = " ".join(f"d{i}" for i in range(10))
CONV = "c0 c1 c2 c3"

TANH = {"activation": "tanh", "init": "winit>xavier_uniform"}
SIGMOID = {**TANH, "activation": "sigmoid"}
WRONG_INIT = "wrong_init_for_activation"


def fault_cases():
    yield from equal_units()
    yield from kernel_sizes()
    yield from dead_and_saturated_units()
    yield from input_scales()
    yield from signals()
    yield from gradients()
    yield from first_losses()
    yield from learning_rates()
    yield from non_finite_values()


def equal_units():
    zeros = partial(case, "zeros")
    equal = partial(case, "constant")
    symmetric, constant_rule = "symmetric_units", "constant_units"
    for network, where, options in (
        (mlp, DENSE, {}),
        (mlp, DENSE, {"activation": "tanh"}),
        (mlp, DENSE, {"activation": "tanh", "depth": 10}),
        (cnn, CONV, {}),
    ):
        model = f"{network.__name__} {' '.join(map(str, options.values())) or 'relu'}"
        init = constant(0.05 if network is mlp else 1.0)
        yield zeros(f"zeros, {model}", where, symmetric, network, init="zeros", **options)
        yield equal(f"constant, {model}", where, constant_rule, network, init=init, **options)
    two = {1: "zeros", 2: "zeros"}
    yield zeros("zeros, d1 and d2", "d1 d2", symmetric, mlp, kernels=two)
    yield zeros("zeros, d3", "d3", symmetric, mlp, kernels={3: "zeros"})
    blocks = " ".join(f"b{i}_in b{i}_out" for i in range(6))
    yield zeros("zeros, whole branches", blocks, symmetric, residual, first="zeros", end="zeros")
    yield zeros("zeros, attention", "a0 a1", symmetric, attention, init="zeros")
    half = {2: HalfRepeated()}
    yield equal("constant, ones in d2", "d2", constant_rule, mlp, kernels={2: "ones"})
    yield equal("constant, half the units in d2", "d2", constant_rule, mlp, kernels=half)
    yield equal("constant, half the units in c2", "c2", constant_rule, cnn, kernels=half)
    yield equal("constant, attention", "a0 a1", constant_rule, attention, init="ones")
    yield equal("constant, feed", "f0_in f1_in", constant_rule, attention, feed_forward="ones")
    options = {"kind": layers.GRU, "recurrent_initializer": constant(0.1)}
    yield equal("constant, recurrent kernel", "r0", constant_rule, recurrent, **options)


def kernel_sizes():
    for activation, depth in (("relu", 5), ("tanh", 5), ("relu", 10), ("tanh", 10), ("sigmoid", 5)):
        for stddev, kind in ((1e-3, "small"), (1.0, "large")):
            name = f"N(0, {stddev:g}²), {depth} {activation}"
            options = {"init": normal(stddev), "activation": activation, "depth": depth}
            yield case(kind, name, DENSE, WRONG_INIT, mlp, **options)
    for stddev, kind in ((1e-3, "small"), (1.0, "large")):
        init = normal(stddev)
        yield case(kind, f"{kind}, CNN", CONV, WRONG_INIT, cnn, init=init)
        yield case(kind, f"{kind}, c1", "c1", WRONG_INIT, cnn, kernels={1: init})
        yield case(kind, f"{kind}, d2", "d2", WRONG_INIT, mlp, kernels={2: init})
        yield case(kind, f"{kind}, tanh d2", "d2", WRONG_INIT, mlp, kernels={2: init}, **TANH)
    small, large = normal(1e-3), normal(1.0)
    yield case("small", "small, d0", "d0", WRONG_INIT, mlp, kernels={0: small})
    both = {"kernel_initializer": small, "recurrent_initializer": small}
    yield case("small", "small, LSTM", "r0", f"{WRONG_INIT} vanishing_forward", recurrent, **both)
    rules = f"{WRONG_INIT} bad_initial_loss exploding_forward"
    all_large = {"init": large, "feed_forward": large}
    yield case("large", "large, attention", "", rules, attention, **all_large)
    negative, rules = "winit>negative_normal", f"dead_units {WRONG_INIT}"
    yield case("negative", "negative, relu", DENSE, rules, mlp, init=negative)
    yield case("negative", "negative, d2", "d2", rules, mlp, kernels={2: negative})
    yield case("negative", "negative, CNN", CONV, rules, cnn, init=negative)
    for kind in (layers.LSTM, layers.SimpleRNN):
        name = f"large recurrent kernel, {kind.__name__}"
        options = {"kind": kind, "recurrent_initializer": large}
        yield case("recurrent", name, "r0", WRONG_INIT, recurrent, **options)
    gain_4 = scheme("Orthogonal", gain=4.0)
    options = {"kind": layers.SimpleRNN, "recurrent_initializer": gain_4}
    yield case("recurrent", "recurrent kernel of gain 4", "r0", WRONG_INIT, recurrent, **options)


def dead_and_saturated_units():
    dead = partial(case, "dead")
    rule, all_layers = "dead_units", dict.fromkeys(range(5), -3.0)
    yield dead("dead biases, all", DENSE, rule, mlp, biases=all_layers)
    yield dead("dead biases, d2", "d2", rule, mlp, biases={2: -8.0})
    yield dead("dead biases, c2", "c2", rule, cnn, biases={2: -8.0})
    in_branch = {"biases": {2: -30.0}, "normalized": True}
    yield dead("dead biases, branch", "b2_in", rule, residual, **in_branch)
    feed = {"activation": "relu", "biases": {1: -8.0}}
    yield dead("dead feed", "f1_in", rule, attention, **feed)

    saturated = partial(case, "saturated")
    rule, sigmoids = "saturated", {"depth": 3, **SIGMOID}
    relu6 = {"biases": {1: 10.0}, "activation": "relu6"}
    feed = {"biases": {0: 6.0}, "activation": "tanh"}
    large = {0: signal_times(30.0)}
    yield saturated("biases of 5, tanh d1", "d1", rule, mlp, biases={1: 5.0}, **TANH)
    yield saturated("biases of 8, sigmoid d1", "d1", rule, mlp, biases={1: 8.0}, **sigmoids)
    yield saturated("biases of 10, relu6 d1", "d1", rule, mlp, **relu6)
    yield saturated("biases of 5, tanh c1", "c1", rule, cnn, biases={1: 5.0}, **TANH)
    yield saturated("biases of 6, tanh feed", "f0_in", rule, attention, **feed)
    yield saturated("signal times 30, tanh", "d1 between0", rule, mlp, after=large, **TANH)


def input_scales():
    inputs = partial(case, "inputs")
    rules, times_5000 = "input_scale saturated", {"change_data": scaled(5000.0)}
    for network, options in ((mlp, TANH), (mlp, {**SIGMOID, "depth": 2}), (cnn, TANH)):
        name = f"inputs times 5000, {network.__name__} {options['activation']}"
        yield inputs(name, "input d0 c0", rules, network, **options, **times_5000)
    name = "inputs times 5000, recurrent"
    yield inputs(name, "input r0", "input_scale", recurrent, **times_5000)
    times_30, plus_100 = {"change_data": scaled(30.0)}, {"change_data": scaled(1.0, 100.0)}
    yield inputs("inputs times 30, tanh", "input d0", rules, mlp, **TANH, **times_30)
    yield inputs("inputs plus 100, tanh", "input d0", rules, mlp, **TANH, **plus_100)
    rules = "input_scale bad_initial_loss"
    for network in (mlp, cnn):
        name = f"inputs of 0 to 255, {network.__name__} relu"
        yield inputs(name, "input loss", rules, network, change_data=scaled(255.0))


def scaled(factor, offset=0.0):
    return lambda x, y: (x * factor + offset, y)


def signals():
    vanishing, rule = partial(case, "vanishing signal"), "vanishing_forward"
    weak = signal_times(1e-3)
    yield vanishing("signal / 1000, relu", "between1 d2", rule, mlp, after={1: weak})
    yield vanishing("signal / 1000, tanh", "between1 d2", rule, mlp, after={1: weak}, **TANH)
    yield vanishing("signal / 1000, CNN", "between1 c2", rule, cnn, after={1: weak})
    yield vanishing("signal / 1000, LSTM", "between0 r1", rule, recurrent, after={0: weak})
    rules, sigmoids = "vanishing_forward vanishing_backward", {**SIGMOID, "depth": 10}
    orthogonal = {**sigmoids, "init": "winit>orthogonal"}
    yield vanishing("10 sigmoid", DENSE, rules, mlp, **sigmoids)
    yield vanishing("10 sigmoid, orthogonal", DENSE, rules, mlp, **orthogonal)

    exploding, rule = partial(case, "exploding signal"), "exploding_forward"
    strong = {1: signal_times(1e3)}
    yield exploding("signal times 1000, relu", "between1 d2", rule, mlp, after=strong)
    yield exploding("signal times 1000, CNN", "between1 c2", rule, cnn, after=strong)
    where = f"{DENSE} {' '.join(f'between{i}' for i in range(8))}"
    threes = {i: signal_times(3.0) for i in range(8)}
    yield exploding("signal times 3, 8 times", where, rule, mlp, after=threes, depth=8)
    rules = "exploding_forward bad_initial_loss exploding_backward"
    yield exploding("20 residual blocks", "", rules, residual, blocks=20)


def gradients():
    vanishing, rule = partial(case, "vanishing gradient"), "vanishing_backward"
    weak = gradient_times(1e-5)
    yield vanishing("gradient / 1e5, relu", "d0 d1 between1", rule, mlp, after={1: weak})
    yield vanishing("gradient / 1e5, tanh", "d0 d1 between1", rule, mlp, after={1: weak}, **TANH)
    yield vanishing("gradient / 1e5, CNN", "c0 c1 between1", rule, cnn, after={1: weak})
    yield vanishing("gradient / 1e5, LSTM", "r0 between0", rule, recurrent, after={0: weak})
    where, options = "stem b0_in b0_out between0", {"after": {0: weak}, "blocks": 4}
    yield vanishing("gradient / 1e5, residual", where, rule, residual, **options)

    exploding, rule = partial(case, "exploding gradient"), "exploding_backward"
    strong = {0: gradient_times(1e4)}
    yield exploding("gradient times 1e4, relu", "d0 between0", rule, mlp, after=strong)
    yield exploding("gradient times 1e4, CNN", "c0 between0", rule, cnn, after=strong)
    yield exploding("gradient times 1e4, LSTM", "r0 between0", rule, recurrent, after=strong)

    frozen, rules = partial(case, "frozen"), "update_frozen vanishing_backward"
    stopped, switched_off = lambda_layer(ops.stop_gradient), signal_times(0.0)
    yield frozen("no gradient, relu", "d0 d1 between1", rules, mlp, after={1: stopped})
    yield frozen("no gradient, CNN", "c0 c1 between1", rules, cnn, after={1: stopped})
    yield frozen("no gradient, LSTM", "r0 between0", rules, recurrent, after={0: stopped})
    where, options = "b2_in b2_out between2", {"in_branch": {2: switched_off}, "normalized": True}
    yield frozen("branch times 0", where, rules, residual, **options)
    where, options = "f0_in f0_out between0", {"in_branch": {0: switched_off}}
    yield frozen("feed times 0", where, rules, attention, **options)
    where, options = "words a0 f0_in f0_out between0", {"after": {0: stopped}}
    yield frozen("no gradient, attention", where, rules, attention, **options)


def first_losses():
    rules, large = f"bad_initial_loss {WRONG_INIT}", partial(head, normal(4.0))
    for network in (mlp, cnn, recurrent, attention):
        name = f"head of stddev 4, {network.__name__}"
        yield case("first loss", name, "loss head", rules, network, make_head=large)
    rule, biased = "bad_initial_loss", partial(head, bias=normal(50.0))
    yield case("first loss", "biases of head", "loss head", rule, mlp, make_head=biased)


def learning_rates():
    rules = "update_too_large exploding_backward non_finite"
    for network, optimizer, name in (
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
        options = {"normalized": True} if network is residual else {}
        name = f"{name}, {network.__name__}"
        yield case("rate", name, "", rules, network, optimizer=optimizer, **options)
    yield case("rate", "Adam 0.3, tanh", "", rules, mlp, optimizer=adam(0.3), **TANH)


def non_finite_values():
    bad, rule = partial(case, "not finite"), "non_finite"
    # The monitor records steps 0 and 12 by default; after step 14 it sees what the NaN did.
    for step, where in ((0, "input"), (12, "input"), (14, "")):
        name = f"NaN in the data at step {step}"
        yield bad(name, where, rule, mlp, change_data=with_nan(step))
    for network in (cnn, recurrent):
        name = f"NaN in the data, {network.__name__}"
        yield bad(name, "input", rule, network, change_data=with_nan(8))
    logarithm = {1: lambda_layer(ops.log)}
    yield bad("log(0), relu", "between1", rule, mlp, after=logarithm)
    yield bad("log(0), CNN", "between1", rule, cnn, after=logarithm)
    # The slope of a square root at 0 is infinite.
    distance = {1: lambda_layer(plus_distance_to_first_sample)}
    yield bad("a distance of 0", "d0 d1 between1", rule, mlp, after=distance)

    overflow = partial(case, "float16", policy="mixed_float16")
    rules = f"non_finite {WRONG_INIT}"
    yield overflow("N(0, 40²)", DENSE, rules, mlp, init=normal(40.0), depth=4)
    rules, large = "non_finite exploding_forward", {1: signal_times(3e4)}
    for network, where in ((mlp, "between1 d2"), (cnn, "between1 c2")):
        name = f"signal times 3e4, {network.__name__}"
        yield overflow(name, where, rules, network, after=large)


def with_nan(step):
    def change_data(x, y):
        x[step * BATCH + 3, 2] = np.nan
        return x, y

    return change_data


def plus_distance_to_first_sample(x):
    return x + ops.sqrt(ops.sum((x - x[:1]) ** 2, -1, keepdims=True))


def sensitivity_cases():
    sensitivity = partial(case, "sensitivity")
    for factor in (1 / 30, 1 / 10, 1 / 3, 3, 10, 30):
        init = normal(factor * (2 / 64) ** 0.5)
        yield sensitivity(f"stddev of d2 times {factor:.2g}", "d2", "", mlp, kernels={2: init})
        yield sensitivity(f"stddev of all times {factor:.2g}", DENSE, "", mlp, init=init)
    for rate in (0.01, 0.03, 0.1):
        yield sensitivity(f"Adam {rate}", "", "", mlp, optimizer=adam(rate))
    for bias in (-1.0, -2.0, -4.0):
        yield sensitivity(f"biases of {bias:g}, relu d2", "d2", "", mlp, biases={2: bias})
    for bias in (1.0, 2.0, 3.0):
        yield sensitivity(f"biases of {bias:g}, tanh d2", "d2", "", mlp, biases={2: bias}, **TANH)
    for factor in (3.0, 10.0):
        name, options = f"inputs times {factor:g}, tanh", {"change_data": scaled(factor)}
        yield sensitivity(name, "input d0", "", mlp, **options, **TANH)
