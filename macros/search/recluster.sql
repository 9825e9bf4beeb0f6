{#- After each build of a table of the index: what arrived lies behind the rows that are in order, each load sorted in
    itself. Past recall_tail_rows and a tenth of the table, all of it is written anew in its order, in the transaction that
    brought the rows: so each row is written about ten times in its life at most, however large the table.

    How long the tail is stands in meta.index_layout (made when the run begins: models are built side by side), so that nothing is read but the rows of this load: row groups of
    earlier loads are left out by their least and greatest batch_seq.

    relation    the table; it has a column batch_seq. Its order is the model's meta clustered_by
    by_run      rows also come, or are written anew, without being of a new load (vectors that were waiting): what
                counts is which run wrote them, in run_id. A load that is the whole table is in order -#}
{% macro recluster(relation, by_run=false) %}
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
            {%- do write_in_order(relation.incorporate(type='table'), model) -%}
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


{#- Write a table anew in the order that its model's meta says, with its comments. -#}
{% macro write_in_order(relation, node) %}
    {%- call statement('recluster') -%}
        create or replace table {{ relation }} as
        select * from {{ relation }} order by {{ node.config.meta.clustered_by | join(', ') }}
    {%- endcall -%}
    {#- persist_docs asks the config of the model that is built, and an operation builds none. -#}
    {%- do run_query(alter_relation_comment(relation, node.description)) -%}
    {%- do run_query(alter_column_comment(relation, node.columns)) -%}
{% endmacro %}


{#- An operation for quiet hours: tables of the index whose tail is past a tenth of recall_tail_rows are written anew in
    their order, however large they are. Readers have it with the next snapshot. -#}
{% macro recluster_index() %}
    {%- set tails = {} -%}
    {%- for name, row_count, batch_seq in run_query(
        'select relation, row_count, batch_seq from meta.index_layout where tail_rows > '
        ~ parameter('recall_tail_rows') / 10
    ).rows -%}
        {%- do tails.update({name: (row_count, batch_seq)}) -%}
    {%- endfor -%}
    {%- for node in graph.nodes.values() if node.schema ~ '.' ~ node.alias in tails -%}
        {%- set name = node.schema ~ '.' ~ node.alias -%}
        {%- set row_count, batch_seq = tails[name] -%}
        {%- do begin_transaction() -%}
        {%- do write_in_order(api.Relation.create(schema=node.schema, identifier=node.alias, type='table'), node) -%}
        {%- do record_index_layout(name, row_count, 0, batch_seq) -%}
        {%- do adapter.commit() -%}
        {%- do say('reclustered ' ~ name ~ ': ' ~ row_count ~ ' rows') -%}
    {%- else -%}
        {%- do say('the search index is in order') -%}
    {%- endfor -%}
{% endmacro %}
