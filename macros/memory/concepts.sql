{#- The concepts that a text is about, as a list without repetition, lower case and stemmed. -#}
{% macro concept_terms(column) -%}
    list_distinct([
        {{ stemmed('word') }} for word in {{ words(column) }} if len(word) >= 4
    ])
{%- endmacro %}
