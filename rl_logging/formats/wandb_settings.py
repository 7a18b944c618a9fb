"""How we open W&B's runs: nothing automatic, no long waits, and what was logged is written at once."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rl_logging.formats.sessions import has_login

_HOSTS = ("api.forge.coreweave.com", "api.wandb.ai")  # W&B's own, now and before
_INIT_TIMEOUT_S = 20.0  # W&B's own is 90 s
# W&B's own is 15 s, and what it has not written is lost with its process. This costs 0.3 %
# of a core more than 1 s would.
_FLUSH_S = 0.1


def settings() -> Any:
    """W&B's settings for a run of ours."""
    import wandb

    return wandb.Settings(
        console="off",
        silent=True,
        x_disable_meta=True,
        x_save_requirements=False,
        disable_git=True,
        disable_code=True,
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT_S)),
        x_transaction_log_flush_interval=_FLUSH_S,
    )


def has_key() -> bool:
    """Whether W&B would find an API key, as it looks for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    told = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    return has_login(Path(os.environ.get("NETRC", "~/.netrc")).expanduser(), [told] if told else _HOSTS)
