{#- An incremental run: find the rows that changed, and write those, in their months, and no others. -#}

{#- A row changed if its key is new, its hash is another, its month is, or it is to be deleted. A key
    stands in at most one month, which it tells itself or which key_months has; so only the months that the
    arriving keys point to are looked into. A cold month in which a row changed becomes a table again first.

    A changed row is updated in place if it stays where it is in the order of its month; else the old
    row is deleted and the new one inserted. -#}
{% macro find_changes(layout) %}
    {%- do write_changed(layout) -%}
    {%- set cold = months_in(
        layout,
        "state = 'cold' and month in (select unnest([old_month, new_month]) from " ~ layout.changed ~ ')'
    ) -%}
    {%- for month in cold -%}
        {%- do log(
            'Rows of ' ~ month_label(month.name) ~ ', an archived month of ' ~ layout.name
            ~ ', have changed: it is restored. Archive it again when you like.', info=true
        ) -%}
        {%- do restore_month(layout, month) -%}
    {%- endfor -%}
    {%- if cold -%}{%- do write_changed(layout) -%}{%- endif -%}
    {%- do refuse_dropped_months(layout) -%}
{% endmacro %}


{% macro write_changed(layout) %}
    {%- set keys = layout.key_columns | join(', ') -%}
    {%- set place = (layout.settings.compound_index + [layout.time]) | unique
        | select('in', updatable_columns(layout)) | list -%}
    {%- set deleted_column = config.get('deleted_column') -%}
    {%- call statement('write_arrived_months') -%}
        create or replace temporary table {{ layout.changed }} as
        select
            {{ keys }},
            coalesce(key_months.month, {{ month_of_key(layout) }}) as month
        from {{ layout.arrived }} as arrived
        left join {{ layout.key_months }} as key_months using ({{ keys }})
    {%- endcall -%}
    {%- set months = months_in(
        layout, "state in ('hot', 'cold') and month in (select month from " ~ layout.changed ~ ')'
    ) -%}
    {%- call statement('write_changed') -%}
        create or replace temporary table {{ layout.changed }} as
        select
            {{ keys }},
            stored.month as old_month,
            stored.row_id,
            {% if deleted_column -%}
            case when not coalesce(arrived.{{ deleted_column }}, false) then arrived.partition_month end
            {%- else -%}
            arrived.partition_month
            {%- endif %} as new_month,
            coalesce(
                stored.month = new_month
                {%- for column in place %}
                and stored.{{ column }} is not distinct from arrived.{{ column }}
                {%- endfor %},
                false
            ) as is_in_place
        from {{ layout.arrived }} as arrived
        left join (
            {%- for month in months %}
            select
                {{ month_date(month.name) }} as month, {{ keys }}, {{ layout.row_hash }},
                {% for column in place if column not in layout.key_columns %}{{ column }}, {% endfor -%}
                {% if month.state == 'cold' -%}
                cast(-1 as bigint) as row_id from read_parquet({{ archive_literal(month.file) }})
                {%- else -%}
                rowid as row_id from {{ month_table(layout, month.name) }}
                {%- endif %}
            {{ 'union all by name' if not loop.last }}
            {%- else %}
            select
                cast(null as date) as month, {{ keys }}, {{ layout.row_hash }},
                {% for column in place if column not in layout.key_columns %}{{ column }}, {% endfor -%}
                cast(null as bigint) as row_id
            from {{ layout.arrived }} where false
            {%- endfor %}
        ) as stored using ({{ keys }})
        where
            (stored.row_id is not null or new_month is not null)
            and (
                stored.{{ layout.row_hash }} is distinct from arrived.{{ layout.row_hash }}
                or stored.month is distinct from new_month
            )
    {%- endcall -%}
{% endmacro %}


{#- What was dropped by retention does not come back row by row: that would be a month with holes. -#}
{% macro refuse_dropped_months(layout) %}
    {%- set refused = run_query(
        'select ' ~ month_name('new_month') ~ ', count(*) from ' ~ layout.changed ~ ' where new_month in (select '
        ~ 'month from ' ~ layout.catalog ~ " where state = 'dropped') group by 1 order by 1"
    ).rows -%}
    {%- for month, count in refused -%}
        {%- do log(
            count ~ ' rows of ' ~ month_label(month) ~ ' were left out of ' ~ layout.name ~ ': that month was '
            ~ 'dropped. They stay in raw/; a --full-refresh brings the month back.', info=true
        ) -%}
    {%- endfor -%}
    {%- if refused -%}
        {%- call statement('refuse_dropped_months') -%}
            update {{ layout.changed }} set new_month = null, is_in_place = false
            where new_month in (select month from {{ layout.catalog }} where state = 'dropped');
            delete from {{ layout.changed }} where new_month is null and old_month is null;
        {%- endcall -%}
    {%- endif -%}
{% endmacro %}


{#- The columns that an update writes: merge_update_columns, by dbt's name for it, or all but the key. -#}
{% macro updatable_columns(layout) %}
    {%- set asked = config.get('merge_update_columns') -%}
    {%- set columns = [] -%}
    {%- for column in layout.arriving_columns if column.name not in layout.key_columns and (not asked or column.name in asked) -%}
        {%- do columns.append(column.name) -%}
    {%- endfor -%}
    {{ return(columns) }}
{% endmacro %}


{% macro apply_changes(layout) %}
    {%- set touched = run_query(
        'select ' ~ month_name('month') ~ ', count(*) filter (where is_in_place), '
        ~ 'count(*) filter (where is_old and not is_in_place), count(*) filter (where not is_old) from ('
        ~ 'select old_month as month, is_in_place, true as is_old from ' ~ layout.changed ~ ' where old_month is not null '
        ~ 'union all select new_month, is_in_place, false from ' ~ layout.changed
        ~ ' where new_month is not null and not is_in_place) group by 1 order by 1'
    ).rows -%}
    {%- set known = months_in(layout) | map(attribute='name') | list -%}
    {%- for row in touched if row[0] not in known -%}
        {%- do create_empty_month(layout, row[0]) -%}
    {%- endfor -%}
    {%- for month, updated, removed, added in touched -%}
        {%- do write_month(layout, month, updated | int, removed | int, added | int) -%}
    {%- endfor -%}
    {%- if touched -%}
        {%- do write_bookkeeping(layout) -%}
        {%- do recluster_long_tails(layout) -%}
    {%- endif -%}
    {%- do log_changes(layout, touched) -%}
{% endmacro %}


{#- Deletes and inserts of one key in a transaction break a unique ART of DuckDB, so a month with both is
    written without its unique indexes and then anew. -#}
{% macro write_month(layout, month, updated, removed, added) %}
    {%- set table, keys = month_table(layout, month), layout.key_columns | join(', ') -%}
    {%- set unique_indexes = layout.indexes | selectattr('unique') | list if removed and added else [] -%}
    {%- call statement('write_month') -%}
        {%- for index in unique_indexes %}
        drop index {{ layout.schema }}.{{ month }}_{{ index.columns | join('_') }};
        {%- endfor %}
        {%- if updated %}
        update {{ table }} as stored
        set {% for column in updatable_columns(layout) -%}
            {{ adapter.quote(column) }} = arrived.{{ adapter.quote(column) }}{{ ', ' if not loop.last }}
        {%- endfor %}
        from {{ layout.changed }} as changed
        inner join {{ layout.arrived }} as arrived using ({{ keys }})
        where stored.rowid = changed.row_id and changed.old_month = {{ month_date(month) }} and changed.is_in_place;
        {%- endif %}
        {%- if removed %}
        delete from {{ table }}
        where rowid in (
            select row_id from {{ layout.changed }} where old_month = {{ month_date(month) }} and not is_in_place
        );
        {%- endif %}
        {%- if added %}
        insert into {{ table }} by name
        select {{ layout.arriving_columns | map(attribute='quoted') | join(', ') }}
        from {{ layout.arrived }}
        inner join {{ layout.changed }} using ({{ keys }})
        where new_month = {{ month_date(month) }} and not is_in_place
        order by {{ layout.cluster_columns | join(', ') }};
        {%- endif %}
        {#- The first rows of an empty month are in order; what is deleted from a tail is not known, so the
            tail is never thought shorter than it is. -#}
        update {{ layout.catalog }} set
            tail_rows = case
                when row_count = 0 then 0 else least(tail_rows + {{ added }}, row_count + {{ added - removed }})
            end,
            row_count = row_count + {{ added - removed }}
        where month = {{ month_date(month) }};
    {%- endcall -%}
    {%- if unique_indexes -%}{%- do recluster_month(layout, month) -%}{%- endif -%}
{% endmacro %}


{% macro write_bookkeeping(layout) %}
    {%- set keys = layout.key_columns | join(', ') -%}
    {%- set moved = run_query(
        'select count(*) filter (where old_month is not null), count(*) filter (where new_month is not null) from '
        ~ layout.changed ~ ' where not is_in_place'
    ).rows[0] -%}
    {%- set removed, added = moved[0] | int, moved[1] | int -%}
    {%- call statement('write_bookkeeping') -%}
        {%- if removed %}
        delete from {{ layout.key_months }}
        where ({{ keys }}) in (
            select {{ 'row(' ~ keys ~ ')' if layout.key_columns | length > 1 else keys }} from {{ layout.changed }}
            where old_month is distinct from new_month and old_month is not null
        );
        {%- endif %}
        {%- if added %}
        insert into {{ layout.key_months }}
        select {{ keys }}, new_month from {{ layout.changed }}
        where
            new_month is not null
            and old_month is distinct from new_month
            and {{ month_of_key(layout) }} is distinct from new_month;
        {%- endif %}
        {%- if layout.access_columns and removed %}
        delete from {{ layout.access }}
        where ({{ keys }}) in (
            select {{ 'row(' ~ keys ~ ')' if layout.key_columns | length > 1 else keys }} from {{ layout.changed }}
            where old_month is not null and not is_in_place
        );
        {%- endif %}
        {%- if layout.access_columns and added %}
        insert into {{ layout.access }}
        select {{ layout.access_columns | join(', ') }}
        from {{ layout.arrived }}
        inner join {{ layout.changed }} using ({{ keys }})
        where new_month is not null and not is_in_place
        order by {{ layout.cluster_columns | join(', ') }};
        {%- endif %}
        update {{ layout.settings_table }} set
            access_row_count = access_row_count + {{ added - removed }},
            access_tail_rows = access_tail_rows + {{ added }};
    {%- endcall -%}
{% endmacro %}


{% macro log_changes(layout, touched) %}
    {%- set updated = touched | map(attribute=1) | map('int') | sum -%}
    {%- set removed = touched | map(attribute=2) | map('int') | sum -%}
    {%- set added = touched | map(attribute=3) | map('int') | sum -%}
    {%- do log(
        layout.name ~ ': ' ~ updated ~ ' rows updated in place, ' ~ removed ~ ' removed, ' ~ added
        ~ ' added, in ' ~ touched | length ~ ' months'
    ) -%}
{% endmacro %}
