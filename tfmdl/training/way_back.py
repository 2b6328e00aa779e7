"""The end of a run that finetunes: how far its weights go back towards those that it began with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tfmdl.evaluation.accuracy import Evaluation

if TYPE_CHECKING:  # importing it takes TensorFlow; going back does not
    from tfmdl.training.setup import Job

# How far the weights have come: 0, as they were when the head was trained; 1, as training left them. Chosen by accuracy
# on one half of val and measured on the other (nine domains, as in docs/pretrained.md): 79.6; by loss 78.7.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Where there are no val images to tell. On EfficientNet-Lite0 (pointwise sharing, four epochs, one seed, val in %),
# shares of 0, 0.5, 0.75 and 1 have dtd 79.2, 79.8, 79.5 and 77.0, flowers5 71.6, 75.0, 76.5 and 75.3; of what make demo
# draws, digits 58.0, 72.8, 78.8 and 80.0, letters 61.2, 75.0, 78.1 and 78.8, shapes 95.1, 96.0, 96.9 and 97.3.
WITHOUT_VAL = 0.75


def go_back(
    job: Job,
    start: dict[str, np.ndarray],
    at_end: dict[str, Evaluation],
    evaluate: Callable[[], dict[str, Evaluation]],
    note: Callable[[str], None],
) -> dict[str, Evaluation]:
    """Sets what the only domain of a job has trained to the best weights between start and end, by val's accuracy.

    A domain of few images loses some of what the trunk knows while it learns; a share of the way keeps both. Since the
    start is one of the candidates, training does not end with less accuracy on val than the head alone has. Of shares
    of one accuracy, that with the least loss is taken.

    Args:
        job: What was trained, as training left it.
        start: By path, the weights that training began with.
        at_end: What `evaluate` finds of the model as it is now.
        evaluate: Measures the model as it is, on val; without val, by no domain.
        note: Called with a line that says what was found.

    Returns:
        What `evaluate` found of the weights that were chosen.

    Reference: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    variables = job.network.trainable_variables
    end = {variable.path: np.asarray(variable) for variable in variables}

    def come(share):
        for variable in variables:
            variable.assign((1.0 - share) * start[variable.path] + share * end[variable.path])

    if not job.val_sources:
        come(WITHOUT_VAL)
        note(f"no val images to choose by: the weights are those of {WITHOUT_VAL} of the way from head to end")
        return {}
    found = {1.0: at_end}
    for share in SHARES[:-1]:
        come(share)
        found[share] = evaluate()
    own = {share: evaluations[job.base] for share, evaluations in found.items()}
    best = max(SHARES, key=lambda share: (own[share].accuracy, -own[share].loss))
    come(best)
    told = ", ".join(f"{share:g}: {own[share].accuracy:.3f}, {own[share].loss:.3f}" for share in SHARES)
    note(f"val accuracy and loss by the share of the way from head to end: {told}; takes {best:g}")
    return found[best]
