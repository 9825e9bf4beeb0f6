{#- The questions that a language model is asked, in order: a list of the dicts that the macros named
    <template>_template return. Reflection is about episodes, the others are about memories. -#}
{% macro llm_templates_list() %}
    {{- return([appraisal_template(), extraction_template(), reflection_template()]) -}}
{% endmacro %}
