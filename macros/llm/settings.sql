{#- What this run asks models with. The variables are checked here; who answers, and with which weights, is found
    out by mnemoduck.llm.selection, which the plugin calls once for each request. -#}


{#- A variable that is one of some words, or null. -#}
{% macro word_parameter(name, words) %}
    {%- set value = var(name) -%}
    {%- if value is not none and value not in words -%}
        {%- do exceptions.raise_compiler_error(
            'The variable ' ~ name ~ ' is ' ~ value ~ '; it takes ' ~ words | join(', ')
            ~ ', or null. Change it in dbt_project.yml or with --vars.'
        ) -%}
    {%- endif -%}
    {{ return(value) }}
{% endmacro %}


{#- A variable that is a text that is not empty, or null. -#}
{% macro text_parameter(name) %}
    {%- set value = var(name) -%}
    {%- if value is not none and (value is not string or not value | trim) -%}
        {%- do exceptions.raise_compiler_error(
            'The variable ' ~ name ~ ' is ' ~ tojson(value) ~ '; it takes a text, or null. '
            ~ 'Change it in dbt_project.yml or with --vars.'
        ) -%}
    {%- endif -%}
    {{ return(value) }}
{% endmacro %}


{#- A variable that is true or false. -#}
{% macro switch_parameter(name) %}
    {%- set value = var(name) -%}
    {%- if value is not boolean -%}
        {%- do exceptions.raise_compiler_error(
            'The variable ' ~ name ~ ' is ' ~ tojson(value) ~ '; it takes true or false. '
            ~ 'Change it in dbt_project.yml or with --vars.'
        ) -%}
    {%- endif -%}
    {{ return(value) }}
{% endmacro %}


{#- A variable that is a mapping. -#}
{% macro mapping_parameter(name) %}
    {%- set value = var(name) -%}
    {%- if value is not mapping -%}
        {%- do exceptions.raise_compiler_error(
            'The variable ' ~ name ~ ' is ' ~ tojson(value) ~ '; it takes a mapping of names to values, such as '
            ~ '{temperature: 0}. Change it in dbt_project.yml or with --vars.'
        ) -%}
    {%- endif -%}
    {{ return(value) }}
{% endmacro %}


{#- The request for settings, as JSON text: templates and variables. -#}
{% macro llm_request() %}
    {%- set dimension = var('embedding_dimension') -%}
    {%- if dimension is not none and (dimension is not integer or dimension < 1) -%}
        {%- do exceptions.raise_compiler_error(
            'The variable embedding_dimension is ' ~ dimension ~ '; it takes a number of floats of at least 1, '
            ~ 'or null. Change it in dbt_project.yml or with --vars.'
        ) -%}
    {%- endif -%}
    {{ return(tojson({
        'templates': llm_templates_list(),
        'mode': word_parameter('llm_mode', ['auto', 'off', 'cached', 'ollama']),
        'reflections': switch_parameter('llm_reflections'),
        'host': text_parameter('llm_host'),
        'model': text_parameter('llm_model'),
        'options': mapping_parameter('llm_options'),
        'input_characters': parameter('llm_input_characters'),
        'embedding_provider': word_parameter('embedding_provider', ['auto', 'none', 'ollama', 'minilm']),
        'embedding_model': text_parameter('embedding_model'),
        'embedding_dimension': dimension,
        'limits': {
            'timeout_seconds': parameter('llm_timeout_seconds'),
            'attempts': parameter('llm_attempts'),
            'breaker_failures': parameter('llm_breaker_failures'),
            'concurrency': parameter('llm_concurrency'),
            'budget_calls': parameter('llm_budget_calls'),
            'budget_tokens': parameter('llm_budget_tokens'),
            'budget_seconds': parameter('llm_budget_seconds'),
            'commit_seconds': parameter('llm_commit_seconds'),
            'embedding_batch': parameter('embedding_batch'),
        },
    }, sort_keys=true)) }}
{% endmacro %}


{#- The number of the newest arrival of answers, as an expression: noted among the loads if it is news.
    `newest_answer`, `asked_with`: expressions of what tells one arrival from another. -#}
{% macro newest_batch(newest_answer, asked_with) -%}
    mnemoduck_note_answers({{ newest_answer }}, {{ asked_with }})
{%- endmacro %}
