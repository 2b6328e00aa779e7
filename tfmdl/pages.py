"""What pages that need no other file have in common."""

import base64
import io

from PIL import Image

THUMBNAIL = 96  # pixels of the longer side, at most


def thumbnail_uri(image: Image.Image) -> str:
    """Returns a small copy of an image as a data URI."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    target = io.BytesIO()
    small.save(target, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"
