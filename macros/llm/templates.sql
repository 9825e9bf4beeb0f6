{#- The questions that a language model is asked about each memory, in order: a list of the dicts that the macros
    named <template>_template return. -#}
{% macro llm_templates_list() %}
    {{- return([appraisal_template(), extraction_template()]) -}}
{% endmacro %}
