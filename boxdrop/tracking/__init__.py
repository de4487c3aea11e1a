"""Finished runs in ZenML: which model and labels made which boxes, when, how fast, and with which result.

The job writes ``runs/RUN/summary.json`` and knows nothing of ZenML. Afterwards `boxdrop.tracking.track`
registers the summary as a ZenML pipeline run of the same name. If ZenML is down, summaries wait; registering
one twice gives one run. Only `connection`, `register` and `pipeline` import zenml, which is an extra.
"""
