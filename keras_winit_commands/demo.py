"""`keras-winit demo`: reports on a bad network, repairs a copy of it and trains both."""

import re
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from keras_winit_commands.arguments import initializer, output_folder
from keras_winit_commands.errors import CommandError
from keras_winit_commands.parser import Subparsers, add_integer, add_subcommand
from keras_winit_commands.quiet import quiet_import

# Name of the network whose kernels `reinitialize` chose by itself.
AUTO_NAME = "reinitialize"

# Runs in a fresh process: loads a saved model and saves its predictions.
PREDICT = """
import sys, keras, keras_winit, numpy
model = keras.models.load_model(sys.argv[1])
numpy.save(sys.argv[3], model.predict(numpy.load(sys.argv[2]), verbose=0))
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit demo`."""
    parser = add_subcommand(
        subparsers, "demo", run, "report on a bad network, repair it, and train with and without"
    )
    bad = "winit>small_normal"
    for option, default, text in (
        ("--bad", bad, f"the initializer of the bad network's kernels (default: {bad})"),
        ("--good", None, "one initializer that repairs it (default: what suits each layer)"),
    ):
        parser.add_argument(option, default=default, type=initializer, metavar="NAME", help=text)
    add_integer(parser, "--epochs", 1, 10, "passes over the training digits")
    add_integer(parser, "--seed", 0, 0, "seed of the kernels and of the order of the digits")
    parser.add_argument(
        "--output",
        default="keras-winit-demo",
        type=output_folder,
        metavar="FOLDER",
        help="folder of the saved model and the logs (default: keras-winit-demo)",
    )


def run(options: Namespace) -> None:
    """Report on the bad network, repair a copy, train both and check that the good one loads."""
    from keras_winit_commands.library import keras, keras_winit

    experiments = keras_winit.experiments
    with quiet_import():  # On every backend, this imports TensorFlow to seed it.
        keras.utils.set_random_seed(options.seed)
    data = experiments.digits(options.seed)
    options.output.mkdir(exist_ok=True)
    bad, good = (experiments.digits_classifier(options.bad, options.seed) for _ in range(2))
    print("Before training, keras_winit.signal_report says of 8 ReLU layers of 64 units:\n")
    _print_verdict(options.bad, bad, data.train_images)
    _repair(good, options)
    names = (options.bad, options.good or AUTO_NAME)
    _print_verdict(names[1], good, data.train_images)
    logs = options.output / "logs"
    _train(names, (bad, good), data, options.epochs, logs)
    model_file = options.output / "digits.keras"
    _save_and_reload(good, data.test_images, model_file)
    print(f"\nThe folder {options.output} holds the model and the logs of both trainings.")
    _print_tensorboard(logs)


def _print_verdict(name: str, model: Any, images: Any) -> None:
    from keras_winit_commands.library import keras_winit

    print(f"{name}: {keras_winit.signal_report(model, images, verbose=0).verdict}\n", flush=True)


def _repair(model: Any, options: Namespace) -> None:
    from keras_winit_commands.library import keras_winit

    keras_winit.reinitialize(model, options.good or "auto", seed=options.seed)
    argument = f", {options.good!r}" if options.good else ""
    print(f"After keras_winit.reinitialize(model{argument}) on a copy of this network:\n")


def _train(names: tuple[str, str], models: Any, data: Any, epochs: int, logs: Path) -> None:
    """Train both models, and print their accuracies and their last records."""
    from keras_winit_commands.library import keras_winit

    monitors = []
    for role, name in zip(("bad", "good"), names, strict=True):
        run_name = f"{role}_{re.sub('[^a-z0-9]+', '_', name.lower())}"
        monitors.append(keras_winit.ActivationMonitor(logs / run_name, statistics="all", verbose=0))
    print(f"Training both on {len(data.train_images)} handwritten digits.")
    print(f"Accuracy on {len(data.test_images)} other digits, without and with the repair:\n")
    widths = [max(10, len(name)) for name in names]
    print("epoch  " + "  ".join(name.rjust(w) for name, w in zip(names, widths, strict=True)))
    training = keras_winit.experiments.train_on_digits(models, data, epochs, monitors)
    for epoch, accuracies in enumerate(training, 1):
        cells = (f"{share:.1%}".rjust(w) for share, w in zip(accuracies, widths, strict=True))
        print(f"{epoch:5d}  " + "  ".join(cells), flush=True)
    for name, monitor in zip(names, monitors, strict=True):
        print(f"\n{name}: {monitor}")
        monitor.close()


def _print_tensorboard(logs: Path) -> None:
    from keras_winit_commands.library import keras_winit

    # The third line, an address of pinned charts, is 400 characters long.
    command, tab, _ = keras_winit.monitor.TensorBoardWriter(logs).instructions().splitlines()
    print(f"To compare all layers at all recorded steps, run\n  {command}\nand open\n  {tab}")


def _save_and_reload(model: Any, images: Any, path: Path) -> None:
    """Save a model, load it in a fresh process and compare the predictions of both."""
    from keras_winit_commands.library import numpy as np

    model.save(path)
    print(f"\nSaved {path}; loading it in a fresh process ...", flush=True)
    expected = model.predict(images, verbose=0)
    actual = _predict_in_fresh_process(path, images)
    if not np.array_equal(expected, actual, equal_nan=True):
        difference = np.abs(expected - actual).max()
        raise CommandError(f"the model in {path} predicts differently, by up to {difference}")
    print(f"The loaded model makes the same {len(expected)} predictions, to the last bit.")


def _predict_in_fresh_process(model: Path, images: Any) -> Any:
    from keras_winit_commands.library import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "images.npy"), Path(folder, "predictions.npy")
        np.save(inputs, images)
        command = [sys.executable, "-c", PREDICT, str(model), str(inputs), str(outputs)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            raise CommandError(
                f"{model} could not be loaded again: {process.stderr.strip()[-500:]}"
            )
        return np.load(outputs)
