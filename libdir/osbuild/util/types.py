"""Types that signatures name (Python 3.6)."""

import os
from typing import Union

PathLike = Union[str, bytes, os.PathLike]
