"""A finished run, for every kind of registry."""

import shutil

import pytest
from registry.runs import finished_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    return finished_run(tiny_bert, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run that a test may damage."""
    return shutil.copytree(finished, tmp_path / "run")
