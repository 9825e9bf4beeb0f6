{#- Prompts as SQL: what a model reads of a memory, and the key under which its answer is kept.

    An input depends on nothing but the role and the content of a memory, so that equal texts are one
    question and cost one call, whoever said them and whenever. -#}


{#- A 128-bit hash of texts, each tagged with its length or with null: mnemoduck.llm.keys.prompt_hash in SQL. -#}
{% macro prompt_hash(columns) %}{{ return(adapter.dispatch('prompt_hash', 'mnemoduck')(columns)) }}{% endmacro %}

{% macro duckdb__prompt_hash(columns) -%}
    cast(left(sha256(
        {%- for column in columns %}
        coalesce(length(cast({{ column }} as varchar)) || ':' || cast({{ column }} as varchar), '-')
        {{- ' ||' if not loop.last }}
        {%- endfor %}
    ), 32) as uuid)
{%- endmacro %}


{#- The key of an input that is asked with certain settings: mnemoduck.llm.keys.prompt_key in SQL. -#}
{% macro prompt_key(settings_hash, input_hash) -%}
    {{ prompt_hash(["'sha256-1'", settings_hash, input_hash]) }}
{%- endmacro %}


{#- The content of a memory as a model reads it: Unicode NFC, blanks for control characters, one blank for a run
    of them, one empty line for several, and at most so many characters. -#}
{% macro prompt_text(content, characters) %}
    {{- return(adapter.dispatch('prompt_text', 'mnemoduck')(content, characters)) -}}
{% endmacro %}

{% macro duckdb__prompt_text(content, characters) -%}
    {%- set text = namespace(sql="nfc_normalize(replace(" ~ content ~ ", chr(0), ' '))") -%}
    {%- for pattern, replacement in [
        ('\\r\\n?|\\x{2028}|\\x{2029}|\\x{85}', 'chr(10)'),
        ('[\\x01-\\x09\\x0b-\\x1f\\x7f\\p{Zs}]+', "' '"),
        (' ?\\n ?', 'chr(10)'),
        ('\\n{3,}', 'chr(10) || chr(10)'),
    ] -%}
        {%- set text.sql = 'regexp_replace(' ~ text.sql ~ ", '" ~ pattern ~ "', " ~ replacement ~ ", 'g')" -%}
    {%- endfor -%}
    left(trim({{ text.sql }}, ' ' || chr(10)), {{ characters }})
{%- endmacro %}


{#- What a model is shown of a memory: a text as prompt_text gives it, between two tags that it cannot close itself,
    because they carry 64 bits of its own hash. -#}
{% macro fenced_text(text, role) %}
    {{- return(adapter.dispatch('fenced_text', 'mnemoduck')(text, role)) -}}
{% endmacro %}

{% macro duckdb__fenced_text(text, role) -%}
    list_transform(
        [struct_pack(text := {{ text }}, mark := left(sha256({{ text }}), 16))],
        lambda memory: '<memory-' || memory.mark || ' said-by="'
        || coalesce(nullif(left(regexp_replace(lower({{ role }}), '[^a-z0-9 _-]', '', 'g'), 40), ''), 'unknown')
        || '">' || chr(10) || memory.text || chr(10) || '</memory-' || memory.mark || '>'
    )[1]
{%- endmacro %}
