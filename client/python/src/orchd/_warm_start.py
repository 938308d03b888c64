"""What a step's command names: `_warm`, compiled as it is kept beside it, since a file that is run is compiled anew."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])
import _warm  # type: ignore[import-not-found]

_warm.main(sys.argv[1:])
