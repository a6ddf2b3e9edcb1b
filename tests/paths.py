"""Where the repository and the data sets beside it lie."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("MEMSPAN_DATA", ROOT.parent / "shared" / "data"))
