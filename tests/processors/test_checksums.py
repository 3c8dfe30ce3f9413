"""Pages of an RNTuple that do not fit their checksums are refused; ROOT writes them, not uproot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot

from calib.errors import InputError
from processors.readers.baskets import open_baskets
from processors.readers.checksums import pages_of

REAL = Path(__file__).parents[3] / "shared" / "data" / "cms2012_doublemuparked.rntuple.root"


def read(path: Path, name: str) -> np.ndarray:
    where = {"filename": str(path), "treename": "Events", "entrystart": 100, "entrystop": 900}
    with open_baskets(where) as branches:
        return branches.jagged(name)[1]


@pytest.mark.skipif(not REAL.is_file(), reason="no ../shared/data/ beside the checkout")
def test_a_flipped_bit_in_a_page_that_is_read(tmp_path: Path) -> None:
    with uproot.open({str(REAL): "Events"}) as tree:
        own = list(pages_of(tree, ["Muon_pt"], 100, 900))
        others = set(pages_of(tree, ["Muon_eta"], 100, 900)) - set(own)
    assert own and others and all(page.has_checksum for page in own)
    good, raw = read(REAL, "Muon_pt"), REAL.read_bytes()
    copy = tmp_path / "copy.root"
    for pages, refused in ((own, True), (others, False)):
        for page in pages:
            for at in (page.start, (page.start + page.stop) // 2, page.stop - 1, page.stop + 3):
                copy.write_bytes(raw[:at] + bytes([raw[at] ^ 16]) + raw[at + 1 :])
                if refused:
                    with pytest.raises(InputError, match=r"copy\.root: the page at byte"):
                        read(copy, "Muon_pt")
                else:
                    np.testing.assert_array_equal(read(copy, "Muon_pt"), good)


def test_without_checksums_nothing_is_asked(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("Events", {"x": np.arange(1000.0)})
    with uproot.open({str(tmp_path / "a.root"): "Events"}) as tree:
        assert not any(page.has_checksum for page in pages_of(tree, ["x"], 0, 1000))
    where = {"filename": str(tmp_path / "a.root"), "entrystart": 0, "entrystop": 1000}
    with open_baskets(where) as branches:
        np.testing.assert_array_equal(branches.flat("x"), np.arange(1000.0))
