"""The web pages of TensorBoard and MLflow, as a person sees them in Chromium.

A picture of each page is kept: in the folder ``$RL_LOGGING_SCREENSHOTS``, else in the test's own.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from waiting import wait_until

from rl_logging import configure
from rl_logging.mlflow_server import MLflowServer

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs Chromium's driver: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 0)
MARKUP = "<img src=x onerror=document.title='pwned'> [x](javascript:document.title='pwned')"
LAST = "artifacts/policy/text_summary"  # what TensorBoard reads last
STEP = 2000


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """An image, red on the left and blue on the right, and a video of a yellow square that moves."""
    image = np.full((96, 128, 3), BLUE, np.uint8)
    image[:, :64] = RED
    frames = np.full((20, 160, 160, 3), BLUE, np.uint8)
    for index, frame in enumerate(frames):
        frame[40:120, 4 * index : 4 * index + 80] = YELLOW
    return image, frames.transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def run(mlflow_server: MLflowServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has everything, and is delivered."""
    from matplotlib.figure import Figure

    folder, (image, video) = tmp_path_factory.mktemp("runs") / "ppo_001", pictures()
    figure = Figure((4, 3))
    figure.subplots().bar([1, 2], [20, 30], color="green")
    place = {"tracking_uri": mlflow_server.url, "experiment_name": "pages"}
    logger = configure(folder, ["tensorboard", "mlflow"], provenance=False, mlflow=place)
    for step in (1000, STEP):
        logger.log_metrics({"train/loss": 1000 / step}, step)
        logger.log_histogram("train/actions", np.linspace(0, 1, 1000) ** 2, step)
    logger.log_image("eval/frame", image, STEP)
    logger.log_figure("eval/returns", figure, STEP)
    logger.log_video("eval/rollout", video, STEP, fps=10)
    logger.log_table("eval/results", {"episode": [1, 2], "note": ["fine", MARKUP]}, STEP)
    logger.log_text("eval/note", MARKUP, STEP)
    logger.log_hyperparams({"algo": "PPO", "net": {"arch": [64, 32]}, "note": MARKUP})
    logger.save_policy(torch.nn.Linear(4, 2), aliases=["best"])
    logger.close()
    return folder


@pytest.fixture(scope="module")
def tensorboard(run: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"http://127.0.0.1:{port}"

    def has_read_all() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/data/plugin/text/tags", timeout=10) as answer:
                return LAST in answer.read().decode()
        except OSError:
            return False

    command = [sys.executable, "-m", "tensorboard.main", "--logdir", run.parent, "--port", port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(has_read_all, 60)
            yield address
        finally:
            process.kill()


@pytest.fixture(scope="module")
def mlflow(run: Path) -> str:
    """The address of the run's page in MLflow, as the run folder has it, for more to stand behind."""
    address: str = json.loads((run / "cursors/mlflow.json").read_text())["url"]
    return address.partition("?")[0]


@pytest.fixture(scope="module")
def browser(run: Path) -> Iterator["sync_api.BrowserContext"]:
    """A browser that knows no host but this one. It starts when nothing is logged any more."""
    with sync_api.sync_playwright() as driver:
        alone = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"]
        with driver.chromium.launch(executable_path=CHROMIUM, args=alone) as browser:
            yield browser.new_context(viewport={"width": 1600, "height": 1000})


@pytest.fixture
def page(
    browser: "sync_api.BrowserContext", request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator["sync_api.Page"]:
    """A new page, of which a picture is kept in the end. It is not blank, and only its own scripts ran."""
    page = browser.new_page()
    yield page
    folder = Path(os.environ.get("RL_LOGGING_SCREENSHOTS") or tmp_path)
    picture = imageio.imread(page.screenshot(path=folder / f"{request.node.name}.png"))
    title, foreign = page.title(), page.locator("img[src=x], a[href^=javascript]").count()
    page.close()

    colours = picture[..., :3] @ (65536, 256, 1)
    assert len(np.unique(colours)) > 100
    assert ("pwned" in title, foreign) == (False, 0)


def share(element: "sync_api.Locator", colour: tuple[int, int, int]) -> float:
    """How much of what is seen of an element has about this colour."""
    pixels = imageio.imread(element.screenshot())[..., :3].astype(int)
    return float((abs(pixels - colour).max(axis=-1) < 50).mean())


def loaded(picture: "sync_api.Locator") -> "sync_api.Locator":
    """The picture, which is there."""
    picture.wait_for()
    wait_until(lambda: bool(picture.evaluate("e => e.complete && e.naturalWidth > 0")), 30)
    return picture


def test_tensorboard_shows_images_figures_and_videos(tensorboard: str, page: "sync_api.Page") -> None:
    """What an agent does is seen on one page; a video there is a picture, and it must move."""
    page.goto(f"{tensorboard}/#images")
    cards, keys = page.locator("tf-image-loader"), ("eval/frame", "eval/returns", "eval/rollout")
    image, figure, video = (loaded(cards.filter(has_text=key).locator("img")) for key in keys)

    assert share(image, RED) == pytest.approx(0.5, abs=0.05)
    assert share(image, BLUE) == pytest.approx(0.5, abs=0.05)
    assert share(figure, GREEN) > 0.2
    assert share(video, YELLOW) == pytest.approx(0.25, abs=0.05)
    still = video.screenshot()
    wait_until(lambda: video.screenshot() != still, 30)


def test_tensorboard_shows_histograms(tensorboard: str, page: "sync_api.Page") -> None:
    """One for each step, behind each other: how a distribution changes is why they are logged."""
    page.goto(f"{tensorboard}/#histograms")
    drawn = page.locator("tf-histogram-loader").filter(has_text="train/actions").locator("svg .histogram")
    drawn.last.wait_for()

    assert drawn.count() == 2
    assert all(
        box is not None and box["height"] > 20 for box in (each.bounding_box() for each in drawn.all())
    )


def test_tensorboard_shows_hyperparameters_beside_results(tensorboard: str, page: "sync_api.Page") -> None:
    """Runs are compared by both, so a line of this page must have both."""
    page.goto(f"{tensorboard}/#hparams")
    table = page.locator("tf-hparams-table-view")
    for text in ("algo", "PPO", "net/arch", "[64, 32]", "note", MARKUP, "train/loss", "0.50000"):
        table.get_by_text(text, exact=True).first.wait_for()


def test_tensorboard_shows_texts_as_they_are(tensorboard: str, page: "sync_api.Page") -> None:
    """Its page takes texts for markdown: one from outside must not become a script, or a link to one."""
    page.goto(f"{tensorboard}/#text")
    for key in ("eval/note", "eval/results"):
        page.locator("tf-text-loader").filter(has_text=key).get_by_text(MARKUP, exact=True).wait_for()
    rows = page.locator("tf-text-loader tr").filter(has_text="fine")

    assert rows.last.locator("td").all_inner_texts() == ["1", "fine"]


def test_mlflow_shows_hyperparameters_and_the_model(mlflow: str, page: "sync_api.Page") -> None:
    """The first page of a run: what it was made with, what came of it, and the model that it gave."""
    page.goto(mlflow)
    for cells in (("algo", "PPO"), ("net/arch", "[64, 32]"), ("note", MARKUP), ("train/loss", "0.5")):
        row = page.get_by_role("row").filter(has=page.get_by_text(cells[0], exact=True))
        row.get_by_text(cells[1], exact=True).wait_for()
    for figure in ("mean", "std", "min", "max"):
        page.get_by_text(f"train/actions/{figure}", exact=True).wait_for()
    page.get_by_role("link", name="policy").wait_for()
    page.get_by_text("[64, 32]", exact=True).scroll_into_view_if_needed()


def test_mlflow_shows_images_among_its_charts(mlflow: str, page: "sync_api.Page") -> None:
    """Beside the curves, where a person looks first; files alone would be found by nobody."""
    page.goto(f"{mlflow}/model-metrics")
    image, figure = (loaded(page.locator(f"img[src*='eval~{key}']")) for key in ("frame", "returns"))
    page.locator(".js-plotly-plot").first.wait_for()

    assert share(image, RED) == pytest.approx(0.5, abs=0.05)
    assert share(figure, GREEN) > 0.2


def test_mlflow_plays_a_video(mlflow: str, page: "sync_api.Page") -> None:
    """Only some codecs are played by browsers; another would be a black box."""
    page.goto(f"{mlflow}/artifacts/videos/eval/rollout")
    page.get_by_text(".mp4").click()
    video = page.locator("video")
    video.wait_for()
    wait_until(lambda: bool(video.evaluate("v => v.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA")), 30)
    video.evaluate("v => { v.loop = true; return v.play(); }")
    wait_until(lambda: bool(video.evaluate("v => v.currentTime > 0.5")), 30)

    assert video.evaluate("v => [v.videoWidth, v.videoHeight, v.duration]") == [160, 160, 2]
    assert share(video, YELLOW) > 0.1  # the player's buttons dim a part of it


def test_mlflow_shows_a_whole_picture(mlflow: str, page: "sync_api.Page") -> None:
    """Among the charts it is small; the file has every pixel."""
    page.goto(f"{mlflow}/artifacts/images")
    page.get_by_text("image.png").click()
    picture = loaded(page.locator("img[src^=blob]").first)

    assert picture.evaluate("e => [e.naturalWidth, e.naturalHeight]") == [128, 96]
    assert share(picture, BLUE) == pytest.approx(0.5, abs=0.05)


def test_mlflow_shows_a_table(mlflow: str, page: "sync_api.Page") -> None:
    """It has a view of its own for files of a certain form; in any other, a table is a wall of text."""
    page.goto(f"{mlflow}/artifacts/tables/eval/results/latest.json")
    for text in ("episode", "note", "1", "fine", "2", MARKUP):
        page.get_by_role("table").get_by_text(text, exact=True).wait_for()


@pytest.mark.parametrize(
    ("folder", "ending", "text"),
    [("text/eval/note", ".txt", MARKUP), ("histograms/train/actions", "step_2000", '"counts"')],
    ids=["text", "histogram"],
)
def test_mlflow_shows_files_as_they_are(
    folder: str, ending: str, text: str, mlflow: str, page: "sync_api.Page"
) -> None:
    """What MLflow has no view for is read as text: it must open, and must stay text."""
    page.goto(f"{mlflow}/artifacts/{folder}")
    page.get_by_text(ending).click()
    page.get_by_text(text).first.wait_for()
