"""`keras-winit demo`: trains on handwritten digits from a bad and a good initialization."""

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

# Runs in a fresh process: loads a saved model and saves its predictions.
PREDICT = """
import sys, keras, keras_winit, numpy
model = keras.models.load_model(sys.argv[1])
numpy.save(sys.argv[3], model.predict(numpy.load(sys.argv[2]), verbose=0))
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit demo`."""
    parser = add_subcommand(
        subparsers, "demo", run, "train on handwritten digits from a bad and a good initialization"
    )
    for option, default in (("--bad", "winit>small_normal"), ("--good", "winit>he_normal")):
        parser.add_argument(
            option,
            default=default,
            type=initializer,
            metavar="NAME",
            help=f"the {option[2:]} initializer of the kernels (default: {default})",
        )
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
    """Report on two models, train them, save the good one and check that it loads."""
    from keras_winit_commands.library import keras, keras_winit

    experiments = keras_winit.experiments
    with quiet_import():  # On every backend, this imports TensorFlow to seed it.
        keras.utils.set_random_seed(options.seed)
    data = experiments.digits(options.seed)
    options.output.mkdir(exist_ok=True)
    names = (options.bad, options.good)
    models = [experiments.digits_classifier(name, options.seed) for name in names]
    _print_verdicts(names, models, data.train_images)
    logs = options.output / "logs"
    _train(names, models, data, options.epochs, logs)
    model_file = options.output / "digits.keras"
    _save_and_reload(models[1], data.test_images, model_file)
    print(f"\nThe folder {options.output} holds the model and the logs of both trainings.")
    _print_tensorboard(logs)


def _print_verdicts(names: tuple[str, str], models: Any, images: Any) -> None:
    """Print what a report says of each model before it is trained."""
    from keras_winit_commands.library import keras_winit

    print("Before training, keras_winit.signal_report says of 8 ReLU layers of 64 units:\n")
    for name, model in zip(names, models, strict=True):
        print(f"{name}: {keras_winit.signal_report(model, images).verdict}\n", flush=True)


def _train(names: tuple[str, str], models: Any, data: Any, epochs: int, logs: Path) -> None:
    """Train both models, and print their accuracies and their last records."""
    from keras_winit_commands.library import keras_winit

    monitors = []
    for role, name in zip(("bad", "good"), names, strict=True):
        run_name = f"{role}_{re.sub('[^a-z0-9]+', '_', name.lower())}"
        monitors.append(keras_winit.ActivationMonitor(logs / run_name, statistics="all", verbose=0))
    print(f"Training both on {len(data.train_images)} handwritten digits.")
    print(f"Accuracy on {len(data.test_images)} other digits, for two initializers:\n")
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
