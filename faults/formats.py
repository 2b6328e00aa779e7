"""Images, tars, files of tensors and of records, spoiled field by field, so that checksums do not stop all of it."""

import io
import json
import random
import struct
import tarfile
import zlib

import numpy as np

_NUMBERS = (0, 1, 2, 7, 255, 256, 4096, 9_999, 10_001, 65_500, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def sound_images() -> dict[str, bytes]:
    """Returns one small image of each kind that TensorFlow decodes, by name."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    colour, grey = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    turned = Image.Exif()
    turned[0x0112] = 6

    def encoded(image, image_format, **options):
        target = io.BytesIO()
        image.save(target, image_format, **options)
        return target.getvalue()

    return {
        "plain.jpg": encoded(colour, "JPEG"),
        "progressive.jpg": encoded(colour, "JPEG", progressive=True),
        "grey.jpg": encoded(grey, "JPEG"),
        "cmyk.jpg": encoded(colour.convert("CMYK"), "JPEG"),
        "turned.jpg": encoded(colour, "JPEG", exif=turned),
        "plain.png": encoded(colour, "PNG"),
        "grey.png": encoded(grey, "PNG"),
        "palette.png": encoded(colour.quantize(16), "PNG"),
        "alpha.png": encoded(colour.convert("RGBA"), "PNG"),
        "deep.png": encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"),
        "turned.png": encoded(colour, "PNG", exif=turned),
        "plain.gif": encoded(colour.quantize(16), "GIF"),
        "frames.gif": encoded(
            colour.quantize(16), "GIF", save_all=True, append_images=[grey.quantize(8), colour.quantize(4)]
        ),
        "plain.bmp": encoded(colour, "BMP"),
        "grey.bmp": encoded(grey, "BMP"),
        "alpha.bmp": encoded(colour.convert("RGBA"), "BMP"),
    }


def without_loss(content: bytes) -> bytes | None:
    """Returns a PNG of the pixels that Pillow sees in a PNG or BMP; None where it sees none, or there may be others."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if image.format not in ("PNG", "BMP") or image.mode not in ("RGB", "L", "P"):
                return None
            if "transparency" in image.info:
                return None
            target = io.BytesIO()
            image.convert("RGB").save(target, "PNG")
            return target.getvalue()
    except Exception:
        return None


def spoil_image(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Returns an image file with a field of its format changed, checksums made right again, and what it is."""
    if content.startswith(b"\x89PNG"):
        return _spoil_png(content, rng)
    if content.startswith(b"\xff\xd8"):
        return _spoil_jpeg(content, rng)
    if content.startswith(b"GIF"):
        return _spoil_gif(content, rng)
    return _spoil_bmp(content, rng)


def _spoil_png(content, rng):
    chunks, position = [], 8
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        chunks.append([content[position + 4 : position + 8], content[position + 8 : position + 8 + length]])
        position += 12 + length
    action = rng.choice(("size", "size", "header", "removed", "twice", "moved", "new", "new", "inflated", "length"))
    chunk = rng.randrange(len(chunks))
    wrong_length = None
    if action == "size":
        width, height = (rng.choice((20, 24, *_NUMBERS)) for _ in range(2))
        chunks[0][1] = struct.pack(">II", width, height) + chunks[0][1][8:]
    elif action == "header":
        header = bytearray(chunks[0][1])
        header[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 32, 255))
        chunks[0][1] = bytes(header)
    elif action in _REARRANGED:
        _rearrange(chunks, chunk, action, rng)
    elif action == "new":
        kind = rng.choice((b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"iCCP", b"PLTE", b"tRNS", b"acTL", b"XXXX", b"gAMA"))
        times = rng.choice((1, 2, 40, 3000))
        body = rng.choice((b"", b"k\0\0" + zlib.compress(bytes(100_000)), rng.randbytes(30), _exif(rng)))
        chunks[1:1] = [[kind, body]] * times
    elif action == "inflated":
        chunks[-2] = [b"IDAT", zlib.compress(bytes(rng.choice((0, 10, 10_000_000))))]
    else:
        wrong_length = rng.choice(_NUMBERS)
    parts = [content[:8]]
    for number, (kind, body) in enumerate(chunks):
        length = wrong_length if wrong_length is not None and number == chunk else len(body)
        parts.append(struct.pack(">I", length) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts), f"PNG: {action}"


_REARRANGED = ("removed", "twice", "moved")


def _rearrange(parts, number, action, rng):
    """Removes one of the parts of a file, or puts it, or it once more, in another place."""
    if action == "removed":
        del parts[number]
    elif action == "twice":
        parts.insert(rng.randrange(len(parts) + 1), parts[number])
    else:
        parts.insert(rng.randrange(len(parts)), parts.pop(number))


def _spoil_jpeg(content, rng):
    segments, position = [], 2
    while content[position + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", content, position + 2)
        segments.append(content[position : position + 2 + length])
        position += 2 + length
    rest = content[position:]
    action = rng.choice(("size", "frame", "removed", "twice", "moved", "new", "length", "marker", "scans", "exif"))
    number = rng.randrange(len(segments))
    frame = next(i for i, segment in enumerate(segments) if segment[1] in (0xC0, 0xC1, 0xC2))
    if action == "size":
        height, width = (rng.choice((20, 24, *_NUMBERS)) & 0xFFFF for _ in range(2))
        segments[frame] = segments[frame][:5] + struct.pack(">HH", height, width) + segments[frame][9:]
    elif action == "frame":
        spoiled = bytearray(segments[frame])
        spoiled[rng.choice((1, 4, *range(9, len(spoiled))))] = rng.choice((0, 1, 2, 3, 8, 12, 0x11, 0x44, 0xC1, 0xFF))
        segments[frame] = bytes(spoiled)
    elif action in _REARRANGED:
        _rearrange(segments, number, action, rng)
    elif action == "new":
        body = rng.randbytes(rng.choice((0, 1, 30, 60_000)))
        marker = rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xC4, 0xDB, 0xDC, 0xCC, 0xF7))
        one = struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
        segments[number:number] = [one] * rng.choice((1, 2, 50))
    elif action == "length":
        segments[number] = (
            segments[number][:2] + struct.pack(">H", rng.choice(_NUMBERS) & 0xFFFF) + segments[number][4:]
        )
    elif action == "marker":
        segments[number] = bytes((0xFF, rng.choice((0x00, 0x01, 0xD0, 0xD8, 0xD9, 0xDA, 0xC3, 0xC9, 0xFF))))
        segments[number] += segments[number][2:]
    elif action == "scans":
        rest = rest[:-2] * rng.choice((2, 30)) + rest[-2:]
    else:
        body = b"Exif\0\0" + _exif(rng)
        segments.insert(0, struct.pack(">BBH", 0xFF, 0xE1, len(body) + 2) + body)
    return content[:2] + b"".join(segments) + rest, f"JPEG: {action}"


def _exif(rng):
    order = rng.choice("<>")
    value, kind = rng.choice((0, 1, 2, 5, 6, 8, 9, 65_535)), rng.choice((3, 3, 3, 4, 99))
    entries = [struct.pack(order + "HHIHH", 0x0112, kind, 1, value, 0)] * rng.choice((1, 2))
    told, start = rng.choice((len(entries), 65_535, 0)), rng.choice((8, 8, 8, 0, 2**32 - 1))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "IH", start, told) + b"".join(entries) + bytes(4)


def _spoil_gif(content, rng):
    spoiled = bytearray(content)
    table = 3 * (2 << (content[10] & 7)) if content[10] & 0x80 else 0
    frames = [i for i in range(13 + table, len(content) - 9) if content[i] == 0x2C]
    action = rng.choice(("screen", "flags", "frame", "frame", "frame flags", "frames", "code size", "block"))
    at = rng.choice(frames[:4])
    if action == "screen":
        struct.pack_into("<HH", spoiled, 6, *(rng.choice(_NUMBERS) & 0xFFFF for _ in range(2)))
    elif action == "flags":
        spoiled[rng.choice((10, 11, 12))] = rng.randrange(256)
    elif action == "frame":
        struct.pack_into("<4H", spoiled, at + 1, *(rng.choice((0, 20, 24, *_NUMBERS)) & 0xFFFF for _ in range(4)))
    elif action == "frame flags":
        spoiled[at + 9] = rng.randrange(256)
    elif action == "frames":
        spoiled = spoiled[:-1] + content[at:-1] * rng.choice((1, 50, 1000)) + b";"
    elif action == "code size":
        spoiled[at + 10] = rng.randrange(256)
    else:
        spoiled[min(at + 11, len(spoiled) - 1)] = rng.randrange(256)
    return bytes(spoiled), f"GIF: {action}"


def _spoil_bmp(content, rng):
    spoiled = bytearray(content)
    name, place, form = rng.choice(
        (
            ("start", 10, "<I"), ("header size", 14, "<I"), ("width", 18, "<i"), ("height", 22, "<i"),
            ("planes", 26, "<H"), ("bits", 28, "<H"), ("compression", 30, "<I"), ("colours", 46, "<I"),
        )
    )  # fmt: skip
    numbers = {
        "width": (-24, -1, 0, 1, 25, 10_001, 2**31 - 1, -(2**31)),
        "height": (-20, -1, 0, 1, 21, 10_001, 2**31 - 1, -(2**31)),
        "bits": (0, 1, 4, 8, 16, 24, 32, 65_535),
        "compression": (1, 2, 3, 4, 5, 2**32 - 1),
        "header size": (0, 12, 39, 40, 64, 108, 124, 2**32 - 1),
        "planes": (0, 2, 65_535),
    }.get(name, (0, 1, 54, 2**16, 2**31, 2**32 - 1))
    struct.pack_into(form, spoiled, place, rng.choice(numbers))
    return bytes(spoiled), f"BMP: {name}"


def spoil_tar(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Returns a tar with a field of a header changed, its checksum made right again, or with another member."""
    headers = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        headers = [member.offset for member in tar]
    at = rng.choice(headers)
    actions = ("name", "name", "size", "size", "type", "link", "member", "checksum", "format", "twice", "end")
    action = rng.choice(actions)
    header = bytearray(content[at : at + 512])
    if action == "name":
        name = rng.choice(
            (b"/etc/passwd", b"../../x.jpg", b"left/../x", b"", b".", b"left\\x", b"\xff.jpg", b"a" * 100,
             b"left/\n.jpg", b"left/inner.tar", b"left/./train/a/1.jpg", b"data/left/x.jpg", b"\x1b[31m",
             b"left/train/")
        )  # fmt: skip
        header[0:100] = name.ljust(100, b"\0")
    elif action == "size":
        header[124:136] = rng.choice(
            (b"00000000000\0", b"77777777777\0", b"00000000001\0", b"-0000000001\0", b"\x80" + bytes(10) + b"\x05",
             b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"99999999999\0", b"            ", b"0x10       \0",
             b"1_0".ljust(12, b"\0"))
        )  # fmt: skip
    elif action == "type":
        header[156] = rng.choice(b"0\x001234567LKSxgZ")
    elif action == "link":
        header[156:157] = rng.choice((b"1", b"2"))
        header[157:257] = b"/etc/passwd".ljust(100, b"\0")
    elif action == "checksum":
        header[148:156] = rng.choice((b"        ", b"00000000", b"-1\0\0\0\0\0\0", b"777777\0 "))
        return content[:at] + bytes(header) + content[at + 512 :], "tar: checksum"
    elif action == "format":
        header[257:265] = rng.choice((bytes(8), b"ustar  \0", b"ustar\x0000", b"USTAR\x0000"))
        header[345:500] = rng.choice((b"../..", b"data", b"")).ljust(155, b"\0")
    elif action in ("member", "twice"):
        return _with_member(content, at, action, rng)
    else:
        return content[: len(content.rstrip(b"\0"))] + bytes(rng.choice((0, 1, 511, 512, 1024, 2048, 9999))), "tar: end"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:at] + bytes(header) + content[at + 512 :], f"tar: {action}"


def _with_member(content, at, action, rng):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = next(one for one in tar if one.offset == at)
    if action == "twice":
        end = member.offset_data + -(-member.size // 512) * 512
        return content[:at] + content[at:end] * 2 + content[end:], "tar: a member twice"
    new = tarfile.TarInfo(rng.choice(("left/train/new.jpg", "x" * 300, "left/é" * 60, "other/1.jpg", "left/in.tar")))
    body = rng.choice((b"", b"x", bytes(1000), content))
    new.size = len(body)
    kind = rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    if kind == tarfile.PAX_FORMAT and rng.random() < 0.7:
        new.pax_headers = rng.choice(
            ({"path": "../../x"}, {"size": "-1"}, {"size": "99999999999999999999"}, {"size": "x"}, {"path": "a\nb"},
             {"GNU.sparse.map": "0,1"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, {"hdrcharset": "BINARY"},
             {"GNU.sparse.size": "10", "GNU.sparse.numblocks": "99999999"}, {"linkpath": "/etc/passwd"},
             {"mtime": "nan"})
        )  # fmt: skip
    parts = [content[:at], new.tobuf(kind), body, bytes(-len(body) % 512), content[at:]]
    return b"".join(parts), f"tar: a new member {new.pax_headers or ''}"


def keras_network():
    """Returns a small Keras network that has layers of most kinds that a trunk can be wired of."""
    import keras

    layers = keras.layers
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(2.0, -1.0, name="rescaled")(image)
    x = layers.Conv2D(4, 3, 2, "same", use_bias=False, name="stem")(x)
    x = layers.ReLU(6.0, name="relu")(layers.BatchNormalization(name="norm")(x))
    branch = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeezed")(branch)
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Add(name="added")([x, branch * gate])
    x = layers.Dense(6, activation="gelu", name="dense")(layers.LayerNormalization(name="layer_norm")(x))
    return keras.Model(image, layers.GlobalAveragePooling2D(name="features")(x), name="small")


def split_tensors(content: bytes) -> tuple[dict, bytes]:
    """Returns header and data of a safetensors file."""
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def spoil_tensors(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Returns a file of tensors with a field of the format's own header changed; its hash vouches for it."""
    header, data = split_tensors(content)
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    actions = ("dtype", "shape", "offsets", "removed", "renamed", "key", "padding", "length", "twice", "values")
    action = rng.choice(actions)
    field = header[name]
    if action == "dtype":
        field["dtype"] = rng.choice(("F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "X", "", None, 5))
    elif action == "shape":
        field["shape"] = rng.choice(([], [0], [2**63], [2**32, 2**32], [-1], [1.5], None, field["shape"] + [1], [99]))
    elif action == "offsets":
        first, last = field["data_offsets"]
        odd = ([0, 0], [last, first], [first, last + 4], [first + 4, last], [-4, 0], [0], None)
        field["data_offsets"] = rng.choice(odd)
    elif action == "removed":
        del header[name]
    elif action == "renamed":
        header[rng.choice(("", "x", "../x", "\0", "head/bias2", "é"))] = header.pop(name)
    elif action == "key":
        field[rng.choice(("extra", ""))] = 1
    elif action == "values":
        first, last = field["data_offsets"]
        value = struct.pack("<f", rng.choice((float("nan"), float("inf"), -0.0, 1e-45, 3e38)))
        data = data[:first] + value[: last - first] + data[first + 4 :] if last - first >= 4 else data
    text = json.dumps(header, separators=(",", ":")).encode()
    if action == "padding":
        text += b" " * rng.choice((1, 8, 4096))
    if action == "twice":
        text = text[:-1] + b"," + json.dumps({name: field}, separators=(",", ":")).encode()[1:]
    length = len(text)
    if action == "length":
        length = rng.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
    return rehashed(struct.pack("<Q", length) + text + data), f"tensors: {action}"


def with_header(content: bytes, text: str) -> bytes:
    """Returns a file of tensors whose own header is the JSON `text`; its hash vouches for it, where it has one."""
    header, data = split_tensors(content)
    header["__metadata__"] = {"tfmdl": text}
    first = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    return rehashed(struct.pack("<Q", len(first)) + first + data)


def rehashed(content: bytes) -> bytes:
    """Returns a file of tensors with the hash that vouches for what it is now."""
    from tfmdl import files

    place = files._PLACE_OF_HASH.search(content)
    if not place:
        return content
    start, end = place.span(1)
    return content[:start] + files._hash(content, place).encode() + content[end:]


def records_of(content: bytes) -> list[bytes]:
    """Returns the records of a TFRecord file, whatever their checksums say; raises ValueError where it is cut."""
    found, position = [], 0
    while position < len(content):
        if position + 12 > len(content):
            raise ValueError("cut within a length")
        (length,) = struct.unpack_from("<Q", content, position)
        if position + 16 + length > len(content):
            raise ValueError("cut within a record")
        found.append(content[position + 12 : position + 12 + length])
        position += 16 + length
    return found


def framed(records: list[bytes]) -> bytes:
    """Returns a TFRecord file of `records`, their checksums right."""
    import os
    import tempfile

    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "records")
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record)
        with open(path, "rb") as file:
            return file.read()


def spoil_records(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Returns a TFRecord file with a record changed, checksums made right again, and what it is."""
    import tensorflow as tf

    records = records_of(content)
    number = rng.randrange(len(records))
    actions = ("removed", "twice", "swapped", "field removed", "field", "field", "field", "image", "image", "proto")
    action = rng.choice(actions)
    if action == "removed":
        del records[number]
    elif action == "twice":
        records.insert(number, records[number])
    elif action == "swapped":
        records[number], records[0] = records[0], records[-1]
    elif action == "proto":
        from faults.mutations import spoil_bytes

        records[number], _ = spoil_bytes(records[number], rng)
    else:
        example = tf.train.Example.FromString(records[number])
        fields = example.features.feature
        name = rng.choice(sorted(fields)) if action != "image" else "image/encoded"
        kind = fields[name].WhichOneof("kind")
        if action == "field removed":
            del fields[name]
        elif action == "image":
            spoiled, _ = spoil_image(fields[name].bytes_list.value[0], rng)
            fields[name].bytes_list.value[0] = spoiled
        elif kind == "bytes_list":
            fields[name].bytes_list.value[:] = rng.choice(([], [b""], [b"x"] * 2, [b"\xff"], [b"jpeg\0"]))
        else:
            fields[name].int64_list.value[:] = rng.choice(([], [0], [-1], [1, 2], [2**62], [-(2**63)], [10**6], [99]))
        action += f" {name}"
        records[number] = example.SerializeToString(deterministic=True)
    return framed(records), f"records: {action}"
