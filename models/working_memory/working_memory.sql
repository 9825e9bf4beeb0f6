{#- What is in mind now is in the current or the previous month; at a named moment, in those around it. -#}
{%- if as_of() == now_utc() -%}
    {%- set memories = recent_partitions(ref('short_term_memories')) -%}
{%- else -%}
    {%- set memories = partitions_between(
        ref('short_term_memories'),
        as_of() ~ " - interval '" ~ parameter('attention_fallback_minutes') ~ " minutes'",
        as_of() ~ " + interval '1 microsecond'",
    ) -%}
{%- endif -%}
{{ working_memory_slots(memories, 'scope_key', as_of()) }}
