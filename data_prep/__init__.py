"""Offline tools that turn images into the records that training reads.

In the order of imports, each needing only those above it:

    headers, ordered, progress, quiet       of images' first bytes; of threads; of the terminal
    plan                                    a domain as its source describes it; what every source must pass
    config                                  what the converter was asked for
    workspace, sources/, images             where a domain is built; where images come from; what a good one is
    writer, existing                        records, shuffled; whether a domain is there already
    build, verification, demo/              one domain made, read again, drawn
    colours, concepts                       the colour name of a pixel; images whose pixels are labelled
    conversion                              all domains
    convert, verify, make_demo, make_concepts    the commands
"""

# Sets TensorFlow's log level, which must be done before any module here imports TensorFlow.
import tfmdl  # noqa: F401
