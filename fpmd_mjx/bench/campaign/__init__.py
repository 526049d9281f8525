"""`fpmd bench campaign`: many benchmarks in order of value, each in a process of its own.

`cells.py` reads what is to be measured, `store.py` keeps what was, `run.py` does it in the time
there is, `table.py` shows it, `cache.py` takes compiled programs to the next machine.
"""
