"""A self-contained HTML document with players. Only its own script may run; foreign text is escaped by the caller."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path

from pipelines.audio.containers import Samples
from pipelines.datasets.decode_rows import to_flac

_FOLDER = Path(__file__).parent


def document(mark: str, title: str, subtitle: str, sections: Sequence[str]) -> str:
    """The whole document; `mark`, a comment of HTML, says what made it."""
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
{mark}
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{(_FOLDER / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p><code>{escape(subtitle)}</code></p></header>
<main>
{"".join(sections)}
</main>
<script>{script}</script>
</body>
</html>
"""


def escape(value: object) -> str:
    """Text for HTML, in an element or a quoted attribute; control characters become visible."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", str(value)))


def section(title: str, body: str) -> str:
    """A section under its heading."""
    name = re.sub(r"\W+", "-", title.lower())
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>\n{body}\n</section>\n'


def player(name: str, samples: Samples, sample_rate: int) -> str:
    """A player of samples (T,); `name` is escaped already."""
    sound = data_uri("audio/flac", to_flac(samples, sample_rate))
    return (
        f'<p class="player"><audio controls preload="metadata" aria-label="{name}" src="{sound}"></audio>'
        "<output></output></p>"
    )


def data_uri(kind: str, data: bytes) -> str:
    """A file of a media type inside the document."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
