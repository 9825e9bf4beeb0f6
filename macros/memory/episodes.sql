{#- An episode is named by its user's own name for it: two users' "run-1" are two episodes. -#}
{% macro episode_key(user_id, episode_id) -%}
    {{ hash_key([user_id, episode_id]) }}
{%- endmacro %}


{#- Condition: a payload says what was done, and when in which episode. Earlier versions took any. -#}
{% macro is_step(payload) -%}
    {{ json_text(payload, 'episode_id') }} is not null
    and try_cast({{ json_text(payload, 'step') }} as integer) >= 0
    and case coalesce({{ json_text(payload, 'step_type') }}, 'tool')
        when 'tool' then {{ json_text(payload, 'tool') }} is not null
        when 'message' then {{ json_text(payload, 'text') }} is not null
        else false
    end
{%- endmacro %}


{#- What a tool gave back is kept once for each user: users share no text, so that none says what another has seen. -#}
{% macro observation_key(user_id, observation) -%}
    case when {{ observation }} is not null then {{ hash_key([user_id, observation]) }} end
{%- endmacro %}


{#- What an error says, whatever it is about: small letters, numbers and what stands in quotes as one sign each, at
    most 80 characters. Null where nothing failed. In JSON everything stands in double quotes: there they quote
    nothing, or all errors that a tool tells as JSON would be one. -#}
{% macro error_key(is_error, error, observation) -%}
    {{ return(adapter.dispatch('error_key', 'mnemoduck')(is_error, error, observation)) }}
{%- endmacro %}

{% macro duckdb__error_key(is_error, error, observation) -%}
    case
        when {{ is_error }}
            then left(trim(regexp_replace(
                regexp_replace(
                    case
                        when json_valid(coalesce({{ error }}, {{ observation }}))
                            then replace(lower(coalesce({{ error }}, {{ observation }})), '"', '')
                        else lower(coalesce({{ error }}, {{ observation }}, 'failed'))
                    end,
                    '"[^"]*"|''[^'']*''|#?[a-z]*[0-9][a-z0-9_]*', '*', 'g'
                ),
                '\s+', ' ', 'g'
            )), 80)
    end
{%- endmacro %}


{#- Condition: an order forgets the scope that an episode is in. It forgets what had been heard of by then: an episode
    with all of its steps, later ones too. Null parts of the scope mean any. What it forgets counts as having happened
    when the episode began; of one whose start has not arrived, when it ended. -#}
{% macro is_in_forgotten_scope(forgets, episodes) -%}
    {{ forgets }}.recorded_at >= {{ episodes }}.recorded_at
    and ({{ forgets }}.user_id is null or {{ forgets }}.user_id = {{ episodes }}.user_id)
    and ({{ forgets }}.agent_id is null or {{ forgets }}.agent_id = {{ episodes }}.agent_id)
    and ({{ forgets }}.session_id is null or {{ forgets }}.session_id = {{ episodes }}.session_id)
    and (
        {{ forgets }}.occurred_before is null
        or {{ forgets }}.occurred_before > coalesce({{ episodes }}.started_at, {{ episodes }}.completed_at)
    )
{%- endmacro %}
