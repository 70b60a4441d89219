"""Measures which starts let networks train: by kind, depth, activation and optimizer.

    python benchmarks/trainability.py [--part mlp] [--depth 50] [--activation relu]
        [--start auto] [--seeds 3] [--first-seed 0] [--file benchmarks/trainability.jsonl]
    python benchmarks/trainability.py --table
    python benchmarks/trainability.py --picture [docs/images/trainability.png]

Real Keras models are trained on the digits of scikit-learn in batches of 64: 400 steps, CNNs 150,
recurrent networks on the adding problem of length 200. Four optimizer settings: Adam with learning
rate 1e-3 and 1e-4, SGD with momentum 0.9 and 1e-2 and 1e-3; no warm-up, no clipping. A seed
determines the weights, the split of the data and the order of the batches. The score is the
accuracy on the test data, for the adding problem the explained share of the variance. A network
trains in a setting if the mean score of the seeds is at least 0.9. Seeds 0 to 2 judge: rules are
tuned with others, by `--first-seed 100` and a file of their own.
"""

import argparse
import json
import os
import time
from pathlib import Path

# Set before a backend is loaded, so that the process takes one core.
os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

from trainability_cases.networks import NETWORKS
from trainability_cases.starts import STARTS, started
from trainability_cases.summary import draw_in_both_styles, read_rows, table
from trainability_cases.training import Trainer

FILE = Path(__file__).parent / "trainability.jsonl"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "trainability.png"


def key(row):
    return row["part"], row["name"], row["depth"], row["start"]


def weights_of(model):
    return (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )


def measured(network, start, trainer, seeds):
    """Return the row of a network and a start, and the trainer, which is made at first use."""
    row = {"part": network.part, "name": network.name, "depth": network.depth, "start": start}
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        models = [started(start, network, seed) for seed in seeds]
    except ValueError as error:
        return {**row, "refused": str(error)}, trainer
    trainer = trainer or Trainer(network, models[0], seeds)
    scores, steps = trainer.train([weights_of(model) for model in models])
    row["scores"] = scores.round(4).tolist()
    row["steps"] = [[None if s != s else int(s) for s in setting] for setting in steps]
    row["seconds"] = round(time.perf_counter() - begin, 1)
    row["cpu_seconds"] = round(time.process_time() - cpu, 1)
    return row, trainer


def run(networks, starts, seeds, file):
    done = {key(row): row for row in read_rows(file)}
    missing = [
        (network, [s for s in starts if (network.part, network.name, network.depth, s) not in done])
        for network in networks
    ]
    rows = sum(len(starts) for _, starts in missing)
    print(f"{rows} rows to measure; {file} holds {len(done)} rows", flush=True)
    # Seconds for each kernel and step, to estimate the rest.
    costs = [row["seconds"] / row["depth"] for row in done.values() if "seconds" in row]
    left = sum(network.depth * len(starts) for network, starts in missing)
    for network, starts_left in missing:
        trainer = None
        for start in starts_left:
            row, trainer = measured(network, start, trainer, seeds)
            with open(file, "a") as lines:
                lines.write(json.dumps(row) + "\n")
            left -= network.depth
            costs += [row["seconds"] / row["depth"]] if "seconds" in row else []
            minutes = left * sum(costs) / max(len(costs), 1) / 60
            print(json.dumps(row), f"about {minutes:.0f} minutes left", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=sorted({n.part for n in NETWORKS}))
    parser.add_argument("--depth", action="append", type=int)
    parser.add_argument("--activation", action="append", help="or the name of a cell or block")
    parser.add_argument("--start", action="append", choices=list(STARTS))
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="100 and more to tune rules")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    parser.add_argument(
        "--picture", type=Path, nargs="?", const=PICTURE, help="draw it, light and dark"
    )
    chosen = parser.parse_args()
    if chosen.first_seed and chosen.file.resolve() == FILE:
        parser.error("--first-seed needs a --file of its own: the usual one judges.")
    if chosen.table or chosen.picture:
        rows = read_rows(chosen.file)
        if chosen.table:
            print("\n".join(table(rows)))
        if chosen.picture:
            draw_in_both_styles(rows, chosen.picture)
        return
    networks = [
        network
        for network in NETWORKS
        if (chosen.part is None or network.part in chosen.part)
        and (chosen.depth is None or network.depth in chosen.depth)
        and (chosen.activation is None or network.name in chosen.activation)
    ]
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    run(networks, chosen.start or list(STARTS), seeds, chosen.file)


if __name__ == "__main__":
    main()
