"""The report of a study: what its files say, on one page.

Before matplotlib is imported: its backend and its configuration are the report's, not those that a
notebook, or a person's own figures, have set.
"""

import os
from importlib.util import find_spec
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"
os.environ["MATPLOTLIBRC"] = str(Path(find_spec("matplotlib").origin).parent / "mpl-data")
