"""Gives a run of the ZenML pipeline what tracked runs have: model version, tags and metadata.

Called inside a step. The names are those of `boxdrop.tracking.entry`, so one filter finds both kinds.
"""

from zenml import Model, get_step_context
from zenml.client import Client
from zenml.enums import MetadataResourceTypes
from zenml.models import ModelVersionPipelineRunRequest, RunMetadataResource

from boxdrop.domain.detector_names import shown_digest
from boxdrop.store.reports import RunSummary, SummaryBundle
from boxdrop.tracking.entry import model_metadata, run_metadata, run_tags


def link_model(bundle: SummaryBundle) -> None:
    """Link the current run to the model version of its bundle, which is created if needed.

    Not through ``@pipeline(model=…)``: which bundle a name means is known when the run has started.
    """
    client = Client()
    model = Model(
        name=bundle.name, version=shown_digest(bundle.digest), suppress_class_validation_warnings=True
    )
    version = model._get_or_create_model_version()
    client.zen_store.create_model_version_pipeline_run_link(
        ModelVersionPipelineRunRequest(
            model_version=version.id, pipeline_run=get_step_context().pipeline_run.id
        )
    )
    if not version.run_metadata:
        client.create_run_metadata(
            metadata=model_metadata(bundle),
            resources=[RunMetadataResource(id=version.id, type=MetadataResourceTypes.MODEL_VERSION)],
        )


def describe_run(summary: RunSummary) -> None:
    """Give the current run the tags and metadata of its summary."""
    from zenml import add_tags

    run = get_step_context().pipeline_run
    add_tags(tags=list(run_tags(summary)), run=run.id)
    Client().create_run_metadata(
        metadata=run_metadata(summary),
        resources=[RunMetadataResource(id=run.id, type=MetadataResourceTypes.PIPELINE_RUN)],
    )
