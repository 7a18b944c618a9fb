"""``rl-logging demo``: one training run into every output, and a check of what arrived."""

import contextlib
import difflib
import io
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from rl_logging.demo_ray import started_ray
from rl_logging.formats import TRACKERS, check_installed, check_names
from rl_logging.formats.base import Sender
from rl_logging.run_folders import next_run_folder
from rl_logging.sources.sampled import Source

_ALGORITHMS = ("a2c", "ddpg", "dqn", "ppo", "sac", "td3")
_ACTIONS = {"dqn": ("Discrete",), "ddpg": ("Box",), "sac": ("Box",), "td3": ("Box",)}
_OUTPUTS = ("stdout", "log", "csv", "json", *TRACKERS)
_EVAL_STEPS, _EVAL_EPISODES = 2048, 5  # PPO's dumps come every 2,048 steps too
_PATIENCE_S = 120.0  # for what the trackers lack at the end
_RETURN = "rollout/ep_rew_mean"
_CURVES = {
    _RETURN: "training (mean of 100 episodes)",
    "eval/mean_reward": f"evaluation ({_EVAL_EPISODES} episodes)",
}


@dataclass(frozen=True)
class Plan:
    """What to train, and where to log it."""

    algorithm: str
    environment: str
    timesteps: int
    outputs: tuple[str, ...]
    folder: Path
    seed: int
    chaos: bool = False


def plan(
    algo: str, env: str, timesteps: int, outputs: str, folder: str | None, seed: int, chaos: bool = False
) -> Plan:
    """Check the options of the command, so that a bad one costs no training.

    :raises ValueError: an option that is not allowed; the message says what is
    :raises MissingBackendError: a package is missing
    """
    algorithm = algo.lower()
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"--algo {algo!r} is unknown; allowed are {', '.join(_ALGORITHMS)}")
    names = _OUTPUTS if outputs == "all" else tuple(name.strip() for name in outputs.split(","))
    check_names(names)
    if others := [name for name in names if name not in _OUTPUTS]:
        raise ValueError(f"--outputs {others[0]!r} has nothing to show; allowed are {', '.join(_OUTPUTS)}")
    if chaos and "mlflow" not in names:
        raise ValueError("--chaos kills the MLflow server: it needs mlflow among the --outputs")
    check_installed("plot", "matplotlib")
    _check_environment(algorithm, env)
    path = run_folder(folder, f"{algorithm}_{env}".lower())
    return Plan(algorithm, env, timesteps, names, path, seed, chaos)


def run_folder(folder: str | None, name: str) -> Path:
    """The folder that was asked for, or a new one in ``runs``.

    :raises ValueError: it holds a run already, or cannot be made or written
    """
    if folder and Path(folder, "journal.jsonl").exists():
        raise ValueError(f"--folder {folder!r} holds a run already; choose one that does not exist")
    try:
        path = Path(folder) if folder else next_run_folder("runs", name)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = folder or "runs"
        raise ValueError(f"--folder {where!r} cannot be made: {error.strerror}; choose another") from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"--folder {str(path)!r} cannot be written; choose another")
    return path


def run(plan: Plan) -> int:
    """Train, log, read back, compare.

    :return: 0 if every output holds what the journal says it must, else 1
    """
    screen = Console(highlight=False)
    with contextlib.ExitStack() as stack:
        arguments, callbacks = _offline(plan), []
        if plan.chaos:
            from rl_logging.demo_chaos import MLflowDies, start_server

            server = stack.enter_context(start_server(plan.folder, screen.print))
            arguments["mlflow"] = {"tracking_uri": server.url}
            callbacks = [MLflowDies(server, plan.timesteps, screen.print)]
        screen.print(f"Training {plan.algorithm.upper()} on {plan.environment} for {plan.timesteps:,} steps.")
        with started_ray(screen.print) as sources:
            outputs = _logged(plan, arguments, callbacks, sources)
        from rl_logging.demo_report import report

        title = f"{plan.algorithm.upper()} on {plan.environment}"
        return report(plan.folder, outputs, screen, _CURVES, title)


def _logged(
    plan: Plan, arguments: dict[str, Any], callbacks: list[Any], sources: list[Source]
) -> list[Sender]:
    """Train; give the outputs that it was logged to."""
    from rl_logging.compose import configure
    from rl_logging.formats.human import FixedHumanOutputFormat

    formats = [
        FixedHumanOutputFormat(_Printed(), name="stdout") if name == "stdout" else name
        for name in plan.outputs
    ]
    with configure(plan.folder, formats, sources=sources, **arguments) as logger:
        _train(plan, logger, callbacks)
        logger.flush(_PATIENCE_S)
    return [output for output in logger.output_formats if isinstance(output, Sender)]


def _train(plan: Plan, logger: Any, callbacks: list[Any]) -> None:
    import stable_baselines3
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.env_util import make_vec_env

    from rl_logging import demo_values

    algorithm = getattr(stable_baselines3, plan.algorithm.upper())
    model = algorithm("MlpPolicy", plan.environment, seed=plan.seed, device="cpu")
    model.set_logger(logger)
    evaluation = EvalCallback(
        make_vec_env(plan.environment, seed=plan.seed),
        n_eval_episodes=_EVAL_EPISODES,
        eval_freq=_EVAL_STEPS,
        verbose=0,
    )
    callbacks = [evaluation, *demo_values.callbacks(plan.environment, plan.timesteps), *callbacks]
    model.learn(plan.timesteps, callback=callbacks, progress_bar=sys.stdout.isatty())
    demo_values.log(model, logger, plan.environment, plan.seed)


def _offline(plan: Plan) -> dict[str, Any]:
    """Arguments that keep every tracker on this machine, also where there is an account."""
    store = plan.folder.absolute().parent / "mlflow.db"
    arguments: dict[str, Any] = {
        "mlflow": {"tracking_uri": f"sqlite:///{store}"},
        "wandb": {"mode": "offline"},
        "clearml": {"offline": True},
        # SwanLab's own page shows runs of its local mode only, which needs its dashboard package.
        "swanlab": {"mode": "local" if find_spec("swanboard") else "offline"},
    }
    return {name: given for name, given in arguments.items() if name in plan.outputs}


def _check_environment(algorithm: str, name: str) -> None:
    import gymnasium

    try:
        environment = gymnasium.make(name)
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=1)
        hint = (
            f"did you mean {near[0]!r}?" if near else "allowed is what Gymnasium knows, such as CartPole-v1"
        )
        raise ValueError(f"--env {name!r} cannot be made ({' '.join(str(error).split())}); {hint}") from error
    actions = type(environment.action_space).__name__
    environment.close()
    allowed = _ACTIONS.get(algorithm, ("Box", "Discrete", "MultiDiscrete", "MultiBinary"))
    if actions not in allowed:
        raise ValueError(f"--algo {algorithm!r} needs {' or '.join(allowed)} actions; {name} has {actions}")


class _Printed(io.StringIO):
    """The console, and a copy of what was printed there."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding

    def fileno(self) -> int:
        return sys.stdout.fileno()

    def write(self, text: str) -> int:
        sys.stdout.write(text)
        return super().write(text)

    def flush(self) -> None:
        sys.stdout.flush()
