{#- After each build of a table of the index: what arrived lies behind the rows that are in order, each load sorted in
    itself. Past recall_tail_rows and a tenth of the table, all of it is written anew in its order, in the transaction that
    brought the rows: so each row is written about ten times in its life at most, however large the table.

    How long the tail is stands in meta.index_layout (made when the run begins: models are built side by side), so that nothing is read but the rows of this load: row groups of
    earlier loads are left out by their least and greatest batch_seq.

    relation    the table; it has a column batch_seq
    columns     its order
    by_run      rows also come, or are written anew, without being of a new load (vectors that were waiting): what
                counts is which run wrote them, in run_id. A load that is the whole table is in order -#}
{% macro recluster(relation, columns, by_run=false) %}
    {%- if execute and not flags.EMPTY -%}
        {%- set name = relation.schema ~ '.' ~ relation.identifier -%}
        {%- set known = run_query(
            "select row_count, tail_rows, batch_seq from meta.index_layout where relation = '" ~ name ~ "'"
        ).rows -%}
        {%- set is_anew = should_full_refresh() or not known -%}
        {%- set is_new = "run_id = cast('" ~ invocation_id ~ "' as uuid)" if by_run
            else 'batch_seq > ' ~ (0 if is_anew else known[0][2]) -%}
        {%- set arrived = run_query(
            'select count(*), max(batch_seq) from ' ~ relation ~ ('' if is_anew else ' where ' ~ is_new)
        ).rows[0] -%}
        {%- set arrived_rows = arrived[0] | int -%}
        {%- if by_run and arrived_rows -%}
            {%- set row_count = run_query('select count(*) from ' ~ relation).rows[0][0] | int -%}
        {%- else -%}
            {%- set row_count = arrived_rows + (0 if is_anew else known[0][0] | int) -%}
        {%- endif -%}
        {%- set is_whole = is_anew or (by_run and arrived_rows == row_count) -%}
        {%- set tail_rows = 0 if is_whole else arrived_rows + (known[0][1] | int) -%}
        {%- if is_long_index_tail(tail_rows, row_count) -%}
            {%- call statement('recluster') -%}
                create or replace table {{ relation }} as
                select * from {{ relation }} order by {{ columns | join(', ') }}
            {%- endcall -%}
            {%- do persist_docs(relation.incorporate(type='table'), model) -%}
            {%- do log('mnemoduck: ' ~ name ~ ' was written anew in its order, ' ~ row_count ~ ' rows', info=true) -%}
            {%- do record_index_layout(name, row_count, 0, arrived[1] or known[0][2]) -%}
        {%- elif arrived_rows or is_anew -%}
            {%- do record_index_layout(name, row_count, tail_rows, arrived[1] or 0) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{% macro is_long_index_tail(tail_rows, row_count) %}
    {{- return(tail_rows > parameter('recall_tail_rows') and tail_rows > row_count / 10) -}}
{% endmacro %}


{% macro record_index_layout(name, row_count, tail_rows, batch_seq) %}
    {%- do run_query(
        "insert or replace into meta.index_layout values ('" ~ name ~ "', " ~ row_count ~ ', ' ~ tail_rows ~ ', '
        ~ batch_seq ~ ')'
    ) -%}
{% endmacro %}
