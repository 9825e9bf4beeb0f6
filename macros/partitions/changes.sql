{#- An incremental run: find the rows that changed, and write those, in their months, and no others. -#}

{#- A row changed if its key is new, its hash is another, its month is, or it is to be deleted. A key
    stands in at most one month, which it tells itself or which key_months has; so only the months that the
    arriving keys point to are looked into. A cold month in which a row changed becomes a table again first.

    A changed row is updated in place if it stays where it is in the order of its month; else the old
    row is deleted and the new one inserted. -#}
{% macro find_changes(layout) %}
    {%- do write_changed(layout) -%}
    {%- set cold = [] -%}
    {%- if months_in(layout, ['cold']) -%}
        {%- set touched = run_query(
            'select distinct ' ~ month_name('unnest([old_month, new_month])') ~ ' from ' ~ layout.changed
        ).columns[0].values() -%}
        {%- set cold = months_in(layout, ['cold']) | selectattr('name', 'in', touched) | list -%}
    {%- endif -%}
    {%- for month in cold -%}
        {%- do say(
            'Rows of ' ~ month_label(month.name) ~ ', an archived month of ' ~ layout.name
            ~ ', have changed: it is restored. Archive it again when you like.'
        ) -%}
        {%- do restore_month(layout, month) -%}
    {%- endfor -%}
    {%- if cold -%}{%- do write_changed(layout) -%}{%- endif -%}
    {%- do refuse_dropped_months(layout) -%}
{% endmacro %}


{% macro write_changed(layout) %}
    {%- set keys = layout.key -%}
    {%- set place = place_columns(layout) -%}
    {%- set pointed_to = run_query(
        'select distinct ' ~ month_name('coalesce(key_months.month, ' ~ month_of_key(layout) ~ ')') ~ ' from '
        ~ layout.arrived ~ ' left join ' ~ layout.key_months ~ ' as key_months using (' ~ keys ~ ')'
    ).columns[0].values() -%}
    {%- set months = months_in(layout, ['hot', 'cold']) | selectattr('name', 'in', pointed_to) | list -%}
    {%- call statement('write_changed') -%}
        create or replace temporary table {{ layout.changed }} as
        select
            {{ keys }},
            stored.month as old_month,
            stored.row_id,
            arrived.partition_month as new_month,
            coalesce(
                stored.month = arrived.partition_month
                {%- for column in place %}
                and stored.{{ column }} is not distinct from arrived.{{ column }}
                {%- endfor %},
                false
            ) as is_in_place
        from {{ layout.arrived }} as arrived
        left join (
            {%- for month in months %}
            select
                {{ month.first_day }} as month, {{ keys }}, {{ layout.row_hash }},
                {% for column in place %}{{ column }}, {% endfor -%}
                {% if month.state == 'cold' -%}
                cast(-1 as bigint) as row_id from read_parquet({{ archive_literal(month.file) }})
                {%- else -%}
                rowid as row_id from {{ month.table }}
                {%- endif %}
            {{ 'union all by name' if not loop.last }}
            {%- else %}
            select
                cast(null as date) as month, {{ keys }}, {{ layout.row_hash }},
                {% for column in place %}{{ column }}, {% endfor -%}
                cast(null as bigint) as row_id
            from {{ layout.arrived }} where false
            {%- endfor %}
        ) as stored using ({{ keys }})
        where
            (stored.row_id is not null or arrived.partition_month is not null)
            and (
                stored.{{ layout.row_hash }} is distinct from arrived.{{ layout.row_hash }}
                or stored.month is distinct from arrived.partition_month
            )
    {%- endcall -%}
{% endmacro %}


{#- What was dropped by retention does not come back row by row: that would be a month with holes. -#}
{% macro refuse_dropped_months(layout) %}
    {%- if not months_in(layout, ['dropped']) -%}{{ return('') }}{%- endif -%}
    {%- set refused = run_query(
        'select ' ~ month_name('new_month') ~ ', count(*) from ' ~ layout.changed ~ ' where new_month in (select '
        ~ 'month from ' ~ layout.catalog ~ " where state = 'dropped') group by 1 order by 1"
    ).rows -%}
    {%- for month, count in refused -%}
        {%- do say(
            count ~ ' rows of ' ~ month_label(month) ~ ' were left out of ' ~ layout.name ~ ': that month was '
            ~ 'dropped. They stay in raw/; a --full-refresh brings the month back.'
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
    {%- set asked = names_in(config.get('merge_update_columns')) or layout.arriving_columns | map(attribute='name') | list -%}
    {{ return(layout.arriving_columns | selectattr('name', 'in', asked) | rejectattr('name', 'in', layout.settings.unique_key) | list) }}
{% endmacro %}


{#- Where a row stands in its month follows from these; a row in which one of them changed is not updated in
    place. The columns of unique indexes are among them: DuckDB writes such an update as a delete and an
    insert, which the index refuses where two rows swap their values. -#}
{% macro place_columns(layout) %}
    {%- set names = layout.settings.compound_index + [layout.settings.time]
        + layout.indexes | selectattr('unique') | map(attribute='columns') | sum(start=[]) -%}
    {{ return(updatable_columns(layout) | selectattr('name', 'in', names) | map(attribute='quoted') | list) }}
{% endmacro %}


{% macro apply_changes(layout) %}
    {%- set touched = run_query(
        'select ' ~ month_name('month') ~ ', count(*) filter (where is_in_place), '
        ~ 'count(*) filter (where is_old and not is_in_place), count(*) filter (where not is_old) from ('
        ~ 'select old_month as month, is_in_place, true as is_old from ' ~ layout.changed ~ ' where old_month is not null '
        ~ 'union all select new_month, is_in_place, false from ' ~ layout.changed
        ~ ' where new_month is not null and not is_in_place) group by 1 order by 1'
    ).rows -%}
    {%- if touched -%}
        {%- set known = months_in(layout) | map(attribute='name') | list -%}
        {%- for row in touched if row[0] not in known -%}
            {%- do create_empty_month(layout, row[0]) -%}
        {%- endfor -%}
        {%- do write_months(layout, touched) -%}
        {%- set removed, added = touched | sum(attribute=2) | int, touched | sum(attribute=3) | int -%}
        {%- if removed or added -%}{%- do write_bookkeeping(layout, removed, added) -%}{%- endif -%}
        {%- if added -%}{%- do recluster_long_tails(layout) -%}{%- endif -%}
    {%- endif -%}
    {%- do log_changes(layout, touched) -%}
{% endmacro %}


{#- All months in one statement to dbt, since each costs it several milliseconds. What an update writes is
    put beside its row ids once, not joined in every month. -#}
{% macro write_months(layout, touched) %}
    {%- set updatable = updatable_columns(layout) | map(attribute='quoted') | list -%}
    {%- call statement('write_months') -%}
        create or replace temporary table {{ layout.updates }} as
        select
            changed.old_month,
            changed.row_id
            {%- for column in updatable %},
            arrived.{{ column }}
            {%- endfor %}
        from {{ layout.changed }} as changed
        inner join {{ layout.arrived }} as arrived using ({{ layout.key }})
        where changed.is_in_place
        order by changed.old_month, changed.row_id;
        {%- for month, updated, removed, added in touched -%}
            {{- write_month(layout, month, updated | int, removed | int, added | int, updatable) -}}
        {%- endfor %}
        drop table {{ layout.updates }};
    {%- endcall -%}
    {%- do forget_months(layout) -%}
{% endmacro %}


{#- The statements that write one month. A unique ART of DuckDB still holds the keys that its transaction has
    deleted, even after the index was dropped in it; so a month that loses and gets rows is copied without its
    indexes, and they are made again. -#}
{% macro write_month(layout, month, updated, removed, added, updatable) %}
    {%- set table = month_table(layout, month) -%}
    {%- set is_copied = removed and added and layout.indexes | selectattr('unique') | list -%}
    {%- set removed_ids -%}
        select row_id from {{ layout.changed }} where old_month = {{ month_date(month) }} and not is_in_place
    {%- endset -%}
    {%- if updated %}
        update {{ table }} as stored
        set {% for column in updatable -%}
            {{ column }} = updates.{{ column }}{{ ', ' if not loop.last }}
        {%- endfor %}
        from {{ layout.updates }} as updates
        where stored.rowid = updates.row_id and updates.old_month = {{ month_date(month) }};
    {%- endif -%}
    {%- if is_copied %}
        create or replace table {{ table }} as
        select * from {{ table }} where rowid not in ({{ removed_ids }});
    {%- elif removed %}
        delete from {{ table }} where rowid in ({{ removed_ids }});
    {%- endif -%}
    {%- if added %}
        insert into {{ table }} by name
        select {{ layout.arriving_columns | map(attribute='quoted') | join(', ') }}
        from {{ layout.arrived }}
        inner join {{ layout.changed }} using ({{ layout.key }})
        where new_month = {{ month_date(month) }} and not is_in_place
        order by {{ layout.cluster_order }};
        {{ create_month_indexes(layout, month) if is_copied }}
    {%- endif -%}
    {%- if added or removed %}
        {#- The first rows of an empty month are in order. Which of the deleted rows were in the tail is not
            known, so the tail is never thought shorter than it is. -#}
        update {{ layout.catalog }} set
            tail_rows = case
                when row_count = 0 then 0 else least(tail_rows + {{ added }}, row_count + {{ added - removed }})
            end,
            row_count = row_count + {{ added - removed }}
        where month = {{ month_date(month) }};
    {%- endif -%}
{% endmacro %}


{#- What the rows that did not stay in place mean for key_months and for the access path. -#}
{% macro write_bookkeeping(layout, removed, added) %}
    {%- set keys = layout.key -%}
    {%- call statement('write_bookkeeping') -%}
        {%- if removed %}
        delete from {{ layout.key_months }}
        where ({{ keys }}) in (
            select ({{ keys }}) from {{ layout.changed }}
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
            select ({{ keys }}) from {{ layout.changed }}
            where old_month is not null and not is_in_place
        );
        {%- endif %}
        {%- if layout.access_columns and added %}
        insert into {{ layout.access }}
        select {{ layout.access_columns }}
        from {{ layout.arrived }}
        inner join {{ layout.changed }} using ({{ keys }})
        where new_month is not null and not is_in_place
        order by {{ layout.cluster_order }};
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
