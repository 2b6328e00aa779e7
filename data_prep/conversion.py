"""The converter: the loop over domains."""

import importlib

from data_prep.config import ConvertConfig
from tfmdl.cli import typed

# Names of modules: tensorflow-datasets is imported by the source that needs it alone.
SOURCES = {
    "decathlon": "data_prep.sources.decathlon",
    "folder": "data_prep.sources.folder",
    "tfds": "data_prep.sources.tfds_source",
}


def convert(config: ConvertConfig) -> None:
    """Converts every domain that is not yet whole in the output folder, and prints a line for each.

    Raises:
        DataError: at the first fault; the domains before it are whole, and nothing is left of the one it is
            in.
    """
    source = importlib.import_module(SOURCES[config.source]).open_source(config)
    for domain in source.domains:
        plan = source.plan(domain)
        plan.check(allow_absent=config.on_error == "skip")
        # Imported here: TensorFlow takes seconds, and most faults of a plan are told without it.
        from data_prep.build import build_domain
        from data_prep.existing import is_whole
        from data_prep.workspace import tidy

        if is_whole(plan, config):
            tidy(config.output_dir, domain)
            print(f"{domain}: already whole in {config.output_dir / domain}, skipped")
        else:
            build_domain(plan, config)
    print(f"\nNext: {typed('data_prep.verify')} --data_dir={config.output_dir}")
