"""Each family's objectives are those of its trainables."""

import importlib

import pytest

from models.families import FAMILIES
from trainers.objectives import objective_class

TRAINED = [family for family in FAMILIES if family.trainables]


@pytest.mark.parametrize("family", TRAINED, ids=lambda family: family.name)
def test_objectives_and_trainables_are_the_same(family):
    module = importlib.import_module(f"trainers.objectives.{family.name}")
    assert set(module.OBJECTIVES) == {one.name for one in family.trainables}
    for one in family.trainables:
        assert objective_class(one.name).model_config is one.config


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model family .maskgct_ts2'.*did you mean 'maskgct_t2s'"):
        objective_class("maskgct_ts2")
