"""Small synthetic data sets that a model can learn in a hundred steps.

Each function takes a generator of random numbers, a number of rows and options, and returns
inputs and targets. `made` fixes the options.
"""

from functools import partial

import numpy as np

made = partial


def changed(data, change):
    """Return `data` with `change` applied to its inputs and targets."""

    def changed_data(rng, rows):
        return change(*data(rng, rows))

    return changed_data


def clusters(rng, rows, features=20, classes=10, targets="int"):
    """Return classes of standardized rows around random centers."""
    y = rng.integers(0, classes, rows)
    x = rng.normal(size=(classes, features))[y] + rng.normal(size=(rows, features))
    return (x / 2**0.5).astype("float32"), noted(rng, y, classes, targets)


def noted(rng, y, classes, targets):
    """Return the classes, one in thirty of them wrong, in the form that `encoded` describes."""
    wrong = rng.random(len(y)) < 1 / 30
    return encoded(np.where(wrong, rng.integers(0, classes, len(y)), y), classes, targets)


def encoded(y, classes, targets):
    """Return classes as integers ("int"), one-hot rows ("hot") or a column of 0 and 1 ("bit")."""
    if targets == "hot":
        return np.eye(classes, dtype="float32")[y]
    return (y[:, None] % 2).astype("float32") if targets == "bit" else y


def images(rng, rows, size=12, channels=1, classes=10, scale="0..1", targets="int"):
    """Return images of one pattern of strokes for each class, shifted, dimmed and noisy."""
    cells = rng.random((classes, size // 3, size // 3, channels)) > 0.6
    patterns = np.kron(cells, np.ones((1, 3, 3, 1)))
    y = rng.integers(0, classes, rows)
    x = patterns[y] * rng.uniform(0.6, 1.0, (rows, 1, 1, 1))
    x = np.where(rng.random((rows, 1, 1, 1)) > 0.5, np.roll(x, 1, axis=1), x)
    x = np.clip(x + 0.1 * np.abs(rng.normal(size=x.shape)), 0, 1)
    if scale == "-1..1":
        x = 2 * x - 1
    elif scale == "standardized":
        x = (x - x.mean()) / x.std()
    elif scale == "0..255":
        x = np.round(255 * x)
    return x.astype("float32"), noted(rng, y, classes, targets)


def reconstruction(rng, rows, **options):
    """Return images as inputs and as targets."""
    x, _ = images(rng, rows, **options)
    return x, x


def regression(rng, rows, features=8, mean=0.0, stddev=1.0, outputs=1):
    """Return targets of a random network with one hidden layer."""
    x = rng.normal(size=(rows, features))
    hidden = np.tanh(x @ rng.normal(size=(features, 16)) / features**0.5)
    y = hidden @ rng.normal(size=(16, outputs))
    y = (y - y.mean(0)) / y.std(0) + 0.1 * rng.normal(size=y.shape)
    return x.astype("float32"), (mean + stddev * y).astype("float32")


def tokens(rng, rows, length=16, vocabulary=200, classes=2, targets="int"):
    """Return sentences in which the ten words that belong to the class are frequent."""
    y = rng.integers(0, classes, rows)
    own = 1 + 10 * y[:, None] + rng.integers(0, 10, (rows, length))
    other = rng.integers(10 * classes + 1, vocabulary, (rows, length))
    return np.where(rng.random((rows, length)) < 0.3, own, other), noted(rng, y, classes, targets)


def next_tokens(rng, rows, length=16, vocabulary=32):
    """Return texts that follow a rule with few exceptions, and the next token at each place."""
    successor = rng.permutation(vocabulary)
    text = rng.integers(0, vocabulary, (rows, length + 1))
    for i in range(length):
        follows = rng.random(rows) < 0.9
        text[:, i + 1] = np.where(follows, successor[text[:, i]], text[:, i + 1])
    return text[:, :-1], text[:, 1:]


def tags(rng, rows, length=10, vocabulary=60, classes=5):
    """Return sentences and a class for each word."""
    x = rng.integers(0, vocabulary, (rows, length))
    return x, rng.integers(0, classes, vocabulary)[x]


def waves(rng, rows, length=16, channels=2, classes=3, targets="int"):
    """Return noisy sine waves whose frequency depends on the class."""
    y = rng.integers(0, classes, rows)
    time = np.arange(length)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (rows, 1, channels))
    x = np.sin(time * (0.3 + 0.6 * y[:, None, None]) + phase)
    x += 0.2 * rng.normal(size=x.shape)
    return x.astype("float32"), noted(rng, y, classes, targets)


def forecasts(rng, rows, length=10, low=0.0, high=1.0):
    """Return windows of a noisy periodic series in `low` to `high`, and the next value."""
    start = rng.uniform(0, 100, (rows, 1))
    time = start + np.arange(length + 1)
    series = 0.5 + 0.3 * np.sin(time * 0.6) + 0.15 * np.sin(time * 1.7)
    series += 0.02 * rng.normal(size=series.shape)
    series = (low + (high - low) * series).astype("float32")
    return series[:, :-1, None], series[:, -1:]


def pairs(rng, rows, features=16, classes=8, equal=False):
    """Return pairs of rows, and whether both are of one class; if `equal`, some rows are equal."""
    centers = 1.5 * rng.normal(size=(classes, features))
    first = rng.integers(0, classes, rows)
    y = rng.integers(0, 2, rows)
    second = np.where(y == 1, first, (first + rng.integers(1, classes, rows)) % classes)
    left = centers[first] + 0.5 * rng.normal(size=(rows, features))
    right = centers[second] + 0.5 * rng.normal(size=(rows, features))
    if equal:
        right = np.where((y == 1)[:, None] & (np.arange(rows) % 4 == 0)[:, None], left, right)
    return (left.astype("float32"), right.astype("float32")), y[:, None].astype("float32")


def masks(rng, rows, size=16):
    """Return noisy images with a bright square, and its mask."""
    y = np.zeros((rows, size, size, 1), "float32")
    corners = rng.integers(0, size // 2, (rows, 2))
    for mask, (top, left) in zip(y, corners, strict=True):
        mask[top : top + size // 2, left : left + size // 2] = 1
    x = np.clip(0.2 + 0.5 * y + 0.15 * rng.normal(size=y.shape), 0, 1)
    return x.astype("float32"), y


def ratings(rng, rows, users=60, items=40):
    """Return pairs of a user and an item with a rating in 0..1."""
    user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
    taste, trait = rng.normal(size=(users, 3)), rng.normal(size=(items, 3))
    y = 1 / (1 + np.exp(-1.5 * np.sum(taste[user] * trait[item], 1)))
    return (user[:, None], item[:, None]), y[:, None].astype("float32")
