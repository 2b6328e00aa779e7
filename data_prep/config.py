"""What the converter was asked for."""

import dataclasses
import pathlib

from data_prep.plan import SPLITS, DataError
from tfmdl.outside import is_utf8

# Photos of any size come in folders: training wants no more of one than this.
LONGEST_SHORTER = {"folder": 256}


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """One call of the converter; the fields are its flags.

    Attributes:
        resize_shorter: The shorter side of all images; 0 keeps theirs, None shrinks what is above the source's
            `LONGEST_SHORTER`.

    Raises:
        DataError: if a value makes no sense, naming the flag.
    """

    source: str
    input_dir: pathlib.Path
    output_dir: pathlib.Path
    domains: tuple[str, ...]
    splits: tuple[str, ...]
    workers: int
    shard_mb: int
    resize_shorter: int | None
    seed: int
    on_error: str
    overwrite: bool

    def __post_init__(self):
        for split in self.splits:
            if split not in SPLITS:
                raise DataError(f"--splits: expected some of {','.join(SPLITS)}; received {split!r}")
        for name in ("domains", "splits"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise DataError(f"--{name}: one is named twice; received {','.join(values)}")
        if "train" not in self.splits:
            raise DataError(
                "--splits: must have train, whose pixels give the domain's mean and std; "
                f"received {','.join(self.splits)!r}"
            )
        for name in ("input_dir", "output_dir"):
            # As TensorFlow needs it.
            if not is_utf8(str(getattr(self, name))):
                raise DataError(f"--{name}: expected a path in UTF-8; received {str(getattr(self, name))!r}")
        if not self.input_dir.is_dir():
            raise DataError(f"--input_dir: no such folder: {self.input_dir}")

    @property
    def shorter(self) -> int | None:
        """The shorter side that images are resized to, or None where they keep theirs."""
        asked = LONGEST_SHORTER.get(self.source) if self.resize_shorter is None else self.resize_shorter
        return asked or None

    @property
    def enlarges(self) -> bool:
        """Whether images whose shorter side is below `shorter` are resized too."""
        return self.resize_shorter is not None

    @property
    def record_options(self) -> dict:
        """The flags that shape the records of a domain, whatever its images are."""
        return {name: getattr(self, name) for name in ("source", "shard_mb", "seed")} | {
            "resize_shorter": self.shorter if self.enlarges or not self.shorter else f"at most {self.shorter}",
            "splits": list(self.splits),
        }
