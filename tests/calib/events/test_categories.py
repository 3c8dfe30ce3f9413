import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.events.categories import Axis, Categories

PT = Axis("pt", (30.0, 45.0, 52.0, 62.0, 200.0))
RING = Axis("ring", (0.0, 0.9, 1.8, 2.4), ("B", "O", "E"))
ALL = Categories.of((PT, RING, RING), ("_", ""))


def test_names_and_order():
    assert len(ALL) == 36
    assert ALL.names[:4] == ("30-45_BB", "30-45_BO", "30-45_BE", "30-45_OB")
    assert ALL.names[-1] == "62-200_EE"


def test_edges_belong_to_the_bin_above():
    assert PT.index(np.array([29.999, 30.0, 45.0, 199.999, 200.0])).tolist() == [-1, 0, 1, 3, -1]
    assert PT.index(np.array([np.nan, np.inf, -np.inf])).tolist() == [-1, -1, -1]


@given(st.integers(0, 35))
def test_index_and_bins_are_inverse(flat):
    pt, lead, sub = ALL.bins(flat)
    values = [np.array([axis.edges[i]]) for axis, i in zip(ALL.axes, (pt, lead, sub), strict=True)]
    assert ALL.index(*values)[0] == flat


def test_edges_must_ascend():
    with pytest.raises(ValueError, match="not ascending"):
        Axis("pt", (1.0, 1.0))
