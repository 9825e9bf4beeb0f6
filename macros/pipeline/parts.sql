{#- A model whose state cannot be spilled (lists and heaps while rows are grouped) is built in parts from nothing: the same
    statement once for each range of a key, so that it holds no more than a part, however much there is. An
    incremental run, which is in proportion to what changed, is one part.

    A model that does has pre_hook="{{ begin_parts(ref('…'), 'key') }}" and post_hook="{{ build_other_parts() }}", and
    asks {{ in_part('key') }} of what it reads. A unit test, which runs no hook, reads all. -#}

{#- Whether a row belongs to the part that is built. -#}
{% macro in_part(key) %}{{ return(adapter.dispatch('in_part', 'mnemoduck')(key)) }}{% endmacro %}

{#- Constants by the time that the statement is planned, so row groups outside of them are not read. -#}
{% macro duckdb__in_part(key) -%}
    {{ key }} between coalesce(getvariable('part_first'), -9223372036854775808)
    and coalesce(getvariable('part_last'), 9223372036854775807)
{%- endmacro %}


{#- Begin with the first part. `source` is the relation that the model reads, `key` a clustered_key of it: no scope is
    in two parts. A part has 200,000 rows, or as many as its last scope has. -#}
{% macro begin_parts(source, key) %}
    {%- if not execute -%}{{ return('') }}{%- endif -%}
    {%- if is_incremental() -%}
        {{ return(reset_parts()) }}
    {%- endif -%}
    {%- set parts -%}
        select coalesce(list(part_first order by part_first), []) from (
            select min(scope) << 43 as part_first
            from (
                select scope, sum(row_count) over (order by scope) - row_count as rows_before
                from (select {{ key }} >> 43 as scope, count(*) as row_count from {{ source }} group by all) as scopes
            ) as placed
            group by rows_before // 200000
        ) as bounds
    {%- endset -%}
    {{ return(
        reset_parts() ~ ' set variable part_bounds = (' ~ parts
        ~ "); set variable part_last = getvariable('part_bounds')[2] - 1;"
    ) }}
{% endmacro %}


{% macro build_other_parts() %}
    {%- if not execute -%}{{ return('') }}{%- endif -%}
    {%- set bounds = run_query(
        "select unnest(cast(coalesce(getvariable('part_bounds'), []) as bigint[])) as part_first order by all"
    ).columns[0].values() -%}
    {%- set statements = [] -%}
    {%- for part_first in bounds[1:] -%}
        {%- do statements.append(
            'set variable part_first = ' ~ part_first | int ~ '; set variable part_last = '
            ~ ((bounds[loop.index + 1] | int - 1) if loop.index + 1 < bounds | length else 'null')
            ~ '; insert into ' ~ this ~ ' by name select * from (' ~ sql ~ ') as part;'
        ) -%}
    {%- endfor -%}
    {{ return(statements | join(' ') ~ ' ' ~ reset_parts()) }}
{% endmacro %}


{% macro reset_parts() -%}
    {{ return('reset variable part_first; reset variable part_last; reset variable part_bounds;') }}
{%- endmacro %}
