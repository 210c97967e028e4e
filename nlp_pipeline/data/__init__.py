"""Data: from files, databases, the Hub or memory to checked rows in a task's columns.

Importing this package loads neither torch, datasets nor pyarrow.
"""

from .columns import Column
from .sources import check_sources
from .splits import Splits, load_rows, load_splits

__all__ = ["Column", "Splits", "check_sources", "load_rows", "load_splits"]
