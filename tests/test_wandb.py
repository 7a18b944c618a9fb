"""Weights & Biases, offline, read back from its own log."""

from pathlib import Path

from rl_logging import Logger, WandBOutputFormat, configure
from rl_logging.formats import make_output
from rl_logging.formats.bounds import environment, unpatched
from rl_logging.formats.wandb_log import WandBLog, wait_for_end
from rl_logging.record import message_record


def output_in(folder: Path, **arguments: object) -> WandBOutputFormat:
    return WandBOutputFormat(folder=folder, mode="offline", **arguments)  # type: ignore[arg-type]


def test_steps_that_repeat_and_go_back_are_kept(tmp_path: Path) -> None:
    """W&B drops what comes for a step below its own count."""
    output = output_in(tmp_path)
    with Logger(str(tmp_path), [output]) as logger:
        for value, step in enumerate((10, 20, 15, 15)):
            logger.record("a", value)
            logger.dump(step)

    assert output.history() == {"a": [(10, 0.0), (20, 1.0), (15, 2.0), (15, 3.0)]}


def test_the_active_run_is_used_and_left_open(tmp_path: Path) -> None:
    """Who opened a run decides when it ends, and which axis its other metrics have."""
    import wandb

    settings = wandb.Settings(console="off", silent=True)
    own_run = {"project": "p", "dir": str(tmp_path), "mode": "offline", "settings": settings}
    with environment(), unpatched(), wandb.init(**own_run) as run:
        output = make_output("wandb", tmp_path / "run")
        place = output.where()
        output.write({"a": 1.0}, {"a": ()}, 5)
        output.close()
        run.log({"mine": 2})

    wait_for_end(run.settings.sync_file)
    assert place == "the run that is open in this process"
    assert output.history()["a"] == [(5, 1.0)]
    assert output.history()["mine"][0][1] == 2.0


def test_messages_go_to_the_log(tmp_path: Path) -> None:
    """They belong into the page's Logs tab, each line once."""
    output = output_in(tmp_path)
    output.handle(message_record("hello 1", "info", 0))
    output.handle(message_record("careful", "warn", 0))
    output.close()

    log = WandBLog(output.reference()["log"])
    lines = [entry.output_logger.line for entry in log.entries() if entry.HasField("output_logger")]
    assert lines == ["[step 0] info: hello 1\n", "[step 0] warn: careful\n"]


def test_arguments_reach_wandb_init(tmp_path: Path) -> None:
    """What W&B can do, its users expect to be able to say."""
    output = output_in(
        tmp_path, project="walkers", run_name="first", tags=["a"], group="g", config={"lr": 0.1}
    )

    run = output.run
    found = (run.project, run.name, run.tags, run.group, run.config["lr"])
    output.close()

    assert found == ("walkers", "first", ("a",), "g", 0.1)


def test_keys_that_wandb_hides_keep_their_originals(tmp_path: Path) -> None:
    """W&B hides a key with an underscore in front, and drops an empty one."""
    output = output_in(tmp_path)
    output.write({"_a": 1.0, "": 2.0}, {"_a": (), "": ()}, 1)
    originals = dict(output.run.config["original_keys"])
    output.close()

    assert sorted(originals.values()) == ["", "_a"]
    assert {originals[key]: points for key, points in output.history().items()} == {
        "_a": [(1, 1.0)],
        "": [(1, 2.0)],
    }


def test_says_where_it_is(tmp_path: Path) -> None:
    """One line at the start, and a command to look at it."""
    with configure(tmp_path, ["memory", "wandb"]) as logger:
        logger.record("a", 1)
        logger.dump(1)
        memory, output = logger.output_formats

    assert isinstance(output, WandBOutputFormat)
    assert memory.records[1].values["message"] == f"wandb: offline, in {tmp_path / 'wandb'}"  # type: ignore[attr-defined]
    assert str(output.viewer()).startswith(f"wandb leet {tmp_path / 'wandb' / 'offline-run-'}")
