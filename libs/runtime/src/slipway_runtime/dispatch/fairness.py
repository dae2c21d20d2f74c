"""Whose turn it is on something that several share: start-time fair queueing, in seconds of predicted cost by weight.

It knows no queue and no batch; time here is virtual, the seconds of service that a share of weight 1 has had. The
invariants: among shares that always want, no two differ by more than the cost of one batch each, divided by weight;
a share that did not want, or could not be served, keeps no credit for it.

Each turn gets a start tag, max(virtual time, finish tag of the share's last turn), and a finish tag, start + cost /
weight. The smallest start tag is served, and its tag becomes the virtual time. Unlike weighted fair queueing this needs
no model of the device, and stays fair when its speed varies; it also nests (a device's pools, a pool's models). Source:
P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
"""

__all__ = ["Share", "Turns"]

_OUTLIER_S = 1.0
"""A turn that took longer than predicted, such as a first batch that compiles, is held against its share up to this."""


class Share:
    """One party's account. `weight` may change at any time and counts for later turns."""

    __slots__ = ("finish_s", "used_s", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.finish_s = 0.0
        self.used_s = 0.0
        """Seconds of service so far, not virtual."""


class Turns:
    """What is shared. Not thread-safe: one owner."""

    __slots__ = ("virtual_s",)

    def __init__(self) -> None:
        self.virtual_s = 0.0

    def start_s(self, share: Share) -> float:
        """The tag of the share's next turn: the smallest goes first."""
        return max(self.virtual_s, share.finish_s)

    def take(self, share: Share, seconds: float) -> None:
        """The share has its turn, of a predicted cost of `seconds`."""
        self.virtual_s = start_s = max(self.virtual_s, share.finish_s)
        share.finish_s = start_s + seconds / share.weight
        share.used_s += seconds

    def correct(self, share: Share, more_s: float, weight: float) -> None:
        """A turn that was taken at `weight` cost so many seconds more than predicted; negative: less."""
        share.finish_s += min(more_s, _OUTLIER_S) / weight
        share.used_s += more_s
