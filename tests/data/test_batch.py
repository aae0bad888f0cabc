"""A batch spec asks only for what it names, and says what a source lacks."""

import pytest

from storyjax.data import TRUTH, BatchSpec, FolderSource
from storyjax.errors import StoryjaxError
from tests.data import worlds


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (BatchSpec(), ("images",)),
        (BatchSpec(pictures="latents", truth=("place",)), ("latents_mean", "latents_std", "place")),
        (BatchSpec(pictures=None, text="states", extra=("motion",)), ("text", "motion")),
        (BatchSpec(pictures=None, text=None, truth=TRUTH), TRUTH),
    ],
)
def test_fields(spec, fields):
    assert spec.fields == fields


def test_what_a_source_lacks_is_named_with_the_remedy(source, tmp_path):
    with pytest.raises(StoryjaxError, match="has no latents_mean, latents_std; build a cache with build_cache"):
        BatchSpec(pictures="latents").check(source)
    with pytest.raises(StoryjaxError, match="truth has no field 'charactres'; did you mean 'characters'"):
        BatchSpec(truth=("charactres",)).check(source)
    with pytest.raises(StoryjaxError, match=r"has no weather; the data must be labelled .*it has: images, characters"):
        BatchSpec(truth=("place", "weather")).check(FolderSource(worlds.write_folder(tmp_path)))
