"""A policy's files lie among ours."""

import pytest
from django.db import IntegrityError


@pytest.mark.parametrize("folder", ["/etc", "../other", "models/../../other", "runs/..", "/"])
def test_a_model_folder_outside_of_the_data_is_refused(project, folder):
    with pytest.raises(IntegrityError, match="model_folders_lie_in_data_dir"):
        project.policies.create(name="sly", origin="external", folder=folder)


@pytest.mark.parametrize("folder", ["", "models/base-smol", "runs/7/t1/model", "models/..b", "a.."])
def test_one_inside_is_taken(project, folder):
    project.policies.create(name="honest", origin="external", folder=folder)
