"""The `keras-winit` command."""

import argparse
import difflib
import inspect
import io
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np

import keras_winit
from keras_winit import experiments, plots
from keras_winit.initializers import REGISTRY, Scheme
from keras_winit.initializers.kernels import reseeded
from keras_winit.monitor import RULES, ActivationMonitor
from keras_winit.monitor.output.writers import TensorBoardWriter
from keras_winit.theory import critical_point, gain, mean_field

# What `show --plot` draws, the first that a scheme is for: fans that differ, enough values to
# see the shape; then a square, windows, and biases.
SAMPLES = ((256, 384), (256, 256), (3, 3, 64, 128), (4, 4, 64, 128), (4096,))

# What each gain keeps.
GAINS = {
    "second_moment": "keeps the size of signals: 1 / sqrt(E[f(z)^2])",
    "centered": "keeps it about the mean: 1 / sqrt(Var[f(z)])",
    "backward": "keeps the size of gradients: 1 / sqrt(E[f'(z)^2])",
    "torch": "the table of torch.nn.init.calculate_gain",
}

# What a process that never saw the model does with the saved file.
RELOAD = """
import sys, keras, keras_winit, numpy
model = keras.models.load_model(sys.argv[1])
numpy.save(sys.argv[3], model.predict(numpy.load(sys.argv[2]), verbose=0))
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line and exit code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


class _Failure(Exception):
    """What went wrong, for the person at the terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a root sign shows a question mark.
        sys.stdout.reconfigure(errors="replace")
    code = 0
    try:
        try:
            options = _parser().parse_args(arguments)
            options.run(options)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        pass  # Whoever read the output, such as `head`, has seen enough.
    except KeyboardInterrupt:
        code = 130
    except (ValueError, TypeError) as error:
        code = _complain(error, 2)
    except (_Failure, ModuleNotFoundError, OSError, MemoryError) as error:
        code = _complain(error, 1)
    try:
        sys.stdout.flush()
    except OSError:
        # Nothing more can be written: not at the end of the process either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _complain(error: Exception, code: int) -> int:
    print(f"keras-winit: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _parser() -> _Parser:
    parser = _Parser(
        prog="keras-winit", description="Weight initialization for Keras 3.", allow_abbrev=False
    )
    version = f"keras-winit {keras_winit.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
        made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    listed = command("list", _list, "name, formula, use and source of every scheme")
    listed.add_argument("--markdown", action="store_true", help="as the table of the README")

    shown = command("show", _show, "all about one scheme")
    shown.add_argument("scheme", type=_scheme, metavar="NAME", help="such as sparse")
    shown.add_argument("--plot", type=_picture, metavar="FILE", help="also draw a kernel's values")

    gained = command("gain", _gain, "what to multiply weights by for an activation")
    gained.add_argument("activation", metavar="NAME", help="such as gelu")
    gained.add_argument("--mode", choices=list(GAINS), help="only this one")

    critical = command("critical", _critical, "weights and biases that keep gradients in depth")
    critical.add_argument("activation", metavar="NAME", help="such as tanh")
    one = critical.add_mutually_exclusive_group(required=True)
    one.add_argument("--bias-stddev", type=_number, metavar="X", help="of the biases")
    one.add_argument("--q", type=_number, metavar="X", help="variance of pre-activations")

    rules = command("rules", _rules, "what the monitor looks for, and what to do about it")
    rules.add_argument("--markdown", action="store_true", help="as the table of the README")

    pushed = command("propagate", _propagate, "push N(0, 1) through a stack of layers")
    pushed.add_argument(
        "--init",
        action="append",
        required=True,
        type=_initializer,
        metavar="NAME",
        help="such as winit>he_normal; repeat it to compare",
    )
    pushed.add_argument("--activation", default="tanh", type=_activation, metavar="NAME")
    for name, default in (("depth", 10), ("width", 500), ("samples", 1000)):
        pushed.add_argument(f"--{name}", default=default, type=_whole(1), metavar="N")
    pushed.add_argument("--seed", default=0, type=_whole(0), metavar="N")
    pushed.add_argument("--batch-normalization", action="store_true")
    pushed.add_argument("--plot", type=_picture, metavar="FILE", help="also draw it, as a .png")

    demo = command("demo", _demo, "train on handwritten digits with a bad and a good start")
    demo.add_argument("--bad", default="winit>small_normal", type=_initializer, metavar="NAME")
    demo.add_argument("--good", default="winit>he_normal", type=_initializer, metavar="NAME")
    demo.add_argument("--epochs", default=10, type=_whole(1), metavar="N")
    demo.add_argument("--seed", default=0, type=_whole(0), metavar="N")
    demo.add_argument(
        "--output", default="digits.keras", type=_model_file, metavar="FILE", help="the saved model"
    )
    return parser


def _whole(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) < 2**32:
            raise argparse.ArgumentTypeError(
                f"must be an integer from {least} to 4294967295, not {text[:40]!r}"
            )
        return int(text)

    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text[:40]!r}") from None


def _scheme(text: str) -> type[Scheme]:
    name = text.removeprefix("winit>")
    if name not in REGISTRY:
        raise argparse.ArgumentTypeError(f"no scheme {text!r}. {_hint(name)}")
    return REGISTRY[name]


def _initializer(text: str) -> str:
    try:
        made = keras.initializers.get(text)
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"no initializer {text!r}. {_hint(text)}") from None
    try:
        # Some need outputs that can be split: into gates, or blocks.
        made((12, 12), "float32")
    except Exception:
        raise argparse.ArgumentTypeError(f"{text!r} makes no dense kernel") from None
    return text


def _activation(text: str) -> str:
    try:
        keras.activations.get(text)
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"Keras has no activation {text!r}") from None
    return text


def _picture(text: str) -> Path:
    """Find out before the work whether the picture can be drawn and saved."""
    try:
        formats = plots.figure().canvas.get_supported_filetypes()
    except ModuleNotFoundError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if Path(text).suffix[1:].lower() not in formats:
        endings = ", ".join(f".{ending}" for ending in sorted(formats))
        raise argparse.ArgumentTypeError(f"{text!r} must end in one of {endings}")
    return _writable(text)


def _model_file(text: str) -> Path:
    if Path(text).suffix != ".keras":
        raise argparse.ArgumentTypeError(f"{text!r} must end in .keras")
    return _writable(text)


def _writable(text: str) -> Path:
    path = Path(text)
    try:
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"no folder {str(path.parent)!r} for {text!r}")
        writable = os.access(path if path.exists() else path.parent, os.W_OK)
        writable = writable and not path.is_dir()
    except OSError:  # such as a name that is too long
        writable = False
    if not writable:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path


def _hint(text: str) -> str:
    close = difflib.get_close_matches(text.removeprefix("winit>").lower(), REGISTRY, n=1)
    meant = f"Did you mean {REGISTRY[close[0]].identifier!r}? " if close else ""
    return f"{meant}`keras-winit list` shows all."


def _list(options: argparse.Namespace) -> None:
    head = ("name", "formula", "when to use", "source")
    table = [(cls.identifier, cls.formula, cls.use, cls.source) for cls in REGISTRY.values()]
    if options.markdown:
        rows = [head, tuple("---" for _ in head)]
        rows += [(f"`{name}`", *(text.replace("|", "\\|") for text in row)) for name, *row in table]
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
        return
    widths = [max(map(len, column)) for column in zip(head, *table, strict=True)]
    for row in (head, *table):
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _show(options: argparse.Namespace) -> None:
    cls = options.scheme
    arguments = inspect.signature(cls).parameters.values()
    bare = [argument.replace(annotation=inspect.Parameter.empty) for argument in arguments]
    print(f'kernel_initializer="{cls.identifier}"')
    print(f"keras_winit.{cls.__name__}{inspect.Signature(bare)}")
    print(f"\nformula      {cls.formula}\nwhen to use  {cls.use}\nsource       {cls.source}\n")
    print(inspect.getdoc(cls))
    if options.plot:
        # Without it a bias has none.
        inputs = {"fan_in": 256} if "fan_in" in cls().get_config() else {}
        drawn = keras.ops.convert_to_numpy(_drawn(reseeded(cls(**inputs), 0)))
        plots.kernel(drawn, options.plot, cls.identifier)
        print(f"\ndrawn: {options.plot}")


def _drawn(scheme: Scheme) -> Any:
    """What it makes of the first of `SAMPLES` that it takes."""
    *shapes, last = SAMPLES
    for shape in shapes:
        with suppress(ValueError):
            return scheme(shape)
    return scheme(last)


def _rules(options: argparse.Namespace) -> None:
    if options.markdown:
        print("| rule | severity | fires when | threshold | steps in a row | remedy |")
        print("| --- | --- | --- | --- | --- | --- |")
        for rule in RULES:
            cells = (f"`{rule.id}`", rule.severity, rule.fires, f"{rule.threshold:g}")
            row = (*cells, str(rule.persistence), rule.remedy)
            print(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
        return
    for rule in RULES:
        print(f"{rule.id}  {rule.severity}, {rule.statistic} {rule.threshold:g}")
        for label in ("fires", "applies", "healthy", "cause", "remedy", "origin"):
            print(f"  {label:8} {getattr(rule, label)}")
        print(f"  steps    {rule.persistence} in a row\n")


def _gain(options: argparse.Namespace) -> None:
    name = options.activation
    if options.mode:
        print(f"{gain(name, options.mode):.10g}")
        return
    for mode, meaning in GAINS.items():
        try:
            value = gain(name, mode)
        except ValueError:
            # A name that is unknown, or has no size, has no other gain either.
            if mode == "second_moment":
                raise
            value = None
        shown = "none" if value is None else f"{value:.10g}"
        print(f"{mode:14}  {shown:12}  {meaning}")
    growth = mean_field.chi_1(name, 1.0, gain(name))
    print(
        f"{'chi_1':14}  {growth:<12.10g}  growth of squared gradients under second_moment, a layer"
    )


def _critical(options: argparse.Namespace) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print(critical_point(options.activation, options.bias_stddev, options.q))
    for warning in caught:
        print(f"keras-winit: warning: {warning.message}", file=sys.stderr)


def _propagate(options: argparse.Namespace) -> None:
    results = []
    for initializer in options.init:
        result = experiments.propagate(
            initializer,
            activation=options.activation,
            depth=options.depth,
            width=options.width,
            samples=options.samples,
            seed=options.seed,
            batch_normalization=options.batch_normalization,
        )
        results.append(result)
        print(result, end="\n\n", flush=True)
    if options.plot:
        plots.propagation(results, options.plot)
        print(f"drawn: {options.plot}")


def _demo(options: argparse.Namespace) -> None:
    keras.utils.set_random_seed(options.seed)
    data = experiments.digits(options.seed)
    names = (options.bad, options.good)
    models = [experiments.digits_classifier(name, options.seed) for name in names]
    logs = options.output.with_name(f"{options.output.stem}-logs")
    monitors = []
    for role, name in zip(("bad", "good"), names, strict=True):
        run = f"{role}_{re.sub('[^a-z0-9]+', '_', name.lower())}"
        monitors.append(ActivationMonitor(logs / run, statistics="all", verbose=0))
    print(f"{len(data.train_images)} handwritten digits, a network of 8 ReLU layers of 64 units")
    print(f"share of {len(data.test_images)} other digits read rightly:\n")
    widths = [max(10, len(name)) for name in names]
    print("epoch  " + "  ".join(name.rjust(w) for name, w in zip(names, widths, strict=True)))
    training = experiments.train_on_digits(models, data, options.epochs, monitors)
    for epoch, shares in enumerate(training, 1):
        cells = (f"{share:.1%}".rjust(w) for share, w in zip(shares, widths, strict=True))
        print(f"{epoch:5d}  " + "  ".join(cells), flush=True)
    for name, monitor in zip(names, monitors, strict=True):
        print(f"\n{name}: {monitor}")
        monitor.close()
    command, tab, charts = TensorBoardWriter(logs).instructions().splitlines()
    print(f"\nto look at all steps of both, layer by layer:\n  {command}\nand open")
    print(f"  {tab}\n  {charts}")
    _save_and_reload(models[1], data.test_images, options.output)


def _save_and_reload(model: Any, images: Any, path: Path) -> None:
    """Save a model and compare what it predicts with what its file does."""
    model.save(path)
    print(f"\nsaved {path}; loading it in a fresh process ...", flush=True)
    here = model.predict(images, verbose=0)
    there = _predict_afresh(path, images)
    if not np.array_equal(here, there, equal_nan=True):
        raise _Failure(f"{path} predicts otherwise, by {np.abs(here - there).max()}")
    print(f"its {len(here)} predictions are equal, to the last bit")


def _predict_afresh(model: Path, images: Any) -> Any:
    """The predictions of a saved model, made in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "images.npy"), Path(folder, "predictions.npy")
        np.save(inputs, images)
        command = [sys.executable, "-c", RELOAD, str(model), str(inputs), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise _Failure(f"{model} could not be loaded again: {done.stderr.strip()[-500:]}")
        return np.load(outputs)
