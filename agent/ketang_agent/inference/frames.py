"""The arrays that pass between capture, gate and decoders. They never leave the worker."""

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""Height × width × 3, blue-green-red, as OpenCV decodes it."""
Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
