"""The job: a detector over a run's manifest. It is the only part of boxdrop that needs a GPU.

`Job` works on shards; `functions.job` starts it on AWS Batch, on SageMaker and on one machine.
"""
