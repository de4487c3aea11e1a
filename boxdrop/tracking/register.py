"""A finished run becomes a pipeline run in ZenML, with its real times, exactly once.

Nothing is executed: the run, its steps and its artifacts are created through the store's own interface, which
ZenML's orchestrators also use. Every part has a unique name, so registering again finds what exists and adds
what is missing: the run is named by its run_id, which is unique in ZenML's project, and so are artifact
versions; a completed step cannot be created again. The run is ``running`` until its last step exists.
docs/decisions/045 has the reasons.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from boxdrop import __version__
from boxdrop.domain.errors import TrackingError
from boxdrop.tracking.entry import Artifact, Entry, Step
from boxdrop.tracking.store import Store, check_server, installed_version, prepare_environment

if TYPE_CHECKING:
    from zenml.artifact_stores import BaseArtifactStore
    from zenml.client import Client
    from zenml.models import PipelineRunResponse, StackResponse

PREFIX: Final = "boxdrop"
_RACES: Final = 3


@dataclass(frozen=True, slots=True)
class Registered:
    """A run in ZenML.

    Attributes:
        id: ZenML's.
        created: whether this call created it.
        url: of its page in the dashboard; None for the store on this machine.
    """

    id: str
    created: bool
    url: str | None


class Tracker:
    """Registers runs in one ZenML.

    Args:
        client: ZenML's, connected.
        bucket: the data bucket: artifacts are stored below its ``zenml/``. None: on this machine.
    """

    def __init__(self, client: "Client", bucket: str | None = None) -> None:
        self._client = client
        self._store = client.zen_store
        self._project = client.active_project.id
        self._bucket = bucket
        self._stack: tuple[StackResponse, BaseArtifactStore] | None = None
        self._pipelines: dict[str, UUID] = {}

    @property
    def store_id(self) -> str:
        """Identity of the ZenML store, whatever its address."""
        return str(self._store.get_store_info().id)

    def is_complete(self, run_id: str) -> bool:
        """Whether a run exists with all of its steps."""
        run = self._find(run_id)
        return run is not None and run.status.is_finished

    def record(self, entry: Entry) -> Registered:
        """Register a finished run; if it exists already, add only what is missing.

        Args:
            entry: what to record, see `boxdrop.tracking.entry.make_entry`.

        Raises:
            TrackingError: ZenML refused, or stopped answering. Call again later.
        """
        from zenml.utils.dashboard_utils import get_run_url

        with _clear_errors():
            run, created = self._run(entry)
            if not run.status.is_finished:
                self._complete(run, entry)
            return Registered(str(run.id), created, get_run_url(run))

    def note(self, run_id: str, values: Mapping[str, Any]) -> bool:
        """Add metadata to a run, as far as it has other values.

        Returns:
            Whether anything was added; False also if ZenML has no such run.

        Raises:
            TrackingError: ZenML refused, or stopped answering. Call again later.
        """
        with _clear_errors():
            run = self._find(run_id)
            if run is None:
                return False
            known = run.run_metadata
            changed = {name: value for name, value in values.items() if known.get(name) != value}
            self._add_metadata(run.id, "pipeline_run", changed)
            return bool(changed)

    def _run(self, entry: Entry) -> "tuple[PipelineRunResponse, bool]":
        from zenml.enums import ExecutionStatus
        from zenml.exceptions import EntityExistsError
        from zenml.models import PipelineRunRequest

        for _ in range(_RACES):
            found = self._find(entry.run_id)
            if found is not None:
                return found, False
            snapshot = self._snapshot(entry)
            request = PipelineRunRequest(
                project=self._project,
                name=entry.run_id,
                snapshot=snapshot,
                orchestrator_run_id=entry.run_id,
                start_time=_naive(entry.started_at),
                end_time=_naive(entry.finished_at),
                status=ExecutionStatus.RUNNING,
                tags=list(entry.tags),
            )
            try:
                return self._store.get_or_create_run(request)
            except EntityExistsError:  # another process was faster; its run has a snapshot of its own
                self._store.delete_snapshot(snapshot)
        raise TrackingError(f"ZenML has a run {entry.run_id} but does not return it; try again")

    def _find(self, run_id: str) -> "PipelineRunResponse | None":
        found = self._client.list_pipeline_runs(name=f"equals:{run_id}", size=1, hydrate=True)
        return found.items[0] if found.items else None

    def _snapshot(self, entry: Entry) -> UUID:
        """What ZenML draws the run's graph from; each run has its own, as in every ZenML pipeline."""
        from zenml.config.pipeline_configurations import PipelineConfiguration
        from zenml.config.pipeline_spec import PipelineSpec
        from zenml.config.step_configurations import Step as ZenStep
        from zenml.model.model import Model
        from zenml.models import PipelineSnapshotRequest

        stack, _ = self._artifacts()
        configurations = {
            step.name: ZenStep.model_validate({"spec": _spec(step), "config": _config(step)})
            for step in entry.steps
        }
        request = PipelineSnapshotRequest(
            project=self._project,
            pipeline=self._pipeline(entry),
            stack=stack.id,
            run_name_template=entry.run_id,
            pipeline_configuration=PipelineConfiguration(
                name=_pipeline_name(entry),
                enable_cache=False,
                enable_heartbeat=False,
                parameters=dict(entry.parameters),
                model=Model(name=entry.model, version=entry.model_version),
            ),
            step_configurations=configurations,
            pipeline_spec=PipelineSpec(steps=[each.spec for each in configurations.values()]),
            client_version=installed_version(),
            client_environment={"boxdrop": __version__},
        )
        return self._store.create_snapshot(request).id

    def _pipeline(self, entry: Entry) -> UUID:
        """One pipeline per project: the dashboard's lists show and filter pipelines, but not tags."""
        from zenml.exceptions import EntityExistsError
        from zenml.models import PipelineRequest

        name = _pipeline_name(entry)
        if name not in self._pipelines:
            found = self._client.list_pipelines(name=f"equals:{name}", size=1).items
            if found:
                self._pipelines[name] = found[0].id
            else:
                about = f"Boxes for the images of {entry.project}, one run per batch."
                request = PipelineRequest(
                    project=self._project, name=name, description=about, tags=[entry.project]
                )
                with contextlib.suppress(EntityExistsError):
                    self._store.create_pipeline(request)
                return self._pipeline(entry)
        return self._pipelines[name]

    def _complete(self, run: "PipelineRunResponse", entry: Entry) -> None:
        """Add what a run is missing; its last step completes it."""
        from zenml.enums import ExecutionStatus
        from zenml.exceptions import EntityExistsError
        from zenml.models import StepRunRequest

        if not run.run_metadata:
            self._add_metadata(run.id, "pipeline_run", entry.metadata)
        if run.model_version is not None and not run.model_version.run_metadata:
            self._add_metadata(run.model_version.id, "model_version", entry.model_metadata)
        there = {step.name for step in self._client.list_run_steps(pipeline_run_id=run.id, size=100)}
        outputs: dict[str, UUID] = {}
        for step in entry.steps:
            versions = {each.name: self._artifact(entry, each) for each in step.artifacts}
            outputs |= versions
            if step.name in there:
                continue
            request = StepRunRequest(
                project=self._project,
                name=step.name,
                pipeline_run_id=run.id,
                start_time=_naive(step.started_at),
                end_time=_naive(step.finished_at),
                status=ExecutionStatus.COMPLETED,
                docstring=step.description,
                inputs={name: [outputs[name]] for name in step.inputs},
                outputs={name: [version] for name, version in versions.items()},
            )
            with contextlib.suppress(EntityExistsError):
                created = self._store.create_run_step(request)
                self._add_metadata(created.id, "step_run", step.metadata)

    def _artifact(self, entry: Entry, artifact: Artifact) -> UUID:
        """Write an artifact and register it, as the version that is named by the run."""
        from zenml.config.source import Source
        from zenml.enums import ArtifactSaveType, ArtifactType, VisualizationType
        from zenml.exceptions import EntityExistsError
        from zenml.models import ArtifactVersionRequest, ArtifactVisualizationRequest

        stack, files = self._artifacts()
        name = f"{PREFIX}-{artifact.name}"
        # The same name for every attempt: a second one writes the same bytes.
        uri = f"{files.path.rstrip('/')}/boxdrop/{entry.project}/{entry.run_id}/{artifact.name}"
        files.makedirs(uri)
        bodies = {artifact.file: artifact.body, artifact.shown_file: artifact.shown or artifact.body}
        for file, body in bodies.items():
            with files.open(f"{uri}/{file}", "wb") as out:
                out.write(body)
        request = ArtifactVersionRequest(
            project=self._project,
            artifact_name=name,
            version=entry.run_id,
            has_custom_name=True,
            type=ArtifactType(artifact.type),
            artifact_store_id=_artifact_store_of(stack),
            uri=uri,
            materializer=Source.from_import_path(artifact.materializer),
            data_type=Source.from_import_path(artifact.data_type),
            save_type=ArtifactSaveType.STEP_OUTPUT,
            tags=[entry.project],
            visualizations=[
                ArtifactVisualizationRequest(
                    type=VisualizationType(artifact.shown_as), uri=f"{uri}/{artifact.shown_file}"
                )
            ],
            metadata={"bytes": len(artifact.body)},
        )
        try:
            return self._store.create_artifact_version(request).id
        except EntityExistsError:
            return self._client.get_artifact_version(name, entry.run_id).id

    def _add_metadata(self, resource: UUID, kind: str, values: Mapping[str, Any]) -> None:
        from zenml.enums import MetadataResourceTypes
        from zenml.models import RunMetadataResource

        if values:
            self._client.create_run_metadata(
                metadata=dict(values),
                resources=[RunMetadataResource(id=resource, type=MetadataResourceTypes(kind))],
            )

    def _artifacts(self) -> "tuple[StackResponse, BaseArtifactStore]":
        """The stack that runs are registered with, and its artifact store."""
        from zenml.artifacts.utils import load_artifact_store

        if self._stack is None:
            stack = (
                self._client.get_stack("default") if self._bucket is None else self._own_stack(self._bucket)
            )
            self._stack = stack, load_artifact_store(_artifact_store_of(stack))
        return self._stack

    def _own_stack(self, bucket: str) -> "StackResponse":
        """The stack of the bucket's name: one that a user registered, or one with the bucket as its store.

        A ZenML may keep the runs of several systems; each has its bucket, and so its stack.
        """
        from zenml.enums import StackComponentType
        from zenml.exceptions import EntityExistsError

        with contextlib.suppress(KeyError):
            return self._client.get_stack(bucket, allow_name_prefix_match=False)
        with contextlib.suppress(EntityExistsError):
            self._client.create_stack_component(
                name=bucket,
                flavor="s3",
                component_type=StackComponentType.ARTIFACT_STORE,
                configuration={"path": f"s3://{bucket}/zenml"},
            )
        with contextlib.suppress(EntityExistsError):
            self._client.create_stack(
                name=bucket,
                components={
                    StackComponentType.ORCHESTRATOR: "default",
                    StackComponentType.ARTIFACT_STORE: bucket,
                },
            )
        return self._client.get_stack(bucket, allow_name_prefix_match=False)


def connect(store: Store, bucket: str | None = None) -> Tracker:
    """Connect this process to a ZenML store; earlier connections end.

    Args:
        store: which one.
        bucket: the data bucket, for artifacts of runs that a server has; the store on this machine has a
            folder for them.

    Raises:
        TrackingError: zenml is not installed, or the server cannot be used; with the way out.
    """
    installed_version()
    if store.is_server:
        check_server(store)
    prepare_environment(store)
    logging.getLogger("zenml").setLevel(logging.ERROR)
    from zenml.client import Client
    from zenml.config.global_config import GlobalConfiguration
    from zenml.utils.source_utils import set_custom_source_root

    if not hasattr(
        sys.modules["__main__"], "__file__"
    ):  # a console: ZenML asks where the program's source is
        set_custom_source_root(str(Path.cwd()))
    with _clear_errors():
        # They cache their first settings, and the key may have changed since.
        GlobalConfiguration._reset_instance()
        Client._reset_instance()
        return Tracker(Client(), bucket if store.is_server else None)


def _artifact_store_of(stack: "StackResponse") -> UUID:
    from zenml.enums import StackComponentType

    return stack.components[StackComponentType.ARTIFACT_STORE][0].id


def _pipeline_name(entry: Entry) -> str:
    return f"{PREFIX}/{entry.project}"


def _spec(step: Step) -> dict[str, Any]:
    return {
        "source": f"boxdrop.tracking.pipeline.{step.function}",
        "upstream_steps": list(step.after),
        "inputs": {
            name: {"step_name": producer, "output_name": name} for name, producer in step.inputs.items()
        },
        "invocation_id": step.name,
    }


def _config(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "enable_cache": False,
        "outputs": {each.name: {"materializer_source": each.materializer} for each in step.artifacts},
    }


def _naive(time: datetime) -> datetime:
    """UTC without a zone, as ZenML stores times."""
    return time.astimezone(UTC).replace(tzinfo=None)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn ZenML's exceptions (its own, or those of requests or SQLAlchemy) into one sentence."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrackingError(f"ZenML: {reason}; `boxdrop track sync` tries again") from error
