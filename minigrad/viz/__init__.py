"""Pictures: curves, tables and lattices as figures of matplotlib, for files and notebooks, readable without colour.

Every function takes NumPy arrays or tensors and returns a `Picture`, which is a matplotlib Figure: `.savefig(path)`
writes it, a notebook shows it, and what is in it can be changed. Nothing here knows pyplot or needs a display.
"""

from ..errors import BackendUnavailableError

try:
    import matplotlib
except ImportError as _error:
    raise BackendUnavailableError(
        f"minigrad.viz draws with matplotlib, which cannot be imported ({_error}); pip install -e '.[models]' gets it"
    ) from None

from .gates import gates
from .graph import Svg, graph
from .lattice import ctc_lattice, ctc_occupancy
from .lines import curves, gradient_flow
from .style import Picture
from .surfaces import surface
from .tables import attention, confusion
