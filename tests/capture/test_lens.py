"""Where the logit lens may be read."""

from __future__ import annotations

import pytest

from audit.capture.outputs import lens_is_reliable


@pytest.mark.parametrize(
    ("target", "reliable"),
    [
        ("resid_post.19", False),
        ("resid_post.20", True),
        ("mlp_out.20", True),
        ("resid_pre.20", False),
        ("resid_pre.21", True),
        ("resid_post.29", True),
        ("resid_post.0", False),
    ],
)
def test_the_last_third_of_thirty_layers_begins_at_layer_20(target: str, *, reliable: bool) -> None:
    """The input of layer 20 is what layer 19 left."""
    assert lens_is_reliable(target, layers=30) is reliable
