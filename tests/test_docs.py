"""The code in README and wiki runs, and what they link to is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rl_logging.formats import FORMATS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "wiki").glob("*.md"))]
BLOCKS = [
    pytest.param(match[1], id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for match in re.finditer(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]


@pytest.mark.parametrize("code", BLOCKS)
def test_code_runs(code: str, tmp_path: Path) -> None:
    """An example that fails is worse than none."""
    process = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Pages are renamed; links are forgotten."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_listed_at_home() -> None:
    """A page that nobody finds is not documentation."""
    home = (ROOT / "wiki" / "Home.md").read_text()

    assert [page.name for page in PAGES[1:] if page.name != "Home.md" and f"({page.name})" not in home] == []


def test_every_output_is_described() -> None:
    """A new output is one file, its test, and one line here."""
    page = (ROOT / "wiki" / "Output-Formats.md").read_text()

    assert [name for name in FORMATS if f"| `{name}` |" not in page] == []
