"""A graph of associations as the models build it, without dbt: sizes are what counts, not what it says."""

from __future__ import annotations

from pathlib import Path

import duckdb

from mnemoduck.project import render

NOW = "make_timestamp(epoch_us(now()))"
PROJECT = Path(__file__).resolve().parents[2]


def build_graph(path: Path, *, scopes: int, edges: int, concepts: int) -> None:
    """Write a database with `edges` directed associations over `scopes` users of `concepts` concepts each.

    Few concepts have many associations and many have few (a power law), as concepts of memories have: the
    largest of 8,000 concepts has about a fifth of all others. Co-activations lie in the last 60 days.
    """
    path.unlink(missing_ok=True)
    pairs = edges // scopes // 2
    key = render(PROJECT, "clustered_key", ("user_id",), "concept")
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"""
            create temp table pairs as
            with drawn as (
                select
                    scope, draw,
                    floor(power((hash(scope, draw, 1) % 1000003) / 1000003e0, 3) * {concepts}) as one,
                    floor(power((hash(scope, draw, 2) % 1000003) / 1000003e0, 1.5) * {concepts}) as other
                from range({scopes}) as scopes (scope), range({3 * pairs}) as draws (draw)
            )
            select
                'user ' || scope as user_id, least(one, other) as one, greatest(one, other) as other,
                list_sort(list({{
                    'together_at': date_trunc('second', {NOW}) - to_hours(cast(draw % 1440 as integer)),
                    'ended_at': cast(null as timestamp)
                }})) as coactivations
            from drawn
            where one <> other
            group by scope, one, other
            qualify row_number() over (partition by scope order by hash(one, other)) <= {pairs}
        """)
        connection.execute(f"""
            create table edges as
            select
                source_id, target_id,
                {render(PROJECT, "log_potential", "coactivations")} as log_potential,
                coactivations,
                list_last(coactivations).together_at as settled_at
            from (
                select {key.replace("concept", "'c' || cast(one as integer)")} as source_id,
                    {key.replace("concept", "'c' || cast(other as integer)")} as target_id, coactivations
                from pairs
                union all
                select {key.replace("concept", "'c' || cast(other as integer)")},
                    {key.replace("concept", "'c' || cast(one as integer)")}, coactivations
                from pairs
            )
            order by source_id, target_id
        """)
        connection.execute(f"create temp table levels as {render(PROJECT, 'association_levels', 'edges')}")
        connection.execute(f"""
            create table concepts as
            select
                {key} as concept_id, user_id, cast(null as varchar) as agent_id,
                '00050' || concept as shortest, [concept, concept || 's'] as forms,
                outgoing.log_norm, outgoing.neighbour_ids, outgoing.neighbour_log_potentials
            from (
                select distinct user_id, 'c' || cast(unnest([one, other]) as integer) as concept from pairs
            )
            left join ({render(PROJECT, "outgoing_associations", "edges", "levels")}) as outgoing
                on outgoing.source_id = {key}
            order by concept_id
        """)
        for name, moment in (("", None), ("_at", "cast(at_time as timestamp)")):
            at = ", at_time" if moment else ""
            spread = render(PROJECT, "spreading_activation", "concepts", "edges", NOW, moment)
            paths = render(PROJECT, "shortest_association_paths", "concepts", "edges", NOW, moment)
            connection.execute(
                f"create macro spread_activation{name}(concepts{at}, for_user := null, for_agent := null, "
                f"depth := 3, most := 10) as table {spread}"
            )
            connection.execute(
                f"create macro association_paths{name}(from_concept, to_concept{at}, for_user := null, "
                f"for_agent := null, most_hops := 4) as table {paths}"
            )
        connection.execute("checkpoint")
