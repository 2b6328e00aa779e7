"""How the images of a domain become the input of a network."""

import dataclasses

from tfmdl.typed import check_types

MAX_SIDE = 2048  # of an image, in pixels; a batch of larger ones would not fit into memory


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image of a domain becomes the input of the network.

    The image is resized to cover `cover_height` x `cover_width` and cropped to the centre of that size. Evaluation sees
    the centre of this, training a random crop, each of its own size; both are normalised.

    Attributes:
        height, width: Size in evaluation, in pixels.
        train_height, train_width: Size in training.
        mean, std: Per channel (R, G, B), pixels in 0..1.
        cover_height, cover_width: Size of what both are cut out of; None: the size in evaluation, as in files from
            before it was written.

    Raises:
        ValueError: if a size is not positive, above `MAX_SIDE` or larger than what it is cut out of, or `std` is not
            positive.
    """

    height: int
    width: int
    train_height: int
    train_width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    cover_height: int | None = None
    cover_width: int | None = None

    def __post_init__(self):
        check_types(self)
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be positive; received {self.std}")
        for side in ("height", "width"):
            if getattr(self, f"cover_{side}") is None:
                object.__setattr__(self, f"cover_{side}", getattr(self, side))
            cover = getattr(self, f"cover_{side}")
            if cover > MAX_SIDE:
                raise ValueError(f"`cover_{side}` must be at most {MAX_SIDE} pixels; received {cover}")
            for name in (side, f"train_{side}"):
                if not 0 < getattr(self, name) <= cover:
                    raise ValueError(
                        f"`{name}` must be positive and at most `cover_{side}`={cover}; received {getattr(self, name)}"
                    )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in evaluation."""
        return self.height, self.width

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width in training."""
        return self.train_height, self.train_width

    @property
    def cover_size(self) -> tuple[int, int]:
        """Height and width of what images are cut out of."""
        return self.cover_height, self.cover_width

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column, in what images are cut out of, where the image of evaluation begins."""
        return (self.cover_height - self.height) // 2, (self.cover_width - self.width) // 2

    @property
    def crops(self) -> bool:
        """Whether training sees a part of an image, by chance."""
        return self.train_size != self.cover_size

    @classmethod
    def from_json(cls, fields: dict) -> "Preprocessing":
        return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
