"""No method that logs raises in a training loop, whatever it is given; what comes after arrives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_bad_input import AWKWARD

from rl_logging import Logger, configure
from rl_logging.compat import nemo_rl, prt_rl
from rl_logging.journal import read


class Unreadable(Mapping):
    """A mapping that does not say what it holds."""

    def __getitem__(self, key: object) -> Any:
        raise RuntimeError("no")

    __iter__ = __len__ = __getitem__  # type: ignore[assignment]


VALUES = {
    **AWKWARD,
    "unreadable mapping": Unreadable,
    "mapping in itself": lambda: (m := {}, m.update(m=m))[0],
}

CORE: dict[str, Callable[[Logger, Any], object]] = {
    "log_metrics of it": lambda logger, it: logger.log_metrics({"a": it, "b": {"c": it}}, 1, "p"),
    "log_metrics": lambda logger, it: logger.log_metrics(it, 1),
    "log_metrics at it": lambda logger, it: logger.log_metrics({"a": 1}, it),
    "log_metrics against it": lambda logger, it: logger.log_metrics({"a": 1, "x": it}, 1, "p", "x"),
    "log_text": lambda logger, it: logger.log_text("a", it),
    "log_image": lambda logger, it: logger.log_image("a", it),
    "log_video": lambda logger, it: logger.log_video("a", it),
    "log_figure": lambda logger, it: logger.log_figure("a", it),
    "log_histogram": lambda logger, it: logger.log_histogram("a", it),
    "log_table": lambda logger, it: logger.log_table("a", it),
    "log_hyperparams": lambda logger, it: logger.log_hyperparams(it),
    "log_tags": lambda logger, it: logger.log_tags(it),
    "log_tags of it": lambda logger, it: logger.log_tags({"a": it}),
    "log_artifact": lambda logger, it: logger.log_artifact(it),
    "log_samples": lambda logger, it: logger.log_samples(it, it, 1, show=False),
    "log_samples of it": lambda logger, it: logger.log_samples([it], [1.0], 1, show=False),
    "log_batch": lambda logger, it: logger.log_batch(it, "a.jsonl"),
    "log_batch of it": lambda logger, it: logger.log_batch({"a": [it]}, "a.jsonl"),
    "log_lines": lambda logger, it: logger.log_lines(it, "b.jsonl"),
}
NEMO: dict[str, Callable[[nemo_rl.Logger, Any], object]] = {
    "log_metrics": lambda logger, it: logger.log_metrics(it, 1),
    "log_metrics of it": lambda logger, it: logger.log_metrics({"a": it, "b": {"c": it}}, 1, "p"),
    "log_metrics against it": lambda logger, it: logger.log_metrics({"a": 1, "x": it}, 1, "p", "x"),
    "log_metrics at it": lambda logger, it: logger.log_metrics({"a": 1, "x": 1}, it, "p", "x"),
    "log_hyperparams": lambda logger, it: logger.log_hyperparams(it),
    "log_histogram": lambda logger, it: logger.log_histogram(it, 1, "a"),
    "log_plot": lambda logger, it: logger.log_plot(it, 1, "a"),
    "token errors": lambda logger, it: logger.log_plot_token_mult_prob_error(it, 1, "a"),
    "workers": lambda logger, it: logger.log_plot_per_worker_timeline_metrics({0: it}, 1, "p", "a", 1.0),
    "interval": lambda logger, it: logger.log_plot_per_worker_timeline_metrics({0: [1]}, 1, "p", "a", it),
    "samples": lambda logger, it: logger.log_samples(it, it, 1),
    "batch": lambda logger, it: logger.log_batched_dict_as_jsonl({"a": [it]}, "a.jsonl"),
}
PRT: dict[str, Callable[[prt_rl.Logger, Any], object]] = {
    "log_scalar": lambda logger, it: logger.log_scalar("a", it),
    "log_scalar named so": lambda logger, it: logger.log_scalar(it, 1.0),
    "log_scalar at it": lambda logger, it: logger.log_scalar("a", 1.0, it),
    "log_metrics": lambda logger, it: logger.log_metrics(it),
    "log_metrics of it": lambda logger, it: logger.log_metrics({"a": it}),
    "log_parameters": lambda logger, it: logger.log_parameters(it),
    "log_tags": lambda logger, it: logger.log_tags(it),
    "log_figure": lambda logger, it: logger.log_figure(it, "a"),
    "log_artifact": lambda logger, it: logger.log_artifact(it),
    "log_directory": lambda logger, it: logger.log_directory(it),
}


def last(folder: Path) -> dict[str, Any]:
    """The values of the journal's last record of numbers."""
    return dict([record for record in read(folder / "journal.jsonl") if record.kind == "metrics"][-1].values)


@pytest.mark.parametrize("name", VALUES)
def test_the_loggers_own_methods_take_anything(name: str, tmp_path: Path) -> None:
    """Called one after the other, with the same thing."""
    with configure(tmp_path, ["csv"]) as logger:
        for call in CORE.values():
            call(logger, VALUES[name]())
        logger.log_metrics({"after": 1}, 2)

    assert last(tmp_path) == {"after": 1}


@pytest.mark.parametrize("name", VALUES)
def test_nemo_rls_methods_take_anything(name: str, tmp_path: Path) -> None:
    """NeMo-RL's own raise for many of them."""
    with nemo_rl.Logger({"log_dir": str(tmp_path), "num_val_samples_to_print": 1}) as logger:
        for call in NEMO.values():
            call(logger, VALUES[name]())
        logger.log_metrics({"after": 1}, 2)

    assert last(tmp_path) == {"after": 1}


@pytest.mark.parametrize("name", VALUES)
def test_prt_rls_methods_take_anything(name: str, tmp_path: Path) -> None:
    """So do prt_rl's."""
    with prt_rl.FileLogger(str(tmp_path)) as logger:
        for call in PRT.values():
            call(logger, VALUES[name]())
        logger.log_scalar("after", 1)

    assert last(tmp_path) == {"after": 1}
