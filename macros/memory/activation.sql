{#- ACT-R base-level activation, B = ln(sum over uses of (t - t_j)^-d), ages in seconds.

    Source: Anderson & Schooler (1991), Reflections of the environment in memory; the tail of older uses,
    of which only the count and the first are kept, is Petrov's (2006) approximation
    (n - k) * (t_n^(1-d) - t_k^(1-d)) / ((1-d) * (t_n - t_k)), where t_n is the age of the first use
    and t_k that of the oldest use that is kept; its limit (n - k) * t_n^-d where the two are the same.
    Ages are at least one second, which bounds B.

    Arguments are expressions: the count of uses, the time of the first, the list of the last k (any
    order) and the moment at which to evaluate. Uses after that moment do not exist yet; before the first
    use there is no activation (null). -#}
{% macro activation(use_count, first_used_at, recent_use_times, as_of) %}
    {{- return(adapter.dispatch('activation', 'mnemoduck')(use_count, first_used_at, recent_use_times, as_of)) -}}
{% endmacro %}

{% macro duckdb__activation(use_count, first_used_at, recent_use_times, as_of) -%}
    {%- set d = parameter('activation_decay') -%}
    {%- set age = 'greatest(1.0, ' ~ seconds_between('used_at', as_of) ~ ')' -%}
    {%- set first_age = 'greatest(1.0, ' ~ seconds_between(first_used_at, as_of) ~ ')' -%}
    {%- set oldest_kept_age = 'greatest(1.0, ' ~ seconds_between('list_min(' ~ recent_use_times ~ ')', as_of) ~ ')' -%}
    ln(nullif(
        coalesce(
            list_sum([pow({{ age }}, -{{ d }}) for used_at in {{ recent_use_times }} if used_at <= {{ as_of }}]),
            0
        )
        + case
            when {{ use_count }} <= len({{ recent_use_times }}) or {{ first_used_at }} > {{ as_of }} then 0
            when {{ first_age }} > {{ oldest_kept_age }}
                then ({{ use_count }} - len({{ recent_use_times }}))
                    * (pow({{ first_age }}, {{ 1 - d }}) - pow({{ oldest_kept_age }}, {{ 1 - d }}))
                    / ({{ 1 - d }} * ({{ first_age }} - {{ oldest_kept_age }}))
            else ({{ use_count }} - len({{ recent_use_times }})) * pow({{ first_age }}, -{{ d }})
        end,
        0
    ))
{%- endmacro %}


{#- The probability that a memory of this activation is retrieved, 1 / (1 + e^((tau - B) / s)).
    Source: Anderson & Lebiere (1998), The atomic components of thought, eq. 3.8. -#}
{% macro retrieval_probability(activation, threshold) -%}
    (1 / (1 + exp(({{ threshold }} - ({{ activation }})) / {{ parameter('activation_noise') }})))
{%- endmacro %}
