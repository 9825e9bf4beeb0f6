{#- After each build of a table of the index: what arrived lies behind the rows that are in order, each load sorted in
    itself. Past recall_tail_rows and a tenth of the table, all of it is written anew in its order, in the transaction that
    brought the rows: so each row is written about ten times in its life at most, however large the table.

    How long the tail is stands in meta.index_layout (made when the run begins: models are built side by side), so that nothing is read but the rows of this load: row groups of
    earlier loads are left out by their least and greatest batch_seq.

    relation    the table; it has a column batch_seq
    columns     its order -#}
{% macro recluster(relation, columns) %}
    {%- if execute and not flags.EMPTY -%}
        {%- set name = relation.schema ~ '.' ~ relation.identifier -%}
        {%- set known = run_query(
            "select row_count, tail_rows, batch_seq from meta.index_layout where relation = '" ~ name ~ "'"
        ).rows -%}
        {%- set is_anew = should_full_refresh() or not known -%}
        {%- set arrived = run_query(
            'select count(*), max(batch_seq) from ' ~ relation
            ~ ('' if is_anew else ' where batch_seq > ' ~ known[0][2])
        ).rows[0] -%}
        {%- set arrived_rows = arrived[0] | int -%}
        {%- set row_count = arrived_rows + (0 if is_anew else known[0][0] | int) -%}
        {%- set tail_rows = 0 if is_anew else arrived_rows + (known[0][1] | int) -%}
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
