"""Find boxes in new images of a prefix, every night at two.

    zenml stack set STACK          # one whose orchestrator can schedule: SageMaker, Kubernetes, Vertex, …
    python examples/zenml_nightly.py s3://my-images/fruit/ s3://my-data/owlv2

Run it once; the orchestrator keeps the schedule. A night without new images costs one listing: the images are
the same, so ZenML takes the predictions from its cache. ``--now`` runs the pipeline at once, on any stack.
"""

import argparse

from zenml.config.schedule import Schedule

from boxdrop.tracking.pipeline import boxes_for_images

LABELS = "pineapple, banana, apple"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", help="a folder, or s3://bucket/prefix/")
    parser.add_argument(
        "detector", nargs="?", help="a bundle's folder, or s3://data-bucket/NAME; default: the demo detector"
    )
    parser.add_argument("--labels", default=LABELS)
    parser.add_argument("--cron", default="0 2 * * *", help="when, in the orchestrator's time zone")
    parser.add_argument("--now", action="store_true", help="once, and now")
    options = parser.parse_args()
    boxes = boxes_for_images
    if not options.now:
        boxes = boxes_for_images.with_options(
            schedule=Schedule(name="boxdrop nightly", cron_expression=options.cron)
        )
    boxes(images=options.images, labels=options.labels, detector=options.detector)


if __name__ == "__main__":
    main()
