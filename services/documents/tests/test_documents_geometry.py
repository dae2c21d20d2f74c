"""Boxes, crops and their order, without a network."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from documents_service.crops import HEIGHT, WIDTHS, cut_out
from documents_service.detection import SIDES, boxes_of, in_reading_order, normalised, view_of
from documents_service.recognition import alphabet, texts_of

Floats = NDArray[np.float32]


def box(left: float, top: float, width: float, height: float) -> list[list[float]]:
    return [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]


def page_of(width: int, height: int) -> NDArray[np.uint8]:
    """A page whose every pixel says where it is."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, np.full_like(x, 128)], axis=2).astype(np.uint8)


@given(st.integers(1, 2_000), st.integers(1, 2_000))
def test_a_view_has_sides_of_the_network_and_leads_back_to_the_sheet(width: int, height: int) -> None:
    sheet = np.zeros((height, width, 3), np.uint8)

    view = view_of(sheet)

    _, high, wide = view.pixels.shape
    assert high in SIDES
    assert wide in SIDES
    whole = view.boxes(np.array([box(0, 0, wide, high)], np.float32), sheet)
    assert whole.min() == 0
    assert whole.max(axis=(0, 1)).tolist() == [width - 1, height - 1]


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1280, 720), (1240, 1754), (2000, 1500), (400, 100)])
def test_an_ordinary_page_is_hardly_stretched(width: int, height: int) -> None:
    _, high, wide = view_of(np.zeros((height, width, 3), np.uint8)).pixels.shape

    assert abs(math.log((wide / high) / (width / height))) < 0.12


def test_a_strip_gets_a_margin_above_and_below_and_its_boxes_lose_it() -> None:
    sheet = np.full((40, 1_000, 3), 255, np.uint8)

    view = view_of(sheet)

    middle = np.array([box(0, view.pixels.shape[1] / 2 - 1, 50, 2)], np.float32)
    assert view.top > 0
    assert view.boxes(middle, sheet)[0, :, 1].mean() == pytest.approx(20, abs=0.6)


def test_a_blob_of_the_map_becomes_one_box_that_is_grown() -> None:
    found = np.zeros((1, 96, 192), np.float32)
    found[0, 40:50, 30:130] = 0.9

    boxes = boxes_of(found)

    left, top = boxes["corners"][0, 0, 0]
    right, bottom = boxes["corners"][0, 0, 2]
    grown = 1.6 * 100 * 10 / (100 + 10) / 2
    assert boxes["corners"].shape == (1, 1, 4, 2)
    assert (left, top, right, bottom) == pytest.approx((30 - grown, 40 - grown, 130 + grown, 50 + grown), abs=1.1)
    assert boxes["scores"][0, 0] == pytest.approx(0.9, abs=0.2)


def test_faint_and_tiny_blobs_are_no_text() -> None:
    found = np.zeros((1, 96, 192), np.float32)
    found[0, 10:20, 10:60] = 0.4
    found[0, 50:52, 10:60] = 0.99

    assert boxes_of(found)["corners"].shape == (1, 0, 4, 2)


def test_rows_with_fewer_boxes_are_filled_up_and_say_the_same_as_alone() -> None:
    found = np.zeros((2, 96, 192), np.float32)
    found[0, 10:20, 10:60] = found[1, 10:20, 10:60] = found[1, 60:70, 10:60] = 1.0

    together, alone = boxes_of(found), boxes_of(found[:1])

    assert (together["scores"] > 0).sum(axis=1).tolist() == [1, 2]
    assert (together["corners"][0, :1] == alone["corners"][0]).all()


def test_a_turned_blob_keeps_its_angle() -> None:
    y, x = np.mgrid[0:192, 0:192]
    along, across = (x - 96) + (y - 96), (x - 96) - (y - 96)
    found = ((abs(along) < 90) & (abs(across) < 14)).astype(np.float32)[None]

    corners = boxes_of(found)["corners"][0, 0]

    edge = corners[1] - corners[0]
    assert abs(abs(math.degrees(math.atan2(edge[1], edge[0]))) - 45) < 3


@given(st.permutations(range(6)))
def test_reading_order_does_not_depend_on_the_order_of_finding(order: list[int]) -> None:
    lines = [box(10, 10, 80, 20), box(200, 14, 80, 20), box(300, 6, 80, 20), box(10, 50, 80, 20), box(90, 45, 80, 20)]
    lines.append(box(10, 90, 300, 20))
    boxes = np.array(lines, np.float32)

    assert (in_reading_order(boxes[order]) == boxes).all()


@given(st.floats(4, 900), st.floats(4, 90))
def test_a_crop_is_as_wide_as_its_box_is_to_a_bucket(width: float, height: float) -> None:
    (cut,) = cut_out(page_of(1_000, 120), np.array([box(10, 10, width, height)], np.float32))

    assert cut.crop.shape[:2] == (3, HEIGHT)
    assert cut.crop.shape[2] in WIDTHS
    assert cut.slip.shape == (3, HEIGHT, 192)


def test_a_crop_shows_what_is_in_its_box() -> None:
    sheet = page_of(256, 256)

    (cut,) = cut_out(sheet, np.array([box(64, 100, 128, 48)], np.float32))

    assert cut.crop[0, :, 0].mean() == pytest.approx(64, abs=3)
    assert cut.crop[0, :, -1].mean() == pytest.approx(191, abs=3)
    assert cut.crop[1, 0].mean() == pytest.approx(100, abs=3)


def test_a_crop_is_turned_by_half_and_back() -> None:
    (cut,) = cut_out(page_of(256, 256), np.array([box(64, 100, 128, 48)], np.float32))

    assert (cut.turned()[:, ::-1, ::-1] == cut.crop).all()
    assert cut.turned()[0, 0, 0] == cut.crop[0, -1, -1]


def test_a_tall_box_is_laid_down() -> None:
    (cut,) = cut_out(page_of(256, 256), np.array([box(100, 20, 40, 200)], np.float32))

    assert cut.crop.shape[2] > 3 * HEIGHT
    assert cut.crop[1, :, 0].mean() < cut.crop[1, :, -1].mean()  # the left end was the top


def test_boxes_without_an_area_are_cut_out_too() -> None:
    (cut,) = cut_out(page_of(100, 100), np.array([box(99, 99, 0, 0)], np.float32))

    assert cut.crop.shape[:2] == (3, HEIGHT)


def test_normalised_bytes_reach_from_minus_one_to_one() -> None:
    assert normalised(np.array([0, 255], np.uint8)).tolist() == [-1.0, 1.0]


def test_the_best_path_drops_blanks_and_repetitions() -> None:
    one = alphabet().index("1")
    steps = [0, one, one, 0, one, len(alphabet()) - 1, one]

    def network(crops: Floats) -> Floats:
        found = np.zeros((len(crops), len(steps), len(alphabet())), np.float32)
        found[:, range(len(steps)), steps] = 0.8
        return found

    read = texts_of(network, np.zeros((1, 3, HEIGHT, 64), np.uint8))

    assert read["text"].tolist() == ["11 1"]
    assert read["score"].tolist() == pytest.approx([0.8])


def test_nothing_written_is_an_empty_text_with_the_score_zero() -> None:
    def network(crops: Floats) -> Floats:
        found = np.zeros((len(crops), 8, len(alphabet())), np.float32)
        found[:, :, 0] = 1.0
        return found

    read = texts_of(network, np.zeros((2, 3, HEIGHT, 64), np.uint8))

    assert (read["text"].tolist(), read["score"].tolist()) == (["", ""], [0.0, 0.0])


@pytest.mark.parametrize("width", [64, 640, 2560])
def test_a_batch_goes_through_in_slices_and_in_order(width: int) -> None:
    seen: list[int] = []

    def network(crops: Floats) -> Floats:
        seen.append(crops.shape[0] * crops.shape[3])
        found = np.zeros((len(crops), 1, len(alphabet())), np.float32)
        for row, crop in enumerate(crops):
            found[row, 0, 1 + round((float(crop[0, 0, 0]) + 1) * 127.5)] = 1.0
        return found

    crops = np.zeros((7, 3, HEIGHT, width), np.uint8)
    crops[:, 0, 0, 0] = range(7)

    read = texts_of(network, crops)

    assert read["text"].tolist() == list(alphabet()[1:8])
    assert max(seen) <= max(1_280, width)
