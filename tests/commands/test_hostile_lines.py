"""Command lines and model files of any kind: an exit code and one line, never a traceback."""

import io
import json
import random
import zipfile

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_winit_commands import main

pytestmark = pytest.mark.backend_independent

COMMANDS = ("list", "show", "gain", "critical", "rules", "propagate", "check")
TOKENS = [
    *("--markdown", "--mode", "torch", "odd", "--q", "--bias-stddev", "--init", "--activation"),
    *("winit>zeros", "zeros", "function", "stft", "orthogonal", "sparse", "relu", "tanh", "glu"),
    *("--depth", "2", "--seed", "0", "-1", "nan", "inf", "1e308", "1e-320", "9" * 30),
    *("no.keras", "--data", "--plot", "x.foo", "--fix", "--with", "lsuv", "", "-", "--", "\0"),
    *("é\n", "'\"", "--help", "--nope=1", "\ud800", "--batch-normalization"),
]
TOKEN = st.one_of(st.sampled_from(TOKENS), st.text(max_size=4))


def result_of(arguments, capsys):
    """Return the exit code; fail unless an error is one line on the standard error."""
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in out + err
    errors = [line for line in err.split("\n")[:-1] if "warning: " not in line]
    assert len(errors) == (code != 0), err
    assert code == 0 or err.startswith("keras-winit")
    return code


@settings(max_examples=40)
@given(command=st.sampled_from(COMMANDS), tokens=st.lists(TOKEN, max_size=6))
def test_any_command_line_ends_with_an_exit_code(command, tokens, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Small networks keep the test fast.
    sizes = ["--width", "3", "--samples", "4", "--depth", "2"] if command == "propagate" else []
    result_of([command, *sizes, *tokens], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return the bytes of a small saved model."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(2)]).save(path)
    return path.read_bytes()


def with_member(archive, name, change):
    """Return the archive with the bytes of one member changed, or with another member."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        members = {member: source.read(member) for member in source.namelist()}
    members[name] = change(members.get(name, b""))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for member, content in members.items():
            made.writestr(member, content)
    return target.getvalue()


def flipped(content, generator, count=1):
    content = bytearray(content)
    for _ in range(count):
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    return bytes(content)


def with_another_value(text, generator):
    """Return JSON text in which one value, at any depth, is replaced."""
    root = json.loads(text)
    node, key = root, "config"
    while isinstance(node[key], dict | list) and node[key] and generator.random() < 0.85:
        node = node[key]
        key = generator.choice(list(node) if isinstance(node, dict) else range(len(node)))
    node[key] = generator.choice([None, -1, 10**15, 1e300, "x", "function", [], {}, [{}], True])
    return json.dumps(root).encode()


def damaged(archive, number):
    """Return a damaged archive; each number gives another damage."""
    generator = random.Random(number)
    kind = number % 6
    if kind == 0:
        return archive[: generator.randrange(len(archive))]
    if kind == 1:
        return flipped(archive, generator, 3)
    if kind == 2:
        return with_member(archive, "config.json", lambda text: flipped(text, generator))
    if kind == 3:
        return with_member(archive, "model.weights.h5", lambda text: flipped(text, generator, 9))
    return with_member(archive, "config.json", lambda text: with_another_value(text, generator))


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_model_is_reported_on_or_refused(part, archive, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, fixed = tmp_path / "model.keras", tmp_path / "fixed.keras"
    codes = set()
    for number in range(part, 24, 4):
        content = damaged(archive, number)
        model.write_bytes(content)
        codes.add(result_of(["check", "model.keras", "--fix", "fixed.keras"], capsys))
        assert model.read_bytes() == content
        assert set(tmp_path.iterdir()) <= {model, fixed}
    assert 1 in codes


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "[" * 5000, "\0", '{"class_name": "Sequential"}', "NaN", '"x"'],
    ids=lambda text: text[:9],
)
def test_a_model_with_another_config_is_refused(text, archive, tmp_path, capsys):
    model = tmp_path / "model.keras"
    model.write_bytes(with_member(archive, "config.json", lambda _: text.encode()))
    assert result_of(["check", str(model)], capsys) == 1


def test_sizes_that_no_memory_holds_are_refused(archive, tmp_path, capsys):
    model = tmp_path / "model.keras"

    def declared(text):
        return text.replace(b'"units": 3', b'"units": 1' + b"0" * 15)

    model.write_bytes(with_member(archive, "config.json", declared))
    assert result_of(["check", str(model)], capsys) != 0


def test_an_input_that_no_memory_holds_is_refused(tmp_path, capsys):
    model = tmp_path / "model.keras"
    keras.Sequential([keras.Input((10**9, 4)), layers.GlobalMaxPooling1D()]).save(model)
    assert result_of(["check", str(model)], capsys) == 2


@pytest.mark.filterwarnings("ignore:Skipping invalid path")
def test_an_archive_writes_no_file_elsewhere(archive, tmp_path, capsys):
    inner = tmp_path / "inner"
    inner.mkdir()
    model = inner / "model.keras"
    for name in ("../evil.txt", "assets/../../evil.txt", str(tmp_path / "evil.txt")):
        model.write_bytes(with_member(archive, name, lambda _: b"evil"))
        result_of(["check", str(model)], capsys)
        assert list(tmp_path.rglob("*")) == [inner, model]


def test_no_code_of_a_model_file_is_run(archive, tmp_path, capsys):
    canary, model = tmp_path / "canary", tmp_path / "model.keras"
    code = layers.Lambda(lambda x, path=str(canary): (open(path, "w").close(), x)[1])
    keras.Sequential([keras.Input((4,)), code]).save(model)
    canary.unlink(missing_ok=True)
    assert result_of(["check", str(model)], capsys) == 1
    config = {"module": "os", "class_name": "system", "config": {"command": f"touch {canary}"}}
    text = json.dumps({**config, "registered_name": None}).encode()
    model.write_bytes(with_member(archive, "config.json", lambda _: text))
    assert result_of(["check", str(model)], capsys) == 1
    assert not canary.exists()
