"""An evaluation is what a user does: import, build, recall."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.workbench import Workbench
from tests.unit.test_evaluation import LOCOMO, write


def test_the_file_is_built_before_it_is_asked_about(bench: Workbench, tmp_path: Path) -> None:
    file = write(tmp_path / "l.json", LOCOMO)
    done = bench.mnemoduck("eval", "locomo", str(file), "--home", str(bench.home), "--json")
    assert done.code == 0, done.out + done.err
    result = json.loads(done.out)
    assert result["is_built"]
    assert result["measures"]["recall@5"]["all"]["value"] == 1
    assert bench.query("select count(*) from staging.stg_memories") == [(4,)]
    assert bench.query("select count(*) from staging.stg_recalls") == [(0,)], "a measurement is no use"
