"""Building one domain: its images are read, checked and written, several threads at a time."""

import time
from collections.abc import Iterable, Iterator

import tfmdl
from data_prep.config import ConvertConfig
from data_prep.images import CheckedImage, PixelSums, prepare_images
from data_prep.ordered import map_ordered
from data_prep.plan import BadImage, DataError, Plan, RawImage, refuse
from data_prep.progress import progress_line
from data_prep.workspace import building
from data_prep.writer import Spool
from tfmdl.data.records import INFO_FILE, UNKNOWN_LABEL, DatasetInfo, SplitInfo, serialize_example
from tfmdl.outside import printable

_BYTES_OF_MB = 1 << 20
_BATCH_IMAGES = 64
_BATCH_BYTES = 8 << 20
_SHOWN_BAD = 3


def build_domain(plan: Plan, config: ConvertConfig) -> None:
    """Writes the records and `dataset_info.json` of a domain, and prints what it made.

    Raises:
        DataError: if an image is bad and `config.on_error` is "fail", a split has no good image, or the pixels of a
            channel are all alike.
        OSError: if something cannot be written.
    """

    def check(batch: list[RawImage]) -> tuple[list[RawImage], list[CheckedImage | str]]:
        return batch, prepare_images([image.encoded for image in batch], config.shorter, config.enlarges)

    started = time.monotonic()
    total = sum(map(len, plan.splits.values()))
    with building(config.output_dir, plan.domain) as folder:
        splits = {
            split: _SplitBuilder(plan, split, Spool(folder / f"{split}.spool", len(references)))
            for split, references in plan.splits.items()
        }
        bad = list(plan.absent)
        with progress_line(plan.domain, total) as report:
            for batch, results in map_ordered(check, _batches(plan.read()), config.workers):
                for raw, result in zip(batch, results, strict=True):
                    if isinstance(result, str):
                        bad.append(BadImage(raw.split, plan.splits[raw.split][raw.index].name, result))
                    else:
                        splits[raw.split].add(raw.index, result)
                if config.on_error == "fail":
                    refuse(plan.domain, bad)
                report(len(batch), batch[-1].split)
        infos = {split: builder.finish(config) for split, builder in splits.items()}
        mean, std = splits["train"].pixel_sums.mean_and_std()
        if not all(std):
            raise DataError(
                f"{plan.domain}: all pixels of train are alike in one channel, or all: mean {mean}, std {std}; "
                "expected a std above 0, by which training divides"
            )
        DatasetInfo(
            name=plan.domain,
            label_names=plan.label_names,
            category_ids=plan.category_ids,
            splits=infos,
            pixel_mean=mean,
            pixel_std=std,
            source=plan.source,
            inputs=plan.inputs,
            options=config.record_options,
            skipped=[{"split": image.split, "file": image.name, "reason": image.reason} for image in sorted(bad)],
            tool_version=tfmdl.__version__,
        ).save(folder)
    counts = "  ".join(f"{split} {info.num_examples:,}" for split, info in infos.items())
    rate = total / (time.monotonic() - started)
    print(f"{plan.domain}: {counts}  {len(plan.label_names)} classes  {rate:,.0f} images/s")
    if bad:
        shown = [printable(f"  {image.split}: {image.name} {image.reason}") for image in bad[:_SHOWN_BAD]]
        more = [f"  and {len(bad) - _SHOWN_BAD} more"] if len(bad) > _SHOWN_BAD else []
        listed = f"  left out {len(bad)} bad images, listed in {config.output_dir / plan.domain / INFO_FILE}:"
        print("\n".join([listed, *shown, *more]))


class _SplitBuilder:
    """The records of one split, and what `dataset_info.json` will say of them."""

    def __init__(self, plan: Plan, split: str, spool: Spool):
        self._plan = plan
        self._split = split
        self._spool = spool
        self._per_class = [0] * len(plan.label_names)
        self.pixel_sums = PixelSums()

    def add(self, index: int, image: CheckedImage) -> None:
        reference = self._plan.splits[self._split][index]
        known = reference.label is not None
        record = serialize_example(
            encoded=image.encoded,
            image_format=image.format,
            height=image.height,
            width=image.width,
            label=reference.label if known else UNKNOWN_LABEL,
            text=self._plan.label_names[reference.label] if known else "",
            image_id=reference.image_id,
        )
        self._spool.add(index, record)
        if known:
            self._per_class[reference.label] += 1
        self.pixel_sums.add(image)

    def finish(self, config: ConvertConfig) -> SplitInfo:
        shard_bytes = config.shard_mb * _BYTES_OF_MB
        shards = self._spool.write_shards(self._plan.domain, self._split, shard_bytes, config.seed)
        if not shards:
            raise DataError(f"{self._plan.domain}: split {self._split!r} is empty: none of its images is good")
        return SplitInfo(
            num_examples=sum(shard.num_examples for shard in shards),
            labelled=any(self._per_class),
            per_class=self._per_class,
            shards=shards,
        )


def _batches(images: Iterable[RawImage]) -> Iterator[list[RawImage]]:
    batch, size = [], 0
    for image in images:
        batch.append(image)
        size += len(image.encoded)
        if len(batch) == _BATCH_IMAGES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
