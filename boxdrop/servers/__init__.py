"""Server processes of this machine: installed in a venv each, started, found again and stopped.

`boxdrop.local` runs Label Studio, MiniStack and the pump by it, `boxdrop.tracking` ZenML's dashboard.
"""
