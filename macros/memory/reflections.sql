{#- The words of a reflection: what was tried in an episode, what failed and what followed. -#}


{#- Where runs of equal items of a list begin: places from 1. -#}
{% macro run_starts(items) %}{{ return(adapter.dispatch('run_starts', 'mnemoduck')(items)) }}{% endmacro %}

{% macro duckdb__run_starts(items) -%}
    list_filter(
        range(1, len({{ items }}) + 1),
        lambda place: place = 1 or {{ items }}[place] <> {{ items }}[place - 1]
    )
{%- endmacro %}


{#- A list of names as a text, a → b ×3 → c; of more than `most` runs the first and the last ones. `starts` is a column
    with the run_starts of the items. -#}
{% macro runs_as_text(items, starts, most=16) %}
    {{- return(adapter.dispatch('runs_as_text', 'mnemoduck')(items, starts, most)) -}}
{% endmacro %}

{% macro duckdb__runs_as_text(items, starts, most) -%}
    array_to_string(
        list_filter(
            list_transform(
                {{ starts }},
                lambda place, run: case
                    when run <= {{ most // 2 }} or run > len({{ starts }}) - {{ most - most // 2 }}
                        then left({{ items }}[place], 60) || case
                            when coalesce({{ starts }}[run + 1], len({{ items }}) + 1) - place > 1
                                then ' ×' || coalesce({{ starts }}[run + 1], len({{ items }}) + 1) - place
                            else ''
                        end
                    when run = {{ most // 2 + 1 }} then '… ' || len({{ starts }}) - {{ most }} || ' more …'
                end
            ),
            lambda part: part is not null
        ),
        ' → '
    )
{%- endmacro %}


{#- The first texts of a list as one, and how many there are besides. -#}
{% macro first_ones(texts, most, separator) -%}
    {{ return(adapter.dispatch('first_ones', 'mnemoduck')(texts, most, separator)) }}
{%- endmacro %}

{% macro duckdb__first_ones(texts, most, separator) -%}
    array_to_string({{ texts }}[:{{ most }}], '{{ separator }}')
    || case when len({{ texts }}) > {{ most }} then '{{ separator }}' || len({{ texts }}) - {{ most }} || ' more' else '' end
{%- endmacro %}


{#- What came after a call that failed, in words: `tool` is the one that failed, `next_tool` what was called next (null:
    nothing), `is_next_error` whether that failed as well. -#}
{% macro what_followed(tool, next_tool, is_next_error) -%}
    case
        when {{ next_tool }} is null then 'and nothing was called after it'
        when {{ next_tool }} = {{ tool }} and {{ is_next_error }} then 'tried again, which failed too'
        when {{ next_tool }} = {{ tool }} then 'tried again, which worked'
        else 'then ' || left({{ next_tool }}, 60) || case when {{ is_next_error }} then ', which failed too' else '' end
    end
{%- endmacro %}


{#- How much two sets have in common (Jaccard 1901): `shared` of their members are in both. Of empty sets it is 0. -#}
{% macro jaccard(shared, size, other_size) -%}
    coalesce({{ shared }} / nullif(cast({{ size }} + {{ other_size }} - {{ shared }} as double), 0), 0)
{%- endmacro %}
