"""Which trackers go online: those with an account, and no other."""

from pathlib import Path

import pytest

from rl_logging.formats import make_output


@pytest.mark.parametrize(
    ("name", "variable", "value", "where"),
    [
        ("mlflow", "NOTHING", "", "local store sqlite:////"),
        ("mlflow", "MLFLOW_TRACKING_URI", "http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("wandb", "NOTHING", "", "offline, in /"),
        ("wandb", "WANDB_API_KEY", "0" * 40, "online, project rl_logging"),
        ("wandb", "WANDB_MODE", "disabled", "disabled, in /"),
        ("clearml", "NOTHING", "", "offline session in /"),
        ("clearml", "CLEARML_API_ACCESS_KEY", "key", "online, project rl_logging"),
        ("clearml", "CLEARML_OFFLINE_MODE", "1", "offline session in /"),
        ("swanlab", "NOTHING", "", "offline, in /"),
        ("swanlab", "SWANLAB_API_KEY", "key", "online, project rl_logging"),
        ("swanlab", "SWANLAB_MODE", "local", "local, in /"),
    ],
)
def test_is_online_only_where_the_environment_says_so(
    name: str, variable: str, value: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no account there is no prompt and no server; with one, it is used."""
    monkeypatch.setenv(variable, value)

    assert make_output(name, tmp_path).where().startswith(where)


@pytest.mark.parametrize(
    ("name", "path", "text", "where"),
    [
        ("wandb", ".netrc", "machine api.wandb.ai login user password key", "online"),
        ("clearml", "clearml.conf", "api {}", "online"),
        ("swanlab", ".swanlab/.netrc", "", "online"),
    ],
)
def test_a_login_in_the_home_folder_counts(
    name: str, path: str, text: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who logged in once, by the tracker's own command, expects to be online."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)

    assert make_output(name, tmp_path).where().startswith(where)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("wandb", {"mode": "offline"}), ("clearml", {"offline": True}), ("swanlab", {"mode": "offline"})],
)
def test_an_argument_wins(
    name: str, arguments: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that says offline must stay so on a machine with an account."""
    for variable in ("WANDB_API_KEY", "CLEARML_API_ACCESS_KEY", "SWANLAB_API_KEY"):
        monkeypatch.setenv(variable, "key")

    assert make_output(name, tmp_path, **arguments).where().startswith("offline")
