"""Several tests at once: p-values that may be read together.

Only for "it is worse": one false alarm among ten metrics is a false fail. A pass needs every metric to be shown, which
needs no correction (intersection-union: Berger, Technometrics 1982).
"""

from collections.abc import Mapping

__all__ = ["holm"]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: those at most α are false with a probability of at most α, all of them together.

    Holm, A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics 1979): valid
    however the tests depend on each other. Anytime-valid p-values stay so. The order of the result is that given.
    """
    adjusted, worst = dict(p_values), 0.0
    ascending = sorted(p_values, key=lambda name: (p_values[name], name))
    for rank, name in enumerate(ascending):
        worst = max(worst, min(1.0, (len(ascending) - rank) * p_values[name]))
        adjusted[name] = worst
    return adjusted
