"""Whether a domain that is already in the output folder is the one that a conversion would make."""

from data_prep.config import ConvertConfig
from data_prep.plan import DataError, Plan
from tfmdl.data.records import INFO_FILE, DatasetInfo


def is_whole(plan: Plan, config: ConvertConfig) -> bool:
    """Tells whether the domain is there, made of the same inputs by the same options.

    Returns:
        False if it is not there, or is to be replaced.

    Raises:
        DataError: if another one is there and `config.overwrite` is not set, or the folder is no domain at
            all.
    """
    folder = config.output_dir / plan.domain
    if not folder.exists():
        return False
    if not (folder / INFO_FILE).is_file():
        raise DataError(f"{folder}: is no converted domain (it has no {INFO_FILE}); move it away")
    if config.overwrite:
        return False
    try:
        info = DatasetInfo.load(config.output_dir, plan.domain)
    except ValueError as error:
        raise DataError(f"{error}; give --overwrite to replace the domain, or another --output_dir") from error
    differences = _option_differences(info, config)
    if not differences and info.inputs != plan.inputs:
        changed = sorted({name for name, _ in info.inputs.items() ^ plan.inputs.items()})
        differences.append(f"inputs that have changed: {', '.join(changed)}")
    for split in info.splits.values():
        for shard in split.shards:
            path = folder / shard.file
            size = path.stat().st_size if path.is_file() else "no file"
            if size != shard.num_bytes:
                differences.append(f"{shard.file} has {shard.num_bytes} bytes by its {INFO_FILE}, {size} here")
    if differences:
        raise DataError(
            f"{folder}: is there, and is not what this command makes ({'; '.join(differences)}); "
            "give --overwrite to replace it, or another --output_dir"
        )
    return True


def _option_differences(info: DatasetInfo, config: ConvertConfig) -> list[str]:
    now = config.record_options
    differences = [
        f"{_flag(name, info.options.get(name))} there, {_flag(name, now[name])} now"
        for name in now
        if info.options.get(name) != now[name]
    ]
    # Where nothing had to be left out, both ways of dealing with bad images give the same records.
    if info.skipped and config.on_error == "fail":
        differences.append("--on_error=skip there, --on_error=fail now")
    return differences


def _flag(name: str, value) -> str:
    if name == "resize_shorter":
        value = value or 0  # what is typed to keep images as they are
    return f"--{name}={','.join(value) if isinstance(value, list) else value}"
