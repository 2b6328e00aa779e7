"""Archives that are damaged, or claim what cannot be, are refused by name before anything is made of them."""

import gzip
import io
import itertools
import re
import tarfile

import numpy as np
import pytest

from data_prep.plan import DataError
from data_prep.sources.stores import ArchiveStore, read_members

_numbers = itertools.count()


def _tar(*members):
    """Returns a tar of (name, contents), or of (name, contents, claimed size) whose header says another size."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, contents, *claimed in members:
            member = tarfile.TarInfo(name)
            member.size = claimed[0] if claimed else len(contents)
            target.write(member.tobuf(tarfile.GNU_FORMAT) + contents + bytes(-len(contents) % 512))
            tar.offset = target.tell()
    return target.getvalue()


def _contents(folder, archive, suffix):
    """Returns the files of an archive by name; a file of its own for each, as what was read is kept."""
    path = folder / f"{next(_numbers)}{suffix}"
    path.write_bytes(archive)
    store = ArchiveStore(path)
    names = sorted(f"{domain}/{i}.jpg" for domain in store.domains() for i in range(9))
    return dict(store.read(name for name in names if not store.unreadable([name])))


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return [(f"left/{i}.jpg", random.integers(0, 8, 700, np.uint8).tobytes()) for i in range(6)]


@pytest.mark.parametrize("nested", [False, True])
def test_no_flipped_bit_of_a_gzipped_tar_changes_what_is_read(tmp_path, images, nested):
    plain = _tar(("left.tar", _tar(*images))) if nested else _tar(*images)
    archive = gzip.compress(plain, mtime=0)
    expected = dict(images)
    assert _contents(tmp_path, archive, ".tar.gz") == expected
    refused = 0
    for position in np.random.default_rng(1).choice(8 * len(archive), 300, replace=False):
        spoiled = bytearray(archive)
        spoiled[position // 8] ^= 1 << position % 8
        try:
            # The time in gzip's header may change, which no checksum covers.
            assert _contents(tmp_path, bytes(spoiled), ".tar.gz") == expected
        except DataError as error:
            assert f"{tmp_path}" in str(error)
            refused += 1
    assert refused > 290


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_what_is_cut_off_or_goes_on_is_refused(tmp_path, images, nested, suffix):
    def read(inner):
        plain = _tar(("left.tar", inner)) if nested else inner
        return _contents(tmp_path, gzip.compress(plain) if suffix == ".tar.gz" else plain, suffix)

    inner = _tar(*images)
    assert read(inner) == dict(images)
    end = 6 * 1536
    assert read(inner[: end + 512]) == dict(images)
    header = bytearray(inner)
    header[3 * 1536] ^= 1  # tarfile takes a damaged header for the end
    cut = [inner[:length] for length in (1536, 2000, end, end + 100)]
    for spoiled in (*cut, inner + b"x", 2 * inner, bytes(header)):
        with pytest.raises(DataError, match=re.escape(str(tmp_path))):
            read(spoiled)


def test_a_gzip_that_goes_on_is_refused(tmp_path, images):
    with pytest.raises(DataError, match="damaged"):
        _contents(tmp_path, gzip.compress(_tar(*images)) + b"garbage", ".tar.gz")
    with pytest.raises(DataError, match="damaged"):
        _contents(tmp_path, gzip.compress(_tar(*images))[:-8], ".tar.gz")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("size", [10**20, 2**62, 10**12, -1, -(10**20)])
def test_a_size_that_cannot_be_is_refused(tmp_path, images, suffix, size):
    archive = _tar(*images, ("left/claims.jpg", b"", size), ("left/after.jpg", b"x"))
    with pytest.raises(DataError, match=f"{re.escape(str(tmp_path))}.*left/claims.jpg.*claims {size:,} bytes"):
        _contents(tmp_path, gzip.compress(archive) if suffix == ".tar.gz" else archive, suffix)


@pytest.mark.parametrize("size", [10**20, 10**9, -1])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_an_extended_header_is_not_read_whatever_it_claims(tmp_path, kind, size):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, size
    with pytest.raises(DataError, match=f"extended header of {size:,} bytes"):
        _contents(tmp_path, member.tobuf(tarfile.GNU_FORMAT) + _tar(), ".tar")


@pytest.mark.parametrize("size", ["-1024", str(10**20)])
def test_a_size_in_an_extended_header_is_a_claim_too(tmp_path, size):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("left/claims.jpg")
        member.pax_headers = {"size": size}
        tar.addfile(member)
    with pytest.raises(DataError, match=f"left/claims.jpg.*claims {int(size):,} bytes"):
        _contents(tmp_path, target.getvalue(), ".tar")


def test_endless_names_are_refused(tmp_path):
    member = tarfile.TarInfo("././@LongLink")
    member.type = tarfile.GNUTYPE_LONGNAME
    with pytest.raises(DataError, match="damaged"):
        _contents(tmp_path, member.tobuf(tarfile.GNU_FORMAT) * 5000 + _tar(), ".tar")


def test_members_of_a_damaged_archive_are_not_all_yielded(tmp_path):
    archive = bytearray(gzip.compress(_tar(("annotations/a.json", b"{}"))))
    archive[-5] ^= 1  # of the checksum
    path = tmp_path / "devkit.tar.gz"
    path.write_bytes(archive)
    with pytest.raises(DataError, match="devkit.tar.gz.*CRC"):
        list(read_members(path, "annotations", ".json"))
