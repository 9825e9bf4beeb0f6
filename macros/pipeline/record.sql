{#- The record of a run. The plugin keeps what is noted here and writes it when it is known whether readers have a new
    snapshot: see mnemoduck.pipeline.history. -#}

{% macro note_run(results) %}
    {%- set rows_of, nodes = rows_in_tables(results), [] -%}
    {%- for result in results -%}
        {%- set kind, status = result.node.resource_type | string, result.status | string -%}
        {%- if kind != 'operation' or status in ['error', 'fail'] -%}
            {%- set is_test, is_wrong = kind in ['test', 'unit_test'], status in ['error', 'fail', 'runtime error'] -%}
            {%- set is_alert = result.node.name == 'assert_no_alert_is_due' and status == 'fail' -%}
            {%- set message = warning_of(result) if status == 'warn' or is_alert else result.message if is_wrong -%}
            {%- do nodes.append({
                'name': result.node.name, 'kind': kind, 'status': status,
                'seconds': (result.execution_time or 0) | round(3),
                'rows': rows_of.get(result.node.unique_id),
                'failures': result.failures | int if is_test and result.failures is not none else none,
                'message': (message | string)[:4000] if message else none,
            }) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set run = tojson({
        'run_id': invocation_id, 'command': invocation_args_dict.get('invocation_command') or 'dbt ' ~ flags.WHICH,
        'started_at': run_started_at.isoformat(), 'as_of': var('as_of') | string,
        'kept_days': parameter('run_history_days'), 'nodes': nodes,
    }) -%}
    {%- do run_query('select mnemoduck_note_run(' ~ dbt.string_literal(dbt.escape_single_quotes(run)) ~ ')') -%}
{% endmacro %}


{#- What a test that warns found, in a sentence, which is said, too. That of the alerts is its rows, also where they
    are failures: how many they are tells nobody anything. -#}
{% macro warning_of(result) %}
    {%- if result.node.name == 'assert_no_alert_is_due' -%}
        {%- set alerts = [] -%}
        {%- for row in run_query(result.node.compiled_code).rows -%}
            {%- do alerts.append(row['says']) -%}
            {%- do say('alert: ' ~ row['says']) -%}
        {%- endfor -%}
        {{ return(alerts | join('; ')) }}
    {%- endif -%}
    {%- do say('warning: ' ~ result.node.name ~ ': ' ~ result.message) -%}
    {{ return(result.message) }}
{% endmacro %}


{#- How many rows the tables hold that a run has built, by the unique_id of the model: one query, which counts without
    reading, of months by their catalogs. DuckDB's own estimated_size still has the rows that were deleted. -#}
{% macro rows_in_tables(results) %}
    {%- set counts = [] -%}
    {%- for result in results if result.status | string == 'success' and result.node.relation_name -%}
        {%- set node, count = result.node, none -%}
        {%- if node.config.materialized == 'monthly_partitioned' -%}
            {%- set count = "(select sum(row_count) from " ~ node.alias ~ "__months.catalog where state <> 'dropped')" -%}
        {%- elif node.config.materialized in ['table', 'incremental', 'seed', 'snapshot'] -%}
            {%- set count = '(select count(*) from ' ~ node.relation_name ~ ')' -%}
        {%- endif -%}
        {%- if count -%}
            {%- do counts.append("select '" ~ node.unique_id ~ "' as model, " ~ count ~ ' as row_count') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set rows_of = {} -%}
    {%- if counts -%}
        {%- for model, row_count in run_query(counts | join(' union all ')).rows -%}
            {%- do rows_of.update({model: row_count | int}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(rows_of) }}
{% endmacro %}
