"""Profiles the variants of ``many_routines`` into the database named by the first argument. No main guard, on
purpose: a profiler built on multiprocessing would start itself again and again here."""

import os
import sys

sys.path.insert(0, os.environ.get("SOFTNEURO_TEST_FOLDER") or os.path.dirname(os.path.abspath(__file__)))

from setting import QUICK, Notes, catalog, jobs, relus

from softneuro_core.costs import CostDatabase
from softneuro_core.profiling.profile import profile

isolate = "--here" not in sys.argv
graph, found = relus((2, 3)), catalog("many_routines")
work = jobs(graph, found, ["cpu/many"])
notes = Notes()
print("ready", flush=True)
with CostDatabase(sys.argv[1], on_note=notes.note) as database:
    costs = profile(
        graph, work, catalog=found, threads=1, database=database, progress=notes, effort=QUICK, isolate=isolate
    )
    print(len(work), sum(costs[job.key].ok for job in work if job.key in costs), notes.notes, flush=True)
