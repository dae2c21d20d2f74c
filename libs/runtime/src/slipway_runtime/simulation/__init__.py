"""A simulator over the dispatcher's own decisions: how a pool does under a load, and how far that is from the best."""

from slipway_runtime.simulation.costs import LinearCost, MeasuredCost, parse_cost
from slipway_runtime.simulation.optimum import best_rate, most_in_time, upper_bound
from slipway_runtime.simulation.plot import draw
from slipway_runtime.simulation.run import Outcome, Setup, simulate
from slipway_runtime.simulation.sizing import Choice, choose
from slipway_runtime.simulation.study import Study, study, study_of
from slipway_runtime.simulation.traces import Arrival, bursts, decode_trace, diurnal, poisson

__all__ = [
    "Arrival",
    "Choice",
    "LinearCost",
    "MeasuredCost",
    "Outcome",
    "Setup",
    "Study",
    "best_rate",
    "bursts",
    "choose",
    "decode_trace",
    "diurnal",
    "draw",
    "most_in_time",
    "parse_cost",
    "poisson",
    "simulate",
    "study",
    "study_of",
    "upper_bound",
]
