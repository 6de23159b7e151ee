"""The journal: what the controller meant to do before it did it, and what came of it.

In SQLite for one controller, in PostgreSQL for several.
"""

from optimizer.controller.journal.journal import Journal
from optimizer.controller.journal.records import Deposed, InstanceRow, Intent, JournalFull, JournalLost

__all__ = ["Deposed", "InstanceRow", "Intent", "Journal", "JournalFull", "JournalLost"]
