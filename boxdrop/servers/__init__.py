"""Local server processes: install each in a venv, start, find and stop them.

`boxdrop.local` uses it for Label Studio, MiniStack and the pump, `boxdrop.tracking` for ZenML's dashboard.
"""
