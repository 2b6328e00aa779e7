"""What single units of a network respond to, and how far the kernels of its domains have moved.

    broden.py       images with labelled pixels, read and written in Broden's layout
    units.py        the outputs of the convolutions of one domain's network; the same network with random weights
    scoring.py      thresholds, overlap with concepts, detectors, intervals. Knows no network
    kernels.py      distances between the depthwise kernels of domains; CKA between their outputs
    measure.py      all of it for one network, as plain data
    page.py         the page

Nothing is imported here: `broden.py` is also for `data_prep/`, which needs no network.
"""
