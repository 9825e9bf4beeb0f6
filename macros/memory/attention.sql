{#- What a mind can attend to at as_of, as a relation: what is in mind now is in the current or the previous
    month; at a named moment, in those around it. `condition` leaves out what is in nobody's mind. -#}
{% macro memories_in_attention(condition=none) -%}
    {%- if as_of() == now_utc() -%}
        {%- set memories = recent_partitions(ref('short_term_memories')) -%}
    {%- else -%}
        {%- set memories = partitions_between(
            ref('short_term_memories'),
            as_of() ~ " - interval '" ~ parameter('attention_fallback_minutes') ~ " minutes'",
            as_of() ~ " + interval '1 microsecond'",
        ) -%}
    {%- endif -%}
    {{ return('(select * from ' ~ memories ~ ' where ' ~ condition ~ ')' if condition else memories) }}
{%- endmacro %}
