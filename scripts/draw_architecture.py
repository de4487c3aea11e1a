"""Draw docs/images/architecture.svg: the parts in AWS, and an image's path through them.

python scripts/draw_architecture.py
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 1180, 640
TARGET = Path(__file__).parents[1] / "docs" / "images" / "architecture.svg"

STYLES = {
    "store": ("#e8f4ea", "#2e7d32"),
    "function": ("#fff3e0", "#e67700"),
    "queue": ("#fce4ec", "#ad1457"),
    "compute": ("#ede7f6", "#5e35b1"),
    "outside": ("#eceff1", "#455a64"),
    "watch": ("#e3f2fd", "#1565c0"),
}


@dataclass(frozen=True)
class Box:
    """A part, by its top left corner."""

    x: int
    y: int
    title: str
    about: str
    style: str
    width: int = 140
    height: int = 56

    @property
    def left(self) -> tuple[int, int]:
        return self.x, self.y + self.height // 2

    @property
    def right(self) -> tuple[int, int]:
        return self.x + self.width, self.y + self.height // 2

    @property
    def top(self) -> tuple[int, int]:
        return self.x + self.width // 2, self.y

    @property
    def bottom(self) -> tuple[int, int]:
        return self.x + self.width // 2, self.y + self.height

    def draw(self) -> str:
        fill, line = STYLES[self.style]
        x = self.x + self.width / 2
        return (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8" '
            f'fill="{fill}" '
            f'stroke="{line}" stroke-width="1.5"/>'
            f'<text x="{x}" y="{self.y + 24}" class="title">{escape(self.title)}</text>'
            f'<text x="{x}" y="{self.y + 42}" class="about">{escape(self.about)}</text>'
        )


def arrow(
    *points: tuple[int, int], label: str = "", at: tuple[int, int] | None = None, dashed: bool = False
) -> str:
    """An arrow along points."""
    path = " ".join(f"{x},{y}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    drawn = f'<polyline points="{path}" class="arrow"{dash} marker-end="url(#head)"/>'
    if label:
        (x0, y0), (x1, y1) = points[0], points[1]
        x, y = at or ((x0 + x1) // 2, (y0 + y1) // 2 - 6)
        drawn += f'<text x="{x}" y="{y}" class="label">{escape(label)}</text>'
    return drawn


def picture() -> str:
    """The SVG."""
    people = Box(20, 70, "You", "drop images", "outside", 110)
    images = Box(180, 70, "Image bucket", "and labels.yaml", "store")
    uploads = Box(370, 70, "uploads", "SQS, with dead letters", "queue", 150)
    dispatch = Box(570, 70, "dispatch", "marks rows wanted", "function")
    launches = Box(770, 70, "launches", "waits for the window", "queue", 150)
    launch = Box(970, 70, "launch", "a run of wanted images", "function", 160)
    ledger = Box(570, 200, "Ledger", "DynamoDB: a row per image", "store", 170)
    job = Box(970, 220, "The job", "Batch on Spot, or SageMaker", "compute", 190, 64)
    data = Box(970, 370, "Data bucket", "manifests, parts, summaries", "store", 190)
    parts = Box(770, 370, "parts", "SQS, with dead letters", "queue", 150)
    publish = Box(570, 370, "publish", "tasks with boxes", "function")
    studio = Box(330, 370, "Label Studio", "people verify", "outside", 160, 64)
    api = Box(330, 490, "HTTP API, webhook", "secret header, ids only", "function", 160)
    reviews = Box(570, 490, "reviews", "SQS, with dead letters", "queue")
    collect = Box(770, 490, "collect", "verified work", "function", 150)
    reconcile = Box(180, 230, "reconcile", "every 15 minutes", "function")
    watch = Box(20, 370, "CloudWatch", "dashboard, alarms", "watch", 150)
    track = Box(970, 490, "track", "runs to ZenML, if you have it", "function", 190)
    boxes = (
        people, images, uploads, dispatch, launches, launch, ledger, job, data, parts, publish, studio, api,
        reviews, collect, reconcile, watch, track,
    )  # fmt: skip
    arrows = [
        arrow(people.right, images.left),
        arrow(images.right, uploads.left),
        arrow(uploads.right, dispatch.left),
        arrow(dispatch.right, launches.left),
        arrow(launches.right, launch.left),
        arrow((640, 126), (640, 200)),
        arrow((1050, 126), (1050, 220), label="submits", at=(1080, 178)),
        arrow((1050, 284), (1050, 370), label="writes parts", at=(1094, 332)),
        arrow((250, 126), (250, 165), (1000, 165), (1000, 220), label="reads images", at=(880, 158)),
        arrow(data.left, parts.right),
        arrow(parts.left, publish.right),
        arrow(publish.left, (490, 398)),
        arrow((640, 370), (640, 256), label="tasked, failed", at=(686, 318)),
        arrow((410, 434), (410, 490)),
        arrow(api.right, reviews.left),
        arrow(reviews.right, collect.left),
        arrow((900, 490), (900, 452), (1000, 452), (1000, 426), label="annotations", at=(946, 445)),
        arrow((1100, 426), (1100, 490)),
        arrow((320, 258), (440, 258), (440, 228), (570, 228), label="finds what was lost", at=(440, 276)),
        arrow((350, 370), (350, 340), (160, 340), (160, 110), (180, 110), dashed=True,
              label="reads images, with a key that can do nothing else", at=(330, 333)),
    ]  # fmt: skip
    legend = [
        f'<rect x="{20 + number * 150}" y="592" width="16" height="16" rx="3" fill="{STYLES[style][0]}" '
        f'stroke="{STYLES[style][1]}"/><text x="{44 + number * 150}" y="605" class="key">{name}</text>'
        for number, (style, name) in enumerate(
            {
                "store": "keeps",
                "queue": "queue",
                "function": "Lambda function",
                "compute": "GPU, from zero",
                "outside": "not boxdrop's",
                "watch": "watches",
            }.items()
        )
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, '
            'Helvetica, Arial, sans-serif">',
            "<title>boxdrop in AWS</title>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#37474f"/></marker></defs>',
            "<style>.title{font-size:14px;font-weight:600;text-anchor:middle;fill:#212121}"
            ".about{font-size:11px;text-anchor:middle;fill:#455a64}.label{font-size:11px;text-anchor:middle;"
            "fill:#37474f}.key{font-size:12px;fill:#37474f}.arrow{fill:none;stroke:#37474f;stroke-width:1.4}"
            ".head{font-size:18px;font-weight:600;fill:#212121}</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            '<text x="20" y="36" class="head">From an image in a bucket to boxes that people verify</text>',
            *arrows,
            *(box.draw() for box in boxes),
            *legend,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8")
