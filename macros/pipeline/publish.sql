{#- Write, audit, publish. After every command that builds or tests, this records for each model whether
    the rows that it holds now were tested, and publishes a snapshot when all of them were. It works for
    `dbt build`, for `dbt run` followed by `dbt test`, and for selections: what counts is what the
    warehouse holds, not what one command did. What was built with --empty is a trial, whose views
    are bound to no rows: no test makes it audited, only building it anew.

    A model of a slower rhythm (its tag) stays audited as it was built last. One that is continuous has to have
    seen all that was loaded: readers take what the snapshot holds of the inbox from there, and from nowhere else. -#}
{% macro publish_if_audited(results) %}
    {%- if execute and flags.WHICH in ['build', 'run', 'test', 'retry', 'seed', 'snapshot'] -%}
        {%- do record_audit(results) -%}
        {%- do note_run(results) -%}
        {%- set missing, begun_at = unaudited_models(), modules.datetime.datetime.now() -%}
        {%- set said = publish_snapshot() if not missing else 'not published' -%}
        {%- if missing -%}
            {{ log_not_published(missing, results) }}
        {%- else -%}
            {{ log('mnemoduck ' ~ said, info=true) }}
        {%- endif -%}
        {%- set publish_seconds = (modules.datetime.datetime.now() - begun_at).total_seconds() -%}
        {%- do run_query("select mnemoduck_record_run('" ~ said ~ "', " ~ publish_seconds ~ ')') -%}
    {%- endif -%}
{% endmacro %}


{% macro record_audit(results) %}
    {%- set passed, failed, built, broken = [], [], [], [] -%}
    {%- for result in results -%}
        {%- set kind, status = result.node.resource_type | string, result.status | string -%}
        {%- if kind in ['test', 'unit_test'] -%}
            {%- do (passed if status in ['pass', 'warn'] else failed).append(result.node.unique_id) -%}
        {%- elif kind in ['model', 'seed', 'snapshot'] -%}
            {%- do (built if status == 'success' else broken).append(result.node.unique_id) -%}
        {%- endif -%}
    {%- endfor -%}

    {%- set audited, retested, unaudited = [], [], [] -%}
    {%- set tests_of, owed_by = tests_by_model(), owed_tests_by_model() -%}
    {%- for model in published_models() -%}
        {%- set tests = tests_of.get(model, []) -%}
        {%- set open_tests = owed_by.get(model, []) | reject('in', passed) | list -%}
        {%- if model in broken or tests | select('in', failed) | list -%}
            {%- do unaudited.append(model) -%}
        {%- elif model in built -%}
            {%- do (unaudited if open_tests else audited).append(model) -%}
        {%- elif tests and not open_tests -%}
            {%- do retested.append(model) -%}
        {%- endif -%}
    {%- endfor -%}

    {%- call statement('record_audit', auto_begin=true) -%}
        create schema if not exists meta;
        create table if not exists meta.model_audits (
            model varchar primary key, is_audited boolean not null, run_id varchar not null
        );
        alter table meta.model_audits add column if not exists batch_seq bigint;
        {%- for model in audited + unaudited %}
        insert into meta.model_audits by name
        select
            '{{ model }}' as model,
            {{ 'true' if model in audited else 'false' }} as is_audited,
            '{{ invocation_id }}' as run_id
        on conflict do update set is_audited = excluded.is_audited, run_id = excluded.run_id;
        {%- endfor %}
        {%- if built %}
        update meta.model_audits set batch_seq = mnemoduck_newest_batch()
        where model in ({% for model in built %}'{{ model }}'{{ ', ' if not loop.last }}{% endfor %});
        {%- endif %}
        {%- for model in retested %}
        update meta.model_audits set is_audited = true, run_id = '{{ invocation_id }}' where model = '{{ model }}';
        {%- endfor %}
        {%- for model in built if flags.EMPTY %}
        delete from meta.model_audits where model = '{{ model }}';
        {%- endfor %}
        create table if not exists meta.runs (
            run_id varchar, command varchar, started_at timestamp, ended_at timestamp,
            built_models integer, broken_models integer, passed_tests integer, failed_tests integer
        );
        insert into meta.runs values (
            '{{ invocation_id }}', '{{ flags.WHICH }}',
            timestamp '{{ run_started_at.replace(tzinfo=none).isoformat() }}', {{ now_utc() }},
            {{ built | length }}, {{ broken | length }}, {{ passed | length }}, {{ failed | length }}
        );
        {%- if flags.FULL_REFRESH and not published_models() | reject('in', built) | list %}
        {{ insert_build_parameters() }}
        {{ insert_schema_version() }}
        {%- endif %}
    {%- endcall -%}
    {%- do adapter.commit() -%}
{% endmacro %}


{#- The models whose rows a reader can see. -#}
{% macro published_models() %}
    {%- set models = [] -%}
    {%- for node in graph.nodes.values() -%}
        {%- if node.resource_type in ['model', 'seed', 'snapshot']
            and node.config.enabled and node.config.materialized != 'ephemeral' -%}
            {%- do models.append(node.unique_id) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(models | sort) }}
{% endmacro %}


{% macro tests_by_model() %}
    {%- set tests = {} -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'test' and node.config.enabled -%}
        {%- for model in node.depends_on.nodes -%}
            {%- do tests.setdefault(model, []).append(node.unique_id) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(tests) }}
{% endmacro %}


{#- The tests that have to pass before a model counts as tested: those that read it, but the ones of a slower rhythm,
    which say what the slower models have come to and are owed by these. -#}
{% macro owed_tests_by_model() %}
    {%- set owed = {} -%}
    {%- for model, tests in tests_by_model().items() if model in graph.nodes -%}
        {%- set rhythm = place_of_rhythm(graph.nodes[model], 3) -%}
        {%- for test in tests if place_of_rhythm(graph.nodes[test], 0) <= rhythm -%}
            {%- do owed.setdefault(model, []).append(test) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(owed) }}
{% endmacro %}


{#- 0 for what has the tag continuous, to 3 for what has the tag weekly; `otherwise` for what has none of the four. -#}
{% macro place_of_rhythm(node, otherwise) %}
    {%- set rhythms = ['continuous', 'hourly', 'nightly', 'weekly'] -%}
    {%- set places = [] -%}
    {%- for tag in node.config.tags if tag in rhythms -%}
        {%- do places.append(rhythms.index(tag)) -%}
    {%- endfor -%}
    {{ return(places | max if places else otherwise) }}
{% endmacro %}


{#- The models that were not built and tested since they changed, or, of the continuous ones, since the last load. -#}
{% macro unaudited_models() %}
    {%- set audited = run_query('select model from meta.model_audits where is_audited').columns[0].values() -%}
    {%- set missing = published_models() | reject('in', audited) | list -%}
    {%- if not missing -%}
        {%- for model in run_query(
            'select model from meta.model_audits where coalesce(batch_seq, 0) < (select coalesce(max(batch_seq), 0) from '
            ~ loaded_batches() ~ ') order by model'
        ).columns[0].values() if model in graph.nodes and place_of_rhythm(graph.nodes[model], 3) == 0 -%}
            {%- do missing.append(model) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(missing) }}
{% endmacro %}


{#- ref() is not to be had in a hook that calls it inside a condition; the graph knows the name too. -#}
{% macro loaded_batches() %}
    {{ return(graph.nodes['model.mnemoduck.raw_batches'].relation_name) }}
{% endmacro %}


{% macro publish_snapshot() %}
    {%- set batch_seq = run_query(
        'select coalesce(max(batch_seq), 0) from ' ~ loaded_batches()
    ).columns[0].values()[0] -%}
    {%- do run_query('force checkpoint') -%}
    {%- set published = run_query(
        "select mnemoduck_publish('" ~ build_settings() ~ "', " ~ batch_seq ~ ")"
    ) -%}
    {{ return(published.columns[0].values()[0]) }}
{% endmacro %}


{#- What a build depends on besides the events and the project's files. A --full-refresh is asked for
    when the rows are in doubt, so it never counts as the same build. -#}
{% macro build_settings() %}
    {%- set settings = project_variables() -%}
    {%- do settings.update({
        'partitions': partition_states(), 'answers': answer_states(), 'reached': reached_batches()
    }) -%}
    {%- if flags.FULL_REFRESH -%}{%- do settings.update({'run_id': invocation_id}) -%}{%- endif -%}
    {{ return(tojson(settings, sort_keys=true)) }}
{% endmacro %}


{#- Which load each model has reached: those of a slower rhythm lag, and then catch up without any event. -#}
{% macro reached_batches() %}
    {{ return(run_query(
        "select coalesce(string_agg(model || ' ' || batch_seq, ' ' order by model), '') from meta.model_audits"
    ).columns[0].values()[0]) }}
{% endmacro %}


{#- How far answers and vectors of models have got into the warehouse: they arrive without events. -#}
{% macro answer_states() %}
    {%- set states = [] -%}
    {%- for model, column in [('memory_features', 'changed_batch_seq'), ('memory_embeddings', 'response_seq')] -%}
        {%- do states.append(run_query(
            "select concat_ws(' ', count(*), max(" ~ column ~ ")) from " ~ graph.nodes['model.mnemoduck.' ~ model].relation_name
        ).columns[0].values()[0]) -%}
    {%- endfor -%}
    {{ return(states | join(' ')) }}
{% endmacro %}


{% macro log_not_published(missing, results) %}
    {%- set reasons = [] -%}
    {%- for result in results if result.status | string in ['error', 'fail', 'runtime error'] -%}
        {%- do reasons.append(result.node.name) -%}
    {%- endfor -%}
    {%- set names = missing | map('replace', 'model.mnemoduck.', '') | join(', ') -%}
    {%- do log(
        'mnemoduck not published: readers stay on the last good snapshot. '
        ~ ('Failed: ' ~ reasons | join(', ') ~ '. ' if reasons else '')
        ~ 'Not built and tested: ' ~ names ~ '.',
        info=true
    ) -%}
{% endmacro %}


{#- Rows that are stored were built with certain values of some variables. A run with other values would
    mix the two, so it stops and says so, unless it builds every row anew. -#}
{% macro check_stored_parameters() %}
    {%- do check_schema_version() -%}
    {%- if execute and flags.WHICH in ['build', 'run', 'retry'] -%}
        {%- call statement('make_build_parameters', auto_begin=true) -%}
            create schema if not exists meta;
            create table if not exists meta.build_parameters (name varchar primary key, value double);
            create table if not exists meta.index_layout (
                relation varchar primary key, row_count bigint, tail_rows bigint, batch_seq bigint
            );
        {%- endcall -%}
        {%- set stored = run_query('select name, value from meta.build_parameters order by name').rows -%}
        {%- set changed, known = [], [] -%}
        {%- for name, value in stored -%}
            {%- do known.append(name) -%}
            {%- if name not in stored_parameters() -%}
                {%- do changed.append(name ~ ' is gone') -%}
            {%- elif value | float != parameter(name) | float -%}
                {%- do changed.append(name ~ ' was ' ~ value ~ ' and is ' ~ parameter(name)) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- for name in stored_parameters() if stored and name not in known -%}
            {%- do changed.append(name ~ ' is new') -%}
        {%- endfor -%}
        {%- if changed and not flags.FULL_REFRESH -%}
            {%- do exceptions.raise_compiler_error(
                'The stored memories were built with other parameters: ' ~ changed | join(', ')
                ~ '. Build them anew with --full-refresh, or set the parameters back.'
            ) -%}
        {%- endif -%}
        {%- if not stored -%}
            {%- call statement('record_build_parameters') -%}{{ insert_build_parameters() }}{%- endcall -%}
        {%- endif -%}
        {%- do adapter.commit() -%}
    {%- endif -%}
{% endmacro %}


{% macro insert_build_parameters() %}
    delete from meta.build_parameters;
    {%- for name in stored_parameters() %}
    insert or replace into meta.build_parameters values ('{{ name }}', {{ parameter(name) }});
    {%- endfor %}
{% endmacro %}
