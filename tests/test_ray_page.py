"""Reading a Ray node's metrics page, against the format's own library."""

import gzip
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rl_logging.sources.ray_page import Labels, Page, PageParser

PAGES = Path(__file__).parent / "data" / "ray_pages"
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"


def recorded(name: str) -> bytes:
    """A page as a real node gave it."""
    return gzip.decompress((PAGES / f"{name}.txt.gz").read_bytes())


def parsed(page: bytes) -> Page:
    """What one page says, which must be something."""
    found = PageParser().parse([page])
    assert found is not None
    return found


def by_library(
    page: str, counts: Callable[[float], bool] = lambda value: True
) -> dict[tuple[str, str], float]:
    """Each value of each GPU, and of the node (under no GPU), as the format's own parser reads it."""
    return {
        (sample.labels.get("GpuIndex", ""), sample.name.removeprefix("ray_node_")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("ray_node_") and counts(sample.value)
    }


def test_gpus_of_a_recorded_page():
    """Names and units are those of the wiki; what NVML did not tell is left out, not -1."""
    gpus = {
        labels.number: (labels.model, values) for labels, values in parsed(recorded("gpu8_busy")).gpus.items()
    }
    truth = by_library(recorded("gpu8_busy").decode())

    assert sorted(gpus) == list(range(8))
    assert {model for model, _ in gpus.values()} == {H100}
    assert truth["6", "gpus_utilization"] == -1
    assert gpus[6][1].keys() == {"mem_gb", "mem_total_gb"}
    for index in "0123457":
        values = gpus[int(index)][1]
        used_mib, free_mib = truth[index, "gram_used"], truth[index, "gram_available"]
        assert values == {
            "util": truth[index, "gpus_utilization"],
            "mem_gb": used_mib / 1024,
            "mem_total_gb": pytest.approx((used_mib + free_mib) / 1024),
            "power_w": truth[index, "gpu_power_milliwatts"] / 1000,
            "temp_c": truth[index, "gpu_temperature_celsius"],
        }
    assert 79 < gpus[0][1]["mem_total_gb"] < 80  # an H100 has 80


@pytest.mark.parametrize("name", ["gpu8_busy", "gpu2", "gpu2_ray2.55.1", "cluster_worker_1gpu"])
def test_node_of_a_recorded_page(name):
    """CPU in percent, sizes in GB, rates in MB a second, on every version of Ray."""
    node, truth = parsed(recorded(name)).node, by_library(recorded(name).decode())

    assert node == {
        "cpu_util": truth["", "cpu_utilization"],
        "mem_gb": truth["", "mem_used"] / 2**30,
        "mem_total_gb": truth["", "mem_total"] / 2**30,
        "disk_percent": truth["", "disk_utilization_percentage"],
        "disk_read_mb_s": truth["", "disk_io_read_speed"] / 2**20,
        "disk_write_mb_s": truth["", "disk_io_write_speed"] / 2**20,
        "net_in_mb_s": truth["", "network_receive_speed"] / 2**20,
        "net_out_mb_s": truth["", "network_send_speed"] / 2**20,
    }


def test_page_of_old_ray_has_no_uuids():
    """Its GPUs are told apart by their index."""
    assert set(parsed(recorded("gpu2_ray2.55.1")).gpus) == {Labels(0, "", A100), Labels(1, "", A100)}


def test_page_whose_values_somebody_else_has_taken_says_nothing():
    """On Ray 2.55 the second to ask gets none; that is no node without GPUs."""
    assert PageParser().parse([recorded("gpu2_ray2.55.1_second_scrape")]) is None


@pytest.mark.parametrize(
    "page", [b"", b"\xff\xfe\x00garbage", b"<html>502</html>", b"ray_node_cpu_utilization{} x"]
)
def test_page_that_is_none_says_nothing(page):
    """A proxy's error page, or half a line."""
    with pytest.raises(ValueError, match="no page of Ray's"):
        PageParser().parse([page])


def line(metric: str, value: object, index: object = 0, **more: str) -> str:
    """One GPU's line, as Ray writes it."""
    given = {"GpuIndex": str(index), "GpuUuid": f"GPU-{index}", "GpuDeviceName": A100, **more}
    labels_text = ",".join(f'{name}="{text}"' for name, text in given.items())
    return f"ray_node_{metric}{{{labels_text}}} {value}\n"


@pytest.mark.parametrize("value", ["-1.0", "NaN", "+Inf", "1_0", "", "x", "0x10", "1.0.0", "--1"])
def test_value_that_is_no_measure_is_left_out(value):
    """One line's damage costs that line."""
    page = line("gram_used", 2048) + line("gpus_utilization", value) + line("gpu_temperature_celsius", 40)

    assert parsed(page.encode()).gpus == {Labels(0, "GPU-0", A100): {"mem_gb": 2.0, "temp_c": 40.0}}


@pytest.mark.parametrize("index", ["", "x", "-1", "1e3", "../../etc", "9" * 10])
def test_index_that_is_none_is_left_out(index):
    """It would become part of a metric's name, and a name part of a path."""
    page = line("gpus_utilization", 7) + line("gpus_utilization", 9, index)

    assert [labels.number for labels in parsed(page.encode()).gpus] == [0]


def test_page_that_names_too_many_gpus_is_cut():
    """A node that lies must not fill the trainer's memory."""
    page = "".join(line("gpus_utilization", 1, index) for index in range(3000))

    assert len(parsed(page.encode()).gpus) == 1024


def test_labels_with_quotes_and_newlines_are_read_as_the_library_reads_them():
    """A model's name is any text, escaped."""
    page = line("gpus_utilization", 7, GpuDeviceName=r"a \"b\" } 1 \\ \n {,= c")

    assert [labels.model for labels in parsed(page.encode()).gpus] == ['a "b" } 1 \\ \n {,= c']


METRICS = st.sampled_from(
    [
        "gpus_utilization",
        "gram_used",
        "gram_available",
        "gpu_power_milliwatts",
        "gpu_temperature_celsius",
        "other",
    ]
)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True).map(repr) | st.integers(-2, 10**12).map(str)
LABEL = st.text(st.characters(codec="utf-8", exclude_characters='\\"\n\r'), max_size=12)


@given(st.lists(st.tuples(METRICS, st.integers(0, 3), NUMBERS, LABEL), max_size=20), st.data())
def test_every_value_is_the_librarys(lines, data):
    """The quick way reads what the format's own parser reads, whatever labels stand there, in any pieces."""
    page = "".join(line(metric, value, index, note=label) for metric, index, value, label in lines)
    truth = by_library(page, lambda value: math.isfinite(value) and value >= 0)
    units = {"gram_used": 1024, "gram_available": 1024, "gpu_power_milliwatts": 1000}
    names = {
        "gpus_utilization": "util",
        "gpu_power_milliwatts": "power_w",
        "gpu_temperature_celsius": "temp_c",
    }
    expected: dict[int, dict[str, float]] = {}
    for (index, metric), value in truth.items():
        if metric in names:
            expected.setdefault(int(index), {})[names[metric]] = value / units.get(metric, 1)
        elif metric == "gram_used":
            expected.setdefault(int(index), {})["mem_gb"] = value / 1024
            if (free := truth.get((index, "gram_available"))) is not None:
                expected[int(index)]["mem_total_gb"] = value / 1024 + free / 1024

    cut = data.draw(st.lists(st.integers(0, len(page.encode())), max_size=4).map(sorted))
    pieces = [page.encode()[a:b] for a, b in itertools.pairwise([0, *cut, len(page.encode())])]

    found = PageParser().parse([b"# HELP\nray_x 1\n", *pieces])

    gpus = (
        {}
        if found is None
        else {labels.number: dict(values) for labels, values in found.gpus.items() if values}
    )
    assert gpus == expected


@given(st.data())
def test_damaged_page_raises_nothing_and_invents_nothing(data):
    """What is cut off, overwritten or repeated: each value that is read stands there so."""
    page = bytearray((PAGES / "gpu8_lines.txt").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(page)))
        end = data.draw(st.integers(start, min(start + 200, len(page))))
        page[start:end] = data.draw(st.binary(max_size=40))
    parser = PageParser()

    page += b"\nray_x 1\n"
    found = parser.parse([bytes(page)]) or Page({}, {})

    written = {
        float(number) for number in re.findall(rb"(?<= )[-+.\deE]+(?=\n| |$)", page) if _is_number(number)
    }
    for values in found.gpus.values():
        assert all(0 <= value < math.inf for value in values.values())
        assert values.get("util", 0.0) in {0.0, *written}
    assert parser.parse([bytes(page)]) == (found if found.node or found.gpus else None)


def _is_number(text: bytes) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def test_line_without_end_counts_for_nothing():
    """What is cut off may lack the value's last digits."""
    page = line("gram_used", 2048) + line("gram_used", 4096, 1)[:-2]

    assert [labels.number for labels in parsed(page.encode()).gpus] == [0]


def test_line_that_never_ends_is_skipped():
    """And kept nowhere; what comes after it is read."""
    pieces = (
        [b"\nray_" + b"x" * 50_000] * 1 + [b"x" * 50_000] * 40 + [b"\n" + line("gram_used", 2048).encode()]
    )
    page = PageParser().parse(pieces)

    assert page is not None
    assert [labels.number for labels in page.gpus] == [0]


def test_labels_are_read_once_and_forgotten_when_they_are_gone():
    """Reading them is the dear part; a node that lies must not make them grow for ever."""
    parser = PageParser()
    for round_ in range(3):
        lines = [line("gpus_utilization", 1, index, job=str(round_)) for index in range(8)]
        parser.parse(["".join(lines).encode()])

    assert len(parser._labels) == 8
