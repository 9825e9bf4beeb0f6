{#- Placeholder until merged. -#}
{% macro llm_templates_list() %}{{ return([
    {'template': 'appraisal', 'version': 1, 'instructions': 'appraise', 'response_schema': '{}'},
    {'template': 'extraction', 'version': 1, 'instructions': 'extract', 'response_schema': '{}'},
]) }}{% endmacro %}
