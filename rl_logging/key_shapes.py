"""What secrets look like, wherever they stand.

Each pattern takes time in proportion to the text: a repetition has a bound, or is the last part, or
cannot begin again within itself.
"""

import json
import re
from urllib.parse import quote

SHAPES = tuple(
    (trigger, kind, re.compile(pattern, re.ASCII))
    for trigger, kind, pattern in (
        ("sk-", "an OpenAI key", r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))sk-(?=[\w-]{0,60}\d)[\w-]{20,}"),
        ("hp_", "a GitHub token", r"ghp_[A-Za-z0-9]{30,}"),
        ("gh", "a GitHub token", r"gh[orsu]_[A-Za-z0-9]{30,}"),
        ("github_pat_", "a GitHub token", r"github_pat_\w{30,}"),
        ("glpat-", "a GitLab token", r"glpat-[\w-]{20,}"),
        ("akia", "an AWS key", r"AKIA[0-9A-Z]{16}"),
        ("asia", "an AWS key", r"ASIA[0-9A-Z]{16}"),
        ("aiza", "a Google key", r"AIza[\w-]{35}"),
        ("xox", "a Slack token", r"xox[a-z]-[\w-]{10,}"),
        ("hooks.slack", "a Slack address", r"hooks\.slack\.com/services/([\w/]{10,})"),
        ("hf_", "a Hugging Face token", r"hf_[A-Za-z0-9]{30,}"),
        ("wandb_v", "a W&B key", r"wandb_v\d_\w{30,}"),
        (
            "wandb",
            "a W&B key",
            r"(?i:wandb)[ _-]?(?i:api[ _-]?key|key|login)(?:[^\w\n]{1,6}(?i:is|relogin|key))?"
            r"[^\w\n]{1,12}((?:local-)?\w{40,})",
        ),
        ("api", "a W&B key", r"(?i:api[ _-]?key)(?: is)?[^\w\n]{1,12}((?:local-)?[0-9a-f]{40})(?!\w)"),
        ("eyj", "a JSON web token", r"(?:(?<![\w-])|(?<=\\[nrt]))eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
        (
            "private key",
            "a private key",
            r"-----BEGIN[A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            r"[\w+/=\s\\:,.\"']*(?:-(?!----)[\w+/=\s\\:,.\"']*)*"
            r"(?:-{5,6}END[A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?",
        ),
        (
            "authorization",
            "an authorization",
            r"""(?i:authorization)[\\"']{0,2}\s{0,8}[:=,]\s{0,8}[\\"']{0,2}"""
            r"""(?i:bearer|basic|token|digest|negotiate)\s{1,8}([^\s"'\\]+)""",
        ),
        ("://", "a user in an address", r"""://(?!git@)([^/\s"'`<>\\]+)@"""),
    )
)
"""Of each: what its text, in small letters, holds for certain; what it is called; its pattern, of which
the last group, or all, is the secret."""
_SPECIAL_TOKEN = re.compile(r"<[^<>]{1,40}>|\[[^\[\]]{1,40}\]")
TRIGGERS = tuple(trigger for trigger, _, _ in SHAPES)


def is_special_token(text: str) -> bool:
    """Whether it is what language models call a token: ``<|im_end|>``, ``[SEP]``."""
    return _SPECIAL_TOKEN.fullmatch(str.__str__(text)) is not None


def spellings(value: str) -> set[str]:
    """A secret as it stands in a text, in an address, and in JSON."""
    in_json = {json.dumps(value, ensure_ascii=ascii)[1:-1] for ascii in (True, False)}
    return {value, quote(value, safe="", errors="backslashreplace"), *in_json}
