import threading

import pytest
from supervised_children import READY, child

from slipway_runtime.orders import Order, Orders, SwapBusyError

SPECS = [child("api-0", READY), child("run-0", READY, stage=1)]


def test_an_order_is_begun_once_and_each_has_the_next_generation() -> None:
    orders = Orders(SPECS)

    swapped = orders.swap(SPECS, "v2")
    begun = orders.begin(), orders.begin()
    orders.done()
    orders.reload(SPECS)

    assert begun == (swapped, None)
    assert (swapped.kind, swapped.generation, swapped.token) == ("swap", 1, "v2")
    assert orders.begin() == Order("reload", 2, tuple(SPECS))


def test_a_swap_has_its_turn_until_it_is_done() -> None:
    orders = Orders(SPECS)
    orders.swap(SPECS, "")

    with pytest.raises(SwapBusyError, match="generation 1"):
        orders.swap(SPECS, "")
    orders.begin()
    with pytest.raises(SwapBusyError):
        orders.swap(SPECS, "")
    orders.done()

    assert not orders.is_taken
    assert orders.swap(SPECS, "").generation == 2


def test_many_reloads_meanwhile_are_one_afterwards() -> None:
    orders = Orders(SPECS)
    orders.reload(SPECS)
    orders.begin()
    for _ in range(3):
        orders.reload(SPECS)

    assert orders.done() is True
    assert orders.begin() is None  # whoever carries orders out asks again, with the workers that there are then
    assert orders.done() is False


def test_after_the_end_there_are_no_orders() -> None:
    orders = Orders(SPECS)
    orders.swap(SPECS, "")
    orders.close()

    assert orders.begin() is None
    with pytest.raises(SwapBusyError, match="stopping"):
        orders.swap(SPECS, "")


def test_of_many_threads_one_gets_the_swap() -> None:
    orders = Orders(SPECS)
    barrier = threading.Barrier(8)
    outcomes: list[str] = []

    def ask() -> None:
        barrier.wait(20)
        try:
            orders.swap(SPECS, "")
        except SwapBusyError as error:
            outcomes.append(error.code)
        else:
            outcomes.append("taken")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(outcomes) == ["swap_busy"] * 7 + ["taken"]


def test_the_workers_of_an_order_have_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="unique names"):
        Orders(SPECS).swap([*SPECS, SPECS[1]], "")
    with pytest.raises(ValueError, match="there must be one"):
        Orders([])
