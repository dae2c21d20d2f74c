"""The few names of ours that the documents service's picture code takes, so that BentoML runs that very code without
our server in its processes."""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Arrays = dict[str, np.ndarray]


class Problem(Exception):
    def __init__(self, status, code, detail, **_):
        super().__init__(detail)
