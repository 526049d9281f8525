"""`fpmd bench campaign`: many benchmarks in order of value, each in its own process.

`cells.py` reads the file of a campaign. `run.py` runs its cells until the time is up: `command.py`
runs one process, `parts.py` sizes runs of several seeds, `store.py` keeps the results. `table.py`
shows them. `cache.py` carries compiled programs to the next machine.
"""
