"""What pages that need no other file have in common."""

import base64
import html
import io

from PIL import Image

THUMBNAIL = 96  # pixels of the longer side, at most


def document(title: str, style: str, body: str) -> str:
    """Returns the text of a page.

    Args:
        title: Its title, as text.
        style: CSS.
        body: HTML.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>',
            f"<style>{style}</style></head><body>",
            body,
            "</body></html>",
        ]
    )


def thumbnail_uri(image: Image.Image) -> str:
    """Returns a small copy of an image as a data URI."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    target = io.BytesIO()
    small.save(target, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"
