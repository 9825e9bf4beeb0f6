"""One page that shows a home at a glance: made from the published snapshot, read in any browser, no network.

`read_report` reads what there is to show as plain data, `report.page.render_page` makes the page of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from mnemoduck.asking import Asker, View
from mnemoduck.errors import NothingPublishedError, SnapshotError, UsageError
from mnemoduck.fresh import FreshReader
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents
from mnemoduck.project import find_project
from mnemoduck.report.memories import MemoryPart
from mnemoduck.report.operation import find_remarks, read_operation
from mnemoduck.report.records import Report
from mnemoduck.scope import Scope
from mnemoduck.warehouse import SnapshotReader

__all__ = ["Report", "read_report"]


def read_report(home: Home, scope: Scope, as_of: datetime) -> Report:
    """Return what there is to show of a home at a moment.

    Memories are those of the published snapshot and of the scope; how the home stands is told for the whole
    of it. What was ordered forgotten is not shown, also where the order is not carried out yet.

    Raises:
        NothingPublishedError: there is no snapshot yet.
        UsageError: the moment is outside of the calendar in UTC.
        SnapshotError: the snapshot, or an archived month, cannot be read, or another version has made it.
    """
    try:
        moment = as_of.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise UsageError(f"as_of is {as_of}, which is out of range in UTC.") from error
    project = find_project()
    reader = SnapshotReader(home)
    try:
        asker = Asker(FreshReader(home, reader, project), project)
        with asker.hold():
            return asker.look(lambda view: _read(home, view, project, scope, moment), scope, None)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise SnapshotError(
            f"The published snapshot of {home.path} lacks what a report reads "
            f"({str(error).splitlines()[0]}): another version has made it. Build it anew: `mnemoduck run`."
        ) from error
    finally:
        reader.close()


def _read(home: Home, view: View, project: Path, scope: Scope, moment: datetime) -> Report:
    if view.snapshot.path is None:
        raise NothingPublishedError(
            f"There is nothing to report: nothing has been published in {home.path} yet. Build it with "
            "`mnemoduck run`."
        )
    waiting, _ = FreshEvents(home).read(view.snapshot.batch_seq)
    operation = read_operation(home, view, moment, len(waiting), len(view.fresh.forgets))
    memories = MemoryPart(view, project, moment)
    activity = memories.activity()
    return Report(
        as_of=moment.replace(tzinfo=UTC),
        scope=scope,
        remarks=find_remarks(operation, moment),
        operation=operation,
        minds=memories.minds(),
        activity=activity,
        fates=memories.fates(activity),
        curves=memories.curves(),
        graph=memories.graph(),
        strongest=memories.strongest(),
        fading=memories.fading(),
    )
