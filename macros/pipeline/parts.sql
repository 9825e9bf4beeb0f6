{#- A model whose state cannot be spilled (lists, heaps and windows) is built in parts: the same statement once for each
    range of a key, so that it holds no more than a part, however much there is. An incremental run parts what arrived.

    A model that does has pre_hook="{{ begin_parts(ref('…'), 'key', bytes_a_row, arrived=…) }}" and asks {{ in_part('key') }}
    of what it reads. The materializations monthly_partitioned and, of an incremental run, incremental write the other
    parts themselves; to build it from nothing the latter needs post_hook="{{ build_other_parts() }}". What a model reads of
    itself is the same for each part: nothing is written before the last one was read. A unit test, which runs
    no hook, reads all. -#}

{#- Whether a row belongs to the part that is built. -#}
{% macro in_part(key) %}{{ return(adapter.dispatch('in_part', 'mnemoduck')(key)) }}{% endmacro %}

{#- Constants by the time that the statement is planned, so row groups outside of them are not read; and where there is one
    part, it is no condition at all, of which the planner would think that a fifth of the rows fulfil it. -#}
{% macro duckdb__in_part(key) -%}
    (
        (getvariable('part_first') is null and getvariable('part_last') is null)
        or {{ key }} between coalesce(getvariable('part_first'), -9223372036854775808)
        and coalesce(getvariable('part_last'), 9223372036854775807)
    )
{%- endmacro %}


{#- A number by which rows of one scope are in one part, made of a key that is a hash. -#}
{% macro part_key(hash) %}{{ return(adapter.dispatch('part_key', 'mnemoduck')(hash)) }}{% endmacro %}

{% macro duckdb__part_key(hash) -%}
    (cast('0x' || left(cast({{ hash }} as varchar), 8) as bigint) << 31)
{%- endmacro %}


{#- Begin with the first part. `source` is the relation that the model reads, `key` a clustered_key or part_key of it: no
    scope is in two parts. A part has as many rows as memory holds if each takes `bytes_a_row` (measured: with how little
    memory the model could be built), at most `most_rows`, or as many as its last scope has.

    Of an incremental run, `arrived` is a query for what it has in play, with the columns that the key needs, each of its
    rows standing for `rows_each`: an expression. It is near enough if it is spread over the key as what is in play. -#}
{% macro begin_parts(source, key, bytes_a_row, most_rows=none, arrived=none, rows_each='1') %}
    {%- if not execute -%}{{ return('') }}{%- endif -%}
    {%- if not is_incremental() -%}
        {{ return(parts_of(source, key, bytes_a_row, most_rows)) }}
    {%- endif -%}
    {#- dbt's own materialization, which knows no parts, writes a table that is not as its .yml says. -#}
    {%- if model.config.materialized == 'incremental' and not is_as_described(load_cached_relation(this)) -%}
        {{ return(reset_parts()) }}
    {%- endif -%}
    {{ return(parts_of('(' ~ arrived ~ ')', key, bytes_a_row, most_rows, rows_each)) }}
{% endmacro %}


{#- Statements that set the bounds of parts of a relation, and begin with the first. -#}
{% macro parts_of(source, key, bytes_a_row, most_rows=none, rows_each='1') %}
    {%- set held_rows = "parse_formatted_bytes(current_setting('memory_limit')) // " ~ bytes_a_row -%}
    {%- set part_rows = 'least(' ~ held_rows ~ ', ' ~ most_rows ~ ')' if most_rows else held_rows -%}
    {%- set parts -%}
        select coalesce(list(part_first order by part_first), []) from (
            select min(scope) << 43 as part_first
            from (
                select scope, sum(row_count) over (order by scope) - row_count as rows_before
                from (
                    select {{ key }} >> 43 as scope, cast(count(*) * {{ rows_each }} as bigint) as row_count
                    from {{ source }} as in_play
                    group by {{ key }} >> 43
                ) as scopes
            ) as placed
            group by rows_before // greatest({{ part_rows }}, 1)
        ) as bounds
    {%- endset -%}
    {{ return(
        reset_parts() ~ ' set variable part_bounds = (' ~ parts
        ~ "); set variable part_last = getvariable('part_bounds')[2] - 1;"
    ) }}
{% endmacro %}


{% macro build_other_parts() %}
    {%- if not execute or is_incremental() -%}{{ return('') }}{%- endif -%}
    {{ return(inserts_of_other_parts(this, sql)) }}
{% endmacro %}


{#- Statements that write the parts after the first one, of a query, into a table. -#}
{% macro inserts_of_other_parts(target, query) %}
    {%- set bounds = run_query(
        "select unnest(cast(coalesce(getvariable('part_bounds'), []) as bigint[])) as part_first order by all"
    ).columns[0].values() -%}
    {%- set statements = [] -%}
    {%- for part_first in bounds[1:] -%}
        {%- do statements.append(
            'set variable part_first = ' ~ part_first | int ~ '; set variable part_last = '
            ~ ((bounds[loop.index + 1] | int - 1) if loop.index + 1 < bounds | length else 'null')
            ~ '; insert into ' ~ target ~ ' by name select * from (' ~ query ~ ') as part;'
        ) -%}
    {%- endfor -%}
    {{ return(statements | join(' ') ~ ' ' ~ reset_parts()) }}
{% endmacro %}


{% macro reset_parts() -%}
    {{ return('reset variable part_first; reset variable part_last; reset variable part_bounds;') }}
{%- endmacro %}


{#- A query for the rows of a relation that came after the newest of a table, by the batches in which each changed. -#}
{% macro rows_since(relation, column, known, known_column, columns='*') -%}
    select {{ columns }} from {{ relation }}
    where {{ column }} > coalesce({{ newest_of(known, known_column) }}, 0)
{%- endmacro %}
