"""Does a feature follow the concept, or only its words?"""

from __future__ import annotations

import numpy as np

from audit.analysis.contrast_data import CueScores
from audit.analysis.effects import Bootstrap
from audit.arrays import Confirmation
from audit.records import Lexical

# A feature that follows the words alone reaches most of its effect on the cue words and little without them.
CUE_SHARE = 0.8
FREE_SHARE = 0.2
_FEWEST_SCENARIOS = 8


def lexical_verdict(cues: CueScores | None, latent: int, sign: float, bootstrap: Bootstrap | None) -> Lexical:
    """Tell whether a feature follows the cue words: as strong on `cue` as on `concept`, absent on `cue_free`.

    `not lexical` needs more than a failed condition: one of the two must fail beyond a 95% bootstrap interval over
    scenarios. A feature that fires less on the concept than on neutral text has no cue to follow and is not tested.

    Args:
        cues: scores of the scenarios that have cue arms; None where there are none.
        latent: the feature.
        sign: its direction on discovery.
        bootstrap: over those scenarios; None where there are none.
    """
    if cues is None or bootstrap is None or sign < 0 or len(cues.cue.scenarios) < _FEWEST_SCENARIOS:
        return Lexical.NOT_TESTED
    concept, cue, free = (part.columns(np.array([latent]))[:, 0] for part in (cues.concept, cues.cue, cues.cue_free))
    if concept.mean() <= 0:
        return Lexical.NOT_TESTED
    conditions = np.stack([CUE_SHARE * concept - cue, free - FREE_SHARE * concept], axis=1)
    if (conditions.mean(axis=0) <= 0).all():
        return Lexical.LEXICAL
    clear = np.quantile(bootstrap.shares(Confirmation(conditions)), 0.025, axis=0) > 0
    return Lexical.NOT_LEXICAL if clear.any() else Lexical.UNDECIDED
