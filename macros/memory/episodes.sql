{#- An episode is named by its user's own name for it: two users' "run-1" are two episodes. -#}
{% macro episode_key(user_id, episode_id) -%}
    {{ hash_key([user_id, episode_id]) }}
{%- endmacro %}


{#- What an error says, whatever it is about: small letters, numbers and what stands in quotes as one sign each, at
    most 80 characters. Null where nothing failed. -#}
{% macro error_key(is_error, error, observation) -%}
    {{ return(adapter.dispatch('error_key', 'mnemoduck')(is_error, error, observation)) }}
{%- endmacro %}

{% macro duckdb__error_key(is_error, error, observation) -%}
    case
        when {{ is_error }}
            then left(trim(regexp_replace(
                regexp_replace(
                    lower(coalesce({{ error }}, {{ observation }}, 'failed')),
                    '"[^"]*"|''[^'']*''|#?[a-z]*[0-9][a-z0-9_]*', '*', 'g'
                ),
                '\s+', ' ', 'g'
            )), 80)
    end
{%- endmacro %}
