"""``python -m boxdrop``: the same as the ``boxdrop`` command."""

from boxdrop.cli import main

main()
