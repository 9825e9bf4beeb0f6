{#- Rows that are never changed: what changes is written again, with the next `revision`, and the newest one holds.

    A deleted row costs DuckDB more than itself: of every 2,048 rows in which one was deleted it holds 16 KB in memory, in
    whoever reads the table and at every checkpoint, and cannot let them go. Of 300 million rows, a hundredth of which was
    replaced here and there, that is 2.4 GB (docs/performance-profile.md). So a large table whose rows change all over it
    keeps versions. Its model's meta says of which key, `versions_of`, and in which order, `clustered_by`. -#}

{#- A query for the rows that hold. Only what was written again is grouped: the first versions of it are known by that. -#}
{% macro newest_versions(relation, key) -%}
    select stored.*
    from {{ relation }} as stored
    left join (
        select
            {% for column in key %}{{ column }}, {% endfor -%}
            max(revision) as newest_revision

        from {{ relation }}
        where revision > 1
        group by {{ key | join(', ') }}
    ) as revised
        on
            {%- for column in key %}
            {{ 'and ' if not loop.first }}stored.{{ column }} = revised.{{ column }}
            {%- endfor %}
    where stored.revision = coalesce(revised.newest_revision, 1)
{%- endmacro %}


{#- After each build of such a table: when more than recall_tail_rows of its rows, and a tenth of them, were written again, it
    is written anew without what they replaced. So each row is written about ten times in its life at most. How many
    there are is read from the rows themselves: row groups without any are left out by their greatest revision.

    relation     the table
    key          the column of which a part is a range of scopes, a clustered_key
    bytes_a_row  what a row takes while its part is sorted -#}
{% macro compact_versions(relation, key, bytes_a_row) %}
    {%- if execute and not flags.EMPTY -%}
        {%- set counted = run_query(
            'select (select count(*) from ' ~ relation ~ '), (select count(*) from ' ~ relation ~ ' where revision > 1)'
        ).rows[0] -%}
        {%- if is_long_index_tail(counted[1] | int, counted[0] | int) -%}
            {%- do write_newest_versions(relation.incorporate(type='table'), model, key, bytes_a_row) -%}
            {%- do log(
                'mnemoduck: ' ~ relation ~ ' was written anew, ' ~ counted[0] ~ ' rows, of which '
                ~ counted[1] ~ ' had been written again', info=true
            ) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{#- In parts, as it was built from nothing: sorting all of it would take as much disk again as it has. -#}
{% macro write_newest_versions(relation, node, key, bytes_a_row) %}
    {%- set compacted = relation.incorporate(path={'identifier': relation.identifier ~ '__compacted'}) -%}
    {%- set query -%}
        select * replace (cast(1 as integer) as revision)
        from (
            {{ newest_versions(relation, node.config.meta.versions_of) }}
        ) as newest
        where {{ in_part(key) }}
        order by {{ node.config.meta.clustered_by | join(', ') }}
    {%- endset -%}
    {%- call statement('begin_parts') -%}{{ parts_of(relation, key, bytes_a_row) }}{%- endcall -%}
    {%- call statement('compact') -%}
        create or replace table {{ compacted }} as
        {{ query }}
    {%- endcall -%}
    {%- call statement('compact_other_parts') -%}{{ inserts_of_other_parts(compacted, query) }}{%- endcall -%}
    {%- call statement('replace_by_compacted') -%}
        drop table {{ relation }};
        alter table {{ compacted }} rename to {{ adapter.quote(relation.identifier) }};
    {%- endcall -%}
    {#- persist_docs asks the config of the model that is built, and an operation builds none. -#}
    {%- do run_query(alter_relation_comment(relation, node.description)) -%}
    {%- do run_query(alter_column_comment(relation, node.columns)) -%}
{% endmacro %}
