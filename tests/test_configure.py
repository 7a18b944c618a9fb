"""configure(): SB3's arguments with SB3's meaning, and wrong ones told at once."""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from stable_baselines3.common.logger import KVWriter

import rl_logging
from rl_logging import (
    CSVOutputFormat,
    FixedHumanOutputFormat,
    MemoryOutputFormat,
    MissingBackendError,
    configure,
    make_output_format,
)
from rl_logging.formats import FORMATS
from rl_logging.journal import read


def _names(logger):
    return [output.name for output in logger.output_formats]


def _configured(*arguments, **keywords):
    """Configure, log one value and close; the logger."""
    with configure(*arguments, **keywords) as logger:
        logger.record("a", 1)
        logger.dump(1)
    return logger


def test_default_is_sb3s(tmp_path, monkeypatch, capsys):
    """Console, log and CSV, in a new folder of the system's temporary one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    logger = _configured()

    assert _names(logger) == ["stdout", "log", "csv"]
    assert Path(logger.get_dir()).parent == tmp_path
    assert Path(logger.get_dir()).name.startswith("SB3-")
    assert sorted(os.listdir(logger.get_dir())) == ["journal.jsonl", "progress.csv", "train.log"]
    assert capsys.readouterr().out.startswith(f"Logging to {logger.get_dir()}\n-- step 1 --")


def test_environment_gives_folder_and_outputs(tmp_path, monkeypatch):
    """SB3's variables: a cluster's job script sets them."""
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path / "from" / "environment"))
    monkeypatch.setenv("SB3_LOG_FORMAT", "json,,csv")

    logger = _configured()

    assert (logger.get_dir(), _names(logger)) == (str(tmp_path / "from" / "environment"), ["json", "csv"])


def test_arguments_win_over_the_environment(tmp_path, monkeypatch):
    """What the program says is what it means."""
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path / "environment"))
    monkeypatch.setenv("SB3_LOG_FORMAT", "stdout")

    logger = _configured(tmp_path / "run", ["json"])

    assert (logger.get_dir(), _names(logger)) == (str(tmp_path / "run"), ["json"])
    assert os.listdir(tmp_path) == ["run"]


def test_journal_is_always_written(tmp_path):
    """It is the run's one truth, asked for or not, and once."""
    for formats in ([], ["journal"], [""]):
        _configured(tmp_path, formats)

    dumped = [record for record in read(tmp_path / "journal.jsonl") if record.kind == "metrics"]
    assert [record.values for record in dumped] == [{"a": 1}] * 3


def test_ready_made_outputs_stand_among_the_names(tmp_path):
    """In the order in which they were given, the user's own among them."""

    class Mine(KVWriter):
        def write(self, key_values, key_excluded, step=0):
            self.step = step

        def close(self):
            self.closed = True

    mine, memory = Mine(), MemoryOutputFormat()

    logger = _configured(tmp_path, ["csv", memory, "json", mine])

    assert [type(output).__name__ for output in logger.output_formats] == [
        "CSVOutputFormat",
        "MemoryOutputFormat",
        "JSONOutputFormat",
        "Mine",
    ]
    assert (mine.step, mine.closed) == (1, True)
    assert memory.records[-1].values == {"a": 1}


def test_arguments_reach_the_constructor(tmp_path):
    """By the output's name."""
    logger = _configured(
        tmp_path,
        ["log", "csv", "json"],
        log={"max_length": 12},
        csv={"filename": tmp_path / "other.csv"},
        json={"name": "lines"},
    )

    assert logger.output_formats[0].max_length == 12
    assert _names(logger) == ["log", "csv", "lines"]
    assert sorted(os.listdir(tmp_path)) == ["journal.jsonl", "other.csv", "progress.json", "train.log"]


def test_console_with_another_name_stays_the_console(tmp_path, capsys):
    """A name is what ``exclude`` calls an output, not what it is."""
    logger = _configured(tmp_path, ["stdout"], stdout={"name": "terminal"})

    assert _names(logger) == ["terminal"]
    assert "-- step 1 --" in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["journal.jsonl"]


def test_two_outputs_of_a_kind_have_names_of_their_own(tmp_path):
    """One CSV for everything, one for what somebody plots."""
    second = CSVOutputFormat(tmp_path / "plot.csv", name="plot")
    with configure(tmp_path, ["csv", second]) as logger:
        logger.record("a", 1, exclude="plot")
        logger.record("b", 2)
        logger.dump(1)

    headers = [(tmp_path / name).read_text().splitlines()[0] for name in ("progress.csv", "plot.csv")]
    assert headers == ["step,time,a,b", "step,time,b"]


@pytest.mark.parametrize(
    ("formats", "arguments", "error", "message"),
    [
        (["cvs"], {}, ValueError, r"unknown output 'cvs'; did you mean 'csv'\?"),
        (
            ["nothing alike"],
            {},
            ValueError,
            r"unknown output 'nothing alike'; allowed are clearml, csv, journal, json",
        ),
        ("csv", {}, TypeError, r"a list of outputs: \['csv'\], not 'csv'"),
        (
            ["csv", "csv"],
            {},
            ValueError,
            "output 'csv' is given twice; a second one .* needs a name= of its own",
        ),
        (["memory", MemoryOutputFormat()], {}, ValueError, "two outputs have the name 'memory'"),
        ([MemoryOutputFormat(), MemoryOutputFormat()], {}, ValueError, "two outputs have the name 'memory'"),
        (["csv", "json"], {"json": {"name": "csv"}}, ValueError, "two outputs have the name 'csv'"),
        (["csv"], {"json": {}}, ValueError, "json={} is for an output that is not asked for"),
        (["csv"], {"foldr": "x"}, TypeError, r"configure\(\) has no argument 'foldr'"),
        (["csv"], {"csv": {"path": "x"}}, TypeError, "csv has no argument 'path'; it has filename, name"),
        (
            ["csv"],
            {"csv": "progress.csv"},
            TypeError,
            "csv= takes a mapping of constructor arguments, not 'progress.csv'",
        ),
        ([io.StringIO()], {}, TypeError, "an output is a name or a KVWriter, not <_io.StringIO"),
        ([7], {}, TypeError, "an output is a name or a KVWriter, not 7"),
        ([None], {}, TypeError, "an output is a name or a KVWriter, not None"),
    ],
)
def test_wrong_argument_says_what_is_allowed(tmp_path, formats, arguments, error, message):
    """At once, where it was given, and before anything is written."""
    with pytest.raises(error, match=message):
        configure(tmp_path / "run", formats, **arguments)

    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_folder_that_is_a_file_is_named(tmp_path):
    """A path with a typing error must not be found out after the training."""
    (tmp_path / "run").write_text("mine")

    with pytest.raises(NotADirectoryError, match="run' cannot be a run folder: a file has that name"):
        configure(tmp_path / "run", ["csv"])

    assert (tmp_path / "run").read_text() == "mine"


def test_folder_below_a_file_is_an_error(tmp_path):
    """The same, one level deeper."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(NotADirectoryError):
        configure(tmp_path / "file" / "run", ["csv"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_an_error(tmp_path):
    """At once, not at the first dump."""
    tmp_path.chmod(0o500)

    with pytest.raises(PermissionError):
        configure(tmp_path / "run", ["csv"])


def test_output_that_cannot_be_built_leaves_no_file_open(tmp_path):
    """The outputs before it are closed again."""
    (tmp_path / "progress.json").mkdir()
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()

    with pytest.raises(IsADirectoryError):
        configure(tmp_path, ["log", "csv", "json"])

    after = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    assert len(after) == len(before)


def test_missing_extra_names_the_pip_line(tmp_path):
    """A fresh virtual environment has no tracker; the error says how to get it, and imports nothing."""
    code = """
import sys
from importlib.machinery import PathFinder

class WithoutTrackers(PathFinder):  # what an environment without wandb finds
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "wandb" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTrackers
import rl_logging
try:
    rl_logging.configure(sys.argv[1], ["csv", "wandb"])
except ImportError as error:
    print(type(error).__name__, error, sep=": ")
print(sorted({"wandb", "mlflow", "clearml", "swanlab"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]

    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert result.stdout == (
        "MissingBackendError: wandb is not installed; pip install 'rl_logging[wandb]'\n[]\n"
    )
    assert os.listdir(tmp_path) == []


def test_missing_package_is_found_without_importing(monkeypatch, tmp_path):
    """The same in this process, by another package's registration."""
    entry = FORMATS["csv"]._replace(requires="a_package_that_is_not_installed")
    monkeypatch.setitem(FORMATS, "csv", entry)

    with pytest.raises(MissingBackendError, match=r"csv is not installed; pip install 'rl_logging\[csv\]'"):
        make_output_format("csv", str(tmp_path))


def test_suffix_of_sb3_is_refused(tmp_path):
    """Each run has a folder of its own; a suffix that were ignored would mix two runs."""
    with pytest.raises(ValueError, match="log_suffix must be empty, not '_2': give each run its own folder"):
        make_output_format("csv", str(tmp_path), "_2")


def test_console_is_announced_as_sb3s(tmp_path, capsys):
    """SB3 says where it logs to, but only when it writes files."""
    configure(tmp_path, ["stdout"]).close()
    alone = capsys.readouterr().out
    configure(tmp_path, ["stdout", "csv"]).close()

    assert (alone, capsys.readouterr().out) == ("", f"Logging to {tmp_path}\n")


def test_names_are_those_of_the_package():
    """``rl_logging.configure`` is the function, whatever was imported before."""
    assert rl_logging.configure is configure
    assert isinstance(FixedHumanOutputFormat(io.StringIO()), rl_logging.OutputFormat)


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("wandb", {"mode": "onlin"}, "online, offline, disabled, shared"),
        ("swanlab", {"mode": "cloud"}, "online, offline, local, disabled"),
        ("mlflow", {"tracking_uri": "./mlruns"}, "sqlite:////folder/mlflow.db"),
        ("mlflow", {"tracking_uri": "file:///tmp/mlruns"}, "sqlite:////folder/mlflow.db"),
        ("stdout", {"max_length": 0}, "at least 1"),
        ("wandb", {"projct": "x"}, "wandb has no argument 'projct'; wandb's own init has .*project"),
        ("clearml", {"projct_name": "x"}, "clearml has no argument 'projct_name'; .* project_name"),
        ("swanlab", {"projct": "x"}, "swanlab has no argument 'projct'; .*project"),
    ],
)
def test_a_wrong_value_says_what_is_allowed(tmp_path, name, arguments, allowed):
    """Found at once, not at the first dump, when nobody is looking any more."""
    with pytest.raises((ValueError, TypeError), match=allowed):
        configure(tmp_path, [name], **{name: arguments})
