"""The version is declared in pyproject.toml. What repeats it agrees."""

import re
import tomllib
from importlib import metadata

from rsu_pipeline.settings import project_root

ROOT = project_root()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_deployments_start_the_image_of_this_version() -> None:
    found = {
        (str(path.relative_to(ROOT)), version)
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
        for version in re.findall(
            r"(?:rsu-pipeline:|RSU_VERSION:-|tag: |rsu-migrate-)(\d+[.-]\d+[.-]\d+)", path.read_text()
        )
    }
    assert {path for path, _ in found} == {
        *("deploy/Dockerfile", "deploy/compose/compose.yaml"),
        *("deploy/kubernetes/delivery.yaml", "deploy/kubernetes/migrate.yaml", "deploy/kubernetes/values.yaml"),
    }
    assert {version.replace("-", ".") for _, version in found} == {VERSION}


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == VERSION


def test_this_version_is_installed() -> None:
    assert metadata.version("rsu-pipeline") == VERSION
