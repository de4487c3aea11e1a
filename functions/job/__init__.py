"""The job: the one thing that runs on a GPU. ``python -m functions.job --run RUN``, or ``… serve``."""
