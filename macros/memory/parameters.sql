{#- The project's variables, checked. A value out of range stops the run with a sentence, before
    anything is built: each model that uses a parameter takes it from here. -#}

{% macro parameter(name) %}
    {%- set value = var(name) -%}
    {%- set range = parameter_ranges()[name] -%}
    {%- if value is not number or value is boolean -%}
        {%- do exceptions.raise_compiler_error(
            'The variable ' ~ name ~ ' is ' ~ value ~ '; it takes a number ' ~ range.says
            ~ '. Change it in dbt_project.yml or with --vars.'
        ) -%}
    {%- endif -%}
    {%- set is_in_range = (range.low is none or value >= range.low)
        and (range.above is none or value > range.above)
        and (range.high is none or value <= range.high)
        and (range.below is none or value < range.below) -%}
    {%- if not is_in_range -%}
        {%- do exceptions.raise_compiler_error(
            'The variable ' ~ name ~ ' is ' ~ value ~ '; it takes a number ' ~ range.says
            ~ '. Change it in dbt_project.yml or with --vars.'
        ) -%}
    {%- endif -%}
    {{ return(value) }}
{% endmacro %}


{% macro parameter_ranges() %}
    {%- set ranges = {} -%}
    {%- for name, low, above, high, below, says in [
        ('table_generation', 1, none, none, none, 'of at least 1'),
        ('attention_window_minutes', none, 0, none, none, 'of minutes above 0'),
        ('attention_fallback_minutes', none, 0, none, none, 'of minutes above 0'),
        ('capacity_minimum', 5, none, 9, none, 'from 5 to 9 (Miller 1956)'),
        ('capacity_maximum', 5, none, 9, none, 'from 5 to 9 (Miller 1956)'),
        ('priority_weight_activation', 0, none, 1, none, 'from 0 to 1'),
        ('priority_weight_importance', 0, none, 1, none, 'from 0 to 1'),
        ('priority_weight_urgency', 0, none, 1, none, 'from 0 to 1'),
        ('priority_weight_emotion', 0, none, 1, none, 'from 0 to 1'),
        ('activation_decay', none, 0, none, 1, 'above 0 and below 1'),
        ('activation_recent_uses', 1, none, 100, none, 'from 1 to 100'),
        ('activation_noise', none, 0, none, none, 'above 0'),
        ('retrieval_threshold', none, none, none, none, 'of any size'),
        ('initial_stability_days', none, 0, none, none, 'of days above 0'),
        ('stability_growth', 1, none, none, none, 'of at least 1'),
        ('spacing_hours', none, 0, none, none, 'of hours above 0'),
        ('forgetting_floor', none, 0, none, 1, 'above 0 and below 1'),
        ('forgetting_interference_weight', 0, none, none, 1, 'from 0 to below 1'),
        ('session_gap_minutes', none, 0, none, none, 'of minutes above 0'),
        ('session_max_hours', none, 0, none, none, 'of hours above 0'),
        ('session_lateness_minutes', 0, none, none, none, 'of minutes, at least 0'),
        ('near_duplicate_similarity', 0.3, none, 1, none, 'from 0.3 to 1'),
        ('near_duplicate_additions', 0, none, 0.2, none, 'from 0 to 0.2'),
        ('minhash_bands', 1, none, 64, none, 'from 1 to 64'),
        ('minhash_rows', 1, none, 8, none, 'from 1 to 8'),
        ('default_importance', 0, none, 1, none, 'from 0 to 1'),
        ('concepts_per_memory', 2, none, 50, none, 'of concepts from 2 to 50'),
        ('association_concepts', 2, none, 50, none, 'of concepts from 2 to 50'),
        ('recall_memories', 2, none, 100, none, 'of memories from 2 to 100'),
        ('recall_concepts', 1, none, 50, none, 'of concepts from 1 to 50'),
        ('association_learning_rate', none, 0, 1, none, 'above 0, at most 1'),
        ('association_decay', none, 0, 1, none, 'above 0, at most 1'),
        ('consolidation_cycle_hours', none, 0, none, none, 'of hours above 0'),
        ('association_neighbours', 1, none, 1000, none, 'of associations from 1 to 1000'),
        ('spreading_decay', none, 0, 1, none, 'above 0, at most 1'),
        ('spreading_width', 1, none, 1000, none, 'of concepts from 1 to 1000'),
        ('suggest_call_weight', 0, none, 20, none, 'from 0 to 20'),
        ('suggest_call_decay', 0, none, 0.9, none, 'from 0 to 0.9'),
        ('suggest_tools_weight', 0, none, 20, none, 'from 0 to 20'),
        ('suggest_task_weight', 0, none, 20, none, 'from 0 to 20'),
        ('suggest_failure_weight', 0, none, 1, none, 'from 0 to 1'),
        ('recall_saturation', 0, none, none, none, 'of at least 0'),
        ('recall_length_weight', 0, none, 1, none, 'from 0 to 1'),
        ('recall_session_length_weight', 0, none, 1, none, 'from 0 to 1'),
        ('recall_neighbour_weight', 0, none, 1, none, 'from 0 to 1'),
        ('recall_second_neighbour_weight', 0, none, 1, none, 'from 0 to 1'),
        ('recall_answer_weight', 0, none, 1, none, 'from 0 to 1'),
        ('recall_question_weight', 0, none, 1, none, 'from 0 to 1'),
        ('recall_speaker_weight', 1, none, 10, none, 'from 1 to 10'),
        ('recall_names', 0, none, 1, none, 'of 0 or 1'),
        ('recall_session_weight', 0, none, 10, none, 'from 0 to 10'),
        ('recall_time_weight', 0, none, 10, none, 'from 0 to 10'),
        ('recall_time_slack_days', 0, none, 365, none, 'of days from 0 to 365'),
        ('recall_prior_weight', 0, none, 10, none, 'from 0 to 10'),
        ('recall_meaning_weight', 0, none, 10, none, 'from 0 to 10'),
        ('recall_exact_vectors', 0, none, none, none, 'of vectors of at least 0'),
        ('recall_rescored_vectors', 10, none, 100000, none, 'of memories from 10 to 100000'),
        ('recall_sessions', 1, none, 100000, none, 'of sessions from 1 to 100000'),
        ('recall_tail_rows', 0, none, none, none, 'of rows, at least 0'),
        ('reflection_window', 1, none, 1000, none, 'of episodes from 1 to 1000'),
        ('reflection_compared_episodes', 1, none, 100, none, 'of episodes from 1 to 100'),
        ('reflection_max_characters', 200, none, 10000, none, 'of characters from 200 to 10000'),
        ('episode_buffer_steps', 1, none, 10000, none, 'of steps from 1 to 10000'),
        ('episode_buffer_ms', 1, none, 60000, none, 'of milliseconds from 1 to 60000'),
        ('pattern_max_length', 2, none, 6, none, 'of tools from 2 to 6'),
        ('pattern_max_gap', 0, none, 2, none, 'of calls from 0 to 2'),
        ('pattern_max_calls', 10, none, 5000, none, 'of calls from 10 to 5000'),
        ('pattern_min_support', 2, none, 1000, none, 'of episodes from 2 to 1000'),
        ('pattern_false_discovery_rate', none, 0, 0.5, none, 'above 0, at most 0.5'),
        ('confidence_period_days', none, 0, none, none, 'of days above 0'),
        ('confidence_decay', none, 0, 1, none, 'above 0, at most 1'),
        ('confidence_prior_weight', 1, none, 100, none, 'of episodes from 1 to 100'),
        ('partition_months_ahead', 0, none, 120, none, 'of months from 0 to 120'),
        ('partition_tail_rows', 0, none, none, none, 'of rows, at least 0'),
        ('partition_hot_hours', 0, none, none, none, 'of hours, at least 0'),
        ('archive_after_months', 0, none, 1200, none, 'of months, 0 or from 2 to 1200'),
        ('retention_months', 0, none, 1200, none, 'of months, 0 or from 2 to 1200'),
        ('llm_cache_gigabytes', 0, none, none, none, 'of gigabytes, at least 0'),
        ('llm_input_characters', 200, none, 100000, none, 'of characters from 200 to 100000'),
        ('llm_timeout_seconds', none, 0, none, none, 'of seconds above 0'),
        ('llm_attempts', 1, none, 10, none, 'of attempts from 1 to 10'),
        ('llm_breaker_failures', 1, none, 100, none, 'of calls from 1 to 100'),
        ('llm_concurrency', 1, none, 64, none, 'of calls from 1 to 64'),
        ('llm_budget_calls', 0, none, none, none, 'of calls, at least 0'),
        ('llm_budget_tokens', 0, none, none, none, 'of tokens, at least 0'),
        ('llm_budget_seconds', 0, none, none, none, 'of seconds, at least 0'),
        ('llm_commit_seconds', none, 0, none, none, 'of seconds above 0'),
        ('embedding_batch', 1, none, 1000, none, 'of texts from 1 to 1000'),
        ('run_history_days', 1, none, 3650, none, 'of days from 1 to 3650'),
        ('junk_importance', 0, none, 1, none, 'from 0 to 1'),
        ('stale_scope_days', none, 0, none, none, 'of days above 0'),
        ('alert_hours', none, 0, none, none, 'of hours above 0'),
        ('alert_run_failures', 0, none, 1, none, 'from 0 to 1'),
        ('alert_run_seconds', 0, none, none, none, 'of seconds, at least 0'),
        ('alert_run_memory', 0, none, none, none, 'of GB, at least 0'),
        ('alert_query_samples', 1, none, none, none, 'of samples, at least 1'),
        ('alert_query_ms', 0, none, none, none, 'of milliseconds, at least 0'),
        ('alert_query_errors', 0, none, 1, none, 'from 0 to 1'),
        ('alert_queries_at_once', 0, none, none, none, 'of questions, at least 0'),
        ('alert_query_waits', 0, none, none, none, 'of waits for a question, at least 0'),
        ('alert_junk_share', 0, none, 1, none, 'from 0 to 1'),
        ('alert_consolidation_backlog', 0, none, none, none, 'of memories, at least 0'),
        ('alert_orphan_facts', 0, none, none, none, 'of facts, at least 0'),
    ] -%}
        {%- do ranges.update({name: {
            'low': low, 'above': above, 'high': high, 'below': below, 'says': says
        }}) -%}
    {%- endfor -%}
    {{ return(ranges) }}
{% endmacro %}


{#- Every variable with its value, for the fingerprint of a build. -#}
{% macro project_variables() %}
    {%- set values = {'as_of': var('as_of') | string} -%}
    {%- for name in parameter_ranges() -%}
        {%- do values.update({name: parameter(name)}) -%}
    {%- endfor -%}
    {{ return(values) }}
{% endmacro %}


{#- The moment at which time-dependent columns are evaluated, as an expression: the variable `as_of`
    where it is set, else the time of the query. Nothing else in the project reads a clock. -#}
{% macro as_of() %}
    {%- set value = var('as_of') -%}
    {%- if value is none or value | string | trim | lower in ['', 'now', 'none', 'null'] -%}
        {{ return(now_utc()) }}
    {%- endif -%}
    {%- set text = value | string | trim -%}
    {%- if not modules.re.fullmatch(
        '\\d{4}-\\d{2}-\\d{2}([T ]\\d{2}:\\d{2}(:\\d{2}(\\.\\d{1,6})?)?(Z|\\+00:00)?)?', text
    ) -%}
        {%- do exceptions.raise_compiler_error(
            'The variable as_of is ' ~ text ~ '; it takes an ISO 8601 date or time in UTC, such as '
            ~ '2026-03-15T18:30:00, or null for the time of the query.'
        ) -%}
    {%- endif -%}
    {{ return("cast('" ~ text | replace('Z', '') | replace('+00:00', '') ~ "' as timestamp)") }}
{% endmacro %}


{#- The variables that stored rows depend on. Changing one of them takes a --full-refresh. -#}
{% macro stored_parameters() %}
    {{ return([
        'table_generation', 'attention_window_minutes', 'capacity_maximum', 'activation_recent_uses', 'initial_stability_days',
        'stability_growth', 'spacing_hours', 'session_gap_minutes', 'session_max_hours',
        'session_lateness_minutes', 'default_importance',
        'near_duplicate_similarity', 'near_duplicate_additions', 'minhash_bands', 'minhash_rows',
        'concepts_per_memory', 'association_concepts', 'recall_memories', 'recall_concepts',
        'association_decay', 'consolidation_cycle_hours', 'association_neighbours',
        'reflection_window', 'reflection_compared_episodes', 'reflection_max_characters',
        'pattern_max_length', 'pattern_max_gap', 'pattern_max_calls', 'pattern_min_support', 'confidence_period_days',
    ]) }}
{% endmacro %}
