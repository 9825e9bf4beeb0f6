{#- The life of a month after it was built: `dbt run-operation` macros, which `mnemoduck partitions` calls.

        hot      a table
        cold     a Parquet file under archive/, still in every view
        dropped  gone from the warehouse; its events stay in raw/

    Each month is archived or restored in a transaction of its own, after everything that can be wrong was
    checked; what was interrupted can be run again. Cost: in proportion to the month. -#}

{#- Write months to archive/, verify rows and checksum against the tables, then drop the tables.

    Arguments: `months`, a list such as ['2024-01']; or `before`, for all hot months earlier than it. -#}
{% macro partitions_archive(model, months=none, before=none) %}
    {%- set layout = built_layout(model) -%}
    {%- set chosen = choose_months(layout, months, before, 'hot') -%}
    {%- do check_are_past(layout, chosen) -%}
    {%- for month in chosen -%}
        {%- if month.state == 'cold' -%}
            {%- do say(month_label(month.name) ~ ' of ' ~ model ~ ' is archived already') -%}
        {%- else -%}
            {%- do archive_month(layout, month) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do publish_life_cycle() -%}
{% endmacro %}


{% macro archive_month(layout, month) %}
    {%- set table = month.table -%}
    {%- set temporary = run_query(
        "select mnemoduck_begin_archive('" ~ layout.name ~ "', '" ~ month_label(month.name) ~ "')"
    ).columns[0].values()[0] -%}
    {%- set literal = dbt.string_literal(dbt.escape_single_quotes(temporary)) -%}
    {%- do run_query(
        'copy (select * from ' ~ table ~ ' order by ' ~ clustering(layout, table, 'true') ~ ') to ' ~ literal
        ~ ' (format parquet, compression zstd)'
    ) -%}
    {%- set kept = types_by_name(describe_columns('select * from read_parquet(' ~ literal ~ ')')) -%}
    {%- set stored = checksum_of(layout, table) -%}
    {%- set written = checksum_of(
        layout, '(select ' ~ columns_from_file(layout, kept) ~ ' from read_parquet(' ~ literal ~ '))'
    ) -%}
    {%- if stored != written -%}
        {%- do exceptions.raise_compiler_error(
            'The archive of ' ~ month_label(month.name) ~ ' of ' ~ layout.name ~ ' does not say what its table '
            ~ 'says (' ~ written ~ ' against ' ~ stored ~ '). The table was kept; try again.'
        ) -%}
    {%- endif -%}
    {%- set sealed = run_query('select unnest(mnemoduck_seal_archive(' ~ literal ~ '))').columns[0].values() -%}
    {%- do begin_transaction() -%}
    {%- call statement('archive_month') -%}
        drop table {{ table }};
        update {{ layout.catalog }} set
            state = 'cold', tail_rows = 0, archive_file = '{{ sealed[0] }}',
            archive_sha256 = '{{ sealed[1] }}', archive_bytes = {{ sealed[2] }}
        where month = {{ month.first_day }};
    {%- endcall -%}
    {%- do forget_months(layout) -%}
    {%- do create_partition_views(layout) -%}
    {%- do adapter.commit() -%}
    {%- do say('archived ' ~ month_label(month.name) ~ ' of ' ~ layout.name ~ ': ' ~ month.rows ~ ' rows, ' ~ sealed[0]) -%}
{% endmacro %}


{#- Make tables of archived months again. -#}
{% macro partitions_restore(model, months=none, before=none) %}
    {%- set layout = built_layout(model) -%}
    {%- set chosen = choose_months(layout, months, before, 'cold') -%}
    {%- for month in chosen if month.state == 'cold' -%}
        {%- do check_archive(layout, month) -%}
    {%- endfor -%}
    {%- for month in chosen -%}
        {%- if month.state == 'hot' -%}
            {%- do say(month_label(month.name) ~ ' of ' ~ model ~ ' is a table already') -%}
        {%- else -%}
            {%- do begin_transaction() -%}
            {%- do restore_month(layout, month) -%}
            {%- do create_partition_views(layout) -%}
            {%- do adapter.commit() -%}
            {%- do say('restored ' ~ month_label(month.name) ~ ' of ' ~ model ~ ': ' ~ month.rows ~ ' rows') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do publish_life_cycle() -%}
{% endmacro %}


{#- Make the table of an archived month again, within the transaction that is open. Its file is left: a
    published snapshot may still read it. -#}
{% macro restore_month(layout, month) %}
    {%- do check_archive(layout, month) -%}
    {%- set kept_in_files = columns_of_files(layout, [month]) -%}
    {%- call statement('restore_month') -%}
        create table {{ month.table }} as
        {{ select_month(layout, month, kept_in_files) }};
        {{ create_month_indexes(layout, month.name) }}
        update {{ layout.catalog }} set
            state = 'hot', archive_file = null, archive_bytes = null, archive_sha256 = null
        where month = {{ month.first_day }};
    {%- endcall -%}
    {%- do forget_months(layout) -%}
{% endmacro %}


{#- Drop months for good: by name, or all that are earlier than `before`. Without `yes` it only says what
    would be lost. -#}
{% macro partitions_drop(model, months=none, before=none, yes=false) %}
    {%- set layout = built_layout(model) -%}
    {%- set chosen = choose_months(layout, months, before, 'any') -%}
    {%- do check_are_past(layout, chosen) -%}
    {%- for month in chosen if month.state == 'dropped' -%}
        {%- do say(month_label(month.name) ~ ' of ' ~ model ~ ' is dropped already') -%}
    {%- endfor -%}
    {%- set chosen = chosen | rejectattr('state', 'equalto', 'dropped') | list -%}
    {%- set rows = chosen | map(attribute='rows') | sum -%}
    {%- if not yes -%}
        {%- do say(
            'nothing dropped: it would take ' ~ rows ~ ' rows of ' ~ chosen | length ~ ' months from ' ~ model
            ~ '. Add "yes": true, in quotes, to do it'
        ) -%}
        {{ return('') }}
    {%- endif -%}
    {%- do begin_transaction() -%}
    {%- for month in chosen -%}{%- do drop_month(layout, month) -%}{%- endfor -%}
    {%- do create_partition_views(layout) -%}
    {%- do adapter.commit() -%}
    {%- for month in chosen -%}
        {%- do say('dropped ' ~ month_label(month.name) ~ ' of ' ~ model ~ ': ' ~ month.rows ~ ' rows') -%}
    {%- endfor -%}
{% endmacro %}


{#- The rows are other rows now: nothing is published until they were tested again. -#}
{% macro drop_month(layout, month) %}
    {%- set first_day = month.first_day -%}
    {%- call statement('drop_month') -%}
        {%- if month.state == 'hot' %}
        drop table {{ month.table }};
        {%- endif %}
        {%- if layout.access_columns %}
        delete from {{ layout.access }}
        where {{ layout.time }} >= {{ first_day }} and {{ layout.time }} < {{ first_day }} + interval '1 month';
        {%- endif %}
        delete from {{ layout.key_months }} where month = {{ first_day }};
        update {{ layout.catalog }} set
            state = 'dropped', row_count = 0, tail_rows = 0,
            archive_file = null, archive_bytes = null, archive_sha256 = null
        where month = {{ first_day }};
        update {{ layout.settings_table }} set access_row_count = access_row_count - {{ month.rows }};
        {%- if audits_exist() %}
        update meta.model_audits set is_audited = false where model = '{{ layout.model_id }}';
        {%- endif %}
    {%- endcall -%}
    {%- do forget_months(layout) -%}
{% endmacro %}


{#- Write months anew in the order of their access path: those named, or all that have a tail. -#}
{% macro partitions_recluster(model, months=none) %}
    {%- set layout = built_layout(model) -%}
    {%- if months is none -%}
        {%- set chosen = months_in(layout, ['hot']) | selectattr('tail_rows', 'gt', 0) | list -%}
    {%- else -%}
        {%- set chosen = choose_months(layout, months, none, 'hot') -%}
        {%- for month in chosen if month.state == 'cold' -%}
            {%- do exceptions.raise_compiler_error(
                month_label(month.name) ~ ' of ' ~ model ~ ' is archived, as it was clustered then. Restore it first.'
            ) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- do begin_transaction() -%}
    {%- for month in chosen -%}
        {%- do recluster_month(layout, month.name) -%}
        {%- do say('reclustered ' ~ month_label(month.name) ~ ' of ' ~ model ~ ': ' ~ month.rows ~ ' rows') -%}
    {%- endfor -%}
    {%- if layout.access_columns -%}{%- do recluster_access(layout) -%}{%- endif -%}
    {%- do adapter.commit() -%}
    {%- if not chosen -%}{%- do say('every month of ' ~ model ~ ' is clustered already') -%}{%- endif -%}
    {%- do publish_life_cycle() -%}
{% endmacro %}


{#- Say which months there are, as the warehouse has them now. -#}
{% macro partitions_list(model) %}
    {%- set layout = built_layout(model) -%}
    {%- for month in months_in(layout) -%}
        {%- do say(
            month_label(month.name) ~ ' ' ~ month.state ~ ' ' ~ month.rows ~ ' rows, ' ~ month.tail_rows ~ ' in the tail'
            ~ (', ' ~ month.file if month.file else '')
        ) -%}
    {%- endfor -%}
{% endmacro %}


{#- The months that an operation is about, checked before any is touched. -#}
{% macro choose_months(layout, months, before, state) %}
    {%- set months = [months] if months is string else months -%}
    {%- set known = months_in(layout) -%}
    {%- set names = known | map(attribute='name') | list -%}
    {%- for month in ([before] if before is not none else []) + (months or []) -%}
        {%- if not modules.re.fullmatch('\\d{4}-(0[1-9]|1[0-2])', month | string) -%}
            {%- do exceptions.raise_compiler_error(month ~ ' is no month; a month is written like 2026-03.') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if (months is none) == (before is none) -%}
        {%- do exceptions.raise_compiler_error('Say which months: either `months` or `before`.') -%}
    {%- endif -%}
    {%- set chosen = [] -%}
    {%- if before is not none -%}
        {%- for month in known if month_label(month.name) < before and month.state in ([state] if state != 'any' else ['hot', 'cold']) -%}
            {%- do chosen.append(month) -%}
        {%- endfor -%}
        {%- if not chosen -%}{%- do say('no month of ' ~ layout.name ~ ' is earlier than ' ~ before ~ ' and left to do') -%}{%- endif -%}
    {%- endif -%}
    {%- for label in (months or []) | unique -%}
        {%- set name = 'm' ~ label[:4] ~ '_' ~ label[5:] -%}
        {%- if name not in names -%}
            {%- do exceptions.raise_compiler_error(
                layout.name ~ ' has no month ' ~ label ~ '. It has ' ~ month_label(names[0]) ~ ' to '
                ~ month_label(names[-1]) ~ ', as `mnemoduck partitions list` shows.'
            ) -%}
        {%- endif -%}
        {%- set month = known | selectattr('name', 'equalto', name) | first -%}
        {%- if month.state == 'dropped' and state != 'any' -%}
            {%- do exceptions.raise_compiler_error(
                label ~ ' of ' ~ layout.name ~ ' was dropped. Its events are in raw/: `mnemoduck run '
                ~ '--full-refresh` brings all months back.'
            ) -%}
        {%- endif -%}
        {%- do chosen.append(month) -%}
    {%- endfor -%}
    {{ return(chosen) }}
{% endmacro %}


{#- The current and the previous month are what hot queries read, and the months after them what comes. -#}
{% macro check_are_past(layout, months) %}
    {%- set first_kept = calendar_of(layout)[0] -%}
    {%- for month in months if month.name >= first_kept -%}
        {%- do exceptions.raise_compiler_error(
            month_label(month.name) ~ ' of ' ~ layout.name ~ ' is in use: only months before '
            ~ month_label(first_kept) ~ ' can be archived or dropped. Nothing was touched.'
        ) -%}
    {%- endfor -%}
{% endmacro %}


{% macro check_archive(layout, month) %}
    {%- set problem = run_query(
        'select mnemoduck_check_archive(' ~ archive_literal(month.file) ~ ", '" ~ month.sha256 ~ "')"
    ).columns[0].values()[0] -%}
    {%- if problem -%}
        {%- do refuse_archive(layout, month, problem) -%}
    {%- endif -%}
{% endmacro %}


{% macro refuse_archive(layout, month, problem) %}
    {%- do exceptions.raise_compiler_error(
        'The archive of ' ~ month_label(month.name) ~ ' of ' ~ layout.name ~ ' ' ~ problem ~ '. Put the file back '
        ~ 'from a backup, or rebuild every month from raw/ with `mnemoduck run --full-refresh`. Nothing was touched.'
    ) -%}
{% endmacro %}


{#- Rows and a checksum that does not depend on their order. -#}
{% macro checksum_of(layout, source) %}
    {{ return(run_query(
        'select concat(count(*), \' rows, \', coalesce(sum(cast(hash('
        ~ layout.columns | map(attribute='quoted') | join(', ') ~ ') as hugeint)), 0)) from ' ~ source
    ).columns[0].values()[0]) }}
{% endmacro %}


{% macro archive_literal(file) %}
    {{- return(dbt.string_literal(dbt.escape_single_quotes(home_folder() ~ file))) -}}
{% endmacro %}


{% macro begin_transaction() %}
    {%- call statement('begin_transaction', auto_begin=true) -%} select 1 {%- endcall -%}
{% endmacro %}


{% macro say(text) %}{%- do log('mnemoduck ' ~ text, info=true) -%}{% endmacro %}


{#- The rows are the same, so what was audited still is. -#}
{% macro publish_life_cycle() %}
    {%- if audits_exist() and not unaudited_models() -%}
        {%- do say(publish_snapshot()) -%}
    {%- else -%}
        {%- do say('not published: the models are not all tested. `mnemoduck run` does that') -%}
    {%- endif -%}
{% endmacro %}


{% macro audits_exist() %}
    {{ return(run_query(
        "select count(*) > 0 from duckdb_columns() where database_name = current_database() and schema_name = 'meta' "
        ~ "and table_name = 'model_audits' and column_name = 'batch_seq'"
    ).columns[0].values()[0]) }}
{% endmacro %}
