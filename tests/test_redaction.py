"""Secrets are replaced before anything is written, and innocent values are not."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from awkward import FalseClass, Hostile, HostileText, RaisesHostile
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.redaction import HIDDEN, Redaction
from rl_logging.secret_names import name_rule

SECRET_NAMES = [
    *("api_key", "apikey", "apiKey", "APIKey", "x-api-key", "WANDB_API_KEY", "openai_api_keys", "api_key_2"),
    *("access_key", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "private_key", "privateKey"),
    *(
        "token",
        "TOKEN",
        "hf_token",
        "hfToken",
        "HF_TOKEN_READ",
        "access_token",
        "github_token_1",
        "token_value",
    ),
    *("password", "db-password", "DB.PASSWORD", "PGPASSWORD", "passwd", "passphrase", "db_pass", "MYSQL_PWD"),
    *("secret", "client_secret", "clientsecret", "secrets", "secret_santa"),
    *("authorization", "Proxy-Authorization", "auth", "credential", "credentials", "aws.creds", "cookie"),
]
INNOCENT_NAMES = [
    *("max_tokens", "num_tokens", "tokens", "maxTokens", "tokenizer", "tokenizer_name", "token_budget"),
    *("pad_token", "eos_token", "bos_token", "tokens_per_s", "token_mult_prob_error", "pad_token_id"),
    *("secretary", "author", "authors", "compass", "bypass", "forward_pass", "passes", "PWD", "keyboard"),
    *("key", "sort_key", "keys", "monkey", "lr", "", "-", "env/id", "secretion"),
]
SHAPES = {
    "an OpenAI key": "sk-proj-Ab1_" + "x9Y-" * 10,
    "a GitHub token": "ghp_" + "aB3d" * 9,
    "a GitLab token": "glpat-" + "aB3d_" * 4,
    "an AWS key": "AKIAIOSFODNN7EXAMPLE",
    "a Google key": "AIza" + "Sy-_9" * 7,
    "a Slack token": "xoxb-1234567890-abcdef",
    "a Hugging Face token": "hf_" + "aBcDe" * 7,
    "a JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-_",
    "a W&B key": "wandb_v1_" + "a0B_" * 20,
    "a private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY-----",
}


RULE = name_rule()


@pytest.fixture(autouse=True)
def _no_known_secrets(monkeypatch):
    """Whoever runs the tests may have secrets of their own."""
    for name in [name for name in os.environ if RULE(name)]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_text_under_a_secrets_name_is_hidden(name):
    """However the words of the name are joined."""
    redaction = Redaction()

    assert redaction.nested({"a": [{name: "x", "lr": 0.1}]}) == {"a": [{name: HIDDEN, "lr": 0.1}]}
    assert redaction.new_hidden() == [name]


@pytest.mark.parametrize("name", INNOCENT_NAMES)
def test_text_under_an_innocent_name_stays(name):
    """Language models speak of tokens all the time; a run without its hyperparameters is worth little."""
    redaction = Redaction()

    assert redaction.nested({name: "value"}) == {name: "value"}
    assert redaction.new_hidden() == []


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("token", 5, False),
        ("token", {"budget": 5, "rates": [0.1]}, False),
        ("token", ["x"], True),
        ("password", 1234, True),
        ("secret", 0.5, True),
        ("credentials", {"user": 1}, True),
        ("api_key", ["x"], True),
        ("password", True, False),
        ("password", None, False),
        ("password", "", False),
        ("secrets", {}, False),
    ],
)
def test_what_is_hidden_beside_texts(name, value, hidden):
    """A number is a password as easily as a text is, but no token; what is empty says that none was set."""
    assert Redaction().nested({name: value}) == {name: HIDDEN if hidden else value}


def test_names_of_the_user_are_matched_by_words():
    """A short name must not hide everything that has its letters somewhere."""
    redaction = Redaction(["pin", "Session Id"])

    assert redaction.nested({"userPin": 1234, "spinning": 1, "sessionId": "x", "session": "y"}) == {
        "userPin": HIDDEN,
        "spinning": 1,
        "sessionId": HIDDEN,
        "session": "y",
    }


@pytest.mark.parametrize(
    ("names", "error"), [("pin", TypeError), (["--"], ValueError), (["pin", ""], ValueError)]
)
def test_name_that_would_hide_everything_is_refused(names, error):
    """A text is a list of its letters, and no letters at all are in every name."""
    with pytest.raises(error):
        Redaction(names)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("around", ["{}", "see {} here", "'{}'", "a={}", "\\n{}\\n", "({},1)"])
def test_known_shape_is_hidden_in_any_text(kind, around):
    """A key is one wherever it stands, and what was hidden is told by what it is."""
    redaction = Redaction()

    assert redaction.text(around.format(SHAPES[kind])) == around.format(HIDDEN)
    assert redaction.new_hidden() == [kind]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("https://me:pw@host:80/a", "https://<hidden>@host:80/a"),
        ("postgres://me:p@ss,w:rd@host/db me@x", "postgres://<hidden>@host/db me@x"),
        ("ssh://git@github.com/a.git", "ssh://git@github.com/a.git"),
        ("https://host/@user", "https://host/@user"),
        ('["http://a","b@c"]', '["http://a","b@c"]'),
        ("http://h/?a=1&token=x&b=2", "http://h/?a=1&token=<hidden>&b=2"),
        ("http://h/?max_tokens=9", "http://h/?max_tokens=9"),
        ("http://h/?sig=a%2Bb#top", "http://h/?sig=<hidden>#top"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer <hidden>"),
        ("{'authorization': 'Basic bWU6cHc='}", "{'authorization': '<hidden>'}"),
        ("WANDB_API_KEY: " + "a1" * 20, "WANDB_API_KEY: <hidden>"),
        ("wandb login --relogin " + "a1" * 20, "wandb login --relogin <hidden>"),
        ("commit " + "a1" * 20, "commit " + "a1" * 20),
        ('{"password": "x", "n": 1}', '{"password": "<hidden>", "n": 1}'),
        ("Config(api_key='x', lr=1)", "Config(api_key='<hidden>', lr=1)"),
        ('{"token": "the", "logprob": -1}', '{"token": "the", "logprob": -1}'),
        ("the password is lost; task-" + "a1" * 20, "the password is lost; task-" + "a1" * 20),
    ],
)
def test_text(text, safe):
    """What surrounds a secret is kept, for it is what the text is about."""
    redaction = Redaction()

    assert redaction.text(text) == safe
    assert redaction.text(safe) == safe
    assert (redaction.new_hidden() != []) == (safe != text)


# A text that is itself a secret's name, "password", may stay: it is in every text about one.
secrets = st.text(min_size=8).map(str.strip).filter(lambda text: len(text) >= 8 and not RULE(text))


@given(secret=secrets, around=st.text())
def test_value_that_was_hidden_is_hidden_everywhere(secret, around):
    """A password comes back in an error's text, in an address, in a JSON file."""
    redaction = Redaction()
    texts = [
        f"{around}{secret}{around}",
        f"a={quote(secret, safe='', errors='backslashreplace')}",
        json.dumps([secret]),
    ]

    redaction.nested({"password": secret})

    assert [HIDDEN in redaction.text(text) for text in texts] == [True] * 3
    assert [part for part in redaction.text(texts[0]).split(HIDDEN) if secret in part] == []


@pytest.mark.parametrize("value", ["sequence", "the quick brown fox", "<hidden>", "short"])
def test_common_words_are_not_remembered(value):
    """One ``token: sequence`` must not take a word out of every text of the run."""
    redaction = Redaction()
    redaction.nested({"token": value})

    assert redaction.text(f"a {value} b") == f"a {value} b"


def test_secret_that_precedes_its_name_is_hidden():
    """The order of hyperparameters, arguments and lines is the user's."""
    nested = {"note": "with hunter2222", "password": "hunter2222"}

    assert Redaction().nested(nested) == {"note": "with <hidden>", "password": HIDDEN}
    assert Redaction().command(["a-hunter2222", "--password=hunter2222"]) == [
        "a-<hidden>",
        "--password=<hidden>",
    ]
    assert (
        Redaction().source('a("hunter2222")\npassword = "hunter2222"')
        == 'a("<hidden>")\npassword = "<hidden>"'
    )


def test_longer_of_two_secrets_is_replaced_first():
    """What is left of the longer one would be a part of it."""
    redaction = Redaction()
    redaction.nested({"password": "abcd1234", "secret": "abcd1234efgh"})

    assert redaction.text("x abcd1234efgh y abcd1234") == "x <hidden> y <hidden>"


def test_environments_secrets_are_known(monkeypatch):
    """They stand in no hyperparameters, but in addresses and in the texts of errors."""
    monkeypatch.setenv("WANDB_API_KEY", "abcdefgh")
    monkeypatch.setenv("MAX_TOKENS", "12345678")
    redaction = Redaction()

    assert redaction.text("abcdefgh 12345678") == "<hidden> 12345678"
    assert redaction.new_hidden() == ["WANDB_API_KEY"]


def test_keys_of_a_dict_are_texts_too():
    """Statistics by user are sometimes kept by the user's key; none of them may get lost."""
    nested = {SHAPES["an AWS key"]: 1, "ASIAIOSFODNN7EXAMPLE": 2}

    assert Redaction().nested(nested) == {"<hidden>": 1, "<hidden>_": 2}


@pytest.mark.parametrize(
    ("arguments", "safe"),
    [
        (["train.py", "--api-key", "X", "--lr", "1"], ["train.py", "--api-key", HIDDEN, "--lr", "1"]),
        (["--api_key=X", "token=Y"], [f"--api_key={HIDDEN}", f"token={HIDDEN}"]),
        (["+trainer.wandb.api_key=a b,c={d}"], [f"+trainer.wandb.api_key={HIDDEN}"]),
        (
            ["db={user:me,password:X}", "--env=TOKEN=X"],
            ["db={user:me,password:<hidden>}", "--env=TOKEN=<hidden>"],
        ),
        (["--max-tokens", "5", "token.budget=3"], ["--max-tokens", "5", "token.budget=3"]),
        (["--use-token", "--verbose", "x"], ["--use-token", "--verbose", "x"]),
        (["http://me:pw@h/?token=x&lr=3"], ["http://<hidden>@h/?token=<hidden>&lr=3"]),
        (["--header", "Authorization:Bearer abc"], ["--header", "Authorization:<hidden> <hidden>"]),
    ],
)
def test_command(arguments, safe):
    """The command line is the first thing that is written down of a run."""
    redaction = Redaction()

    assert redaction.command(arguments) == safe
    assert redaction.command(safe) == safe


HIDDEN_LINES = """\
API_KEY = "X"
+API_KEY: str = 'X'
-    "password": "X",
os.environ["WANDB_API_KEY"] = "X"
connect(user="me", password=r"X")
body = "{\\"password\\": \\"X\\"}"
text = 'password="X"'
token = "X"
if password == "X":
token: X
+  password: X  # of the cluster
- secret: X
export HF_TOKEN=X
ENV API_TOKEN=X
HF_TOKEN=X python train.py
python train.py --api-key X9 --lr 3
python train.py --password=X
db.password=X
aws_secret_access_key = X+/abc
password = hunter2X
"""


@pytest.mark.parametrize("line", HIDDEN_LINES.splitlines())
def test_assignment_in_source_is_hidden(line):
    """Keys are pasted into scripts, and a diff of the script is published with the run."""
    redaction = Redaction()
    safe = redaction.source(line)

    assert HIDDEN in safe
    assert "X" not in safe
    assert len(redaction.new_hidden()) == 1


INNOCENT_LINES = """\
token = tokenizer.next()
    token = tokens[i]
token = other
password: str
    password: str,
    password: pydantic.SecretStr
    token=token,
    token: Token
    api_key=args.api_key,
api_key=self.api_key
self.token = token
def login(password: str, token: Token | None = None) -> str:
password = getpass.getpass(
    password = get_password()
authorization_function=config["auth"].get(
token = None
secret = ""
token: ${oc.env:HF_TOKEN}
export TOKEN=$OTHER
export TOKEN="${OTHER}"
api_key = "<your key>"
pad_token = "<pad>"
max_tokens: 512
token: 5
parser.add_argument("--token", help="of the hub")
:param token: the token of the hub
# The password is kept elsewhere: see the manual.
PyJWT==2.10.1
    assert token==other
return {"token": token, "password": password}
"""


@pytest.mark.parametrize("line", INNOCENT_LINES.splitlines())
def test_expression_in_source_stays(line):
    """A diff in which half the code is hidden cannot be read."""
    redaction = Redaction()

    assert redaction.source(line) == line
    assert redaction.new_hidden() == []


def test_names_in_source_are_not_remembered():
    """What is hidden in one place of the code would be hidden in all, function names included."""
    redaction = Redaction()

    assert (
        redaction.source('secret = "gateway_secret"\ndef gateway_secret():')
        == 'secret = "<hidden>"\ndef gateway_secret():'
    )


def test_source_keeps_its_lines():
    """A diff names the numbers of its lines, and may hold bytes that are no UTF-8."""
    text = HIDDEN_LINES + INNOCENT_LINES + b"\xff\r\n\x0c".decode("utf-8", "surrogateescape")

    safe = Redaction().source(text)

    assert safe.count("\n") == text.count("\n")
    assert safe.endswith(text[-5:])


def test_what_was_hidden_is_told_once():
    """A run says what it hides, and does not say it at every dump."""
    redaction = Redaction()
    redaction.nested({"password": "x", "a": {"password": "y"}})
    redaction.text(SHAPES["an AWS key"])

    assert redaction.new_hidden() == ["password", "an AWS key"]
    assert redaction.new_hidden() == []

    redaction.command(["--api-key", "x", "--password", "y"])

    assert redaction.new_hidden() == ["api-key"]


def test_what_another_thread_hid_is_its_own_to_tell() -> None:
    """What a source file holds, which a thread reads beside the training, is none of what was recorded."""
    redaction = Redaction()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(redaction.nested, {"password": "hush hush"}).result()
        redaction.nested({"api_key": "x" * 9})

        assert redaction.new_hidden() == ["api_key"]
        assert threads.submit(redaction.new_hidden).result() == ["password"]


def test_name_that_holds_a_secret_is_not_told():
    """What is said of the hidden must not show it."""
    redaction = Redaction()
    redaction.nested({"password hunter2222": "hunter2222", f"token {SHAPES['an AWS key']} token": "x"})
    redaction.text("hunter2222")

    assert redaction.new_hidden() == ["password <hidden>", "an AWS key", "token <hidden> token"]


@pytest.mark.parametrize("kind", [Hostile, FalseClass, RaisesHostile, lambda: HostileText("kept"), object])
def test_nothing_raises(kind):
    """What is logged is no reason for a run to end."""
    redaction = Redaction()
    value = kind()
    itself: list[object] = []
    itself += [itself, itself]

    redaction.nested({"a": value, "password": value, "token": [value]})
    redaction.text(value)
    redaction.source(value)
    redaction.command([value, value])

    assert redaction.nested({"a": itself}) == {"a": [HIDDEN, HIDDEN]}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(
    value=plain,
    name=st.sampled_from(SECRET_NAMES),
    secret=st.from_regex(r"[A-Za-z]{4}[0-9]{3}[A-Z]{3}", fullmatch=True),
)
def test_planted_secret_is_nowhere_in_what_comes_out(value, name, secret):
    """Under its name, and afterwards in any text beside it."""
    redaction = Redaction()

    safe = redaction.nested({name: [secret, {"x": secret}], "a": [value, f"x{secret}y", {secret: value}]})

    assert secret not in repr(safe)


@given(value=plain)
def test_hiding_twice_changes_nothing_more(value):
    """What is loaded from a file and written again stays as it is."""
    redaction = Redaction()
    safe = redaction.nested(value)

    assert redaction.nested(safe) == safe
    assert repr(Redaction().nested(safe)) == repr(safe)


@given(text=st.text())
def test_source_of_anything_is_a_text(text):
    """A repository holds whatever people put there."""
    assert isinstance(Redaction().source(text), str)


ADVERSARIES = [
    *('a="', 'a=\\"', "a='\"", 'a="\\', "sk-", "eyJaaaaaaaa.", "://a:", "-----BEGIN PRIVATE KEY-----"),
    *("authorization: bearer ", "--", "\t", "password: ", "?a=", "a"),
]


@pytest.mark.parametrize("unit", ADVERSARIES)
def test_time_grows_with_the_text_only(unit):
    """One strange text of a megabyte must not stop a run for hours, as some patterns would."""
    text = unit * ((1 << 20) // len(unit))
    redaction = Redaction()
    started = time.process_time()

    redaction.source(text)

    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("end_of_turn_token", "<|im_end|>"),
        ("user_token", "<|user|>"),
        ("system_token", "[INST]"),
        ("assistant_token", "<｜Assistant｜>"),
        ("step_token", "ки"),
        ("good_token", "+"),
    ],
)
def test_special_tokens_of_language_models_are_no_secrets(name: str, token: str) -> None:
    """They stand in every text of a rollout, and must not be hidden there."""
    redaction = Redaction()

    assert redaction.nested({name: token}) == {name: token}
    assert redaction.text(f"2{token}") == f"2{token}"


def test_a_password_in_brackets_is_one() -> None:
    """Only a doubtful name may have another meaning."""
    assert Redaction().nested({"password": "[hunter2]"}) == {"password": HIDDEN}
